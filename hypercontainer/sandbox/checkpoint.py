"""The processes of a container of an engine or a kubelet, saved by CRIU in its guest."""

import asyncio
from signal import SIGKILL, SIGTERM

from hypercontainer.agent import messages as m
from hypercontainer.errors import GuestError, HyperError, WrongState
from hypercontainer.lib.tasks import uninterrupted
from hypercontainer.model import ids
from hypercontainer.sandbox import criu
from hypercontainer.sandbox.container import Container
from hypercontainer.sandbox.criu import Saved
from hypercontainer.sandbox.exec import Exec
from hypercontainer.sandbox.pod import Pod
from hypercontainer.vm import Vm

COMPLAINT = 2000  # characters of what CRIU says that an error has
LEAVE = "--leave-running"
LAYER, CHANGES = "rootfs-diff.tar", "changes"  # beside the log: what it has changed of its image, and the list of that
SAVE_S = 600.0  # for all memory that there is, no expectation
END_S = 60.0  # until the guest has told of an end


async def save(pod: Pod, container: Container, saved: Saved, *, changes: bool = False) -> None:
    """Write down all that its processes are. They end with that, unless the flags say otherwise; on failure they run
    on. `changes`: it stands still meanwhile, and what it has changed of its image by then is written beside the log;
    GuestTooOld."""
    ended = container.exit
    # Locked: nobody is told of their end, and removes the machine for it, before all is written.
    async with pod.locked() as locked:
        _check(pod, container)
        vm, paused, status = locked.machine.running(), pod.record.paused, -1
        vm.agent.require(m.CHECKPOINT_CHANGES if changes else m.CHECKPOINT)
        await locked.unpause()  # CRIU is in the machine, and stops the processes itself
        try:
            async with locked.machine.folders.lent(container.record, saved) as wanted:
                assert wanted  # noqa: S101  something is saved
                with container.held(changes):
                    status, words = await _run(pod, vm, container, wanted, changes=changes)
        finally:
            if paused and (status or LEAVE in saved.flags):
                await locked.pause()
    if status:
        why = await asyncio.to_thread(criu.why, saved.work, criu.DUMP_LOG)
        said = "".join(f": {each}" for each in (words, why) if each)
        raise HyperError(f"cannot checkpoint {container.record.name}: CRIU ended with status {status}{said}")
    if ended and LEAVE not in saved.flags:
        await asyncio.wait([ended], timeout=END_S)


def _check(pod: Pod, container: Container) -> None:
    """WrongState for what CRIU could not make again in another machine."""
    config, name, state = container.record.config, container.record.name, container.record.state
    execs = [further.exec for further in container.further.values()]
    execs += [exec_ for exec_ in pod.execs.values() if exec_.container is container.record]
    why = ""
    if not container.running:
        why = "it has ended meanwhile"
    elif config.process.terminal:
        why = "it has a terminal, whose other end is in the machine"
    elif pod.record.kube and (pod.record.spec.share_pid or config.pid_of):
        why = "its processes are in one namespace with those of other containers"
    elif not pod.record.kube and (len(pod.containers) > 1 or container.record.joined):
        why = "it shares its machine with other containers"
    elif config.process.apparmor:
        why = "a profile of AppArmor confines it, which the kernel of another machine would not know"
    elif config.users or (pod.record.kube and pod.record.kube.users):
        why = "it has a user namespace"
    elif any(exec_.running for exec_ in execs):
        why = "processes of exec run in it, which are none of its first one's; end them"
    if why:
        raise WrongState("checkpoint", name, state, why)


async def _run(pod: Pod, vm: Vm, container: Container, wanted: m.Criu, *, changes: bool) -> tuple[int, str]:
    saving = Exec(ids.new_id(), None, vm=vm)
    pod.execs[saving.id] = saving
    streams = m.StreamSet(stderr=vm.agent.new_streams(1))
    stderr = vm.agent.output(streams.stderr)
    try:
        await vm.agent.checkpoint(
            m.ProcessCheckpoint(
                id=saving.id, container=container.record.id, streams=streams, criu=wanted, changes=changes
            )
        )
        complaint = b""
        async with asyncio.timeout(SAVE_S):
            while data := await stderr.read():
                complaint = (complaint + data)[:COMPLAINT]
                stderr.consumed(len(data))
            return await saving.exit, m.printable(complaint.decode(errors="replace"), COMPLAINT)
    finally:
        await uninterrupted(_end(pod, saving, gently=changes))


async def _end(pod: Pod, saving: Exec, *, gently: bool) -> None:
    """It is over, and the container goes on. `gently`: by who has CRIU end first, and what stands still go on."""
    try:
        for signal in [SIGTERM, SIGKILL] if gently else [SIGKILL]:
            if not saving.exit.done():
                await saving.signal(signal)
                await asyncio.wait([saving.exit], timeout=END_S)
        if saving.exit.done():
            await saving.forget()
        saving.abandoned = True
    except GuestError:
        pass  # it has just ended, or never began
    finally:
        if saving.exit.done():
            pod.execs.pop(saving.id, None)
