"""The engine as front ends see it: a small Protocol for each noun, and `Engine`, which has one of each.

`engine.local.LocalEngine(settings)` fulfils it; so does the tests' fake. A noun has its file of that name in `engine/`
and in every dialect of hyperd.

What holds for every method: `c` is a container's id, a prefix of it that is unique, or its name (NotFound, InvalidInput
when ambiguous); `pod` likewise. Everything that is wrong is raised as a HyperError; anything else is a bug. A method
that changes something is all or nothing. Methods that return an AsyncGenerator are coroutines: what is wrong with the
request is raised by the await, what happens later by the iteration; `aclose()` ends the work behind it at any time.
"""

from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from socket import socket
from typing import Literal, Protocol

import msgspec

from hypercontainer.lib.trace import Step
from hypercontainer.model import documents as doc
from hypercontainer.model.bundle import (
    Bundle,
    BundleEnd,
    BundleExec,
    BundleImages,
    BundleState,
    BundleUpdate,
    BundleUsage,
)
from hypercontainer.model.container import Resources
from hypercontainer.model.figures import Family
from hypercontainer.model.kube import (
    USUAL,
    ContainerState,
    DiskUsage,
    KubeContainer,
    KubeContainerState,
    KubeEvent,
    KubeFiles,
    KubePod,
    KubePodState,
    KubeSecurity,
)
from hypercontainer.model.principal import Principal
from hypercontainer.model.spec import (
    Build,
    Commit,
    ContainerSpec,
    ContainerUpdate,
    EndpointSpec,
    ExecSpec,
    NetworkSpec,
    PodSpec,
    PortMapping,
)
from hypercontainer.model.state import State

# "label" -> ["a=b"]: values of one key are alternatives; unknown keys: InvalidInput
Filters = Mapping[str, Sequence[str]]

# What `Containers.wait` waits for, in docker's words: that it does not run; the end of a run that is under way or
# comes next; that it has been removed.
Condition = Literal["not-running", "next-exit", "removed"]


class Credentials(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For one pull or push. Never kept, never logged."""

    username: str = ""
    password: str = ""
    identity_token: str = ""

    def __repr__(self) -> str:
        return f"Credentials({self.username!r}, …)"


class Session(Protocol):
    """A live tie to the streams of a container's first process, or of an exec.

    Its owner iterates from one task, writes from another, and calls `detach` in the end whatever happened.
    A session that nobody iterates stalls the process behind it once its windows are full; nothing is dropped.
    """

    @property
    def id(self) -> str:
        """Of the container, or of the exec."""

    @property
    def timings(self) -> Sequence[Step]:
        """The steps of the start that this session asked for; empty when it did not."""

    @property
    def reason(self) -> str:
        """Once `wait` has returned: why the process was ended, in words, when its status alone does not tell."""

    def __aiter__(self) -> AsyncIterator[tuple[Literal[1, 2], bytes]]:
        """Pieces of stdout (1) and stderr (2; a tty has none), each of 1 to 1 MiB, until both have ended.

        Asking for the next piece is what acknowledges the one before. Raises GuestDied, GuestSilent."""

    async def write(self, data: bytes) -> None:
        """Hand `data` to stdin; returns when it has been taken into the window. BrokenPipeError: nobody reads it."""

    async def close_stdin(self) -> None:
        """The process reads end of file after what was written. Any number of times; fine when it never had a stdin."""

    async def signal(self, number: int) -> None:
        """Signal the process. One that has ended: nothing happens."""

    async def resize(self, rows: int, columns: int) -> None:
        """Set the size of its terminal. Without one, or ended: nothing happens."""

    async def wait(self) -> int:
        """The exit status, 0 to 255, 128 + n when killed by signal n. Does not wait for the streams."""

    async def detach(self) -> None:
        """Let go: the process runs on, its output goes to the log only. Any number of times."""


class System(Protocol):
    """hyperd itself, and the host that it runs on."""

    async def ping(self) -> None:
        """Unavailable when the engine cannot do its work."""

    async def version(self) -> doc.Version: ...

    async def info(self) -> doc.Info: ...

    async def doctor(self) -> doc.Doctor:
        """Prove by running; may take some seconds."""

    async def events(
        self, since_ns: int | None, until_ns: int | None, filters: Filters, /
    ) -> AsyncGenerator[doc.Event, None]:
        """Those since `since_ns` (None: from now), then live ones until `until_ns` (None: for ever)."""

    async def figures(self) -> Sequence[Family]:
        """What monitoring reads, as it is now. Nobody else's names are in it."""


class Containers(Protocol):
    """Containers, whether each has a pod of its own or not."""

    async def create(self, spec: PodSpec, *, by: Principal) -> doc.Created:
        """Make an implicit pod of the one container in `spec`; nothing boots. InvalidInput unless it is one.

        What is made is made `by` somebody: Denied when that one may not have it."""

    async def start(self, c: str) -> None:
        """Boot its pod if need be and start it. One that runs: nothing happens (docker's 304)."""

    async def stop(self, c: str, timeout_s: float | None, signal: int | None = None) -> None:
        """Signal, wait, kill; None of each: as its spec says. One that does not run: nothing happens."""

    async def kill(self, c: str, signal: int) -> None:
        """WrongState unless it runs."""

    async def restart(self, c: str, timeout_s: float | None, signal: int | None = None) -> None: ...

    async def remove(self, c: str, *, force: bool, volumes: bool) -> None:
        """`force`: kill it first, else WrongState when it runs. `volumes`: its anonymous ones go too."""

    async def unlink(self, c: str, alias: str) -> None:
        """Remove a link of its on the usual network. NotFound: it has none of that alias."""

    async def rename(self, c: str, name: str) -> None: ...

    async def update(self, c: str, wanted: ContainerUpdate) -> doc.Updated:
        """Give it other sizes or another restart policy: at once when it runs, and from its next start on.

        Nothing has changed after an error: InUse when it uses more memory than it is to have, InvalidInput when it is
        more than it can get while it runs, WrongState when it is paused or suspended."""

    async def pause(self, c: str) -> None: ...

    async def unpause(self, c: str) -> None: ...

    async def wait(self, c: str, condition: Condition = "not-running") -> doc.WaitResult:
        """Wait until `condition` holds; one that is suspended has not ended. Cancelling changes nothing.

        NotFound when it was removed before the run that "next-exit" waits for had begun."""

    async def inspect(self, c: str, *, size: bool = False) -> doc.Container:
        """`size`: with what it has written."""

    async def list(
        self, *, all: bool, filters: Filters, size: bool = False, all_owners: bool = False
    ) -> Sequence[doc.ContainerEntry]:
        """The newest first; those that run unless `all`. `size`: with what they have written. `all_owners`: other
        engines' too, which `bundles` has the verbs for."""

    async def top(self, c: str, options: str = "", /) -> doc.Top:
        """The table that `ps` prints with `options`; InvalidInput for those that it is not known by."""

    async def stats(self, c: str) -> doc.Stats:
        """One sample. WrongState unless it runs."""

    async def logs(
        self,
        c: str,
        *,
        follow: bool,
        since_ns: int | None,
        until_ns: int | None,
        tail: int | None,
        stdout: bool,
        stderr: bool,
    ) -> AsyncGenerator[doc.LogEntry, None]:
        """What was written, the oldest first; `tail`: the last so many lines. `follow`: go on until it ends."""

    async def attach(
        self,
        c: str,
        *,
        stdin: bool,
        stdout: bool,
        stderr: bool,
        logs: bool,
        start: bool = False,
        before: Collection[State] = (),
    ) -> Session:
        """Tie to its streams. `start`: start it once tied, so that no byte is missed; `before`: one in these states
        will do, and its next start misses no byte either.

        `logs`: first what it wrote before. Without either: WrongState unless it runs. Each attached session sees all
        output; the slowest one sets the pace."""

    async def resize(self, c: str, rows: int, columns: int) -> None: ...

    async def archive_get(self, c: str, path: str) -> AsyncGenerator[bytes, None]:
        """A tar of `path` in the container."""

    async def commit(self, c: str, wanted: Commit) -> doc.ImageRef:
        """Make an image of its image and what it has made of that, not of what is mounted in it. One that does not run
        has its VM booted for that."""

    async def changes(self, c: str) -> Sequence[doc.Change]:
        """What it has made of its image, by their names."""

    async def export(self, c: str) -> AsyncGenerator[bytes, None]:
        """A tar of its whole file system, without what is mounted in it."""

    async def archive_put(self, c: str, path: str, chunks: AsyncIterator[bytes], *, as_user: bool = False) -> None:
        """Unpack a tar below folder `path`. `chunks` gives the next piece when asked: reading is the back-pressure."""


class Execs(Protocol):
    """Further processes in containers that run. An exec is known from `create` until its container is removed, or until
    too many others have ended, or were created, after it."""

    async def create(self, c: str, spec: ExecSpec) -> str:
        """Write down what is to run in a container that runs, and return its id."""

    async def start(self, id: str, *, detach: bool = False, first_steps_s: float = 0.0) -> Session | None:
        """Start it; None with `detach`, or when its spec says so: nobody is at its streams. Once: then WrongState.

        In a container that was started less than `first_steps_s` ago it waits, up to then, until all in it rests.

        Raises before anything ran. GuestError (exec's errno in the guest) is the end of the exec, with the status
        that a shell would say."""

    async def inspect(self, id: str) -> doc.Exec: ...

    async def resize(self, id: str, rows: int, columns: int) -> None:
        """Set the size of its terminal, also before it is started. Ended: nothing happens."""


class Pods(Protocol):
    """Virtual machines with any number of containers in each."""

    async def create(self, spec: PodSpec, *, by: Principal) -> doc.Created:
        """Make the pod and its containers; nothing boots. `by`: see Containers.create."""

    async def add(self, pod: str, spec: ContainerSpec, *, by: Principal) -> doc.Created:
        """Make a container in a pod that exists."""

    async def start(self, pod: str) -> None:
        """Boot it, start its containers in order."""

    async def stop(self, pod: str, timeout_s: float | None) -> None: ...

    async def remove(self, pod: str, *, force: bool, volumes: bool, all_owners: bool = False) -> None:
        """Other engines' too with `all_owners`; InvalidInput else, as of all here but `inspect`."""

    async def pause(self, pod: str) -> None: ...

    async def unpause(self, pod: str) -> None: ...

    async def list(self, *, all: bool, filters: Filters, all_owners: bool = False) -> Sequence[doc.PodEntry]:
        """`all_owners`: other engines' too."""

    async def inspect(self, pod: str) -> doc.Pod: ...


class Images(Protocol):
    """Images of this host, and the registries that they come from."""

    async def list(self, filters: Filters, /, *, all: bool = False) -> Sequence[doc.ImageEntry]:
        """Without those that have no name and that another one was made of, unless `all`."""

    async def usage(self) -> Sequence[DiskUsage]:
        """What images have on disk, and what containers have."""

    async def inspect(self, name: str, platform: str = "", /) -> doc.Image:
        """The one of that name for a platform; "": for the host's, or the one there is."""

    async def history(self, name: str, platform: str = "", /) -> Sequence[doc.HistoryEntry]: ...

    async def pull(
        self, name: str, *, all_tags: bool, platform: str, credentials: Credentials | None
    ) -> AsyncGenerator[doc.Progress | doc.ImagesDone, None]:
        """Fetch the image of this name, or those of all tags of the repository: progress, then ImagesDone. `platform`
        "" is the guest's; credentials None: those of the daemon's user."""

    async def push(
        self, name: str, *, all_tags: bool, platform: str = "", credentials: Credentials | None
    ) -> AsyncGenerator[doc.Progress | doc.PushDone, None]:
        """Send the image of this name, or those of all tags of the repository, to the registry in the name: progress,
        then PushDone. For all platforms that are here, under an index, or for `platform` alone. credentials None: those
        of the daemon's user."""

    async def distribution(self, name: str, *, credentials: Credentials | None) -> doc.Distribution:
        """What the registry in the name has under it; nothing is fetched. credentials None: as for `pull`."""

    async def login(self, registry: str, credentials: Credentials) -> None:
        """Ask `registry` (HOST[:PORT], "docker.io") whether it takes them; Denied if not. Nothing is kept."""

    async def load(
        self, chunks: AsyncIterator[bytes], platforms: Sequence[str] = (), /
    ) -> AsyncGenerator[doc.Progress | doc.ImagesDone, None]:
        """Take the images of an archive in, for all platforms or these."""

    async def save(
        self, names: Sequence[str], format: Literal["docker", "oci"], platforms: Sequence[str] = (), /
    ) -> AsyncGenerator[bytes, None]:
        """A tar of the images of these names, for all platforms that are here or these."""

    async def import_(
        self, chunks: AsyncIterator[bytes], *, name: str, changes: Sequence[str], message: str, platform: str = ""
    ) -> doc.ImageRef:
        """Make an image of a root file system's tar. `changes` are lines of a Dockerfile: CMD, ENV … `platform`: whose
        programs are in it; "" is this machine's."""

    async def tag(self, name: str, target: str, platform: str = "", /) -> None:
        """Give what is called `name` a name more, for all platforms or this one."""

    async def remove(
        self, name: str, *, force: bool, parents: bool = True, platforms: Sequence[str] = ()
    ) -> Sequence[doc.ImageRemoved]:
        """Take the name away, from images for all platforms or these. `parents`: the steps of its build go with it that
        nothing else needs."""

    async def prune(self, *, all: bool, wanted: Filters) -> doc.Pruned:
        """Remove images without a name; with `all` those that no container uses. `wanted`: only what it matches."""


class Builds(Protocol):
    """Images out of Dockerfiles."""

    async def run(
        self, context: AsyncIterator[bytes], wanted: Build, *, credentials: Mapping[str, Credentials], by: Principal
    ) -> AsyncGenerator[doc.BuildOutput | doc.Progress | doc.BuildStage, None]:
        """Take in `context`, a tar, and build: what docker prints, and what each stage has become. The names are given
        when all is well.

        `credentials` are by registry, for the images that it begins with; where there are none, those of the daemon's
        user. What is wrong with the Dockerfile is raised by the await; BuildFailed by the iteration. Nothing is left
        of one that is closed early, but for what the cache has."""


class Further(Protocol):
    """One more process in a container of another engine."""

    @property
    def pid(self) -> int:
        """Of what stands for it."""

    @property
    def status(self) -> int | None:
        """Once it has ended; 255 where its machine is gone."""

    @property
    def finished_ns(self) -> int:
        """0: nobody has looked yet when that was."""

    async def ended(self) -> int:
        """Wait for its status."""

    async def signal(self, number: int) -> None: ...

    async def resize(self, rows: int, columns: int) -> None: ...

    def release(self) -> None:
        """See Bundles.release."""


class Bundles(Protocol):
    """Containers of other engines, which have images, names and logs of their own, by an OCI runtime's verbs. `owner`
    is whose they are, `id` what that one calls it: NotFound."""

    async def check(self, owner: str, id: str) -> None:
        """InvalidInput or AlreadyExists where `create` would be asked in vain."""

    async def create(self, wanted: Bundle, trees: Mapping[str, int]) -> None:
        """Make it: in the machine of those whose network namespace it has, or else in one of its own, which runs from
        now on. `trees`: of the root file system and of binds the
        mount trees (lib.mount.clone) that are there for whoever calls, by the paths in `wanted`; they are the engine's
        from now on. AlreadyExists; on failure nothing is left."""

    async def start(self, owner: str, id: str, saved: BundleImages | None = None) -> None:
        """WrongState unless it is created. One that cannot begin for another reason is stopped. `saved`: it goes on
        from that."""

    async def checkpoint(self, owner: str, id: str, wanted: BundleImages) -> None:
        """Save its processes, which end with that unless the flags say otherwise. On failure they run on."""

    async def state(self, owner: str, id: str) -> BundleState: ...

    async def list(self, owner: str) -> Sequence[BundleState]: ...

    async def kill(self, owner: str, id: str, number: int, *, everyone: bool = False) -> None:
        """WrongState unless it runs; KILL and TERM end one that was not started. `everyone`: all its processes."""

    async def delete(self, owner: str, id: str, *, force: bool) -> None:
        """`force`: one that runs is killed first, and one that is not there is no error."""

    async def pause(self, owner: str, id: str) -> None: ...

    async def resume(self, owner: str, id: str) -> None: ...

    async def update(self, owner: str, id: str, wanted: BundleUpdate) -> None:
        """Change its limits, and the size of its machine with them. WrongState when it has ended, or stands still;
        InUse when it uses more memory by now than it is to have."""

    async def usage(self, owner: str, id: str) -> BundleUsage:
        """WrongState when it has ended."""

    async def top(self, owner: str, id: str, options: str) -> doc.Top:
        """Its processes as `ps` prints them with `options`, by the numbers that they have inside."""

    async def pids(self, owner: str, id: str) -> Sequence[int]:
        """Of whoever stands on this host for it, and for execs in it."""

    async def await_end(self, owner: str, id: str, within_s: float) -> BundleEnd:
        """Return when it has ended, or was deleted, or `within_s` from now."""

    async def exec(self, owner: str, id: str, wanted: BundleExec) -> Further:
        """Start one more process in it; its stand-in tells how it ends. One with a name is known until `forget`, or
        until the container is deleted."""

    async def execs(self, owner: str, id: str) -> Mapping[str, Further]:
        """Those with a name, by that: they run, or nobody has told yet how they ended."""

    async def forget(self, owner: str, id: str, name: str) -> None:
        """Nobody will ask for that one again. One that is not there: nothing happens."""

    async def wait(self, owner: str, id: str) -> BundleState:
        """Its state once it is stopped: its process has ended, or its stand-in before that began."""

    async def resize(self, owner: str, id: str, rows: int, columns: int) -> None: ...

    async def release(self, owner: str, id: str) -> None:
        """Nobody opens its stdin, a fifo, again: it ends with the last who writes."""

    async def stand(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Speak with a stand-in that has connected until it goes. InvalidInput for what is none."""


class Kube(Protocol):
    """Pods of a kubelet, and their containers. `pod` and `container` are ids, or unique beginnings of some: NotFound.
    Each call can be made again: what is done is done."""

    async def run(self, wanted: KubePod, spec: PodSpec) -> str:
        """Boot a pod without containers; its id. The size in `spec` is what those may use in all, 0 as usual.
        AlreadyExists unless it was made for the very same request; on failure nothing is left."""

    def handlers(self) -> Sequence[str]:
        """Of RuntimeClasses: what a pod may name in `run`, InvalidInput else."""

    async def network(self) -> None:
        """NotFound, or another HyperError, while pods cannot be connected to a network."""

    async def stop(self, pod: str) -> None:
        """Kill what runs in it, end its machine and take it off its network. It can be looked at until it is
        removed."""

    async def remove(self, pod: str) -> None:
        """All that there is of it, whatever runs."""

    async def list(self) -> Sequence[KubePodState]: ...

    def readiness(self) -> Sequence[tuple[str, bool]]:
        """Of each pod that `list` has, its id, and whether its machine runs: nothing else of it changes, but for its
        addresses."""

    async def state(self, pod: str) -> KubePodState: ...

    async def enlarge(self, pod: str, vcpus: int, memory_mib: int) -> None:
        """Have its machine be large enough for containers that may use so much in all, 0 for what nobody says. It never
        shrinks, and their own limits are for `update`. InvalidInput where that is absurd, WrongState unless it is
        ready; another HyperError where it cannot grow so far: it is as before."""

    async def create(
        self,
        pod: str,
        wanted: KubeContainer,
        spec: ContainerSpec,
        resources: Resources,
        security: KubeSecurity = USUAL,
    ) -> str:
        """Make a container in a pod that is ready; its id. `resources`: its limits, in place of those in `spec`.
        AlreadyExists as for `run`; on failure nothing is left."""

    async def update(self, container: str, resources: Resources) -> None:
        """Other limits, see Bundles.update."""

    async def start(self, container: str) -> None:
        """Once; one that runs: nothing happens. GuestError: its process could not be started, and it has ended."""

    async def stop_container(self, container: str, timeout_s: float) -> None:
        """Its stop signal, and after `timeout_s` KILL. One that does not run: nothing happens."""

    async def remove_container(self, container: str) -> None:
        """One that runs is killed first."""

    async def containers(self) -> Sequence[KubeContainerState]: ...

    def states(self) -> Sequence[tuple[str, ContainerState]]:
        """Of each that `containers` has, its id and its state: how it was made never changes."""

    async def container(self, container: str) -> KubeContainerState: ...

    async def reopen_log(self, container: str) -> None:
        """Its log was renamed: go on in a new file. WrongState unless it runs."""

    def events(self) -> AsyncGenerator[KubeEvent, None]:
        """What happens to all of them, from the first step of the iteration on. Exhausted for who lags 1,000 events
        behind: some are lost by then, and he needs to look at all pods again."""

    async def exec(self, container: str, spec: ExecSpec) -> Session:
        """Start one more process in it. WrongState unless it runs; GuestError: it could not be started."""

    async def attach(self, container: str, *, stdin: bool, stdout: bool, stderr: bool) -> Session:
        """Tie to the streams of its first process, from now on. WrongState unless it runs."""

    async def usage(self, pod: str) -> Mapping[str, tuple[BundleUsage, int]]:
        """What each of its containers that run uses, and the bytes of disk that it has written. WrongState unless its
        machine runs."""

    async def files(self, container: str) -> KubeFiles:
        """What takes its guest longer to count. Nothing is told by guests that have not learnt it. WrongState unless it
        runs."""

    async def checkpoint(
        self, container: str, location: str, documents: Mapping[str, bytes], within_s: float | None
    ) -> None:
        """Save its processes, and what it has changed of its image, as they are at one moment, in which it stands
        still: in a tar at `location`, an absolute path that nothing has, with `documents` in it. It runs on. WrongState
        unless it runs, or where its processes cannot be saved; TimedOut. On failure there is no file."""

    async def connect(self, pod: str, port: int) -> socket:
        """A stream socket, which does not block, that leads to who listens at `port` of the loopback in its machine.
        GuestError with ECONNREFUSED: nobody does. WrongState unless it is ready. The caller closes it."""


class Volumes(Protocol):
    """Folders that outlive containers."""

    async def list(self, filters: Filters, /, *, size: bool = False) -> Sequence[doc.Volume]:
        """`size`: with what their files take, which takes as long as looking at each."""

    async def create(
        self, name: str, labels: Mapping[str, str], *, by: Principal, options: Mapping[str, str] = {}
    ) -> doc.Volume:
        """ "" = a name is invented. One that exists is returned as it is. `options`: as docker's driver local has them,
        of a folder of this host that is to be the volume; Denied when that is not for the caller to choose."""

    async def inspect(self, name: str) -> doc.Volume: ...

    async def remove(self, name: str, *, force: bool) -> None:
        """InUse when a container has it. `force`: one that does not exist is no error."""

    async def prune(self, *, all: bool, wanted: Filters) -> doc.Pruned:
        """Remove anonymous volumes that no container has; with `all` named ones too. `wanted`: only what it matches."""


class Networks(Protocol):
    """What pods reach each other by, and the world. `network` is a name, an id, or a unique beginning of one."""

    async def list(self, filters: Filters, /) -> Sequence[doc.Network]: ...

    async def create(self, spec: NetworkSpec, *, by: Principal) -> doc.Network:
        """AlreadyExists for its name; InUse when a subnet is another network's, or leads elsewhere from this host;
        Denied, see Containers.create."""

    async def inspect(self, network: str) -> doc.Network: ...

    async def connect(self, network: str, c: str, endpoint: EndpointSpec, *, by: Principal) -> None:
        """Put a container's pod into one more network, as `endpoint` says: at once when it runs. AlreadyExists when it
        is there. WrongState when it is paused or suspended, GuestTooOld, Unsupported."""

    async def disconnect(self, network: str, c: str, *, force: bool) -> None:
        """Take it out, likewise; without a network if that was the last one. `force`: one that is not in it is no
        error."""

    async def remove(self, network: str) -> None:
        """InUse while a pod is in it, running or not. That of the settings stays."""

    async def prune(self, *, wanted: Filters) -> doc.Pruned:
        """Remove those that no pod is in. `wanted`: only what it matches."""


class Kernels(Protocol):
    """What guests boot."""

    async def list(self) -> Sequence[doc.Kernel]: ...

    async def fetch(self, wanted: str = "", /) -> AsyncGenerator[doc.Progress | doc.KernelDone, None]:
        """Download the distribution's kernel of an architecture ("": the host's) and make a bundle of it. The first one
        of it becomes the current one."""

    async def build(self, name: str, jobs: int) -> AsyncGenerator[doc.Progress | doc.KernelDone, None]:
        """Build our own kernel from the distribution's source; `name` "" is invented, `jobs` 0 is one a CPU.

        One that was built of the same things is kept. VMs boot it once `use` says so."""

    async def use(self, name: str) -> None: ...


class Factory(Protocol):
    """Where guests come from."""

    async def status(self) -> doc.Factory: ...

    async def init(self) -> None:
        """Make what the settings want to be ready; returns when it is."""

    async def clear(self) -> None:
        """Let go of all templates. Guests that run stay; a later one has its template made anew."""


class Snapshots(Protocol):
    """Containers that go on where they, or others, were."""

    async def fork(self, c: str, *, count: int, name: str, ports: Sequence[PortMapping]) -> doc.Forked:
        """Make `count` copies of a running container that go on where it is, each with names, addresses and ids of
        its own; `name` "" is invented, else NAME, or NAME-1 … when there are several. It goes on too.

        Of its published ports a copy has those without a fixed port of the host, and `ports`. WrongState unless it
        runs in a VM of its own that shares no folder with the host."""

    async def suspend(self, c: str) -> None:
        """Keep its VM on disk, and free all memory. WrongState as for `fork`; Exhausted, and it goes on."""

    async def resume(self, c: str) -> None:
        """Have a suspended one go on. WrongState when what it was saved by is not here any more."""

    async def list(self, c: str, /) -> Sequence[doc.Checkpoint]:
        """Checkpoints, the oldest first; of one container, which may have gone, or of all ("")."""

    async def create(self, c: str, name: str, *, leave_running: bool) -> None:
        """Keep a container's VM and its disk as they are now, as a checkpoint. The container ends, as if by KILL,
        unless `leave_running`."""

    async def remove(self, c: str, name: str) -> None: ...

    async def restore(self, c: str, checkpoint: str, *, name: str) -> doc.Created:
        """Have a container go on from a checkpoint: the one that it was taken of, which must not run, or was removed;
        with a `name` a new one. WrongState as for `resume`."""


class Engine(Protocol):
    """The use cases, by their nouns."""

    @property
    def system(self) -> System: ...

    @property
    def containers(self) -> Containers: ...

    @property
    def execs(self) -> Execs: ...

    @property
    def pods(self) -> Pods: ...

    @property
    def images(self) -> Images: ...

    @property
    def builds(self) -> Builds: ...

    @property
    def bundles(self) -> Bundles: ...

    @property
    def kube(self) -> Kube: ...

    @property
    def volumes(self) -> Volumes: ...

    @property
    def networks(self) -> Networks: ...

    @property
    def kernels(self) -> Kernels: ...

    @property
    def factory(self) -> Factory: ...

    @property
    def snapshots(self) -> Snapshots: ...

    async def open(self) -> None:
        """Recover: attach to every VM that still runs, clean up what is half made, restart what is due."""

    async def close(self) -> None:
        """Let go of everything; VMs run on. Sessions and generators that are left raise Unavailable."""
