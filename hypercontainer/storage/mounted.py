"""Volumes that are file systems of their own (a tmpfs, an export of NFS, a disk): mounted while somebody uses them."""

import asyncio
import os
import socket
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from weakref import WeakValueDictionary

import msgspec

from hypercontainer.errors import HyperError, TimedOut, Unavailable
from hypercontainer.lib import files, mount, proc
from hypercontainer.lib.tasks import in_thread
from hypercontainer.storage import mountopts
from hypercontainer.storage.mounting import FAILED, Job
from hypercontainer.storage.volume import Volume, VolumeStore

MOUNT_S = 180.0  # as long as the kernel waits for an NFS server that does not answer
RESOLVE_S = 20.0
BY_NAME = ("nfs", "nfs4", "cifs")  # kinds whose addr= may be a name, which the kernel cannot resolve


class NotMounted(Unavailable):
    """The file system of a volume cannot be mounted, in docker's words."""


class MountedVolumes:
    """Which pods use which volume of `store`; of those that are file systems, each is mounted at its `_data` from its
    first user on, and until its last one has gone. Other volumes need nothing, and may be named here as well.

    volume.json is written before any mount and goes after it, so it is the record of that: `sweep` needs no other. Who
    is shown what is mounted has a clone of it, which stays when this one goes.
    """

    def __init__(self, store: VolumeStore) -> None:
        self._store = store
        self._users: dict[str, set[str]] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def use(self, name: str, user: str) -> None:
        """Have volume `name` mounted for `user`. Again = no change. NotFound; NotMounted, and then nothing is."""
        volume = self._store.get(name)
        if not volume.mounted:
            return
        async with self._locks.setdefault(name, asyncio.Lock()):
            users = self._users.setdefault(name, set())
            new = user not in users
            users.add(user)
            try:
                if not mount.mounted(self._folder(name)):
                    await self._mount(volume)
            except BaseException:
                if new:
                    await self._leave(name, user)
                raise

    async def keep(self, user: str, names: Iterable[str]) -> None:
        """Of all that `user` had, it has these still. Safe any number of times."""
        kept = set(names)
        for name in [name for name, users in self._users.items() if user in users and name not in kept]:
            async with self._locks.setdefault(name, asyncio.Lock()):
                await self._leave(name, user)

    def adopt(self, user: str, names: Iterable[str]) -> None:
        """`user` has these since before our own restart: what is mounted stays, what is not is not mounted now."""
        for name in names:
            with suppress(HyperError):  # one that is gone or cannot be read is not mounted by us
                if self._store.get(name).mounted:
                    self._users.setdefault(name, set()).add(user)

    async def sweep(self) -> None:
        """Unmount what nobody uses."""
        for volume in self._store.list():
            if volume.mounted and not self._users.get(volume.name):
                await in_thread(self._unmount, volume.name)

    def _folder(self, name: str) -> Path:
        return self._store.root.resolve() / name / "_data"

    async def _leave(self, name: str, user: str) -> None:
        """With the lock of the volume held."""
        users = self._users.get(name, set())
        users.discard(user)
        if not users:
            self._users.pop(name, None)
            await in_thread(self._unmount, name)

    def _unmount(self, name: str) -> None:
        with files.telling(f"unmount volume {name}"):
            while mount.unmount(self._folder(name)):
                pass  # one may lie over another

    async def _mount(self, volume: Volume) -> None:
        folder, kind, source = self._folder(volume.name), volume.options["type"], volume.options["device"]
        flags, data = mountopts.parse(volume.options.get("o", ""))
        if kind in BY_NAME:
            data = await _resolved(volume.name, data)
        fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            job = Job(source=source, target=fd, type=kind, flags=flags, data=data, parent=os.getpid())
            result = await proc.run(
                [sys.executable, "-I", "-m", "hypercontainer.storage.mounting"],
                stdin=msgspec.json.encode(job),
                pass_fds=[fd],
                timeout_s=MOUNT_S,
                check=False,
            )
        except TimedOut as e:
            raise NotMounted(_failed(folder, job, os.strerror(110))) from e
        finally:
            os.close(fd)
        if result.status == FAILED:
            raise NotMounted(_failed(folder, job, os.strerror(int(result.stdout))))
        if result.status:
            tail = result.stderr.decode(errors="replace")[-500:].strip()
            raise HyperError(f"cannot mount volume {volume.name}: its process ended with {result.status}: {tail}")


def _failed(folder: Path, job: Job, why: str) -> str:
    """docker's words."""
    flags = f", flags: {job.flags:#x}" if job.flags else ""
    data = f", data: {mountopts.shown(job.data)}" if job.data else ""
    return (
        f"error while mounting volume '{folder}': failed to mount local volume: "
        f"mount {job.source}:{folder}{flags}{data}: {why.lower()}"
    )


async def _resolved(name: str, data: str) -> str:
    """With the address of the server in the place of its name, as the kernel wants it."""
    options = data.split(",")
    for n, option in enumerate(options):
        key, _, host = option.partition("=")
        if key == "addr" and host:
            options[n] = f"addr={await _address(name, host)}"
    return ",".join(options)


async def _address(name: str, host: str) -> str:
    try:
        async with asyncio.timeout(RESOLVE_S):
            found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError) as e:
        why = "no such host" if isinstance(e, socket.gaierror) else str(e) or "no answer"
        raise NotMounted(
            f"error while mounting volume '{name}': error resolving passed in network volume address: "
            f"lookup {host[:253]}: {why}"
        ) from e
    return str(found[0][4][0])
