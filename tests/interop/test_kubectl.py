"""kubectl's exec, attach, cp and port-forward, unchanged, by each of the ways in which it speaks."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.interop.kubernetes import Cluster, cluster

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(not shutil.which("kubectl"), reason="there is no kubectl"),
]

WAYS = {"websocket": "true", "spdy": "false"}


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path) as made:
        yield made


@pytest.fixture(params=WAYS)
def env(request: pytest.FixtureRequest) -> dict[str, str]:
    wanted = WAYS[request.param]
    return {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": wanted, "KUBECTL_PORT_FORWARD_WEBSOCKETS": wanted}


def way(here: Cluster, env: dict[str, str]) -> str:
    """Which one was taken is as asked; what it was."""
    said = here.upgrades[-1].lower()
    assert ("websocket" in said) == (env["KUBECTL_REMOTE_COMMAND_WEBSOCKETS"] == "true"), said
    return said


async def test_exec(here: Cluster, env: dict[str, str]) -> None:
    done = await here.client(*here.kubectl("exec", "web", "--", "sh", "-c", "echo out; echo err >&2; exit 7"), env=env)
    assert (done.status, done.out) == (7, b"out\n"), done
    assert done.err.startswith(b"err\n") and b"exit code 7" in done.err
    said = way(here, env)
    assert "v5.channel.k8s.io" in said or "v4.channel.k8s.io" in said


async def test_much_through_stdin_and_back(here: Cluster, env: dict[str, str]) -> None:
    data = os.urandom(8 << 20)
    done = await here.client(*here.kubectl("exec", "-i", "web", "--", "cat"), stdin=data, env=env)
    assert (done.status, done.out == data) == (0, True), done.err[-1000:]
    way(here, env)


async def test_what_cannot_start(here: Cluster, env: dict[str, str]) -> None:
    done = await here.client(*here.kubectl("exec", "web", "--", "/no/such/program"), env=env)
    assert done.status == 1 and b"nternal error" in done.err, done


async def test_a_terminal_and_its_size(here: Cluster, env: dict[str, str]) -> None:
    script = f"stty rows 33 cols 101; exec {' '.join(here.kubectl('exec', '-it', 'web', '--', 'sh'))}"
    process = await here.begin("script", "-qec", script, "/dev/null", env=env)
    assert process.stdin and process.stdout
    process.stdin.write(b"sleep 1; stty size; exit 5\n")
    seen = b""
    while b"33 101" not in seen:
        seen += (data := await process.stdout.read(1000))
        assert data, seen
    process.stdin.close()
    await process.stdout.read()
    assert await process.wait() == 5
    way(here, env)


async def test_attach_and_leave(here: Cluster, env: dict[str, str]) -> None:
    here.attached = ["sh", "-c", "echo there; read word; echo got $word; exec sleep 1000"]
    process = await here.begin(*here.kubectl("attach", "-i", "web"), env=env)
    assert process.stdin and process.stdout
    process.stdin.write(b"hello\n")
    seen = b""
    while b"got hello" not in seen:
        seen += (data := await process.stdout.read(1000))
        assert data, seen
    process.kill()
    await process.communicate()
    await here.sessions[0].detached.wait()
    assert here.sessions[0].process.returncode is None


async def test_cp(here: Cluster, env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "from").write_bytes(data := os.urandom(1 << 20))
    done = await here.client(*here.kubectl("cp", f"{tmp_path}/from", f"web:{tmp_path}/there"), env=env)
    assert (done.status, (tmp_path / "there").read_bytes() == data) == (0, True), done
    done = await here.client(*here.kubectl("cp", f"web:{tmp_path}/there", f"{tmp_path}/back"), env=env)
    assert (done.status, (tmp_path / "back").read_bytes() == data) == (0, True), done


async def test_port_forward(here: Cluster, env: dict[str, str]) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    process = await here.begin(*here.kubectl("port-forward", "pod/web", f":{port}"), env=env)
    assert process.stdout
    try:
        ours = int((await process.stdout.readline()).split(b":")[1].split()[0])
        data = os.urandom(3 << 20)
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", ours)
            reading = asyncio.create_task(reader.readexactly(len(data)))
            writer.write(data)
            assert await reading == data
            writer.close()
        assert ("spdy/3.1+portforward.k8s.io" in here.upgrades[-1].lower()) == ("websocket" in way(here, env))
    finally:
        process.kill()
        await process.communicate()
        server.close()


async def test_a_port_where_nobody_listens(here: Cluster, env: dict[str, str]) -> None:
    process = await here.begin(*here.kubectl("port-forward", "pod/web", ":1"), env=env)
    assert process.stdout and process.stderr
    ours = int((await process.stdout.readline()).split(b":")[1].split()[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", ours)
    assert await reader.read() == b""
    writer.close()
    assert b"cannot connect to port 1: Connection refused" in await process.stderr.read()
    await process.communicate()
