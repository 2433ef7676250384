"""Starts of virtual machines, from outside: by hyperctl, by the API alone, many at once."""

import re
import subprocess
import time
from collections.abc import Callable, Sequence

from bench import calls
from bench.engines import together_ms
from bench.measure import CommandFailed, Series, first_output_ms
from hypercontainer.testing.daemon import PrivateDaemon

STEP = re.compile(r"^(\S.*?)\s{2,}(?:[\d.]+ ms\s+)?([\d.]+) ms", re.MULTILINE)  # the last figure: what it took
FULL_S = 600.0  # for a pool to be full again
TOGETHER = 50


class Starts:
    """Virtual machines that come and go; `how` names where they come from."""

    def __init__(self, daemon: PrivateDaemon, image: str, how: str, ready: Callable[[], None] = lambda: None) -> None:
        """`ready` is called before each sample, and not counted."""
        self.daemon, self.image, self.ready = daemon, image, ready
        self.first = Series(f"{how}: hyperctl run --rm IMAGE echo, first output")
        self.whole = Series(f"{how}: hyperctl run --rm IMAGE true, whole command")
        self.steps: dict[str, Series] = {}
        self._how = how

    def run_echo(self) -> None:
        self.ready()
        argv = self.daemon.argv("run", "--rm", self.image, "echo", "hello")
        self.first.samples.append(first_output_ms(argv, env=self.daemon.env)[0])

    def run_true(self) -> None:
        self.ready()
        argv = self.daemon.argv("run", "--rm", "--timings", self.image, "true")
        begin = time.perf_counter()
        done = subprocess.run(argv, env=self.daemon.env, stdin=subprocess.DEVNULL, capture_output=True, timeout=300)
        self.whole.samples.append((time.perf_counter() - begin) * 1e3)
        said = done.stderr.decode()
        if done.returncode:
            raise CommandFailed(f"hyperctl run: {said}")
        for name, took in STEP.findall(said):
            self.steps.setdefault(name, Series(f"  {self._how}, of it: {name}")).samples.append(float(took))

    @property
    def series(self) -> list[Series]:
        return [self.first, self.whole, *self.steps.values()]


class Calls:
    """The engine's part alone: the API, over its socket."""

    def __init__(self, daemon: PrivateDaemon, image: str, how: str, ready: Callable[[], None] = lambda: None) -> None:
        self.daemon, self.image, self.ready = daemon, image, ready
        self.create = Series(f"{how}: HTTP alone, create")
        self.start = Series(f"{how}: HTTP alone, create and start")
        self.output = Series(f"{how}: HTTP alone, create and start to first output")

    def run_start(self) -> None:
        self.ready()
        with calls.client(self.daemon) as caller:
            begin = time.perf_counter()
            container = calls.create(caller, self.image, ["sleep", calls.FOREVER])
            self.create.samples.append((time.perf_counter() - begin) * 1e3)
            calls.start(caller, container)
            self.start.samples.append((time.perf_counter() - begin) * 1e3)
            calls.remove(caller, container)

    def run_output(self) -> None:
        self.ready()
        with calls.client(self.daemon) as caller:
            begin = time.perf_counter()
            container = calls.create(caller, self.image, ["echo", "hello"])
            made = (time.perf_counter() - begin) * 1e3
            self.output.samples.append(made + calls.started(caller, container)[0])
            calls.remove(caller, container)

    @property
    def series(self) -> list[Series]:
        return [self.create, self.start, self.output]


class Forks:
    """Copies of a container that runs, and holds what it has made: `hyperctl fork`, and the API alone."""

    def __init__(self, daemon: PrivateDaemon, image: str) -> None:
        self.daemon = daemon
        self.whole = Series("hyperctl fork of a running container, whole command")
        self.alone = Series("fork: HTTP alone")
        with calls.client(daemon) as caller:
            self.original, _ = calls.idle(caller, image)

    def run(self) -> None:
        begin = time.perf_counter()
        made = self.daemon.ctl("fork", self.original)
        self.whole.samples.append((time.perf_counter() - begin) * 1e3)
        if made.status:
            raise CommandFailed(f"hyperctl fork: {made.err}")
        with calls.client(self.daemon) as caller:
            begin = time.perf_counter()
            ids = caller.post(f"/v1/containers/{self.original}/fork", {"count": 1})["Ids"]
            self.alone.samples.append((time.perf_counter() - begin) * 1e3)
            for container in [*made.out.split(), *ids]:
                if not calls.answers(caller, container):
                    raise CommandFailed(f"a fork does not answer: {container}")
                calls.remove(caller, container)

    @property
    def series(self) -> list[Series]:
        return [self.whole, self.alone]


class AtOnce:
    """Many starts at the same moment: how long until the last has answered. `ready` is not counted."""

    def __init__(
        self,
        name: str,
        argv: Callable[[], Sequence[str]],
        env: dict[str, str] | None = None,
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        self.argv, self.env, self.ready = argv, env, ready
        self.all = Series(f"{TOGETHER} x {name} at once, to the last output")
        self.series = [self.all]

    def run(self) -> None:
        self.ready()
        self.all.samples.append(together_ms([self.argv() for _ in range(TOGETHER)], env=self.env))


def until_full(daemon: PrivateDaemon) -> Callable[[], None]:
    """A call that returns when every pool of `daemon` is as full as it should be."""

    def wait() -> None:
        deadline = time.monotonic() + FULL_S
        with calls.client(daemon) as caller:
            while True:
                pools = caller.get("/v1/factory")["Pools"]
                if pools and all(pool["Waiting"] >= pool["Wanted"] for pool in pools):
                    break
                if time.monotonic() > deadline:
                    raise CommandFailed(f"the pool was not full within {FULL_S:g} s: {pools}")
                time.sleep(0.02)
        time.sleep(0.1)  # the last one has just come to rest

    return wait
