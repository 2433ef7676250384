"""Machines of each architecture that this checkout has all for (`make setup-arch`): their starts, what they take."""

import shutil
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from bench import calls, memory
from bench.measure import CommandFailed, Series, first_output_ms, wall_ms
from bench.places import CHECKOUT, IMAGE, KERNELS
from hypercontainer.hypervisor.base import Feature, can
from hypercontainer.hypervisor.qemu.driver import QemuHypervisor
from hypercontainer.hypervisor.qemu.machines import MACHINES
from hypercontainer.kernel.bundle import KernelStore
from hypercontainer.model.arch import ARCHES, host_name
from hypercontainer.testing.busybox import find_busybox, write_archive
from hypercontainer.testing.daemon import PrivateDaemon, Value

FACTORIES = {"cold": "direct", "template": "template", "pool": "cache"}
QUIET_S = 1.0  # before its memory is read: what a start has left to do is done


def lacks(arch: str) -> str:
    """Why it cannot be measured, in words; "" when it can."""
    machine = MACHINES[arch]
    missing = [] if shutil.which(machine.program) else [f"the package {machine.package}"]
    if arch not in [bundle.arch for bundle in KernelStore(KERNELS.parent).list()]:
        missing.append("a kernel of it")
    needed = [CHECKOUT / "hypercontainer/_bin" / arch / "hyperstart"]
    if arch != host_name():
        needed.append(_busybox(arch))
    missing += [str(path.relative_to(CHECKOUT)) for path in needed if not path.exists()]
    return f"{', '.join(missing)} is not here: `make setup-arch`" if missing else ""


def _busybox(arch: str) -> Path:
    return find_busybox() if arch == host_name() else CHECKOUT / ".cache/arch" / arch / "bin/busybox"


def pools(arches: Sequence[str]) -> Value:
    """One that waits for each."""
    return [{"arch": ARCHES[arch].docker} for arch in arches]


class Architecture:
    """Machines of one architecture, each way in which they start; `ready` is called before each start, and not
    counted."""

    def __init__(self, daemon: PrivateDaemon, arch: str, ready: Callable[[], None]) -> None:
        self.daemon, self.ready, self.platform = daemon, ready, f"linux/{ARCHES[arch].docker}"
        ways = [way for way in FACTORIES if way != "template" or can(QemuHypervisor(), Feature.SNAPSHOT, arch)]
        self.first = {way: Series(f"{self.platform}, {way}: first output of echo") for way in ways}
        self.whole = Series(f"{self.platform}, pool: hyperctl run --rm IMAGE true, whole command")
        self.memory = {way: Series(f"{self.platform}, {way}: PSS of an idle one", "MiB") for way in ways}
        archive = daemon.folder / f"{arch}.tar"
        write_archive(archive, busybox=_busybox(arch), architecture=ARCHES[arch].docker)
        self._out("load", "-q", "-i", str(archive))

    def run_echo(self, way: str) -> None:
        if way in self.first:
            self.ready()
            argv = self.daemon.argv(*self._run(way, "--rm"), "echo", "hello")
            self.first[way].samples.append(first_output_ms(argv, env=self.daemon.env)[0])

    def run_true(self) -> None:
        self.ready()
        argv = self.daemon.argv(*self._run("pool", "--rm"), "true")
        self.whole.samples.append(wall_ms(argv, env=self.daemon.env))

    def run_idle(self, way: str) -> None:
        if way in self.memory:
            self.ready()
            container = self._out(*self._run(way, "-d"), "sleep", calls.FOREVER)
            time.sleep(QUIET_S)
            with calls.client(self.daemon) as caller:
                taken = memory.pss_mib(memory.vmm(calls.vmm_pid(caller, container)))
                calls.remove(caller, container)
            self.memory[way].samples.append(taken)

    def _run(self, way: str, option: str) -> list[str]:
        return ["run", option, "--factory", FACTORIES[way], "--platform", self.platform, IMAGE]

    def _out(self, *words: str) -> str:
        done = self.daemon.ctl(*words)
        if done.status:
            raise CommandFailed(f"hyperctl {words[0]}: {done.err}")
        return done.out.strip()

    @property
    def series(self) -> list[Series]:
        return [*self.first.values(), self.whole, *self.memory.values()]


def each_in_turn(parts: Sequence[Architecture]) -> list[Callable[[], None]]:
    """A sample of each row, one architecture after the other within a row."""
    ways = [partial(part.run_echo, way) for way in FACTORIES for part in parts]
    idle = [partial(part.run_idle, way) for way in FACTORIES for part in parts]
    return [*ways, *(part.run_true for part in parts), *idle]
