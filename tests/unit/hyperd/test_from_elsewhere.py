"""hyperctl that calls at a door on TCP."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hypercontainer.hyperd.doors import OpenDoor
from hypercontainer.model.settings import Door
from hypercontainer.testing.daemon import BIN
from tests.certificates import Authority, Pair
from tests.unit.hyperd.fake import FakeEngine, FakeSession, some

WAIT_S = 60


class Elsewhere:
    """A hyperd's door over a fake engine, and the authority of those who call there."""

    def __init__(self, engine: FakeEngine, door: OpenDoor, authority: Authority, folder: Path) -> None:
        self.engine, self.door, self.authority, self.folder = engine, door, authority, folder
        self.show(authority.sign("me"))

    def show(self, pair: Pair) -> None:
        """The certificate that hyperctl has from now on."""
        for source, name in ((self.authority.pem, "ca.pem"), (pair.cert, "cert.pem"), (pair.key, "key.pem")):
            shutil.copy(source, self.folder / name)

    async def start(self, *words: str) -> asyncio.subprocess.Process:
        env = {**os.environ, "HYPER_HOST": self.door.where, "HYPER_CERT_PATH": str(self.folder)}
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            BIN / "hyperctl", *words, env=env, stdin=pipe, stdout=pipe, stderr=pipe
        )

    async def ctl(self, *words: str, stdin: bytes = b"") -> tuple[int, bytes, str]:
        process = await self.start(*words)
        async with asyncio.timeout(WAIT_S):
            out, err = await process.communicate(stdin)
        assert process.returncode is not None
        return process.returncode, out, err.decode()


@pytest.fixture
async def elsewhere(tmp_path: Path) -> AsyncIterator[Elsewhere]:
    authority = Authority(tmp_path / "ca")
    pair = authority.sign("door", usage="serverAuth", address="127.0.0.1")
    door = Door(address="tcp://127.0.0.1:0", tls_ca=str(authority.pem), tls_cert=str(pair.cert), tls_key=str(pair.key))
    engine = FakeEngine()
    opened = OpenDoor(door, engine)
    await opened.open()
    try:
        (tmp_path / "mine").mkdir()
        yield Elsewhere(engine, opened, authority, tmp_path / "mine")
    finally:
        await opened.close(timeout_s=10)


async def test_a_call(elsewhere: Elsewhere) -> None:
    assert await elsewhere.ctl("ps", "-q") == (0, b"", "")
    assert await elsewhere.ctl("rm", "a", "b", "c") == (0, b"a\nb\nc\n", "")


async def test_large_bodies_of_both_ways(elsewhere: Elsewhere, tmp_path: Path) -> None:
    data = os.urandom(1 << 20) * 8
    (tmp_path / "image.tar").write_bytes(data)
    assert (await elsewhere.ctl("load", "-q", "-i", str(tmp_path / "image.tar")))[0] == 0
    assert bytes(elsewhere.engine.received) == data

    async def export(*_: object) -> object:
        return some(*(data[at : at + 100_000] for at in range(0, len(data), 100_000)))

    elsewhere.engine.answers["containers.export"] = export
    status, out, _ = await elsewhere.ctl("export", "web")
    assert (status, out == data) == (0, True)


async def test_streams(elsewhere: Elsewhere) -> None:
    session = elsewhere.engine.session = FakeSession(window=64)
    data = os.urandom(1 << 20) * 3
    process = await elsewhere.start("exec", "-i", "web", "cat")
    assert process.stdin and process.stdout

    async def echo() -> None:
        await session.stdin_closed.wait()
        assert bytes(session.stdin) == data
        for at in range(0, len(data), 60_000):
            await session.say(data[at : at + 60_000])
        await session.end(7)

    async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:
        group.create_task(echo())
        out, _ = await process.communicate(data)
    assert (process.returncode, out == data) == (7, True)


async def test_a_caller_that_is_killed_detaches(elsewhere: Elsewhere) -> None:
    session = elsewhere.engine.session = FakeSession()
    process = await elsewhere.start("exec", "-i", "web", "cat")
    assert process.stdout
    await session.say(b"there")
    async with asyncio.timeout(WAIT_S):
        assert await process.stdout.readexactly(5) == b"there"
        process.kill()
        await session.detached.wait()
        await process.wait()


async def test_why_it_is_not_let_in(elsewhere: Elsewhere, tmp_path: Path) -> None:
    where = elsewhere.door.where
    elsewhere.show(elsewhere.authority.sign("ended", days=-1))
    status, _, err = await elsewhere.ctl("ps")
    assert (status, err) == (1, f"hyperctl: cannot GET /v1/containers at {where}: sslv3 alert certificate expired\n")
    others = Authority(tmp_path / "others")
    shutil.copy(others.pem, elsewhere.folder / "ca.pem")
    status, _, err = await elsewhere.ctl("ps")
    assert (status, f"cannot reach hyperd at {where}: " in err, "certificate verify failed" in err) == (1, True, True)
    (elsewhere.folder / "key.pem").unlink()
    status, _, err = await elsewhere.ctl("ps")
    assert (status, "key.pem in " in err, "No such file" in err) == (1, True, True)


async def test_nobody_there(elsewhere: Elsewhere) -> None:
    await elsewhere.door.close(timeout_s=1)
    status, _, err = await elsewhere.ctl("ps")
    assert (status, err) == (1, f"hyperctl: no hyperd at {elsewhere.door.where}: Connection refused\n")
