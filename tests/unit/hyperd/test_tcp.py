"""A door on TCP: who gets in, who does not, and what those can do who try."""

import asyncio
import io
import logging
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
import pytest
from msgspec.structs import replace

from hypercontainer.errors import HyperError, InvalidInput
from hypercontainer.hyperd import tcp
from hypercontainer.hyperd.doors import OpenDoor
from hypercontainer.hyperd.listen import listen_tcp
from hypercontainer.model.principal import Principal, Role
from hypercontainer.model.settings import Door
from tests.certificates import Authority, Pair
from tests.unit.hyperd.docker.documents import CONTAINER
from tests.unit.hyperd.fake import FakeEngine, FakeSession, some

ATTACH = (
    b"POST /containers/web/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: x\r\n"
    b"Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"
)


class Certificates:
    """Of a door, and of some who call there."""

    def __init__(self, folder: Path) -> None:
        ours, others = Authority(folder / "ours"), Authority(folder / "others")
        self.ca = ours.pem
        self.door = ours.sign("door", usage="serverAuth", address="127.0.0.1")
        self.callers: dict[str, Pair | None] = {
            "good": ours.sign("good"),
            "none": None,
            "ended": ours.sign("ended", days=-1),
            "stranger": others.sign("stranger"),
            "a server's": ours.sign("server", usage="serverAuth"),
            "self-signed": Pair(others.pem, others.folder / "ca-key.pem"),
        }

    def context(self, caller: str = "good") -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ca)
        if pair := self.callers[caller]:
            context.load_cert_chain(pair.cert, pair.key)
        return context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def door(certificates: Certificates) -> Door:
    pair = certificates.door
    return Door(
        address="tcp://127.0.0.1:0",
        dialect="docker",
        tls_ca=str(certificates.ca),
        tls_cert=str(pair.cert),
        tls_key=str(pair.key),
    )


class Place:
    """A door that is open, over a fake engine."""

    def __init__(self, engine: FakeEngine, open: OpenDoor, certificates: Certificates) -> None:
        self.engine, self.open, self.certificates = engine, open, certificates
        self.host, _, port = open.where.removeprefix("tcp://").partition(":")
        self.port = int(port)

    @asynccontextmanager
    async def http(self, caller: str = "good") -> AsyncIterator[aiohttp.ClientSession]:
        connector = aiohttp.TCPConnector(ssl=self.certificates.context(caller))
        async with aiohttp.ClientSession(f"https://{self.host}:{self.port}", connector=connector) as http:
            yield http

    async def caller(self) -> "Caller":
        return await Caller.connect(self)


class Caller:
    """A client that can end one direction of TLS alone, as Go's clients do."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext) -> None:
        self._reader, self.writer = reader, writer
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname="127.0.0.1")

    @classmethod
    async def connect(cls, place: Place) -> "Caller":
        caller = cls(*await asyncio.open_connection(place.host, place.port), place.certificates.context())
        while True:
            try:
                caller._tls.do_handshake()
            except ssl.SSLWantReadError:
                caller._flush()
                await caller._fill()
                continue
            caller._flush()
            return caller

    async def send(self, data: bytes) -> None:
        self._tls.write(data)
        self._flush()
        await self.writer.drain()

    def end(self) -> None:
        with pytest.raises(ssl.SSLWantReadError):
            self._tls.unwrap()  # close_notify goes, and theirs has not come
        self._flush()

    async def read(self) -> bytes:
        while True:
            try:
                return self._tls.read(1 << 16)
            except ssl.SSLWantReadError:
                await self._fill()
            except ssl.SSLZeroReturnError:
                return b""

    async def until(self, words: bytes) -> bytes:
        seen = b""
        while words not in seen:
            data = await self.read()
            assert data, seen
            seen += data
        return seen

    def _flush(self) -> None:
        self.writer.write(self._out.read())

    async def _fill(self) -> None:
        data = await self._reader.read(1 << 16)
        if not data:
            self._in.write_eof()
        self._in.write(data)


@asynccontextmanager
async def opened(door: Door, certificates: Certificates) -> AsyncIterator[Place]:
    engine = FakeEngine()
    config = replace(CONTAINER.config, open_stdin=True, stdin_once=True)
    engine.answers["containers.inspect"] = replace(CONTAINER, config=config)
    one = OpenDoor(door, engine)
    await one.open()
    try:
        async with asyncio.timeout(120):
            yield Place(engine, one, certificates)
    finally:
        await one.close(timeout_s=10)


@pytest.fixture
async def place(door: Door, certificates: Certificates) -> AsyncIterator[Place]:
    async with opened(door, certificates) as one:
        yield one


@contextmanager
def refused() -> Iterator[None]:
    with pytest.raises((aiohttp.ClientError, ConnectionError, ssl.SSLError)):
        yield


# who gets in


@pytest.mark.parametrize(("role", "known"), [("admin", Role.ADMIN), ("user", Role.USER)])
async def test_a_certificate_is_the_principal(
    door: Door, certificates: Certificates, caplog: pytest.LogCaptureFixture, role: str, known: Role
) -> None:
    caplog.set_level("INFO")
    async with opened(replace(door, role=role), certificates) as place, place.http() as http:
        async with http.post("/v1.41/networks/create", json={"Name": "n"}) as response:
            assert response.status == 201
        [named] = [named for name, _, named in place.engine.calls if name == "networks.create"]
        assert named["by"] == Principal(known, uid=-1, gid=-1, pid=0, certificate="good")
    assert "by certificate 'good': 201" in caplog.text


@pytest.mark.parametrize("dialect", ["rest", "docker"])
async def test_each_dialect_is_spoken(door: Door, certificates: Certificates, dialect: str) -> None:
    path = {"rest": "/v1/ping", "docker": "/_ping"}[dialect]
    async with (
        opened(replace(door, dialect=dialect), certificates) as place,
        place.http() as http,
        http.get(path) as response,
    ):
        assert response.status == 200


@pytest.mark.parametrize(
    ("caller", "why"),
    [
        ("none", "peer did not return a certificate"),
        ("ended", "certificate has expired"),
        ("stranger", "unable to get local issuer certificate"),
        ("a server's", "unsuitable certificate purpose"),
        ("self-signed", "self-signed certificate"),
    ],
)
async def test_who_is_not_let_in(place: Place, caplog: pytest.LogCaptureFixture, caller: str, why: str) -> None:
    caplog.set_level("INFO")
    async with place.http(caller) as http:
        with refused():
            async with http.get("/info"):
                pass
    assert why in caplog.text
    assert place.engine.calls == []
    assert [r for r in caplog.records if r.exc_info or r.levelno > logging.INFO] == []


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_old_tls_is_not_spoken(place: Place) -> None:
    for version, let_in in ((ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)):
        context = place.certificates.context()
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = version
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(connector=connector) as http:
            try:
                async with http.get(f"https://{place.host}:{place.port}/_ping") as response:
                    assert response.status == 200
            except aiohttp.ClientConnectorError:
                assert not let_in
            else:
                assert let_in


async def test_plain_http_is_told(place: Place) -> None:
    reader, writer = await asyncio.open_connection(place.host, place.port)
    writer.write(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.0 400 ")
    assert answer.endswith(b"Client sent an HTTP request to an HTTPS server.\n")
    writer.close()
    assert place.engine.calls == []


@pytest.mark.parametrize("sent", [b"", b"\0" * 100, b"\x16\x03\x01\xff\xff" + b"\x01" * 70_000, b"SSH-2.0-x\r\n"])
async def test_what_is_no_tls_ends(place: Place, caplog: pytest.LogCaptureFixture, sent: bytes) -> None:
    caplog.set_level("INFO")
    reader, writer = await asyncio.open_connection(place.host, place.port)
    writer.write(sent)
    writer.write_eof()
    try:
        while await reader.read(1 << 16):
            pass  # an alert, perhaps
    except ConnectionError:
        pass
    writer.close()
    assert [r for r in caplog.records if r.exc_info or r.levelno > logging.INFO] == []
    async with place.http() as http, http.get("/_ping") as response:
        assert response.status == 200


# what goes through


async def test_bytes_of_both_ways(place: Place) -> None:
    data = bytes(range(256)) * 40_000
    place.engine.answers["containers.export"] = lambda *_: _bytes(data)
    async with place.http() as http:
        async with http.post("/images/load", data=io.BytesIO(data)) as response:
            assert response.status == 200 and await response.read()
        async with http.get("/containers/web/export") as response:
            assert await response.read() == data
    assert bytes(place.engine.received) == data


async def _bytes(data: bytes) -> AsyncIterator[bytes]:
    return some(*(data[at : at + 100_000] for at in range(0, len(data), 100_000)))


async def test_a_client_that_sends_no_more_goes_on_reading(place: Place) -> None:
    session = place.engine.session = FakeSession()
    caller = await place.caller()
    await caller.send(ATTACH)
    await caller.until(b"\r\n\r\n")
    await caller.send(b"for stdin")
    caller.end()
    await session.stdin_closed.wait()
    assert bytes(session.stdin) == b"for stdin"
    await session.say(b"said later")
    assert (await caller.read())[8:] == b"said later"
    await session.end()
    assert await caller.read() == b""
    caller.writer.close()


async def test_a_client_that_reads_nothing_is_heard(place: Place) -> None:
    session = place.engine.session = FakeSession()
    caller = await place.caller()
    await caller.send(ATTACH)
    await caller.until(b"\r\n\r\n")
    chunk, said = bytes(1 << 16), 0
    while said < 1000:
        saying = asyncio.create_task(session.say(chunk))
        await asyncio.wait([saying], timeout=0.5)
        if not saying.done():
            break
        said += 1
    assert session.taken < 32 << 20  # it stalls instead of filling our memory
    await caller.send(b"for stdin")
    caller.end()
    await session.stdin_closed.wait()
    assert bytes(session.stdin) == b"for stdin"
    read = 0
    while read < (said + 1) * (len(chunk) + 8):
        read += len(await caller.read())
    await session.end()
    assert await caller.read() == b""
    caller.writer.close()


async def test_a_client_that_is_gone_lets_go_of_its_session(place: Place) -> None:
    session = place.engine.session = FakeSession()
    caller = await place.caller()
    await caller.send(ATTACH)
    await caller.until(b"\r\n\r\n")
    caller.writer.close()  # and has not said so: as one that was killed
    await session.detached.wait()


async def test_what_nobody_reads_any_more_does_not_lose_the_answer(place: Place) -> None:
    """A body that is refused is not waited for; the refusal arrives."""
    caller = await place.caller()
    await caller.send(b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
    await caller.send(b"Content-Length: 2000000\r\n\r\n")
    sending = asyncio.create_task(caller.send(b"x" * 2_000_000))
    assert b" 413 " in await caller.until(b"\r\n")
    sending.cancel()
    caller.writer.close()


# what strangers can do


async def test_who_says_nothing_is_not_waited_for(
    door: Door, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does anybody else have to wait for them longer than that, however many they are."""
    monkeypatch.setattr(tcp, "MOST_STRANGERS", 2)
    monkeypatch.setattr(tcp, "HANDSHAKE_S", 0.2)
    async with opened(door, certificates) as place:
        silent = [await asyncio.open_connection(place.host, place.port) for _ in range(9)]
        for _, writer in silent[::2]:
            writer.write(b"\x16\x03\x01")  # half of a hello
        async with place.http() as http, http.get("/_ping") as response:
            assert response.status == 200
        for reader, writer in silent:
            try:
                assert await reader.read() == b""  # its end
            except ConnectionError:
                pass
            writer.close()


async def test_strangers_and_idle_callers_do_not_hold_up_an_end(door: Door, certificates: Certificates) -> None:
    async with opened(door, certificates) as place:
        stranger = await asyncio.open_connection(place.host, place.port)
        session = place.engine.session = FakeSession()
        caller, idle = await place.caller(), await place.caller()
        await idle.send(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
        await idle.until(b"OK")
        await caller.send(ATTACH)
        await caller.until(b"\r\n\r\n")
        await session.say(b"it runs")
        await caller.until(b"it runs")
        closing = asyncio.create_task(place.open.close(timeout_s=1000))
        assert b"hyperd is shutting down" in await caller.until(b"\r\n")
        await closing
        assert session.detached.is_set()
        for writer in (stranger[1], caller.writer, idle.writer):
            writer.close()


# what cannot be opened


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tls_ca": "/none.pem"}, "tls_ca /none.pem: No such file or directory"),
        ({"tls_cert": "/none.pem"}, "tls_cert /none.pem, tls_key .*: No such file or directory"),
        ({"tls_key": "ca"}, "tls_cert .*, tls_key .*ca.pem: "),
        ({"tls_ca": "empty"}, "tls_ca .*empty"),
    ],
)
def test_files_that_make_no_sense(door: Door, tmp_path: Path, change: dict[str, str], words: str) -> None:
    (tmp_path / "empty").write_text("no certificate")
    places = {"ca": door.tls_ca, "empty": str(tmp_path / "empty")}
    with pytest.raises(InvalidInput, match=f"cannot open tcp://127.0.0.1:0: {words}"):
        OpenDoor(replace(door, **{key: places.get(value, value) for key, value in change.items()}), FakeEngine())


def test_a_key_with_a_password_is_not_asked_for(door: Door, certificates: Certificates, tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    argv = ["openssl", "ec", "-in", door.tls_key, "-aes128", "-passout", "pass:x", "-out", str(key)]
    subprocess.run(argv, check=True, capture_output=True)
    with pytest.raises(InvalidInput, match="the key has a password"):
        OpenDoor(replace(door, tls_key=str(key)), FakeEngine())


@pytest.mark.parametrize(
    "address",
    ["tcp://localhost:1", "tcp://127.0.0.1", "tcp://127.0.0.1:65536", "tcp://:1", "tcp://::1:1", "tcp://1:1/x"],
)
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(InvalidInput, match=r"give tcp://ADDRESS:PORT"):
        listen_tcp(address)


def test_an_address_that_is_not_to_be_had() -> None:
    with listen_tcp("tcp://127.0.0.1:0") as sock, pytest.raises(HyperError, match="Address already in use"):
        listen_tcp(f"tcp://127.0.0.1:{sock.getsockname()[1]}")
