"""A hyperd of one's own: its root, socket, bridge, addresses and users are nobody else's.

For tests, measurements and the demo; it runs beside a real installation and leaves nothing behind.
"""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Network
from pathlib import Path
from typing import NamedTuple

from hypercontainer.errors import Exhausted, Unavailable
from hypercontainer.lib import proc

BIN = Path(sys.executable).parent
READY_S = 120.0
MOST_KEPT = 4  # networks of a process, the last ones: by then there are routes of those before

_kept = deque[ExitStack]()  # of `free_subnet`

Value = str | int | float | Sequence[str | Mapping[str, object]] | Mapping[str, object]  # of a setting


class Result(NamedTuple):
    """What a command ended with."""

    status: int
    out: str
    err: str


def stand_ins(folder: Path) -> list[int]:
    """Pids of those whose hyperd has its sockets in `folder`, the first one first. Their command lines are others'."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if not os.readlink(entry / "exe").endswith("/hyper-standin"):
                continue
            if f"SOCKET={folder}/".encode() in (entry / "environ").read_bytes():
                found.append((entry.stat().st_ctime_ns, int(entry.name)))
        except OSError:
            pass  # it has ended
    return [pid for _, pid in sorted(found)]


def free_subnet(prefix: int = 24) -> str:
    """Addresses, `prefix` 18 to 29, that no route of this host knows and nobody else was given lately, whatever
    process asked. Exhausted when a hundred tries found none."""
    listed = subprocess.run(["ip", "-j", "-4", "route"], check=True, capture_output=True, timeout=20)
    routes = [str(route["dst"]) for route in json.loads(listed.stdout)]
    known = [IPv4Network(route, strict=False) for route in routes if route != "default"]
    for _ in range(100):
        net = IPv4Network((0xC0A80000 | (64 + secrets.randbelow(186)) << 8, prefix), strict=False)
        if not any(net.overlaps(other) for other in known) and _keep(net):
            return str(net)
    raise Exhausted("cannot find a free network: 192.168.64.0 to 192.168.249.0 are in use")


def _keep(net: IPv4Network) -> bool:
    """From others, for they may ask before there is a route. A name of an abstract socket is one process's alone."""
    with ExitStack() as stack:
        for part in net.subnets(new_prefix=max(24, net.prefixlen)):
            fd = socket.socket(socket.AF_UNIX).detach()  # at the end of this process nobody has to close it
            stack.callback(os.close, fd)
            with socket.socket(fileno=os.dup(fd)) as holder:
                try:
                    holder.bind(f"\0hyper-subnet-{part.network_address}")
                except OSError:
                    return False
        _kept.append(stack.pop_all())
    if len(_kept) > MOST_KEPT:
        _kept.popleft().close()
    return True


def mounts_below(folder: Path) -> list[Path]:
    """What is mounted there, each after what it is in."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [Path(point) for point in points if point.startswith(f"{folder.resolve()}/")]


def unmount(points: Sequence[Path]) -> None:
    """Whoever uses it; what is in another one goes first."""
    for point in reversed(points):
        subprocess.run(["umount", "--lazy", point], capture_output=True, timeout=20)


def _free_pool() -> str:
    """16 networks of 256 addresses each, which hyperd passes over where this host uses them."""
    return f"10.{128 + secrets.randbelow(127)}.{16 * secrets.randbelow(16)}.0/20"


def _toml(value: Value) -> str:
    if isinstance(value, str | int | float):
        return json.dumps(value)
    if isinstance(value, Mapping):
        return _item(value)
    return f"[{', '.join(map(_item, value))}]"


def _item(value: str | Mapping[str, object]) -> str:
    """Of a list in TOML."""
    if isinstance(value, str):
        return json.dumps(value)
    pairs = (f"{key} = {_item(v) if isinstance(v, Mapping) else json.dumps(v)}" for key, v in value.items())
    return f"{{{', '.join(pairs)}}}"


class PrivateDaemon:
    """hyperd below `folder`. `kernels` holds kernel bundles; `settings` are more lines of its config.toml, None for one
    less; the programs are in `bin`.

    A `root` in `settings` outlives the daemon, everything else goes with `close`.
    """

    def __init__(self, folder: Path, kernels: Path, settings: Mapping[str, Value | None] = {}, bin: Path = BIN) -> None:
        self.folder, self.socket, self.config = folder, folder / "hyper.sock", folder / "config.toml"
        self.process: subprocess.Popen[bytes] | None = None
        self.bin = bin
        self.hyperd = [str(bin / "hyperd")]  # what `start` runs
        number = secrets.randbelow(9000) + 1
        values: dict[str, Value | None] = {
            "root": str(folder / "root"),
            "run": str(folder / "run"),
            "socket": str(self.socket),
            "bridge": f"hyt{secrets.token_hex(4)}",
            "subnet": free_subnet(),
            "subnet6": f"fd68:7970:{secrets.randbelow(65536):x}:{secrets.randbelow(65536):x}::/64",
            "address_pools": [
                {"base": _free_pool(), "size": 24},
                {"base": f"fd{secrets.token_hex(1)}::/48", "size": 64},
            ],
            "uid_base": 1_900_000_000 + number * 10_000,
            "pool_memory_mib": 0,  # what one test needed is not made for the next
            "boot_timeout_s": 300.0,  # room costs nothing, and the machine may be busy
            **settings,
        }
        self.settings = {key: value for key, value in values.items() if value is not None}
        self.root = Path(str(values["root"]))
        self.root.mkdir(parents=True, exist_ok=True)
        if not (self.root / "kernels").exists():
            os.symlink(kernels.resolve(), self.root / "kernels")
        self.config.write_text("".join(f"{key} = {_toml(value)}\n" for key, value in self.settings.items()))
        self.env = {**os.environ, "HYPER_HOST": f"unix://{self.socket}"}

    def start(self) -> None:
        """Start it and wait until it answers. Unavailable, with its last words, when it does not."""
        with open(self.folder / "hyperd.log", "ab") as log:
            argv = [*self.hyperd, "--config", str(self.config)]
            # In a group of its own: Ctrl-C, or `timeout`, would end it while we have it remove what it runs.
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0)
        deadline = time.monotonic() + READY_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Unavailable(f"hyperd does not answer:\n{self.log()[-2000:]}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        """Whether who listens is alive: the socket of one that was killed may stay open in a child that it was making,
        until that is another program."""
        with socket.socket(socket.AF_UNIX) as s:
            try:
                s.connect(str(self.socket))
            except (FileNotFoundError, ConnectionRefusedError):
                return False
            return proc.start_time(proc.peer(s).pid) is not None

    def log(self) -> str:
        return (self.folder / "hyperd.log").read_text(errors="replace")

    def argv(self, *words: str) -> list[str]:
        return [str(self.bin / "hyperctl"), *words]

    def ctl(self, *words: str, stdin: bytes = b"", timeout_s: float = 600) -> Result:
        """Run hyperctl with `words` against this daemon."""
        done = subprocess.run(self.argv(*words), env=self.env, input=stdin, capture_output=True, timeout=timeout_s)
        return Result(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def signal(self, number: int) -> None:
        """Signal hyperd and wait for its end. VMs run on."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(120)
            self.process = None

    def clear(self) -> None:
        """Remove every pod, and so every VM, and what volumes and networks were made."""
        pods = self.ctl("pod", "ls", "-a", "-q", "--all-owners").out.split()
        if pods:
            self.ctl("pod", "rm", "-f", "--all-owners", *pods)
        self.ctl("volume", "prune", "-a", "-f")
        self.ctl("network", "prune", "-f")

    def close(self) -> None:
        """Remove its pods, end it, remove its network and its folder. Any number of times."""
        if self.folder.exists():
            if self.process is None or self.process.poll() is not None:
                self.start()  # VMs outlive a hyperd: only one that knows them can end them
            self.clear()
            self.signal(signal.SIGTERM)
        self.forget()

    def forget(self) -> None:
        """Remove its network and its folder, after its end, or that of an engine with its settings.

        Unavailable, when that is done, where something was mounted there: it is no more, so that nothing behind it is
        removed with the folder."""
        bridge = str(self.settings["bridge"])  # its network stays while no pod uses it, as docker's does
        for argv in (
            ["ip", "link", "delete", bridge],
            ["nft", "delete", "table", "inet", bridge],
            ["nft", "delete", "table", "bridge", bridge],
        ):
            subprocess.run(argv, capture_output=True, timeout=20)
        unmount(left := mounts_below(self.folder))
        shutil.rmtree(self.folder, ignore_errors=True)  # follows no link: the kernels stay
        if left:
            raise Unavailable(f"hyperd has left mounts: {', '.join(map(str, left))}")


@contextmanager
def private_daemon(
    kernels: Path, settings: Mapping[str, Value | None] = {}, bin: Path = BIN
) -> Iterator[PrivateDaemon]:
    """A running one in a new folder below /tmp (sockets need short paths), gone with the block."""
    daemon = PrivateDaemon(Path(tempfile.mkdtemp(prefix="hyper-")), kernels, settings, bin)
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.close()
