"""One daemon a run folder, one daemon a socket; and word to systemd."""

import grp
import ipaddress
import os
import re
import socket
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from hypercontainer.errors import HyperError, InUse, InvalidInput
from hypercontainer.lib import files, proc

BACKLOG = 128
CHILD_S = 10.0  # a child of a hyperd that was killed is another program by then
TCP = re.compile(r"tcp://(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<four>[0-9.]+)):(?P<port>[0-9]{1,5})")
FIRST_INHERITED = 3


@contextmanager
def alone(run: Path) -> Iterator[None]:
    """Hold `run`/hyperd.lock (made if missing) for the block. InUse, with its pid, when another hyperd does.

    A child that a hyperd was making when it was killed has the lock, and its sockets, until it is another program: that
    is waited for."""
    run.mkdir(mode=0o711, parents=True, exist_ok=True)
    fd = os.open(run / "hyperd.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + CHILD_S
        while not files.taken(fd):
            pid = os.pread(fd, 20, 0).decode(errors="replace").strip()
            if not pid.isdecimal() or proc.start_time(int(pid)) is not None or time.monotonic() > deadline:
                words = f"cannot start hyperd: another one (pid {pid or 'unknown'}) runs with {run}"
                raise InUse(words, "folder", str(run), [f"process {pid or 'unknown'}"])
            time.sleep(0.01)
        os.ftruncate(fd, 0)
        with suppress(OSError):  # no room: who else starts is told "unknown"
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)


def address(host: str) -> Path:
    """The socket's path in "unix:///run/hyper.sock". InvalidInput for anything else."""
    path = host.removeprefix("unix://")
    if path == host or not path.startswith("/"):
        raise InvalidInput(f"cannot listen on {host!r}: give unix:// and an absolute path")
    return Path(path)


def listen(path: Path, group: str, mode: int = 0o660) -> socket.socket:
    """A socket at `path` of `group` ("" = our own), with `mode`. A dead daemon's is replaced, a live one's is InUse."""
    gid = _gid(group)
    _clear(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(
            sock.fileno(), 0o600
        )  # bind makes the file with this mode: nobody else gets in before the group is set
        try:
            sock.bind(os.fspath(path))
        except OSError as e:
            raise HyperError(f"cannot listen on {path}: {e.strerror or e}") from e
        os.chown(path, -1, gid)
        os.chmod(path, mode)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def listen_tcp(address: str) -> socket.socket:
    """A socket at "tcp://192.0.2.1:2376" or "tcp://[::]:2376"; port 0 is any that is free. InvalidInput for what is no
    address; HyperError when it cannot be had."""
    found = tcp_address(address)
    if found is None:
        raise InvalidInput(
            f"cannot listen on {address!r}: give tcp://ADDRESS:PORT, with an address of this host, or 0.0.0.0 or [::] "
            "for all of them"
        )
    host, port = found
    family = socket.AF_INET if host.version == 4 else socket.AF_INET6
    try:
        return socket.create_server((str(host), port), family=family, backlog=BACKLOG)
    except OSError as e:
        raise HyperError(f"cannot listen on {address}: {e.strerror or e}") from e


def tcp_address(address: str) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int] | None:
    """Address and port; None: it is none."""
    found = TCP.fullmatch(address)
    try:
        host = ipaddress.ip_address(found["six"] or found["four"]) if found else None
    except ValueError:
        host = None
    if found is None or host is None or int(found["port"]) > 65535:
        return None
    return host, int(found["port"])


def written(sock: socket.socket) -> str:
    """Where it listens: HOST:PORT."""
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if sock.family == socket.AF_INET6 else f"{host}:{port}"


def inherited(environ: Mapping[str, str]) -> socket.socket | None:
    """The socket that systemd listens on for us, sd_listen_fds(3): clients wait in it while we are replaced."""
    if environ.get("LISTEN_PID") != str(os.getpid()) or environ.get("LISTEN_FDS") != "1":
        return None
    sock = socket.socket(fileno=FIRST_INHERITED)
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
        raise InvalidInput("cannot listen: the socket that systemd handed over is no unix stream socket")
    sock.set_inheritable(False)  # no VMM may keep it
    return sock


def _gid(group: str) -> int:
    if not group:
        return -1
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise InvalidInput(
            f"cannot give the socket to group {group!r}: there is none; see `group` in config.toml"
        ) from None


def _clear(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise InUse(f"cannot listen on {path}: a file that is no socket is there", "socket", str(path))
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError as e:  # BlockingIOError: alive, and its backlog is full
            raise InUse(f"cannot listen on {path}: {e.strerror or e}", "socket", str(path)) from e
        pid = proc.peer(probe).pid
    if pid and proc.start_time(pid) is None:  # its child has the socket
        path.unlink(missing_ok=True)
        return
    raise InUse(f"cannot listen on {path}: a daemon answers there", "socket", str(path), ["a daemon"])


def notify(target: str, state: str) -> None:
    """Tell systemd `state` ("READY=1"), where NOTIFY_SOCKET named a `target`; sd_notify(3)."""
    if not target:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.sendto(state.encode(), f"\0{target[1:]}" if target.startswith("@") else target)
        except OSError:
            pass  # nobody waits for it
