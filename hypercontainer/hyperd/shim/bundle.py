"""What a task's bundle gives, as its shim sees it: paths are looked up in that one's mount namespace."""

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.oci import bundle, document
from hypercontainer.hyperd.shim import disks, layers, streams
from hypercontainer.hyperd.shim.messages import Mount
from hypercontainer.hyperd.shim.streams import Names
from hypercontainer.lib import files, hooks, mount
from hypercontainer.model.bundle import BundleImages, Disk
from hypercontainer.model.container import Hook
from hypercontainer.model.record import ProcessRef

FLAGS = {
    "ro": mount.RDONLY,
    "nosuid": mount.NOSUID,
    "nodev": mount.NODEV,
    "noexec": mount.NOEXEC,
    "noatime": 1024,
    "nodiratime": 2048,
    "relatime": 1 << 21,
    "strictatime": 1 << 24,
}
IGNORED = ("rw", "defaults")
LOWER = "lowerdir="
MAX_OPTIONS = 4095  # bytes that the kernel takes
HOOK_S = 120  # that a hook has which says no timeout
NOTE = "hyper-shim.json"  # in a bundle
OURS = "hyper.mounts"  # in a folder of images that we can go on from


class Stdio(msgspec.Struct, frozen=True, kw_only=True):
    """Streams as containerd names them; "": none."""

    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    terminal: bool = False


class Added(Stdio, frozen=True, kw_only=True):
    """A process that `Exec` has added to a task."""

    process: str  # JSON, as it came


class Gone(msgspec.Struct, frozen=True, kw_only=True):
    """A process that `Delete` has taken away, and of a task what its hooks are told."""

    pid: int
    status: int
    at_ns: int
    state: dict[str, Any] = {}
    poststop: list[Hook] = []


class Note(Stdio, frozen=True, kw_only=True):
    """What a hyperd after this one must know of a task: the streams that it was made with, where it goes on from, what
    was added, and what was taken away lately."""

    checkpoint: str = ""  # a folder of images; "": it begins
    execs: dict[str, Added] = {}
    gone: dict[str, Gone] = {}  # "": the task itself


@dataclass
class Given:
    """Descriptors that were opened, to be closed by `close` unless they are taken out before."""

    config: document.Config | None = None
    stdio: list[int] = field(default_factory=list)
    hold: int = -1  # the writers' end of stdin
    program: int = 0  # pid of a child that takes the output
    network: int = -1
    trees: dict[str, int] = field(default_factory=dict)
    disks: list[Disk] = field(default_factory=list)  # in place of the root file system, open among `trees`

    def close(self) -> None:
        for fd in (*self.stdio, self.hold, self.network):
            if fd >= 0:
                os.close(fd)
        self.close_trees()

    def close_trees(self) -> None:
        while self.trees:
            os.close(self.trees.popitem()[1])


class Within:
    """The mount namespace of a shim. `adopt`: sees to it that a child is reaped, by its pid."""

    def __init__(self, process: ProcessRef, namespace: str, adopt: Callable[[int], None]) -> None:
        self._process, self._namespace, self._adopt = process, namespace, adopt

    async def _do(self, what: str, work: Callable[[], None], *, network: bool = False) -> None:
        thread = ThreadPoolExecutor(1)  # one of its own: it may take its time
        pid, started = self._process.pid, self._process.start_time
        within = functools.partial(mount.within, pid, started, work, network=network)
        try:
            await asyncio.get_running_loop().run_in_executor(thread, within)
        except OSError as e:
            raise InvalidInput(f"cannot {what}: {e.strerror}" + (f": {e.filename}" if e.filename else "")) from e
        finally:
            thread.shutdown(wait=False)

    async def hooks(self, wanted: Sequence[Hook] | None, kind: str, state: Mapping[str, Any]) -> None:
        """Run them one after the other, in the network of the shim, too. InvalidInput: one failed; those after it were
        not run."""
        if not wanted:
            return
        found = [{**msgspec.to_builtins(hook), "timeout": hook.timeout or HOOK_S} for hook in wanted]

        def work() -> None:
            try:
                hooks.run(found, kind, dict(state))
            except hooks.HookFailed as e:
                raise InvalidInput(str(e)) from e

        await self._do(f"run hooks {kind}", work, network=True)

    async def look_again(self, path: str, given: Given) -> None:
        """Hooks may have mounted what is not in the trees."""

        def work() -> None:
            assert given.config  # noqa: S101  take
            found = _trees(given.config, path, given.disks)
            given.close_trees()
            given.trees = found

        await self._do("create the container", work)

    async def take(self, id: str, path: str, rootfs: Sequence[Mount], note: Note) -> Given:
        """Mount the root file system of the bundle at `path`, open what a container is made of, and note it."""
        given = Given()

        def work() -> None:
            found = given.config = _read(path)
            given.disks = disks.of(rootfs)
            if rootfs:
                with layers.mounted(path, () if given.disks else rootfs) as mounts:
                    _mount(os.path.join(path, "rootfs"), mounts)
            _open(note, given, Names(id, self._namespace))
            if note.checkpoint and not os.path.exists(os.path.join(note.checkpoint, OURS)):
                raise InvalidInput(f"cannot go on from {note.checkpoint[:200]}: no checkpoint of this runtime is there")
            for namespace in (found.linux or document.Linux()).namespaces or []:
                if namespace.type == "network" and namespace.path:
                    given.network = os.open(namespace.path, os.O_RDONLY | os.O_CLOEXEC)
                    if os.fstat(given.network).st_ino == os.stat("/proc/self/ns/net").st_ino:
                        raise InvalidInput("cannot use this host's own network namespace: give the container another")
            given.trees = _trees(found, path, given.disks)
            given.disks = disks.look(given.disks, rootfs, given.trees)
            Path(path, NOTE).write_bytes(msgspec.json.encode(note))

        try:
            await self._do("create the container", work)
        except BaseException:
            given.close()
            raise
        finally:
            if given.program:
                self._adopt(given.program)
        return given

    async def open(self, id: str, stdio: Stdio) -> Given:
        given = Given()
        try:
            await self._do("open its streams", lambda: _open(stdio, given, Names(id, self._namespace)))
        except BaseException:
            given.close()
            raise
        finally:
            if given.program:
                self._adopt(given.program)
        return given

    async def noted(self, path: str) -> Note:
        found = Note()

        def work() -> None:
            nonlocal found
            found = msgspec.json.decode(Path(path, NOTE).read_bytes(), type=Note)

        await self._do("find its streams", work)
        return found

    async def note(self, path: str, note: Note) -> None:
        def work() -> None:
            files.replace(Path(path, NOTE), msgspec.json.encode(note), durable=False)

        await self._do("write down its processes", work)

    @asynccontextmanager
    async def images(self, path: str, work: str, flags: Sequence[str] = ()) -> AsyncIterator[BundleImages]:
        """Folders of a checkpoint and of CRIU's log, made if they are missing."""
        trees: list[int] = []

        def look() -> None:
            for folder in (path, work):
                os.makedirs(folder, 0o700, exist_ok=True)
            trees.extend(mount.clones([path, work]))

        try:
            await self._do("open the folders of a checkpoint", look)
            yield BundleImages(images=trees[0], work=trees[1], flags=list(flags))
        finally:
            for tree in trees:
                os.close(tree)

    async def unmount(self, path: str) -> None:
        def work() -> None:
            while mount.unmount(os.path.join(path, "rootfs")):
                pass

        await self._do("unmount its root file system", work)


def _trees(found: document.Config, path: str, disks: Sequence[Disk]) -> dict[str, int]:
    sources = [source for source in bundle.sources(found, path) if not (disks and source == _root(found, path))]
    sources = list(dict.fromkeys([*sources, *(disk.path for disk in disks)]))
    return dict(zip(sources, mount.clones(sources), strict=True))


def _root(found: document.Config, path: str) -> str:
    assert found.root  # noqa: S101  document.checked
    return os.path.join(path, found.root.path)


def _read(path: str) -> document.Config:
    with open(os.path.join(path, "config.json"), "rb") as file:
        data = file.read(document.MAX_BYTES + 1)
    if len(data) > document.MAX_BYTES:
        raise InvalidInput(f"cannot read config.json: it has more than {document.MAX_BYTES} bytes")
    return document.config(data)


def _open(stdio: Stdio, given: Given, names: Names) -> None:
    """Each at once, whoever is at its other end."""
    ours, given.hold = streams.stdin(stdio.stdin)
    given.stdio.append(ours)
    found = streams.output(stdio.stdout, stdio.stderr, names)
    given.stdio += found.fds
    given.program = found.program


def _mount(target: str, mounts: Sequence[Mount]) -> None:
    """One over the other, as containerd wants it. What an earlier try has left there goes first."""
    os.makedirs(target, mode=0o711, exist_ok=True)
    while mount.unmount(target):
        pass
    disks.check_made(mounts)
    for each in mounts:
        where = os.path.join(target, each.target.lstrip("/"))
        fd = os.open(where, os.O_PATH | os.O_CLOEXEC)
        try:
            _mount_one(fd, each)
        finally:
            os.close(fd)


def _mount_one(target: int, found: Mount) -> None:
    attributes, data, bind = 0, [], found.type == "bind"
    for option in found.options:
        if option in ("bind", "rbind"):
            bind = True
        elif option in FLAGS:
            attributes |= FLAGS[option]
        elif option == "loop" or option.startswith("X-containerd."):
            raise InvalidInput(f"cannot mount {found.source[:200]} with {option[:60]}: it is not there yet")
        elif option not in IGNORED:
            data.append(option)
    if bind:
        source = os.open(found.source, os.O_PATH | os.O_CLOEXEC)
        try:
            known = attributes & (mount.RDONLY | mount.NOSUID | mount.NODEV | mount.NOEXEC)
            return mount.bind(source, target, attributes=known)
        finally:
            os.close(source)
    folder, options = compact(data)
    if len(options.encode()) > MAX_OPTIONS:
        raise InvalidInput(f"cannot mount an image of so many layers: its options have {len(options)} bytes")
    if folder:
        os.chdir(folder)  # of this thread alone
    return mount.mount(found.source, target, found.type, attributes, options)


def compact(options: Sequence[str]) -> tuple[str, str]:
    """Options for mount(2), and the folder in which they mean what they say, "" for any: those of an image of many
    layers are too long unless its folders are named from where all are."""
    whole = ",".join(options)
    lower = next((option for option in options if option.startswith(LOWER)), "")
    paths = lower.removeprefix(LOWER).split(":")
    plain = all(path.startswith("/") for path in paths) and "\\" not in lower  # no : in them, either
    if len(whole.encode()) <= MAX_OPTIONS or not plain:
        return "", whole
    folder = os.path.commonpath(paths)
    short = LOWER + ":".join(os.path.relpath(path, folder) for path in paths)
    return folder, ",".join(short if option is lower else option for option in options)
