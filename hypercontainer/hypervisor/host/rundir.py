"""The files of one VMM in its run directory, and what is kept there so that a reaper finds all of it.

| file | what |
|---|---|
| `lock` | flocked by hyperd until the processes run, then by them: free means that nothing of this VMM lives |
| `vmm.json` | what exists beside processes and files: written before any of it does |
| `NAME.pid .status .log .out` | of the VMM and virtiofsd, by hyper-jail |
| `agent.sock`, its monitor's | the VMM listens there |
| `jail/` | where hyper-jail mounts the VMM's root, in a namespace of its own |
"""

import fcntl
import os
from pathlib import Path

import msgspec

from hypercontainer.errors import InUse, InvalidInput
from hypercontainer.lib import document, files
from hypercontainer.model.record import ProcessRef

VIRTIOFSD = "virtiofsd"
SUFFIXES = ("pid", "status", "log", "log.old", "out", "out.old")
MAX_SOCKET_PATH = 107  # sockaddr_un


class VmmFile(msgspec.Struct, frozen=True, kw_only=True):
    """vmm.json. `lent`: control groups of somebody else's, who removes them; it is in those, and in its own no more."""

    version: int = 1
    boot_id: str
    cgroups: list[str]
    lent: list[str] = []

    def groups(self) -> list[Path]:
        """All that limit it."""
        return [Path(folder) for folder in (*self.cgroups, *self.lent)]


class RunDir:
    """One VMM's run directory; `path` exists. `vmm` names its program's files, `monitor` its own socket, if it has one
    beside the agent's."""

    def __init__(self, path: Path, *, vmm: str, monitor: str = "agent.sock") -> None:
        self.path, self.vmm = path, vmm
        self.programs: tuple[str, ...] = (VIRTIOFSD, vmm)
        self.console_out = f"{vmm}.out"  # what the guest says there
        self.monitor = path / monitor
        self.agent = path / "agent.sock"
        self.jail = path / "jail"
        if len(os.fsencode(self.agent)) > MAX_SOCKET_PATH:
            raise InvalidInput(
                f"cannot run a VM in {path}: the path is too long for a socket ({MAX_SOCKET_PATH} bytes)"
            )

    def moved(self, path: Path) -> "RunDir":
        """The same, at another place."""
        return RunDir(path, vmm=self.vmm, monitor=self.monitor.name)

    def lock(self) -> int | None:
        """Take the lock and return its descriptor (close it to let go); None while somebody holds it.

        A VMM inherits it: it is not to write there."""
        fd = os.open(self.path / "lock", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return fd

    def take(self, name: str) -> int:
        """`lock`, for a new VM of that name. InUse."""
        lock = self.lock()
        if lock is None:
            raise InUse(f"cannot boot {name}: a virtual machine runs in {self.path}", "folder", str(self.path))
        return lock

    def save(self, known: VmmFile) -> None:
        files.replace(self.path / "vmm.json", msgspec.json.encode(known), durable=False)

    def load(self) -> VmmFile | None:
        try:
            return document.read(self.path / "vmm.json", VmmFile)
        except FileNotFoundError:
            return None

    def groups(self) -> list[Path]:
        """All that limit it, as far as is known."""
        known = self.load()
        return known.groups() if known else []

    def processes(self, program: str) -> list[ProcessRef]:
        """The keeper and the process of `program`, or [] if hyper-jail has not come that far."""
        try:
            lines = (self.path / f"{program}.pid").read_text().splitlines()
        except FileNotFoundError:
            return []
        pairs = [line.split() for line in lines]
        return [ProcessRef(pid=int(pid), start_time=int(started)) for pid, started in pairs]

    def read_tail(self, name: str, size: int) -> bytes:
        """The last `size` bytes of the log `name` and, before it, of its predecessor."""
        parts: list[bytes] = []
        for part in (name, f"{name}.old"):
            wanted = size - sum(map(len, parts))
            parts.insert(0, _tail(self.path / part, wanted))
        return b"".join(parts)

    def status(self, program: str) -> str:
        """What hyper-jail wrote of the end of `program`: "exit 0", "signal 9", or "" """
        return self.read_tail(f"{program}.status", 32).decode(errors="replace").strip()

    def files(self) -> list[Path]:
        """All that may be there, but the lock."""
        of_programs = [f"{program}.{suffix}" for program in self.programs for suffix in SUFFIXES]
        return [self.monitor, *(self.path / name for name in ("vmm.json", "agent.sock", "share.sock", *of_programs))]

    def clear(self) -> None:
        """Remove our files, and nobody else's."""
        for path in self.files():
            path.unlink(missing_ok=True)
        try:
            self.jail.rmdir()
        except FileNotFoundError:
            pass
        (self.path / "lock").unlink(missing_ok=True)


def _tail(path: Path, size: int) -> bytes:
    try:
        with open(path, "rb") as f:
            f.seek(max(0, f.seek(0, os.SEEK_END) - size))
            return f.read(size)
    except FileNotFoundError:
        return b""
