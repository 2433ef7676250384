"""One booted guest: the handle that a driver gave, and the connection to its agent."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from hypercontainer.agent.client import SOON_S, AgentClient
from hypercontainer.agent.messages import printable
from hypercontainer.errors import Exhausted, GuestDied, GuestError, GuestSilent, HyperError, InUse
from hypercontainer.hypervisor.base import Guest, Hypervisor, Resizable, Size, VmConfig
from hypercontainer.lib.tasks import in_thread, uninterrupted
from hypercontainer.lib.trace import Timings, Trace
from hypercontainer.model.arch import ARCHES
from hypercontainer.model.record import GuestRecord

LAST_LINES = 3  # of the console that an error quotes
ENTRY_BYTES = 64  # that a kernel has for each page of memory, which go with the page
SPARE_MIB = 16  # that a guest is left with, beyond what it uses, when memory is taken from it
LOOK_S = 0.5  # between two looks at whether a guest that does not answer stands still
LAST_WORDS_S = 1.0  # for what the guest said before its end to be read from the socket


class Vm:
    """Ask its agent, as long as it lives: when the guest dies, every call and stream of `agent` ends with GuestDied,
    which names the cause and holds the tail of the console."""

    def __init__(self, guest: Guest, agent: AgentClient) -> None:
        """For a running event loop: the guest is watched from now on, until `close`."""
        self.guest, self.agent = guest, agent
        self._watcher = asyncio.create_task(self._watch(), name="guest's end")

    async def _watch(self) -> None:
        cause = await self.guest.wait()
        await self.agent.hang_up(LAST_WORDS_S)
        console = self.guest.console_tail()
        self.agent.abort(lambda: died(cause, console))

    async def call(self, op: str, *, timeout_s: float = 10.0, **args: object) -> dict[str, object]:
        """AgentClient.call: any request of docs/wire.md."""
        return await self.agent.call(op, timeout_s=timeout_s, **args)

    async def resize(self, vcpus: int, memory_mib: int) -> Size:
        """Have it run with so many processors, and so much memory or as near to that as it comes, from now on.

        Less memory than it started with it never has, and what it cannot give back it keeps: look at what is returned.
        Nothing that is in use is lost. InvalidInput and InUse (memory): nothing has changed. Exhausted: it could not
        take all that was added; GuestError: a processor could not be switched. Then it may be of another size."""
        before = await self.guest.size()
        if memory_mib < before.memory_mib and before.added_mib:
            await self._check_shrinks(before, memory_mib)
        assert isinstance(self.guest, Resizable)  # noqa: S101  callers have asked for Feature.RESIZE
        size = await self.guest.resize(vcpus, memory_mib)
        has = await self.agent.resize(vcpus, size.added_mib << 10)
        if has.cpus != vcpus:
            raise GuestError(f"cannot have the guest run {vcpus} vCPUs: it runs {has.cpus}")
        if size.memory_mib < memory_mib:
            raise Exhausted(f"cannot add memory up to {memory_mib} MiB: the guest takes {size.memory_mib} MiB")
        return Size(vcpus=has.cpus, memory_mib=size.memory_mib, added_mib=size.added_mib)

    async def _check_shrinks(self, before: Size, memory_mib: int) -> None:
        """It would search for pages to give back until it gives up, and whatever runs in it would stand still."""
        goes_mib = min(before.added_mib, before.memory_mib - memory_mib)
        has = await self.agent.resize(0, before.added_mib << 10)
        used_mib = has.memory_used_kib >> 10
        entries_mib = goes_mib * ENTRY_BYTES // ARCHES[self.guest.record.arch].page_bytes
        if used_mib - entries_mib + SPARE_MIB > (has.memory_total_kib >> 10) - goes_mib:
            words = f"cannot shrink memory to {memory_mib} MiB: {used_mib} MiB of {before.memory_mib} are in use"
            raise InUse(words, "memory", "")

    async def power_off(self, *, grace_s: float = 10.0) -> str:
        """End the guest in good order, `grace_s` seconds between TERM and KILL for what runs in it; killed if it
        will not. Returns why it ended, in words."""
        try:
            await self.agent.power_off(grace_s=grace_s)
            async with asyncio.timeout(grace_s):
                return await self.guest.wait()
        except GuestDied:
            pass  # before its answer was heard
        except (GuestError, GuestSilent, TimeoutError):
            await self.guest.kill()
        return await self.guest.wait()

    async def close(self) -> None:
        """Let go; the guest runs on. Again does nothing."""
        self._watcher.cancel()
        await asyncio.gather(self._watcher, return_exceptions=True)
        await self.agent.close()


def died(cause: str, console: str) -> GuestDied:
    """In one line, with the guest's last words: what a person needs who has no other look at it."""
    return GuestDied(f"the virtual machine ended: {cause}{_last_words(console)}", console)


def _last_words(console: str) -> str:
    lines = [printable(line, 200).strip() for line in console.splitlines()]
    last = " | ".join([line for line in lines if line][-LAST_LINES:])
    return f"; the guest's console ends with: {last}" if last else ""


async def boot(hypervisor: Hypervisor, config: VmConfig, run_dir: Path, trace: Trace) -> Vm:
    """A guest whose agent answers.

    GuestDied if it ended before that, GuestSilent if `config.boot_timeout_s` went by: both with the tail of the
    guest's console. On any failure nothing is left of it.
    """
    if config.share and config.share.prepare:
        await in_thread(config.share.prepare)  # or it is there after our cancellation
    async with AsyncExitStack() as undo:
        guest = await hypervisor.boot(config, run_dir, trace)
        undo.push_async_callback(guest.kill)
        with trace.step("agent"):
            vm = Vm(guest, await _greet(guest, config.boot_timeout_s))
        undo.pop_all()
    return vm


async def attach(
    hypervisor: Hypervisor, record: GuestRecord, *, paused: bool = False, timeout_s: float = 10.0
) -> Vm | None:
    """Take hold of a guest again after our own restart; None if it is gone. See `reach`."""
    guest = await hypervisor.attach(record)
    return await reach(guest, paused=paused, timeout_s=timeout_s) if guest else None


async def reach(guest: Guest, *, paused: bool = False, timeout_s: float = 10.0) -> Vm:
    """Talk again to the agent of a guest that ran before our own restart.

    Exhausted, and nothing has changed, while it stands still for want of room on this host's disk. A guest that runs
    but does not answer within `timeout_s` seconds is of no use to anybody: it is killed, and GuestSilent or WireError
    raised. One that is `paused` cannot answer: it runs for the moment that the greeting takes.
    """
    try:
        if not paused:
            return Vm(guest, await _greet_moving(guest, timeout_s))
        # QEMU does not see a connection's end while the machine stands still. What the guest writes before the next
        # one is there waits for the old one then, forever; the end of the next one sets it right.
        await guest.resume()
        try:
            return Vm(guest, await _greet_moving(guest, timeout_s))
        finally:
            await guest.pause()
    except Exhausted:
        raise
    except HyperError:
        await guest.kill()
        raise


async def _greet_moving(guest: Guest, timeout_s: float) -> AgentClient:
    """The same, or Exhausted as soon as the guest lacks room: it may come to that at any moment."""
    greeting = asyncio.create_task(_greet(guest, timeout_s, SOON_S))
    try:
        while not greeting.done():
            if await guest.lacks_room():
                raise Exhausted("its virtual machine stands still until there is room on this host's disk")
            await asyncio.wait([greeting], timeout=LOOK_S)
        return greeting.result()
    except BaseException:
        await _drop(greeting)
        raise


async def _greet(guest: Guest, timeout_s: float, first_hello_s: float | None = None) -> AgentClient:
    """The agent's first answer, or why there is none."""
    connecting = AgentClient.connect(
        guest.agent_socket, timeout_s=timeout_s, waited=guest.waited_s, first_hello_s=first_hello_s
    )
    agent = asyncio.create_task(connecting)
    end = asyncio.create_task(guest.wait())
    try:
        await asyncio.wait([agent, end], return_when=asyncio.FIRST_COMPLETED)
        if not agent.done():
            raise died(end.result(), guest.console_tail())
        await _drop(end)
        return agent.result()  # nothing is waited for behind this: it would be nobody's if we were cancelled there
    except BaseException as e:
        await _drop(agent, end)
        if isinstance(e, GuestSilent):
            raise GuestSilent(f"{e}{_last_words(guest.console_tail()) or '; its console is empty'}") from None
        raise


async def _drop(*tasks: asyncio.Task[AgentClient] | asyncio.Task[str]) -> None:
    """End them, whatever they have come to. A client that nobody closes would go on connecting: to the next guest that
    has its socket, whose conversation with its own client it would end."""
    for task in tasks:
        task.cancel()
    for made in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(made, AgentClient):
            await made.close()


@asynccontextmanager
async def booted(
    hypervisor: Hypervisor, config: VmConfig, run_dir: Path, trace: Trace | None = None
) -> AsyncIterator[Vm]:
    """A guest whose agent answers. Left by any road, no process, socket or file of it remains."""
    async with AsyncExitStack() as stack:
        vm = await boot(hypervisor, config, run_dir, trace or Timings())
        stack.push_async_callback(vm.guest.kill)
        stack.push_async_callback(vm.close)
        yield vm


async def remove(hypervisor: Hypervisor, run_dir: Path) -> None:
    """Remove `run_dir` with whatever is left of a guest there: all of it, though the caller is cancelled meanwhile."""
    await uninterrupted(_remove(hypervisor, run_dir))


async def _remove(hypervisor: Hypervisor, run_dir: Path) -> None:
    await hypervisor.reap(run_dir)
    shutil.rmtree(run_dir, ignore_errors=True)
