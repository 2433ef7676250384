"""A checkpoint of a container in a kubelet's pod: its processes and what it has changed of its image, of one moment."""

import asyncio
import os
import shutil
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from hypercontainer.engine import checkpoint_archive as archive
from hypercontainer.engine.checkpoint_archive import Location
from hypercontainer.engine.host import Host
from hypercontainer.errors import Exhausted, TimedOut
from hypercontainer.lib import files, mount
from hypercontainer.lib.tasks import all_of, in_thread
from hypercontainer.model import ids
from hypercontainer.model.record import ContainerRecord, PodRecord
from hypercontainer.sandbox import checkpoint, criu
from hypercontainer.sandbox.archive import MAX_ROWS, parse_changes
from hypercontainer.sandbox.container import Container
from hypercontainer.sandbox.criu import Saved
from hypercontainer.sandbox.pod import Pod

# A connection is saved as it is, for the container runs on with it; no packet comes between.
FLAGS = (checkpoint.LEAVE, "--tcp-established", "--network-lock", "nftables")
OF_WORK = {name: name for name in (criu.DUMP_LOG, "stats-dump", checkpoint.LAYER)}
LOG = "container.log"
WITHIN_S = checkpoint.SAVE_S  # where the kubelet says nothing
OCI = "1.1.0"
LOOK_S = 0.5  # how often it is looked at how much the guest has written
FORKS = 4  # memory that processes share since a fork is written once for each: so often at most
BESIDE = 64 << 20


class Folders(NamedTuple):
    saved: Saved
    images: int
    work: int


async def make(
    host: Host, pod: Pod, container: Container, location: str, documents: Mapping[str, bytes], within_s: float
) -> None:
    """See model.api.Kube.checkpoint."""
    record = container.record
    with Location.made(location) as place:
        try:
            async with asyncio.timeout(within_s), _folders(host.dumps / ids.new_id()) as folders:
                await _save(pod, container, folders, _most(host, pod, record))
                rows = await asyncio.to_thread(archive.read, folders.work, checkpoint.CHANGES, MAX_ROWS)
                deleted = [change.path for change in parse_changes(rows) if change.kind == "D"]
                said = {**documents, "spec.dump": _json(spec(pod.record, record)), "deleted.files": _json(deleted)}
                await _write(place, said, folders, record.kube.log if record.kube else "")
                await in_thread(place.appear)
        except TimeoutError as e:
            raise TimedOut(f"cannot checkpoint {record.id}: it took more than {within_s:g} s; give it more") from e


@asynccontextmanager
async def _folders(folder: Path) -> AsyncIterator[Folders]:
    """Two for CRIU to write in, for the block."""
    fds: list[int] = []

    def prepare() -> None:
        with files.telling(f"write a checkpoint to {folder}"):
            paths = [folder / "images", folder / "work"]
            for path in paths:
                path.mkdir(mode=0o700, parents=True)
                fds.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            fds.extend(mount.clones(str(path) for path in paths))

    try:
        await in_thread(prepare)
        images, work, *trees = fds
        yield Folders(Saved(trees[0], trees[1], FLAGS), images, work)
    finally:
        for fd in fds:
            os.close(fd)
        await in_thread(shutil.rmtree, folder, ignore_errors=True)


async def _save(pod: Pod, container: Container, folders: Folders, most: int) -> None:
    over = asyncio.Event()

    async def save() -> None:
        try:
            await checkpoint.save(pod, container, folders.saved, changes=True)
        finally:
            over.set()

    async def watch() -> None:
        while not over.is_set():
            if await asyncio.to_thread(_taken, folders) > most:
                raise Exhausted(f"cannot checkpoint {container.record.id}: it is more than {most >> 20} MiB")
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), LOOK_S)

    await all_of(save(), watch())


def _most(host: Host, pod: Pod, record: ContainerRecord) -> int:
    """Bytes that a guest with this container in it may have to say."""
    scratch_mib = record.spec.scratch_mib or host.settings.scratch_mib
    return ((FORKS * pod.site.machine_mib(pod.record) + scratch_mib) << 20) + BESIDE


def _taken(folders: Folders) -> int:
    """Bytes of disk that the guest has written."""
    total = 0
    for folder in (folders.images, folders.work):
        with os.scandir(folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
    return total


async def _write(place: Location, documents: Mapping[str, bytes], folders: Folders, log: str) -> None:
    cancelled = threading.Event()

    def work() -> None:
        with (
            archive.opened(folders.images, archive.images(folders.images)) as images,
            archive.opened(folders.work, OF_WORK) as beside,
            _opened_log(log) as logs,
        ):
            archive.write(place, documents, [*images, *beside, *logs], [archive.IMAGES], cancelled)

    writing = asyncio.ensure_future(in_thread(work))
    try:
        await asyncio.shield(writing)
    finally:
        cancelled.set()  # if we are: it stops then
        await asyncio.wait([writing])


@contextmanager
def _opened_log(log: str) -> Iterator[list[archive.Part]]:
    above, name = os.path.split(log)
    try:
        folder = os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if above else -1
    except OSError:
        folder = -1  # nobody keeps it any more
    try:
        with archive.opened(folder, {name: LOG} if folder >= 0 else {}) as found:
            yield found
    finally:
        if folder >= 0:
            os.close(folder)


def spec(pod: PodRecord, record: ContainerRecord) -> dict[str, object]:
    """What runs, in OCI's words, as far as those who look at checkpoints ask for it."""
    config, identity = record.config, record.identity
    assert pod.kube and record.kube  # noqa: S101  of a kubelet's
    process = config.process
    return {
        "ociVersion": OCI,
        "process": {
            "terminal": process.terminal,
            "user": {"uid": identity.uid, "gid": identity.gid, "additionalGids": identity.groups} if identity else {},
            "args": process.args,
            "env": process.env,
            "cwd": process.cwd,
            "noNewPrivileges": process.no_new_privileges,
        },
        "root": {"path": "rootfs", "readonly": config.read_only},
        "hostname": config.hostname or pod.spec.hostname,
        "mounts": [
            {"destination": each.destination, "type": each.type, "source": each.source, "options": each.options}
            for each in config.mounts
        ],
        "annotations": {
            **record.kube.annotations,
            "io.kubernetes.cri.container-type": "container",
            "io.kubernetes.cri.container-name": record.kube.name,
            "io.kubernetes.cri.image-name": record.kube.image,
            "io.kubernetes.cri.sandbox-id": pod.id,
            "io.kubernetes.cri.sandbox-name": pod.kube.name,
            "io.kubernetes.cri.sandbox-namespace": pod.kube.namespace,
            "io.kubernetes.cri.sandbox-uid": pod.kube.uid,
        },
        "linux": {"namespaces": [{"type": each} for each in ("pid", "mount", "uts", "cgroup")]},
    }


def _json(what: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(what), indent=2)
