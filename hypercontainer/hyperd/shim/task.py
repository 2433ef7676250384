"""containerd's service Task for one shim: what it is asked, as the engine has it.

hyperd may have been killed since a request came. Such a one comes again (`again`): what can be done twice is; what was
done is found in the engine's records and in the note that is in the bundle.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, NamedTuple

import msgspec

from hypercontainer.errors import (
    AlreadyExists,
    HyperError,
    InvalidInput,
    NotFound,
    WrongState,
)
from hypercontainer.hyperd.oci import bundle, document, limits
from hypercontainer.hyperd.oci.calls import told
from hypercontainer.hyperd.shim import cgroup_v1, cgroup_v2, options, process
from hypercontainer.hyperd.shim import messages as m
from hypercontainer.hyperd.shim.bundle import Added, Gone, Note, Stdio, Within
from hypercontainer.hyperd.shim.holder import Holder
from hypercontainer.hyperd.shim.process import FurtherProcess, Process
from hypercontainer.hyperd.shim.publisher import Publisher
from hypercontainer.lib import kubernetes, protobuf
from hypercontainer.lib.tasks import uninterrupted
from hypercontainer.model.api import Bundles, Further
from hypercontainer.model.bundle import Bundle, BundleState
from hypercontainer.model.container import Hook
from hypercontainer.model.record import ProcessRef

log = logging.getLogger("hyperd")

KILLED, LOST, NOT_STARTED = 137, 255, 127
VERSION = "io.containerd.hyper.v2"
GONE = 16  # processes that are remembered
WORK = "criu"  # where its log is, in a bundle
UNIFIED = "/sys/fs/cgroup/cgroup.controllers"  # where this host has version 2 of control groups alone
STATUS = {
    "created": m.Status.CREATED,
    "running": m.Status.RUNNING,
    "paused": m.Status.PAUSED,
    "stopped": m.Status.STOPPED,
}


class Task(NamedTuple):
    """A container of this shim."""

    id: str
    path: str  # of its bundle
    first: Process
    stand_in: ProcessRef
    more: dict[str, FurtherProcess]
    noting: asyncio.Lock  # held by who writes down what there is
    checkpoint: str  # a folder of images that it goes on from; "": it begins
    gone: dict[str, Gone]  # that was taken away, the last of all last


class TaskService:
    """`owner`: whose containers the engine is asked for."""

    def __init__(
        self,
        bundles: Bundles,
        owner: str,
        bundle: str,
        shim: ProcessRef,
        stand_ins: str,
        publisher: Publisher,
        holder: Holder,
        adopt: Callable[[int], None],
    ) -> None:
        """`bundle`: that the shim was started for; those of the other tasks are beside it. `adopt`: sees to it that a
        child of ours is reaped, by its pid, which may be long after this."""
        self._beside = os.path.dirname(bundle)
        self._bundles, self._owner, self._shim, self._door = bundles, owner, shim, stand_ins
        self._adopt, self._holder = adopt, holder
        self._within, self._publisher = Within(shim, publisher.namespace, adopt), publisher
        self._tasks: dict[str, Task] = {}
        self._work: set[asyncio.Task[None]] = set()
        self._calls: dict[str, tuple[type[Any], Callable[[Any, bool], Awaitable[object]]]] = {
            "State": (m.StateRequest, self._state),
            "Create": (m.CreateTaskRequest, self._create),
            "Start": (m.StartRequest, self._start),
            "Delete": (m.DeleteRequest, self._delete),
            "Pids": (m.PidsRequest, self._pids),
            "Pause": (m.PauseRequest, self._pause),
            "Resume": (m.ResumeRequest, self._resume),
            "Checkpoint": (m.CheckpointTaskRequest, self._checkpoint),
            "Kill": (m.KillRequest, self._kill),
            "Exec": (m.ExecProcessRequest, self._exec),
            "ResizePty": (m.ResizePtyRequest, self._resize),
            "CloseIO": (m.CloseIORequest, self._close_io),
            "Update": (m.UpdateTaskRequest, self._update),
            "Wait": (m.WaitRequest, self._wait),
            "Stats": (m.StatsRequest, self._stats),
            "Connect": (m.ConnectRequest, self._connect),
            "Shutdown": (m.ShutdownRequest, self._shutdown),
        }
        self.ended = False  # containerd wants no more of this shim

    async def recover(self, id: str) -> None:
        """Take up the task `id`, and those of its pod, that a hyperd before this one has made."""
        for state in await self._bundles.list(self._owner):
            if id in (state.id, kubernetes.sandbox(state.annotations)):
                await self._take_up(state)

    async def call(self, method: str, payload: bytes, *, again: bool) -> bytes | None:
        """The answer, None: there is no such method. HyperError when it is refused."""
        if method not in self._calls:
            return None
        kind, do = self._calls[method]
        return protobuf.encode(await do(protobuf.decode(payload, kind), again))

    async def close(self) -> None:
        for work in list(self._work):
            work.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    def _find(self, id: str) -> Task:
        try:
            return self._tasks[id]
        except KeyError:
            raise NotFound("task", id) from None

    def _find_process(self, id: str, exec_id: str) -> Process:
        task = self._find(id)
        if not exec_id:
            return task.first
        try:
            return task.more[exec_id]
        except KeyError:
            raise NotFound("process", exec_id) from None

    # the life of a task

    async def _create(self, wanted: m.CreateTaskRequest, again: bool) -> m.CreateTaskResponse:
        options.check(wanted.options)
        async with self._holder.held(wanted.stdout, wanted.stderr):
            return await self._made(wanted, again)

    async def _made(self, wanted: m.CreateTaskRequest, again: bool) -> m.CreateTaskResponse:
        if again and (pid := await self._made_before(wanted.id)):
            return m.CreateTaskResponse(pid=pid)
        stdio = Stdio(stdin=wanted.stdin, stdout=wanted.stdout, stderr=wanted.stderr, terminal=wanted.terminal)
        note = Note(**msgspec.structs.asdict(stdio), checkpoint=wanted.checkpoint)
        given = await self._within.take(wanted.id, wanted.bundle, wanted.rootfs, note)
        try:
            assert given.config  # noqa: S101  take
            new, args = given.network < 0, given.config.process and given.config.process.args
            made = await process.stand(given, self._door, args or [], new_network=new)
            self._adopt(made.pid)
            group = process.group_of(given.config.linux.cgroups_path if given.config.linux else "", wanted.id)
            try:
                described = bundle.described(
                    given.config,
                    owner=self._owner,
                    id=wanted.id,
                    path=wanted.bundle,
                    trees=given.trees,
                    netns=f"/proc/{made.pid}/ns/net",
                    stand_in=process.record(made),
                )
                if hooks := given.config.hooks:
                    await self._prepare(hooks, described, made.pid)
                    await self._within.look_again(wanted.bundle, given)
                trees, given.trees = given.trees, {}  # they are the engine's now
                described = msgspec.structs.replace(
                    described, disks=given.disks, cgroup=group, restored=bool(wanted.checkpoint)
                )
                await self._bundles.create(described, trees)
                await self._place(wanted.id, group, made.pid)
            except BaseException:
                made.ours.close()  # it ends
                raise
        finally:
            given.close()
        made.go()
        task = await self._take_up(await self._bundles.state(self._owner, wanted.id), note)
        self._publisher.publish(
            m.TaskCreate(
                container_id=wanted.id,
                bundle=wanted.bundle,
                rootfs=wanted.rootfs,
                io=m.TaskIO(stdin=stdio.stdin, stdout=stdio.stdout, stderr=stdio.stderr, terminal=stdio.terminal),
                checkpoint=wanted.checkpoint,
                pid=made.pid,
            )
        )
        return m.CreateTaskResponse(pid=task.first.pid)

    async def _place(self, id: str, group: str, pid: int) -> None:
        """The engine knows of the group, and removes it with the container."""
        try:
            await process.place(group, pid)
        except BaseException:
            await uninterrupted(self._bundles.delete(self._owner, id, force=True))
            raise

    async def _prepare(self, hooks: document.Hooks, made: Bundle, pid: int) -> None:
        state = {
            "ociVersion": made.oci_version,
            "id": made.id,
            "status": "creating",
            "pid": pid,
            "bundle": made.path,
            "annotations": made.annotations,
        }
        if hooks.create_container:
            what = "hooks.createContainer"
            raise InvalidInput(
                f"cannot create the container with {what}: this runtime has no mounts for them; runv has"
            )
        await self._within.hooks(hooks.prestart, "prestart", state)
        await self._within.hooks(hooks.create_runtime, "createRuntime", state)

    async def _tell_hooks(self, wanted: Sequence[Hook], kind: str, state: dict[str, Any]) -> None:
        """Those that the specification wants to be no failure."""
        try:
            await self._within.hooks(wanted, kind, state)
        except InvalidInput as e:
            log.warning("of %s: %s", state["id"], e)

    async def _made_before(self, id: str) -> int:
        """The pid of a task that was whole when a hyperd was killed; what was not is removed."""
        if (task := self._tasks.get(id)) and not task.first.exit:
            return task.first.pid
        self._tasks.pop(id, None)
        await self._bundles.delete(self._owner, id, force=True)
        return 0

    async def _take_up(self, state: BundleState, note: Note | None = None) -> Task:
        note = note or await self._within.noted(state.bundle)
        ref = state.stand_in
        first = Process(_stdio(note), ref.pid, asyncio.get_running_loop().create_future())
        task = self._tasks[state.id] = Task(
            state.id, state.bundle, first, ref, {}, asyncio.Lock(), note.checkpoint, dict(note.gone)
        )
        self._spawn(self._watch(task))
        running = await self._bundles.execs(self._owner, state.id) if note.execs else {}
        for name, added in note.execs.items():
            of = task.more[name] = _added(added)
            if further := running.get(name):
                of.started = True
                self._have(task, name, of, further)
        return task

    async def _note(self, task: Task) -> None:
        """Have the next hyperd know of its processes."""
        async with task.noting:
            stdio = msgspec.structs.asdict(task.first.stdio)
            more = {
                name: Added(**msgspec.structs.asdict(of.stdio), process=of.process) for name, of in task.more.items()
            }
            while len(task.gone) > GONE:
                del task.gone[next(iter(task.gone))]
            note = Note(**stdio, checkpoint=task.checkpoint, execs=more, gone=task.gone)
            await self._within.note(task.path, note)

    async def _watch(self, task: Task) -> None:
        try:
            state = await self._bundles.wait(self._owner, task.id)
        except HyperError:
            task.first.end(LOST)
        else:
            if state.oom_killed:
                self._publisher.publish(m.TaskOOM(container_id=task.id))
            task.first.end(state.exit_code, state.finished_ns)
        self._tell_exit(task, task.id, task.first)

    def _tell_exit(self, task: Task, id: str, of: Process) -> None:
        found = of.ended.result()
        self._publisher.publish(
            m.TaskExit(container_id=task.id, id=id, pid=of.pid, exit_status=found.status, exited_at=found.at)
        )

    async def _start(self, wanted: m.StartRequest, again: bool) -> m.StartResponse:
        task = self._find(wanted.id)
        if wanted.exec_id:
            return await self._start_further(task, wanted.exec_id, again)
        if again and (await self._bundles.state(self._owner, task.id)).status != "created":
            return m.StartResponse(pid=task.first.pid)
        try:
            with told():
                await self._begin(task)
        except WrongState:
            raise
        except HyperError:
            await task.first.ended  # so it is stopped, as containerd expects
            raise
        self._publisher.publish(m.TaskStart(container_id=task.id, pid=task.first.pid))
        state = await self._bundles.state(self._owner, task.id)
        await self._tell_hooks(state.poststart, "poststart", told_to_hooks(state))
        return m.StartResponse(pid=task.first.pid)

    async def _begin(self, task: Task) -> None:
        if task.checkpoint:
            async with self._within.images(task.checkpoint, os.path.join(task.path, WORK)) as saved:
                await self._bundles.start(self._owner, task.id, saved)
        else:
            await self._bundles.start(self._owner, task.id)

    async def _delete(self, wanted: m.DeleteRequest, again: bool) -> m.DeleteResponse:
        if again and (gone := await self._gone_before(wanted.id, wanted.exec_id)):
            return m.DeleteResponse(pid=gone.pid, exit_status=gone.status, exited_at=m.timestamp(gone.at_ns))
        task = self._find(wanted.id)
        of = self._find_process(wanted.id, wanted.exec_id)
        if wanted.exec_id and not of.exit:
            further = task.more[wanted.exec_id]
            if further.running:
                raise WrongState("delete", wanted.exec_id, "running")
            further.end(0)  # it never began
        if not of.exit:
            raise WrongState("delete", wanted.id, "running", "kill it first")
        gone = Gone(pid=of.pid, status=of.exit.status, at_ns=of.exit.time_ns)
        if wanted.exec_id:
            del task.more[wanted.exec_id]
            task.gone[wanted.exec_id] = gone
            await self._note(task)
            await self._bundles.forget(self._owner, task.id, wanted.exec_id)
        else:
            await process.drained(task.stand_in)
            state = await self._bundles.state(self._owner, task.id)
            told = told_to_hooks(state, stopped=True)
            task.gone[""] = gone = msgspec.structs.replace(gone, state=told, poststop=list(state.poststop))
            await self._note(task)
            await self._bundles.delete(self._owner, task.id, force=True)
            await self._clear(task.id, task.path, gone)
            del self._tasks[task.id]
        return m.DeleteResponse(pid=of.pid, exit_status=of.exit.status, exited_at=of.exit.at)

    async def _gone_before(self, id: str, exec_id: str) -> Gone | None:
        """What a hyperd that was killed has taken away, without an answer."""
        if exec_id:
            if gone := self._find(id).gone.get(exec_id):
                await self._bundles.forget(self._owner, id, exec_id)
            return gone
        if id in self._tasks:
            return None
        path = os.path.join(self._beside, os.path.basename(id))
        if gone := (await self._within.noted(path)).gone.get(""):
            await self._clear(id, path, gone)
        return gone

    async def _clear(self, id: str, path: str, gone: Gone) -> None:
        """After the engine's part of a task."""
        await self._within.unmount(path)
        await self._tell_hooks(gone.poststop, "poststop", gone.state)
        exited_at = m.timestamp(gone.at_ns)
        self._publisher.publish(
            m.TaskDelete(container_id=id, pid=gone.pid, exit_status=gone.status, exited_at=exited_at)
        )

    # one more process

    async def _exec(self, wanted: m.ExecProcessRequest, again: bool) -> m.Empty:
        task = self._find(wanted.id)
        if wanted.exec_id in task.more and not again:
            raise AlreadyExists(f"process {wanted.exec_id} exists already", "process", wanted.exec_id)
        if wanted.spec is None:
            raise InvalidInput("cannot add a process: it has no spec")
        added = Added(
            stdin=wanted.stdin,
            stdout=wanted.stdout,
            stderr=wanted.stderr,
            terminal=wanted.terminal,
            process=wanted.spec.value.decode(errors="replace"),
        )
        task.more.setdefault(wanted.exec_id, _added(added))
        try:
            await self._note(task)
        except BaseException:
            del task.more[wanted.exec_id]
            raise
        self._publisher.publish(m.TaskExecAdded(container_id=task.id, exec_id=wanted.exec_id))
        return m.Empty()

    async def _start_further(self, task: Task, exec_id: str, again: bool) -> m.StartResponse:
        of = self._find_process(task.id, exec_id)
        assert isinstance(of, FurtherProcess) and of.spec  # noqa: S101  _exec
        if again and of.running:
            self._publisher.publish(m.TaskExecStarted(container_id=task.id, exec_id=exec_id, pid=of.pid))
            return m.StartResponse(pid=of.pid)
        if of.started:
            raise WrongState("start", exec_id, "started already")
        of.started = True
        given = await self._within.open(exec_id, of.stdio)
        try:
            made = await process.stand(given, self._door, of.spec.args or [])
        finally:
            given.close()
        self._adopt(made.pid)
        try:
            with told():
                further = bundle.further(of.spec, process.record(made), exec_id)
                running = await self._bundles.exec(self._owner, task.id, further)
        except BaseException:
            made.ours.close()  # it ends
            of.end(NOT_STARTED)
            raise
        made.go()
        if of.closed:
            running.release()
        self._have(task, exec_id, of, running)
        self._publisher.publish(m.TaskExecStarted(container_id=task.id, exec_id=exec_id, pid=of.pid))
        return m.StartResponse(pid=of.pid)

    def _have(self, task: Task, exec_id: str, of: FurtherProcess, running: Further) -> None:
        of.running, of.pid = running, running.pid
        if running.status is not None:  # while no hyperd was there: it is asked for at once
            of.end(running.status, running.finished_ns)
        self._spawn(self._watch_further(task, exec_id, of, running))

    async def _watch_further(self, task: Task, exec_id: str, of: FurtherProcess, running: Further) -> None:
        of.end(await running.ended(), running.finished_ns)
        self._tell_exit(task, exec_id, of)

    # what one that runs is asked

    async def _kill(self, wanted: m.KillRequest, again: bool) -> m.Empty:
        of = self._find_process(wanted.id, wanted.exec_id)
        if of.exit:
            if again:
                return m.Empty()
            raise NotFound("running process", wanted.exec_id or wanted.id, "process already finished")
        if not isinstance(of, FurtherProcess):
            await self._bundles.kill(self._owner, wanted.id, wanted.signal)
        elif of.running:
            await of.running.signal(wanted.signal)
        else:
            raise WrongState("kill", wanted.exec_id, "not running")
        return m.Empty()

    async def _pause(self, wanted: m.PauseRequest, again: bool) -> m.Empty:
        if not (again and await self._is(wanted.id, "paused")):
            await self._bundles.pause(self._owner, self._find(wanted.id).id)
        self._publisher.publish(m.TaskPaused(container_id=wanted.id))
        return m.Empty()

    async def _resume(self, wanted: m.ResumeRequest, again: bool) -> m.Empty:
        if not again or await self._is(wanted.id, "paused"):
            await self._bundles.resume(self._owner, self._find(wanted.id).id)
        self._publisher.publish(m.TaskResumed(container_id=wanted.id))
        return m.Empty()

    async def _is(self, id: str, status: str) -> bool:
        return (await self._bundles.state(self._owner, id)).status == status

    async def _update(self, wanted: m.UpdateTaskRequest, again: bool) -> m.Empty:
        task = self._find(wanted.id)
        if wanted.resources is None:
            raise InvalidInput(f"cannot update {task.id}: the call has no resources")
        wanted_limits = limits.update(document.resources(wanted.resources.value))
        await self._bundles.update(self._owner, task.id, wanted_limits)
        return m.Empty()

    async def _resize(self, wanted: m.ResizePtyRequest, again: bool) -> m.Empty:
        of = self._find_process(wanted.id, wanted.exec_id)
        if not isinstance(of, FurtherProcess):
            await self._bundles.resize(self._owner, wanted.id, wanted.height, wanted.width)
        elif of.running:
            await of.running.resize(wanted.height, wanted.width)
        elif of.spec:
            size = document.Box(height=wanted.height, width=wanted.width)
            of.spec = msgspec.structs.replace(of.spec, console_size=size)
        return m.Empty()

    async def _close_io(self, wanted: m.CloseIORequest, again: bool) -> m.Empty:
        of = self._find_process(wanted.id, wanted.exec_id)
        if not wanted.stdin:
            return m.Empty()
        if not isinstance(of, FurtherProcess):
            await self._bundles.release(self._owner, wanted.id)
        else:
            of.closed = True
            if of.running:
                of.running.release()
        return m.Empty()

    # looking

    async def _state(self, wanted: m.StateRequest, again: bool) -> m.StateResponse:
        task, of = self._find(wanted.id), self._find_process(wanted.id, wanted.exec_id)
        if of.exit:
            status = m.Status.STOPPED
        elif isinstance(of, FurtherProcess):
            status = of.status
        else:
            status = STATUS[(await self._bundles.state(self._owner, task.id)).status]
            if status == m.Status.STOPPED:  # what stands for it has gone: how it ended is still to come
                await asyncio.shield(of.ended)
        return m.StateResponse(
            id=task.id,
            bundle=task.path,
            pid=of.pid,
            status=status,
            stdin=of.stdio.stdin,
            stdout=of.stdio.stdout,
            stderr=of.stdio.stderr,
            terminal=of.stdio.terminal,
            exit_status=of.exit.status if of.exit else 0,
            exited_at=of.exit.at if of.exit else None,
            exec_id=wanted.exec_id,
        )

    async def _wait(self, wanted: m.WaitRequest, again: bool) -> m.WaitResponse:
        found = await asyncio.shield(self._find_process(wanted.id, wanted.exec_id).ended)
        return m.WaitResponse(exit_status=found.status, exited_at=found.at)

    async def _pids(self, wanted: m.PidsRequest, again: bool) -> m.PidsResponse:
        task = self._find(wanted.id)
        processes: list[Process] = [task.first, *task.more.values()]
        pids = [of.pid for of in processes if of.pid and not of.exit]
        return m.PidsResponse(processes=[m.ProcessInfo(pid=pid) for pid in pids])

    async def _stats(self, wanted: m.StatsRequest, again: bool) -> m.StatsResponse:
        found = await self._bundles.usage(self._owner, self._find(wanted.id).id)
        shape = cgroup_v2 if os.path.exists(UNIFIED) else cgroup_v1
        return m.StatsResponse(stats=shape.metrics(found))

    async def _connect(self, wanted: m.ConnectRequest, again: bool) -> m.ConnectResponse:
        task = self._tasks.get(wanted.id)
        return m.ConnectResponse(shim_pid=self._shim.pid, task_pid=task.first.pid if task else 0, version=VERSION)

    async def _shutdown(self, wanted: m.ShutdownRequest, again: bool) -> m.Empty:
        self.ended = not self._tasks or wanted.now
        return m.Empty()

    async def _checkpoint(self, wanted: m.CheckpointTaskRequest, again: bool) -> m.Empty:
        task = self._find(wanted.id)
        said = options.checkpoint(wanted.options)
        flags = [*([] if said.exit else ["--leave-running"]), *(["--file-locks"] if said.file_locks else [])]
        path, work = said.image_path or wanted.path, said.work_path or os.path.join(task.path, WORK)
        async with self._within.images(path, work, flags) as images:
            await self._bundles.checkpoint(self._owner, task.id, images)
        self._publisher.publish(m.TaskCheckpointed(container_id=task.id, checkpoint=path))
        return m.Empty()


def _stdio(found: Stdio) -> Stdio:
    return Stdio(stdin=found.stdin, stdout=found.stdout, stderr=found.stderr, terminal=found.terminal)


def _added(added: Added) -> FurtherProcess:
    """InvalidInput for what is no process."""
    spec = msgspec.structs.replace(document.process(added.process.encode()), terminal=added.terminal)
    ended = asyncio.get_running_loop().create_future()
    return FurtherProcess(_stdio(added), 0, ended, process=added.process, spec=spec)


def told_to_hooks(state: BundleState, *, stopped: bool = False) -> dict[str, Any]:
    """A container's state, as OCI has it."""
    return {
        "ociVersion": state.oci_version,
        "id": state.id,
        "status": "stopped" if stopped else state.status,
        **({} if stopped else {"pid": state.pid}),
        "bundle": state.bundle,
        "annotations": state.annotations,
    }
