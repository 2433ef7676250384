"""The daemon as a process: one a run folder, one a socket; ready when it says so; gone when it is told."""

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from hypercontainer.errors import InUse, InvalidInput
from hypercontainer.hyperd.listen import address, alone, listen

DAEMON = """
import os, sys
if "HANDED" in os.environ:
    os.dup2(int(os.environ["HANDED"]), 3)
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
from hypercontainer.hyperd import main
from tests.unit.hyperd.fake import FakeEngine

class Engine(FakeEngine):
    async def close(self):
        print("closed", flush=True)

main.engine = lambda settings: Engine()
sys.exit(main.main())
"""


class Daemon:
    def __init__(self, process: asyncio.subprocess.Process, socket: Path) -> None:
        self.process, self.socket = process, socket

    async def ended(self) -> tuple[int, str, str]:
        out, err = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, out.decode(), err.decode()


class Host:
    """A place for daemons, with somebody that listens for their READY."""

    def __init__(self, tmp: Path) -> None:
        self.tmp = tmp
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.notify.bind(str(tmp / "notify"))
        self.daemons: list[Daemon] = []

    async def start(self, run: str = "run", sock: str = "hyper.sock", *, handed: int | None = None) -> Daemon:
        path = self.tmp / sock
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", DAEMON,
            "--config", self.tmp / "none.toml",
            "--root", self.tmp / "root",
            "--run", self.tmp / run,
            "--host", f"unix://{path}",
            env={
                **os.environ,
                "NOTIFY_SOCKET": str(self.tmp / "notify"),
                **({"HANDED": str(handed)} if handed is not None else {}),
            },
            pass_fds=[] if handed is None else [handed],
            cwd=Path(__file__).parents[3],
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        self.daemons.append(Daemon(process, path))
        return self.daemons[-1]

    async def ready(self) -> None:
        loop = asyncio.get_running_loop()
        assert await asyncio.wait_for(loop.sock_recv(self.notify, 100), 30) == b"READY=1"


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    host = Host(tmp_path)
    yield host
    host.notify.close()
    for daemon in host.daemons:
        if daemon.process.returncode is None:
            daemon.process.kill()
        await daemon.process.communicate()


async def ping(path: Path) -> int:
    connector = aiohttp.UnixConnector(str(path))
    async with aiohttp.ClientSession(connector=connector) as http, http.get("http://hyper/v1/ping") as response:
        return response.status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_told_to_stop_it_closes_the_engine_and_exits_0(host: Host, number: int) -> None:
    daemon = await host.start()
    await host.ready()
    assert await ping(daemon.socket) == 200
    assert stat.S_IMODE(daemon.socket.stat().st_mode) == 0o660
    daemon.process.send_signal(number)
    status, out, err = await daemon.ended()
    assert (status, out) == (0, "closed\n")
    assert "Traceback" not in err
    assert not daemon.socket.exists()


async def test_streams_end_with_a_word_when_it_stops(host: Host) -> None:
    daemon = await host.start()
    await host.ready()
    connector, stats = aiohttp.UnixConnector(str(daemon.socket)), "http://hyper/v1/containers/web/stats?stream=1"
    async with aiohttp.ClientSession(connector=connector) as http, http.get(stats) as response:
        await response.content.readline()
        daemon.process.terminate()
        rest = await response.read()
    assert b"hyperd is shutting down" in rest
    status, _, err = await daemon.ended()
    assert (status, "Traceback" in err) == (0, False)


async def test_a_second_one_is_refused(host: Host) -> None:
    first = await host.start()
    await host.ready()
    status, _, err = await (await host.start(sock="other.sock")).ended()
    assert status == 1
    assert err.strip().splitlines()[-1] == (
        f"hyperd: cannot start hyperd: another one (pid {first.process.pid}) runs with {host.tmp}/run"
    )
    status, _, err = await (await host.start(run="run2")).ended()
    assert (status, "a daemon answers there" in err) == (1, True)
    assert await ping(first.socket) == 200


async def test_what_a_killed_one_left_is_replaced(host: Host) -> None:
    first = await host.start()
    await host.ready()
    first.process.kill()
    await first.ended()
    assert first.socket.exists()
    second = await host.start()
    await host.ready()
    assert await ping(second.socket) == 200


async def test_clients_wait_in_a_socket_of_systemds_while_it_is_replaced(host: Host) -> None:
    path = host.tmp / "theirs.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(str(path))
        sock.listen()
        first = await host.start(handed=sock.fileno())
        await host.ready()
        assert await ping(path) == 200
        first.process.terminate()
        assert (await first.ended())[0] == 0
        assert path.exists()
        waiting = asyncio.create_task(ping(path))
        host.notify.recv(100)  # STOPPING=1
        await host.start(handed=sock.fileno())
        await host.ready()
        assert await waiting == 200


STRANGER = """
import socket, sys
for method, path in (("GET", "/v1/info"), ("POST", "/v1/kernels/use?name=x"), ("DELETE", "/v1/factory")):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(sys.argv[1])
        sock.sendall(f"{method} {path} HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n".encode())
        print(sock.makefile().readline().split()[1])
"""


async def test_any_number_of_doors(host: Host) -> None:
    others = [host.tmp / f"door{n}.sock" for n in range(2)]
    (host.tmp / "none.toml").write_text("".join(f'[[door]]\npath = "{path}"\nmode = 0o600\n' for path in others))
    daemon = await host.start()
    await host.ready()
    assert [await ping(path) for path in (daemon.socket, *others)] == [200, 200, 200]
    assert {stat.S_IMODE(path.stat().st_mode) for path in others} == {0o600}
    daemon.process.terminate()
    assert (await daemon.ended())[:2] == (0, "closed\n")
    assert not any(path.exists() for path in (daemon.socket, *others))


async def test_a_door_that_cannot_be_opened_closes_the_others(host: Host) -> None:
    (host.tmp / "file").write_text("mine")
    (host.tmp / "none.toml").write_text(f'[[door]]\npath = "{host.tmp}/file"\n')
    daemon = await host.start()
    status, out, err = await daemon.ended()
    assert (status, out, "a file that is no socket is there" in err) == (1, "closed\n", True)
    assert not daemon.socket.exists()
    assert (host.tmp / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "cannot open tcp://127.0.0.1:0 without TLS: tls_ca, tls_cert, tls_key of this door in config.toml"),
        (dict.fromkeys(("tls_ca", "tls_cert", "tls_key"), "/none"), "tls_ca /none: No such file or directory"),
    ],
)
async def test_tcp_without_tls_is_not_opened(host: Host, files: dict[str, str], words: str) -> None:
    lines = "".join(f'{key} = "{path}"\n' for key, path in files.items())
    (host.tmp / "none.toml").write_text(f'[[door]]\naddress = "tcp://127.0.0.1:0"\n{lines}')
    daemon = await host.start()
    status, _, err = await daemon.ended()
    assert (status, words in err, "Traceback" in err) == (1, True, False)
    assert not daemon.socket.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
@pytest.mark.parametrize(("role", "answers"), [("admin", "204 204 204"), ("user", "204 403 403")])
async def test_a_door_gives_strangers_its_role(host: Host, role: str, answers: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        path = f"{folder}/door.sock"
        (host.tmp / "none.toml").write_text(f'[[door]]\npath = "{path}"\nmode = 0o666\nrole = "{role}"\n')
        await host.start()
        await host.ready()
        argv = ["/usr/bin/python3", "-I", "-c", STRANGER, path]
        asking = await asyncio.create_subprocess_exec(
            *argv, user=65534, group=65534, cwd="/", stdout=asyncio.subprocess.PIPE
        )
        said, _ = await asking.communicate()
        assert said.decode().split() == answers.split()


async def test_a_setting_that_is_not_there_is_named(host: Host) -> None:
    (host.tmp / "none.toml").write_text("memroy_mib = 3\n")
    status, _, err = await (await host.start()).ended()
    assert (status, "memroy_mib" in err, "Traceback" in err) == (1, True, False)


def test_a_file_that_is_no_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "hyper.sock"
    path.write_text("mine")
    with pytest.raises(InUse):
        listen(path, "")
    assert path.read_text() == "mine"


def test_a_group_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no-such-group"):
        listen(tmp_path / "hyper.sock", "no-such-group")


def test_the_lock_ends_with_its_block(tmp_path: Path) -> None:
    with alone(tmp_path), pytest.raises(InUse, match=str(os.getpid())), alone(tmp_path):
        pass
    with alone(tmp_path):
        pass


def test_a_child_of_one_that_was_killed_is_not_taken_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the lock and the socket, as a child has before it is another program."""
    ends, tells = os.pipe()
    script = f"""
import os, pathlib, signal
from hypercontainer.hyperd.listen import alone, listen
with alone(pathlib.Path({str(tmp_path)!r})):
    sock = listen(pathlib.Path({str(tmp_path / "sock")!r}), "")
    if not os.fork():
        os.read({ends}, 1)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    first = subprocess.run([sys.executable, "-c", script], pass_fds=[ends], check=False)
    assert first.returncode == -signal.SIGKILL
    listen(tmp_path / "sock", "").close()
    waits = list[float]()

    def wait(s: float) -> None:
        if not waits:
            os.write(tells, b".")
        waits.append(s)
        threading.Event().wait(s)

    monkeypatch.setattr(time, "sleep", wait)
    with alone(tmp_path):
        assert waits
    for fd in (ends, tells):
        os.close(fd)


@pytest.mark.parametrize("bad", ["tcp://0.0.0.0:1", "/run/hyper.sock", "unix://hyper.sock", "unix://", ""])
def test_addresses_that_are_no_unix_socket(bad: str) -> None:
    with pytest.raises(InvalidInput):
        address(bad)
