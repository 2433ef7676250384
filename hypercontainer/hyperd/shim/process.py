"""A process of a task as containerd knows it: the first one, or one more. Its pid is that of its stand-in."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.oci import document
from hypercontainer.hyperd.shim.bundle import Given, Stdio
from hypercontainer.hyperd.shim.messages import Status, Timestamp, timestamp
from hypercontainer.lib import clock, engine_cgroup, proc, stand_in
from hypercontainer.model.api import Further
from hypercontainer.model.record import ProcessRef, StandInRecord

DRAIN_S = 2.0  # that whoever reads an ended process's output may take, as with runc's shim


class Exit(NamedTuple):
    status: int
    time_ns: int

    @property
    def at(self) -> Timestamp:
        return timestamp(self.time_ns)


@dataclass
class Process:
    stdio: Stdio
    pid: int
    ended: "asyncio.Future[Exit]"

    def end(self, status: int, time_ns: int = 0) -> None:
        if not self.ended.done():
            self.ended.set_result(Exit(status, time_ns or clock.now_ns()))

    @property
    def exit(self) -> Exit | None:
        return self.ended.result() if self.ended.done() else None


@dataclass
class FurtherProcess(Process):
    """One that `exec` adds: it is known before it starts."""

    process: str = ""  # JSON, as it came
    spec: document.Process | None = None
    started: bool = False
    closed: bool = False  # its stdin ends with whoever writes
    running: Further | None = None

    @property
    def status(self) -> Status:
        if self.ended.done():
            return Status.STOPPED
        return Status.RUNNING if self.running else Status.CREATED


async def stand(given: Given, door: str, args: Sequence[str], *, new_network: bool = False) -> stand_in.StandIn:
    """Start what stands for a process, with the streams that were opened for it."""
    network = f"/proc/{os.getpid()}/fd/{given.network}" if given.network >= 0 else ""
    try:
        made = await asyncio.to_thread(
            stand_in.start, door, given.stdio, args=args, network=network, new_network=new_network, hold=given.hold
        )
    except OSError as e:
        raise InvalidInput(f"cannot start its stand-in: {e.strerror or e}") from e
    return made


def group_of(path: str, id: str) -> str:
    """The control group that `cgroupsPath` means: systemd's by its form, for containerd says it in no other way."""
    return engine_cgroup.named(path, id, systemd=engine_cgroup.is_scope(path))


async def place(group: str, pid: int) -> None:
    """Have a stand-in in there; "": it stays where it is. InvalidInput: systemd makes no such one."""
    try:
        if group:
            await asyncio.to_thread(engine_cgroup.place, group, pid)
    except engine_cgroup.NoScope as e:
        raise InvalidInput(str(e)) from e


def record(made: stand_in.StandIn) -> StandInRecord:
    return StandInRecord(key=made.key, process=ProcessRef(pid=made.pid, start_time=made.start_time))


async def reap(pid: int) -> None:
    """Wait until a child of ours has ended, and let it go."""
    fd = os.pidfd_open(pid)
    try:
        readable = asyncio.Event()
        asyncio.get_running_loop().add_reader(fd, readable.set)
        try:
            await readable.wait()
        finally:
            asyncio.get_running_loop().remove_reader(fd)
    finally:
        os.close(fd)
    os.waitpid(pid, 0)  # noqa: ASYNC222  it has ended


async def drained(process: ProcessRef) -> None:
    """Until a stand-in has written all and ended; one whose output nobody reads is ended."""
    try:
        async with asyncio.timeout(DRAIN_S):
            await proc.gone(process.pid, process.start_time)
    except TimeoutError:
        proc.kill(process.pid, process.start_time)
