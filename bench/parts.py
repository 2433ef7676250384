"""The parts of `make bench` that are measured in rounds, and what runs for them."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from bench import cri, kubelet, machines, pods, throughput
from bench.architectures import Architecture, each_in_turn, lacks, pools
from bench.builds import Builds
from bench.docker_clients import DockerClients, hyperd_client
from bench.engines import Engine, containerd, docker, gvisor
from bench.guests import Guests
from bench.images import ImageLoad
from bench.measure import CommandFailed, Series, interleave
from bench.peers import runc
from bench.places import IMAGE, KERNELS, load_image, say
from bench.rows import CLIENTS, Row
from bench.runtimes import Runtime, peers, runtime, runv
from bench.starts import TOGETHER, AtOnce, Calls, Forks, Starts, until_full
from bench.terminals import Terminals, of_docker, of_hyperctl
from bench.throughput import Rootfs, Stream
from hypercontainer.errors import HyperError
from hypercontainer.hypervisor.qemu.machines import MACHINES
from hypercontainer.testing.daemon import PrivateDaemon, Value, free_subnet, private_daemon

PODS = 20
ARCHIVES = 1  # rounds
AT_ONCE_S = 300.0  # fifty starts at once take as long as they take: fewer rounds where that is long
PODS_OF_ONE = 100  # that run of a kubelet's, beside which memory is measured; with as many that are stopped, its lists


P = TypeVar("P")
Part = (
    Starts | Calls | Engine | Runtime | Rootfs | Stream | Guests | AtOnce | ImageLoad | Forks | Terminals
    | DockerClients | Builds | kubelet.Kubelet | Row | Architecture | machines.Candidate
)  # fmt: skip


class Bench:
    """What is running to be measured. `absent` says what could not be had, and why."""

    def __init__(self, stack: ExitStack, folder: Path, kernel: str, accelerator: str = "auto") -> None:
        self.stack, self.folder, self.kernel, self.accelerator = stack, folder, kernel, accelerator
        self.absent: list[str] = []
        self.results: list[Series] = []

    @property
    def usual(self) -> dict[str, Value]:
        """Settings of each hyperd."""
        return {"kernel": self.kernel, "accelerator": self.accelerator}

    def beside(self, stack: ExitStack, folder: Path) -> "Bench":
        """Another one like it, for what runs and goes with `stack`."""
        return Bench(stack, folder, self.kernel, self.accelerator)

    def daemon(self, **settings: Value) -> PrivateDaemon:
        """One more hyperd with the image in it."""
        daemon = self.stack.enter_context(private_daemon(KERNELS, {**self.usual, **settings}))
        load_image(daemon)
        return daemon

    def peer(self, name: str, make: Callable[[], AbstractContextManager[P]]) -> P | None:
        try:
            return self.stack.enter_context(make())
        except HyperError as e:
            self.absent.append(f"{name}: left out: {e}")
            say(self.absent[-1])
            return None

    def forks(self, daemon: PrivateDaemon) -> list[Forks]:
        """One, if this hyperd can copy a container that runs."""
        forks = Forks(daemon, IMAGE)
        try:
            forks.run()
        except (HyperError, CommandFailed) as e:
            self.absent.append(f"fork: left out: {str(e).strip()}")
            say(self.absent[-1])
            return []
        return [forks]

    def measure(self, rounds: int, what: str, steps: Sequence[Callable[[], None]], *parts: Part) -> None:
        """Take the steps of `parts` in turn, one round to warm up before those that count."""
        interleave(1, steps, lambda _: None)
        for series in [series for part in parts for series in part.series]:
            series.samples.clear()
        interleave(rounds, steps, lambda line: say(f"{what}, {line}"))
        self.keep(*parts)

    def keep(self, *parts: Part) -> None:
        self.results += [series for part in parts for series in part.series]


def starts(bench: Bench, rounds: int, *, streams: bool) -> None:
    """The starts, ours and the peers', a sample of each in turn."""
    folder = bench.folder
    cloning, booting = bench.daemon(factory="template"), bench.daemon(factory="direct")
    pooling = bench.daemon(factory="cache", pool=[{"cache": 2}])
    archive = cloning.folder / "busybox.tar"
    runc_peer = bench.stack.enter_context(runc(folder / "runc"))
    peers = [
        bench.peer("containerd", lambda: containerd(folder / "containerd", archive)),
        bench.peer("docker", lambda: docker(folder / "docker", archive)),
        bench.peer("gVisor", lambda: gvisor(folder / "gvisor")),
    ]
    there = [peer for peer in peers if peer]
    say("starting a virtual machine")
    full = until_full(pooling)
    clones, cold, pool = (
        Starts(cloning, IMAGE, "template"),
        Starts(booting, IMAGE, "cold"),
        Starts(pooling, IMAGE, "pool", full),
    )
    called, guests, forks = Calls(pooling, IMAGE, "pool", full), Guests(cloning, IMAGE), bench.forks(cloning)
    starts: list[Starts | Engine] = [clones, pool, *there, cold]
    steps = [part.run_true for part in starts]
    steps += [called.run_start, called.run_output, *(part.run for part in forks)]
    steps += [part.run_echo for part in starts]
    steps += [runc_peer.run, guests.exec, runc_peer.exec]
    say("one round to warm up, not counted")
    interleave(1, [*steps, guests.write, guests.read], lambda _: None)
    parts: list[Part] = [clones, pool, called, *forks, *there, cold, guests]
    for series in [*(series for part in parts for series in part.series), *runc_peer.series]:
        series.samples.clear()
    interleave(rounds, steps, say)
    if streams:
        interleave(max(3, rounds // 4), [guests.write, guests.read], lambda line: say(f"streams, {line}"))
    bench.keep(*parts)
    bench.results += runc_peer.series


def oci(bench: Bench, rounds: int) -> None:
    """What engines ask of an OCI runtime: runv, from a pool whose guests have a share and from a template, beside
    the peers."""
    folder = bench.folder / "oci"
    pooling = bench.daemon(factory="cache", pool=[{"cache": 2, "share": True}])
    cloning = bench.daemon(factory="template")
    full = until_full(pooling)
    wanted: list[tuple[str, list[str], Callable[[], None]]] = [
        ("pool: runv", runv(pooling, folder / "pool-root"), full),
        ("template: runv", runv(cloning, folder / "template-root"), full),
        *((name, argv, full) for name, argv in bench.stack.enter_context(peers(folder))),
    ]
    found = [
        bench.peer(name, partial(runtime, name, argv, folder / str(n), ready))
        for n, (name, argv, ready) in enumerate(wanted)
    ]
    parts = [part for part in found if part]
    steps = [step for part in parts for step in (part.state, part.exec, part.start)]
    bench.measure(rounds, "OCI runtimes", steps, *parts)
    if found[1]:
        say(f"{PODS} pods of runv")
        bench.results += pods.measure(cloning, found[1], PODS)


def with_engines(bench: Bench, rounds: int) -> None:
    """docker and containerd with runc, and with machines in its place."""
    folder = bench.folder / "engines"
    folder.mkdir()
    pool = [{"cache": 2, "share": True}, {"cache": 2, "share": True, "network": False}]  # docker's, ctr's
    daemon = bench.daemon(factory="cache", pool=pool)
    env = {"HYPER_OCI_HOST": f"unix://{daemon.folder}/hyper-oci.sock", "PATH": f"{daemon.bin}:{os.environ['PATH']}"}
    archive = daemon.folder / "busybox.tar"
    runtimes = {"runv": str(daemon.bin / "runv")}
    parts: list[Engine] = []
    if peer := bench.peer("docker", lambda: docker(folder / "docker", archive, runtimes, env)):
        parts += [peer, peer.variant("docker run --rm --runtime runv", "--runtime", "runv")]
    if peer := bench.peer("containerd", lambda: containerd(folder / "containerd", archive, env)):
        parts += [peer, peer.variant("ctr run --runtime io.containerd.hyper.v2", "--runtime", "io.containerd.hyper.v2")]
    full = until_full(daemon)
    steps = [step for part in parts for step in (full, part.run_true, full, part.run_echo)]
    bench.measure(rounds, "engines", steps, *parts)


def files(bench: Bench, rounds: int) -> None:
    """Files on a shared rootfs and on a block one, and a TCP stream, beside runc's."""
    folder = bench.folder / "files"
    daemon = bench.daemon(factory="template")
    wanted = [("runv", runv(daemon, folder / "root")), ("runc", ["runc", "--root", f"{folder}/runc-state"])]
    found = [bench.peer(name, partial(runtime, name, argv, folder / name)) for name, argv in wanted]
    if not (found[0] and found[1]):
        return
    with ExitStack() as stack:
        parts = throughput.parts(stack, found[0], found[1], daemon, IMAGE)
        steps = [step for part in parts for step in part.steps]
        interleave(rounds, steps, lambda line: say(f"files and streams, {line}"))
        untars = [part.untar for part in parts if isinstance(part, Rootfs)]
        say(f"{throughput.FILES:,} files: some four minutes for each of these rounds")
        interleave(ARCHIVES, untars, lambda line: say(f"archives, {line}"))
        bench.keep(*parts)


def terminals(bench: Bench, rounds: int) -> None:
    """Lines and keys, ours beside docker's."""
    daemon = bench.daemon(factory="cache", pool=[{"cache": 2}])
    folder = bench.folder / "terminals"
    parts = [of_hyperctl(daemon, IMAGE)]
    if peer := bench.peer("docker", lambda: docker(folder, daemon.folder / "busybox.tar")):
        parts.append(of_docker(peer, IMAGE))
    steps = [step for part in parts for step in (part.run, part.exec, part.keys, part.busy_keys)]
    bench.measure(rounds, "terminals", steps, *parts)


def docker_clients(bench: Bench, rounds: int) -> None:
    """docker's client and docker-compose: our socket beside dockerd's."""
    folder = bench.folder / "docker-clients"
    folder.mkdir()
    daemon = bench.daemon(factory="cache", pool=[{"cache": 2}])
    peer = bench.peer("docker", lambda: docker(folder / "dockerd", daemon.folder / "busybox.tar"))
    if not peer:
        return
    parts = [
        DockerClients("hyperd", hyperd_client(daemon, folder), folder / "hyper", IMAGE, until_full(daemon)),
        DockerClients("dockerd", peer.client, folder / "docker", IMAGE),
    ]
    pairs = zip(*(part.steps for part in parts), strict=True)
    steps = [step for pair in pairs for step in pair]
    bench.measure(rounds, "docker's clients", steps, *parts)


def builds(bench: Bench, rounds: int) -> None:
    """docker's classic builds, by the same client: dockerd's beside ours."""
    folder = bench.folder / "builds"
    folder.mkdir()
    daemon = bench.daemon(factory="cache", pool=[{"cache": 2}])
    peer = bench.peer("docker", lambda: docker(folder / "dockerd", daemon.folder / "busybox.tar"))
    if not peer:
        return
    parts = [
        Builds("hyperd", hyperd_client(daemon, folder), folder / "hyper", until_full(daemon)),
        Builds("dockerd", peer.client, folder / "docker"),
    ]
    steps = [part.run for part in parts]
    bench.measure(rounds, "builds", steps, *parts)


def kubelets(bench: Bench, rounds: int) -> None:
    """Pods as a kubelet asks for them, beside containerd with runc: from a pool, and fifty at once from a template and
    from a pool of fifty."""
    with ExitStack() as stack:
        inner = bench.beside(stack, bench.folder / "kubelet")
        inner.folder.mkdir()
        pooling = stack.enter_context(_kubelet(inner, 2))
        found = inner.peer("containerd", lambda: cri.of_containerd(inner.folder / "containerd"))
        peers = [found] if found else []
        bench.absent += inner.absent
        steps = [step for each in (pooling, *peers) for step in (each.run_start, each.run_exec)]
        bench.measure(rounds, "a kubelet", steps, pooling, *peers)
        few = max(1, rounds // 10)
        with ExitStack() as for_now:
            ready = for_now.enter_context(_kubelet(bench.beside(for_now, inner.folder), TOGETHER))
            steps = [each.run_together for each in (pooling, ready, *peers)]
            interleave(few, steps, lambda line: say(f"at once, {line}"))
            bench.keep(ready)
        bench.results += [kubelet.times(each, peer) for peer in peers for each in (pooling, ready)]
        say(f"{PODS_OF_ONE} pods of two containers, and as many that are stopped")
        for each in (pooling, *peers):
            each.grow(PODS_OF_ONE)
            each.measure_memory()
        for each in (pooling, *peers):
            each.grow_stopped(PODS_OF_ONE)
        interleave(few, [each.run_asked for each in (pooling, *peers)], lambda line: say(f"lists, {line}"))
        say("removing them")


@contextmanager
def _kubelet(bench: Bench, waiting: int) -> Iterator[kubelet.Kubelet]:
    """Of a hyperd where as many guests wait."""
    pool = [{"cache": waiting, "share": True}]
    daemon = bench.daemon(factory="cache", pool=pool, **cri.settings(bench.folder / f"hyper{waiting}"))
    with cri.of_hyperd(f"hyperd, pool of {waiting}", daemon, until_full(daemon)) as made:
        yield made


def in_a_row(bench: Bench, rounds: int) -> None:
    """Twenty starts one after the other, and by several clients for half a minute: a pool of one that has learned what
    is needed, docker, containerd."""
    with ExitStack() as stack:
        inner = bench.beside(stack, bench.folder / "in-a-row")
        inner.folder.mkdir()
        daemon = inner.daemon(factory="cache", pool_memory_mib=2048)
        archive = daemon.folder / "busybox.tar"
        argv = daemon.argv("run", "--rm", IMAGE, "true")
        parts = [Row("hyperctl run --rm", lambda: argv, daemon.env, until_full(daemon))]
        if peer := inner.peer("docker", lambda: docker(inner.folder / "docker", archive)):
            parts.append(Row("docker run --rm", partial(peer.argv, "true")))
        if peer := inner.peer("containerd", lambda: containerd(inner.folder / "containerd", archive)):
            parts.append(Row("ctr run --rm", partial(peer.argv, "true")))
        bench.measure(rounds, "in a row", [part.row for part in parts], *parts)
        say("several clients, half a minute each")
        for part in parts:
            for clients in CLIENTS:
                part.several(clients)


def at_once(bench: Bench, rounds: int) -> None:
    """Fifty at the same moment, against as many of `ctr run`."""
    with ExitStack() as stack:
        inner = bench.beside(stack, bench.folder / "at-once")
        inner.folder.mkdir()
        daemon = inner.daemon(factory="template")
        waiting = inner.daemon(factory="cache", pool=[{"cache": TOGETHER}], subnet=free_subnet(22))
        argv = daemon.argv("run", "--rm", IMAGE, "echo", "hello")
        parts = [
            AtOnce("hyperctl run --rm, template", lambda: argv, daemon.env),
            AtOnce(f"hyperctl run --rm, pool of {TOGETHER}", lambda: argv, waiting.env, until_full(waiting)),
        ]
        archive = daemon.folder / "busybox.tar"
        if peer := inner.peer("containerd", lambda: containerd(inner.folder / "containerd", archive)):
            parts.append(AtOnce("ctr run --rm", lambda: peer.argv("echo", "hello")))
        daemon.ctl("run", "--rm", IMAGE, "true")
        deadline = time.monotonic() + AT_ONCE_S
        for number in range(rounds):
            if time.monotonic() < deadline:
                interleave(1, [part.run for part in parts], lambda _: say(f"at once, round {number + 1}"))  # noqa: B023  called at once
        bench.keep(*parts)


def architectures(bench: Bench, rounds: int) -> None:
    """Machines of each architecture that is ready, all with Debian's kernel, a sample of each in turn."""
    why = {arch: lacks(arch) for arch in MACHINES}
    bench.absent += [f"{arch}: left out: {words}" for arch, words in why.items() if words]
    there = [arch for arch, words in why.items() if not words]
    daemon = bench.daemon(kernel="", factory="cache", accelerator="tcg", pool=pools(there))
    parts = [Architecture(daemon, arch, until_full(daemon)) for arch in there]
    bench.measure(rounds, "architectures", each_in_turn(parts), *parts)


def machine_types(bench: Bench, rounds: int) -> None:
    """QEMU's machine types for guests of this host's architecture, booted: with Debian's kernel, as those of other
    architectures are."""
    try:
        both = machines.candidates("")
        asyncio.run(machines.compare(both, rounds))
    except HyperError as e:
        bench.absent.append(f"machine types: left out: {e}")
        say(bench.absent[-1])
    else:
        bench.keep(*both)
