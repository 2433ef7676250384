"""A nameserver on this host's loopback, asked by sockets; those that it asks on are here, too."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address

import dns.message
import dns.rcode
import pytest

from hypercontainer.network import nameserver
from hypercontainer.network.answers import Address
from hypercontainer.network.nameserver import Nameserver

HERE, THERE = "127.0.0.1", "127.0.0.2"
ENDED = asyncio.IncompleteReadError, ConnectionResetError
QUESTION = dns.message.make_query("outside.example", "A").to_wire()


@dataclass
class Pod:
    id: str = "p"
    asked: list[str] = field(default_factory=lambda: [THERE])

    def addresses(self, name: str) -> Sequence[Address] | None:
        some, many = [ip_address("10.0.0.2")], [ip_address(f"10.0.{n >> 8}.{n & 255}") for n in range(2, 2002)]
        return {"web": some, "many": many}.get(name)

    def name(self, address: Address) -> str:
        return ""

    def servers(self) -> Sequence[str]:
        return self.asked


Reply = Callable[[bytes], list[bytes]]


class Upstream(asyncio.DatagramProtocol):
    """A resolver that says whatever `reply` makes of a question."""

    def __init__(self) -> None:
        self.reply: Reply = lambda data: [answered(data)]
        self.heard: list[bytes] = []
        self.port = 0

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await asyncio.start_server(self._connected, THERE, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(THERE, self.port))

    def datagram_received(self, data: bytes, sender: tuple[str, int]) -> None:
        self.heard.append(data)
        for said in self.reply(data):
            self._transport.sendto(said, sender)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.readexactly(struct.unpack(">H", await reader.readexactly(2))[0])
        self.heard.append(data)
        for said in self.reply(data):
            writer.write(len(said).to_bytes(2) + said)
        await writer.drain()
        writer.close()

    def close(self) -> None:
        self._transport.close()
        self._server.close()


def answered(question: bytes, *, id: bytes = b"") -> bytes:
    said = dns.message.make_response(dns.message.from_wire(question), recursion_available=True).to_wire()
    return (id or said[:2]) + said[2:]


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    upstream = Upstream()
    await upstream.open()
    yield upstream
    upstream.close()


@pytest.fixture
async def pods() -> dict[str, Pod]:
    return {HERE: Pod()}


@pytest.fixture
async def server(upstream: Upstream, pods: dict[str, Pod]) -> AsyncIterator[Nameserver]:
    server = Nameserver(pods.get, port=0, asked_port=upstream.port)
    await server.listen("lo", HERE)
    assert server.troubles() == []
    yield server
    await server.close()


async def by_udp(server: Nameserver, data: bytes, *, source: str = HERE, wait_s: float = 60) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as s:
        s.bind((source, 0))
        s.connect((HERE, server.port))
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(s, data)
        async with asyncio.timeout(wait_s):
            return await loop.sock_recv(s, 65535)


async def by_tcp(server: Nameserver, *questions: bytes, source: str = HERE) -> list[bytes]:
    reader, writer = await asyncio.open_connection(HERE, server.port, local_addr=(source, 0))
    try:
        said = []
        for data in questions:
            writer.write(len(data).to_bytes(2) + data)
            async with asyncio.timeout(60):
                said.append(await reader.readexactly(int.from_bytes(await reader.readexactly(2))))
        return said
    finally:
        writer.close()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110  others are to run
            await asyncio.sleep(0)


def rcode(said: bytes) -> dns.rcode.Rcode:
    return dns.message.from_wire(said).rcode()


async def test_own_names_and_all_others(server: Nameserver, upstream: Upstream) -> None:
    web = dns.message.make_query("web", "A").to_wire()
    assert "10.0.0.2" in str(dns.message.from_wire(await by_udp(server, web)).answer[0])
    first, second = await by_tcp(server, web, QUESTION)
    assert "10.0.0.2" in str(dns.message.from_wire(first).answer[0]) and second == answered(QUESTION)
    assert await by_udp(server, QUESTION) == answered(QUESTION)
    assert [data[2:] for data in upstream.heard] == [QUESTION[2:]] * 2  # as it was, but for its number


async def test_strangers_get_nothing(server: Nameserver, upstream: Upstream, pods: dict[str, Pod]) -> None:
    """No word of it, which they could have sent to somebody else."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind((THERE, 0))
        s.sendto(QUESTION, (HERE, server.port))
        await by_udp(server, QUESTION)  # which came after that
        with pytest.raises(BlockingIOError):
            s.recv(1, socket.MSG_DONTWAIT)
    with pytest.raises(ENDED):
        await by_tcp(server, QUESTION, source=THERE)
    assert len(upstream.heard) == 1


async def test_answers_of_others_are_none(server: Nameserver, upstream: Upstream) -> None:
    """One with another number, one that is a question, one that is too short; the real one comes last."""
    upstream.reply = lambda data: [
        answered(data, id=bytes([data[0] ^ 1, data[1]])), data, data[:2], b"", answered(data)
    ]  # fmt: skip
    assert await by_udp(server, QUESTION) == answered(QUESTION)


async def test_the_numbers_are_ours(server: Nameserver, upstream: Upstream) -> None:
    for _ in range(8):
        assert (await by_udp(server, QUESTION))[:2] == QUESTION[:2]
    assert len({data[:2] for data in upstream.heard}) > 4


async def test_the_next_server_is_asked(
    server: Nameserver, upstream: Upstream, pods: dict[str, Pod], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nameserver, "ANSWER_S", 0.2)
    pods[HERE].asked = ["127.0.0.3", THERE]  # nobody is at the first
    assert await by_udp(server, QUESTION) == answered(QUESTION)
    assert await by_tcp(server, QUESTION) == [answered(QUESTION)]
    upstream.reply = lambda _: []
    assert rcode(await by_udp(server, QUESTION)) == dns.rcode.SERVFAIL
    assert rcode((await by_tcp(server, QUESTION))[0]) == dns.rcode.SERVFAIL


@pytest.mark.parametrize("ask", [nameserver._ask_udp, nameserver._ask_tcp])
async def test_one_that_cannot_be_reached_keeps_nobody_waiting(
    ask: nameserver.Ask, server: Nameserver, upstream: Upstream, pods: dict[str, Pod]
) -> None:
    """Closed, forbidden, or of a family that this host has no route for: each is known at once."""
    pods[HERE].asked = ["127.0.0.3", "255.255.255.255", "2001:db8::1", THERE]
    by = by_udp(server, QUESTION) if ask is nameserver._ask_udp else by_tcp(server, QUESTION)
    async with asyncio.timeout(nameserver.ANSWER_S * 20):
        assert await by in (answered(QUESTION), [answered(QUESTION)])


async def test_large_answers_come_whole_by_tcp(server: Nameserver, upstream: Upstream) -> None:
    many = dns.message.make_query("many", "A").to_wire()
    cut = dns.message.from_wire(await by_udp(server, many))
    assert cut.flags & dns.flags.TC and 0 < len(cut.answer[0]) < 32
    [whole] = await by_tcp(server, many)
    assert len(dns.message.from_wire(whole).answer[0]) == 2000 and len(whole) > 32000
    upstream.reply = lambda data: [answered(data) + bytes(60_000)]  # whatever it is, it is its asker's to read
    assert await by_tcp(server, QUESTION) == [answered(QUESTION) + bytes(60_000)]
    upstream.reply = lambda data: [answered(data) + bytes(4000)]  # who asks so, by EDNS, has room for it
    assert await by_udp(server, QUESTION) == answered(QUESTION) + bytes(4000)


async def test_where_nothing_leads_out_nobody_is_asked(
    server: Nameserver, upstream: Upstream, pods: dict[str, Pod]
) -> None:
    pods[HERE].asked = []
    assert rcode(await by_udp(server, QUESTION)) == dns.rcode.SERVFAIL
    assert upstream.heard == []


async def test_no_pod_has_more_than_its_share(
    server: Nameserver, upstream: Upstream, pods: dict[str, Pod], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nameserver, "POD_UNDER_WAY", 2)
    upstream.reply = lambda _: []
    pods["127.0.0.4"] = Pod("other")
    waiting = [asyncio.create_task(by_udp(server, QUESTION)) for _ in range(2)]
    await until(lambda: len(upstream.heard) == 2)
    assert rcode(await by_udp(server, QUESTION)) == dns.rcode.REFUSED
    upstream.reply = lambda data: [answered(data)]
    assert await by_udp(server, QUESTION, source="127.0.0.4") == answered(QUESTION)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_questions_are_counted_before_they_are_read(server: Nameserver, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [7.0]
    server._clock = lambda: now[0]
    web = dns.message.make_query("web", "A").to_wire()
    for _ in range(3):
        await by_udp(server, web)
    monkeypatch.setattr(nameserver, "A_SECOND", 3)
    with pytest.raises(ENDED):
        await by_tcp(server, web)
    now[0] = 8.0
    assert await by_tcp(server, web)


async def test_a_connection_says_what_is_no_question(server: Nameserver) -> None:
    for data in (b"", b"x", QUESTION[:11], answered(QUESTION), bytes(5000)):
        with pytest.raises(ENDED):
            await by_tcp(server, data)
    assert await by_tcp(server, QUESTION) == [answered(QUESTION)]


async def test_connections_are_counted(server: Nameserver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nameserver, "POD_CONNECTIONS", 1)
    _, writer = await asyncio.open_connection(HERE, server.port)
    await until(lambda: server._connections.total() == 1)
    with pytest.raises(ENDED):
        await by_tcp(server, QUESTION)
    writer.close()
    await until(lambda: server._connections.total() == 0)
    assert await by_tcp(server, QUESTION) == [answered(QUESTION)]


async def test_one_that_says_nothing_is_left(server: Nameserver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nameserver, "IDLE_S", 0.1)
    reader, writer = await asyncio.open_connection(HERE, server.port)
    async with asyncio.timeout(60):
        assert await reader.read() == b""
    writer.close()


async def test_many_may_have_it_listen_at_once(pods: dict[str, Pod]) -> None:
    server = Nameserver(pods.get, port=0)
    await asyncio.gather(*(server.listen("lo", HERE) for _ in range(8)))
    assert server.troubles() == []
    await server.close()


async def test_a_place_that_is_taken_is_said_until_it_is_free(pods: dict[str, Pod]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
        taken.bind((HERE, 0))
        taken.listen()
        server = Nameserver(pods.get, port=taken.getsockname()[1])
        await server.listen("lo", HERE)
        where = f"{HERE}:{server.port}"
        words = f"names do not resolve at bridge lo: cannot listen at {where}: Address already in use"
        assert server.troubles() == [words]
    await server.listen("lo", HERE)
    assert server.troubles() == []
    await server.listen("lo", HERE)  # again = no change
    assert await by_udp(server, dns.message.make_query("web", "A").to_wire())
    await server.listen("no-such-if", HERE)
    assert len(server.troubles()) == 1
    server.leave("no-such-if")
    server.leave("lo")
    assert server.troubles() == []
    with pytest.raises(OSError):
        await by_tcp(server, QUESTION)
    await server.close()
