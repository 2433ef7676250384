"""Peers that have a daemon: containerd and docker with runc, each private; and gVisor, which has none.

They run in a mount namespace of their own (docker in a network namespace too): what they mount and what they do to
the firewall goes with them. A peer that this machine has not is left out, with the reason.
"""

import json
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.measure import CommandFailed, Series, first_output_ms, wall_ms
from bench.peers import bundle
from hypercontainer.errors import Unavailable
from hypercontainer.testing.containerd import toml

READY_S = 300.0  # on a machine that is emulated, too
IMAGE = "docker.io/library/busybox:latest"


class Engine:
    """One peer: `argv(WORD…)` is the command that runs a new container of the image, and removes it."""

    def __init__(self, name: str, argv: Callable[..., list[str]], client: Sequence[str] = ()) -> None:
        """`client`: the words before any other verb, where there are such."""
        self.argv, self.client = argv, client
        self.first = Series(f"{name} echo: first output")
        self.whole = Series(f"{name} true: whole command")

    def variant(self, name: str, *flags: str) -> "Engine":
        """The same command with more flags behind `run`."""

        def argv(*words: str) -> list[str]:
            usual = self.argv(*words)
            at = usual.index("run") + 1
            return [*usual[:at], *flags, *usual[at:]]

        return Engine(name, argv, self.client)

    def run_echo(self) -> None:
        self.first.samples.append(first_output_ms(self.argv("echo", "hello"))[0])

    def run_true(self) -> None:
        self.whole.samples.append(wall_ms(self.argv("true")))

    @property
    def series(self) -> list[Series]:
        return [self.first, self.whole]


def need(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            raise Unavailable(f"{program} is not installed")


def new_name() -> str:
    return f"b{uuid.uuid4().hex[:10]}"


@contextmanager
def containerd(folder: Path, archive: Path, env: Mapping[str, str] = {}) -> Iterator[Engine]:
    """`ctr run`, and whatever runtime `env` lets containerd find. Unavailable when it is not here or does not start."""
    need("containerd", "ctr", "runc")
    folder.mkdir()
    (folder / "config.toml").write_text(toml(folder, cri=False))
    ctr = ["ctr", "--address", f"{folder}/c.sock"]
    daemon = ["unshare", "--mount", "--propagation", "private", "containerd", "--config", f"{folder}/config.toml"]
    with cgroups("default"), running(daemon, [*ctr, "version"], folder, env):
        done([*ctr, "image", "import", str(archive)])
        yield Engine("containerd: ctr run --rm", lambda *words: [*ctr, "run", "--rm", IMAGE, new_name(), *words], ctr)


@contextmanager
def docker(
    folder: Path, archive: Path, runtimes: Mapping[str, str] = {}, env: Mapping[str, str] = {}
) -> Iterator[Engine]:
    """`docker run` with its usual network, a bridge; `runtimes`: others than runc, by name. Unavailable when docker is
    not here or does not start."""
    need("dockerd", "docker", "containerd", "runc", "iptables")
    folder.mkdir()
    (folder / "config.json").write_text("{}")  # of the client
    others = {name: {"path": path} for name, path in runtimes.items()}
    (folder / "daemon.json").write_text(json.dumps({"runtimes": others}))
    socket = f"unix://{folder}/socket"
    client = ["docker", "--config", str(folder), "--host", socket]
    daemon = ["unshare", "--mount", "--net", "--propagation", "private", "dockerd", "--host", socket]
    daemon += ["--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/pid"]
    daemon += ["--config-file", f"{folder}/daemon.json"]
    with cgroups("docker"), running(daemon, [*client, "version"], folder, env):
        done([*client, "load", "-q", "-i", str(archive)])
        yield Engine("docker run --rm", lambda *words: [*client, "run", "--rm", "busybox", *words], client)


@contextmanager
def gvisor(folder: Path) -> Iterator[Engine]:
    """`runsc run` by ptrace: of its platforms the one that every host has. Without a network, as `runc run`."""
    need("runsc", "runc")
    tree = bundle(folder / "bundle", ["true"])
    config = json.loads((tree / "config.json").read_text())
    runsc = ["runsc", "--root", f"{folder}/state", "--platform=ptrace", "--network=none", "--ignore-cgroups"]

    def argv(*words: str) -> list[str]:
        config["process"]["args"] = list(words)
        (tree / "config.json").write_text(json.dumps(config))
        return [*runsc, "run", "-bundle", str(tree), new_name()]

    done(argv("true"))
    yield Engine("gVisor: runsc run", argv)


@contextmanager
def running(argv: Sequence[str], ping: Sequence[str], folder: Path, env: Mapping[str, str] = {}) -> Iterator[None]:
    """Start `argv`; go on when `ping` succeeds; end it with the block."""
    with open(folder / "log", "ab") as log:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env={**os.environ, **env}
        )
    try:
        deadline = time.monotonic() + READY_S
        while subprocess.run(ping, capture_output=True, timeout=READY_S).returncode:
            if process.poll() is not None or time.monotonic() > deadline:
                tail = (folder / "log").read_text(errors="replace")[-500:]
                raise Unavailable(f"{' '.join(argv)} does not answer: {tail}")
            time.sleep(0.1)
        yield
    finally:
        process.send_signal(signal.SIGTERM)  # it ends what it started, and goes
        try:
            process.wait(READY_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(READY_S)


@contextmanager
def cgroups(name: str) -> Iterator[None]:
    """Remove the empty cgroups called `name` that an engine leaves, unless they were there before."""
    roots = [Path("/sys/fs/cgroup"), *(path for path in Path("/sys/fs/cgroup").iterdir() if path.is_dir())]
    ours = [root / name for root in roots if not (root / name).exists()]
    try:
        yield
    finally:
        for path in ours:
            folders = sorted(path.rglob("*/"), reverse=True) if path.is_dir() else []
            for folder in [*(f for f in folders if f.is_dir()), path]:
                try:
                    folder.rmdir()
                except OSError:
                    break  # there is none, or somebody else's container is in it


def done(argv: Sequence[str]) -> None:
    result = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
    if result.returncode:
        raise Unavailable(f"{' '.join(argv[:6])}: {(result.stderr or result.stdout).decode(errors='replace')[-300:]}")


def together_ms(argvs: Sequence[Sequence[str]], *, env: dict[str, str] | None = None) -> float:
    """Start all of `argvs` at once; milliseconds until the last has said something and all have ended well."""
    quiet = {"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE, "env": env}
    begin = time.perf_counter()
    processes = [subprocess.Popen(argv, stdout=subprocess.PIPE, **quiet) for argv in argvs]  # type: ignore[call-overload]
    last = 0.0
    for process in processes:
        process.stdout.read(1)
        last = max(last, time.perf_counter() - begin)
    for process in processes:
        _, said = process.communicate(timeout=READY_S * 10)
        if process.returncode:
            raise CommandFailed(f"{' '.join(process.args)}: {said.decode(errors='replace')[-500:]}")
    return last * 1e3
