"""Files in and out of a container as tar streams, and what it has made of its image: all by the guest's agent, for
nobody else mounts its disk."""

import asyncio
import errno
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Literal, NamedTuple

from hypercontainer.agent.messages import ARCHIVE_ERRNO, ArchiveMode, ProcessArchive, StreamSet, printable
from hypercontainer.agent.streams import OutputStream
from hypercontainer.agent.wire import WireError
from hypercontainer.errors import Exhausted, GuestError, WrongState
from hypercontainer.model import ids, state
from hypercontainer.model.state import Verb
from hypercontainer.sandbox.container import Container
from hypercontainer.sandbox.exec import Exec
from hypercontainer.sandbox.pod import Pod
from hypercontainer.vm import Vm

VERBS: Mapping[ArchiveMode, str] = {
    "read": "read",
    "layer": "make a layer of",
    "changes": "list the changes of",
    "tree": "read",
}
KINDS: Mapping[bytes, Literal["A", "C", "D"]] = {b"A": "A", b"C": "C", b"D": "D"}
OF_CHANGES: frozenset[Verb] = frozenset(("commit", "list the changes of"))
MAX_CHANGES, MAX_ROWS = 500_000, 64 << 20  # of a list, and its bytes

COMPLAINT = 4096  # bytes of the agent's stderr that are kept
KILLED = 128  # above it an exit status is that of a signal

ABSENT = (errno.ENOENT, errno.ENOTDIR)  # what callers act upon, and the first guests say in words only


class Change(NamedTuple):
    """Added, changed or deleted, and the path."""

    kind: Literal["A", "C", "D"]
    path: str


def one_line(complaint: bytes) -> str:
    """The agent's lines as one, to stand behind "cannot VERB WHAT: "."""
    lines = [printable(line).removeprefix("cannot ") for line in complaint.decode(errors="replace").splitlines()]
    return "; ".join(line for line in lines if line) or "the guest does not say why"


class _Archive:
    """The agent's process that packs or unpacks, known to the pod as an exec so that its end finds us."""

    def __init__(self, pod: Pod, vm: Vm, container: Container) -> None:
        self._pod, self._vm, self._container = pod, vm, container
        self._exec = Exec(ids.new_id(), None, vm=vm)
        self._heard: asyncio.Task[bytes] | None = None

    async def start(self, mode: ArchiveMode, path: str, *, freeze: bool = False, user: str = "") -> None:
        first = self._vm.agent.new_streams(3)
        write = mode == "write"
        streams = StreamSet(stdin=first if write else 0, stdout=0 if write else first + 1, stderr=first + 2)
        self._pod.execs[self._exec.id] = self._exec
        stderr = self._vm.agent.output(streams.stderr)
        if write:
            self.stdin = self._vm.agent.input(streams.stdin)
        else:
            self.stdout = self._vm.agent.output(streams.stdout)
        await self._vm.agent.start_archive(
            ProcessArchive(
                id=self._exec.id,
                container=self._container.record.id,
                mode=mode,
                path=path,
                streams=streams,
                user=user,
                freeze=freeze,
            )
        )
        # at once, and to its end: one that complains without end must not come to a stop in the midst of it
        self._heard = asyncio.create_task(_all(stderr))

    async def result(self, verb: str, path: str) -> None:
        """Raise what the agent complained of."""
        assert self._heard  # noqa: S101  it was started
        complaint = await self._heard
        status = await self._exec.exit
        if status:
            raise GuestError(f"cannot {verb} {path}: {one_line(complaint)}", self._errno(status, complaint))

    def _errno(self, status: int, complaint: bytes) -> int:
        """Of the first thing that it complained of; 0 where nobody knows."""
        if self._vm.agent.has(ARCHIVE_ERRNO):
            return status if status < KILLED else 0
        first = complaint.partition(b"\n")[0].decode(errors="replace")
        return next((number for number in ABSENT if first.endswith(os.strerror(number))), 0)

    async def end(self) -> None:
        self._pod.execs.pop(self._exec.id, None)
        if not self._exec.exit.done():
            await self._exec.signal(9)
            await asyncio.wait([self._exec.exit], timeout=5.0)
        await self._exec.forget()
        if self._heard:
            self._heard.cancel()
            await asyncio.wait([self._heard])


async def _all(stream: OutputStream) -> bytes:
    kept = b""
    while data := await stream.read():
        kept = (kept + data)[:COMPLAINT]
        stream.consumed(len(data))
    return kept


def check(pod: Pod, container: Container, verb: Verb = "copy files of") -> None:
    """WrongState if it is paused, or its pod: the agent that reads and writes its files is in the same VM; or if what
    it changes lies over nothing, and `verb` is of that."""
    state.check(verb, container.record.name, "paused" if pod.record.paused else container.record.state)
    if verb in OF_CHANGES and container.rootfs.scratch is None:
        why = "what it has changed is told apart from nothing"
        raise WrongState(verb, container.record.name, f"on {container.rootfs} itself", why)


async def read(pod: Pod, container: Container, path: str) -> AsyncGenerator[bytes, None]:
    """A tar of `path`."""
    async with pod.entered(container) as vm, aclosing(_output(pod, vm, container, "read", path)) as pieces:
        async for data in pieces:
            yield data


async def layer(pod: Pod, container: Container, *, pause: bool) -> AsyncGenerator[bytes, None]:
    """A tar of what the container has made of its image, as a layer of OCI's. `pause`: it stands still meanwhile.

    GuestTooOld from a guest that cannot make one; it has the file system that its container wants to show, no other."""
    async with pod.entered(container) as vm:
        with container.held(pause and container.running) as held:
            async with aclosing(_output(pod, vm, container, "layer", "/", freeze=held)) as pieces:
                async for data in pieces:
                    yield data


async def tree(pod: Pod, container: Container) -> AsyncGenerator[bytes, None]:
    """A tar of all that is in the container, but not of what is mounted there."""
    async with pod.entered(container) as vm, aclosing(_output(pod, vm, container, "tree", "/")) as pieces:
        async for data in pieces:
            yield data


async def changes(pod: Pod, container: Container) -> list[Change]:
    """What the container has made of its image, as docker's diff has it. WireError when the guest says what no
    list of that can be."""
    rows, count = bytearray(), 0
    async with pod.entered(container) as vm, aclosing(_output(pod, vm, container, "changes", "/")) as pieces:
        async for data in pieces:
            rows += data
            count += data.count(0)
            if len(rows) > MAX_ROWS or count > MAX_CHANGES:
                raise Exhausted(f"cannot list the changes of {container.record.name}: they are more than {MAX_CHANGES}")
    return parse_changes(bytes(rows))


def parse_changes(rows: bytes) -> list[Change]:
    """A letter and an absolute path each, with a NUL behind it."""
    *found, rest = rows.split(b"\0")
    if rest or any(row[:1] not in KINDS or row[1:2] != b"/" for row in found):
        raise WireError("the guest's agent lists changes that make no sense")
    return [Change(KINDS[row[:1]], row[1:].decode(errors="replace")) for row in found]


async def _output(
    pod: Pod, vm: Vm, container: Container, mode: ArchiveMode, path: str, *, freeze: bool = False
) -> AsyncGenerator[bytes, None]:
    """What the agent's process writes, to its end."""
    archive = _Archive(pod, vm, container)
    await archive.start(mode, path, freeze=freeze)
    try:
        while data := await archive.stdout.read():
            yield data
            archive.stdout.consumed(len(data))
        await archive.result(VERBS[mode], path)
    finally:
        await archive.end()


async def write(
    pod: Pod, container: Container, path: str, chunks: AsyncIterator[bytes], *, as_user: bool = False
) -> None:
    """Unpack a tar below folder `path`. `as_user`: what is in it is then of the container's user, if it has one.

    GuestTooOld from a guest that cannot give it away."""
    user = container.record.config.process.user if as_user else ""
    async with pod.entered(container) as vm:
        archive = _Archive(pod, vm, container)
        await archive.start("write", path, user=user)
        try:
            try:
                async for chunk in chunks:
                    await archive.stdin.write(chunk)
                archive.stdin.close()
            except BrokenPipeError:
                pass  # it gave up early: its complaint says why
            await archive.result("write", path)
        finally:
            await archive.end()
