"""What containers of fake guests have below their roots: programs of a FakeAgent that read and write there.

Folders are those of this host, as the pod's share shows them. Disks have no file system: all of one is /file, and what
was written is kept here, for as long as there is the file that the disk is.
"""

from pathlib import Path

from hypercontainer.testing.fake_process import PROGRAMS, FakeProcess
from hypercontainer.testing.fakes import FakeAgent, FakeGuest, FakeHypervisor


class FakeRoots:
    def __init__(self, hypervisor: FakeHypervisor) -> None:
        """All guests that it boots from now on have the programs."""
        self._hypervisor = hypervisor
        self._written: dict[str, dict[str, bytes]] = {}  # by the path of a disk's file
        programs = {**PROGRAMS, "cat": self._cat, "cp": self._cp}
        hypervisor.make_agent = lambda: FakeAgent(programs)

    async def _cat(self, process: FakeProcess) -> int:
        found = self._read(process.container, process.args[1])
        await process.write(found or b"")
        return 0 if found is not None else 1

    async def _cp(self, process: FakeProcess) -> int:
        found = self._read(process.container, process.args[1])
        return 0 if found is not None and self._write(process.container, process.args[2], found) else 1

    def _guest(self, container: str) -> FakeGuest:
        return next(guest for guest in self._hypervisor.alive if container in guest.agent.containers)

    def _read(self, container: str, path: str) -> bytes | None:
        guest = self._guest(container)
        asked = guest.agent.containers[container].rootfs
        if asked.folder:
            here = _shared(guest, asked.folder) / path.lstrip("/")
            return here.read_bytes() if here.exists() else None
        for disk in (asked.upper, asked.lower):
            if disk and path in (kept := self._kept(guest, disk.target)):
                return kept[path]
        first = asked.lower or next(iter(asked.lowers), None)
        lower = first and guest.disks[first.target]
        return Path(lower.path).read_bytes() if lower and path == "/file" else None

    def _write(self, container: str, path: str, data: bytes) -> bool:
        guest = self._guest(container)
        asked = guest.agent.containers[container]
        disk = asked.rootfs.upper or asked.rootfs.lower
        if asked.read_only or (disk and guest.disks[disk.target].read_only):
            return False
        if disk:
            self._kept(guest, disk.target)[path] = data
            return True
        try:
            (_shared(guest, asked.rootfs.folder) / path.lstrip("/")).write_bytes(data)
        except OSError:
            return False
        return True

    def _kept(self, guest: FakeGuest, target: int) -> dict[str, bytes]:
        path = guest.disks[target].path
        if not Path(path).exists():
            self._written.pop(path, None)
        return self._written.setdefault(path, {})


def _shared(guest: FakeGuest, folder: str) -> Path:
    assert guest.config.share
    return guest.config.share.folder / folder
