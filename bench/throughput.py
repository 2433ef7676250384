"""Files and streams: fio and an archive of 20,000 files on a shared rootfs, on a block one, and on runc's; a TCP stream
through the tc redirect, and through runc's veth. Of machines also the processor time that each took on the host."""

import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.engines import need
from bench.measure import CommandFailed, Series
from bench.places import program
from bench.runtimes import LIMIT_S, PIPES, Runtime, netns
from hypercontainer.testing.daemon import PrivateDaemon

FILES, STREAM_BYTES, PORT = 20_000, 100_000_000, 7999
SIZE_MIB, RUN_S, JOB_S = 64, 4, 3600.0
JOBS = {"write": "1m", "read": "1m", "randwrite": "4k", "randread": "4k"}  # the first makes the file
TOOLS = "tools"  # in the rootfs
LIBRARY = re.compile(r"(?:=> )?(/\S+) \(0x")
PROGRAMS = ("qemu", "virtiofsd")


class Burden:
    """Processor time that a hyperd's machines take on the host, for one of a thing: of QEMU, and of virtiofsd."""

    def __init__(self, daemon: PrivateDaemon | None, name: str, unit: str) -> None:
        """None: there are no machines, and nothing is counted."""
        self._daemon, self._scale = daemon, 1e6 if unit == "us" else 1.0
        self.series = [Series(f"{name}, {of}'s processor", unit) for of in PROGRAMS] if daemon else []

    @contextmanager
    def of(self, count: Callable[[], float] = lambda: 1) -> Iterator[None]:
        """Add what is taken in a block, divided by `count` at its end."""
        if not self._daemon:
            yield
            return
        before = [_processor_s(self._daemon.folder, of) for of in PROGRAMS]
        yield
        for series, of, began in zip(self.series, PROGRAMS, before, strict=True):
            taken = _processor_s(self._daemon.folder, of) - began
            series.samples.append(taken * self._scale / count())


def _processor_s(folder: Path, of: str) -> float:
    """Of all that run for the machines of a hyperd in `folder`, with their children."""
    ticks, pids = 0, [file.read_text().split()[2] for file in folder.rglob(f"{of}.pid")]
    while pids:
        place = Path("/proc", pids.pop())
        ticks += sum(map(int, (place / "stat").read_text().rpartition(")")[2].split()[11:13]))
        pids += [pid for task in (place / "task").iterdir() for pid in (task / "children").read_text().split()]
    return ticks / os.sysconf("SC_CLK_TCK")


def tools(folder: Path) -> None:
    """fio with its libraries, an archive of many files, and the program of the stream. Unavailable without fio."""
    need("fio", "ldd")
    (folder / "lib").mkdir(parents=True)
    listed = subprocess.run(["ldd", "/usr/bin/fio"], check=True, capture_output=True, text=True, timeout=LIMIT_S).stdout
    for path in LIBRARY.findall(listed):
        shutil.copy(path, folder / "lib")
    next((folder / "lib").glob("ld*.so.*")).rename(folder / "lib/ld.so")  # its name is another one on each architecture
    shutil.copy("/usr/bin/fio", folder)
    program("stream.c", folder / "stream")
    with tarfile.open(folder / "files.tar", "w") as tar:
        for n in range(FILES):
            entry = tarfile.TarInfo(f"x/{n // 200}/{n}")
            entry.size = 1000
            tar.addfile(entry, io.BytesIO(b"x" * 1000))


class Rootfs:
    """One that is written to by `argv`, which runs a command in a container that has the tools."""

    def __init__(
        self, name: str, argv: Sequence[str], env: Mapping[str, str] = {}, daemon: PrivateDaemon | None = None
    ) -> None:
        """`daemon`: its containers are in machines of that hyperd's."""
        self.argv, self.env = list(argv), {**os.environ, **env}
        self.fio = {job: Series(f"{name}: fio {job} {size}", "MB/s") for job, size in JOBS.items()}
        self.fio_burden = {job: Burden(daemon, f"{name}: fio {job}, a request", "us") for job in JOBS}
        self.untar_series = Series(f"{name}: untar of {FILES:,} files", "s")
        self.untar_burden = Burden(daemon, f"{name}: untar", "s")

    def run_fio(self) -> None:
        for job, series in self.fio.items():
            words = [f"/{TOOLS}/lib/ld.so", "--library-path", f"/{TOOLS}/lib", f"/{TOOLS}/fio"]
            words += [
                f"--name={job}",
                f"--rw={job}",
                f"--bs={JOBS[job]}",
                f"--size={SIZE_MIB}m",
                "--filename=/fio.data",
            ]
            words += ["--direct=1", f"--runtime={RUN_S}", "--time_based", "--output-format=json", "--ioengine=psync"]
            found: dict[str, float] = {}
            with self.fio_burden[job].of(lambda: found["total_ios"]):  # noqa: B023  called at once
                said = self._run(*words, "--thread")
                found |= json.loads(said[said.index("{") :])["jobs"][0]["write" if "write" in job else "read"]
            series.samples.append(found["bw_bytes"] / 1e6)

    def untar(self) -> None:
        """Some minutes where each file costs 12 ms."""
        begin = time.perf_counter()
        with self.untar_burden.of():
            self._run("tar", "xf", f"/{TOOLS}/files.tar", "-C", "/")
        self.untar_series.samples.append(time.perf_counter() - begin)
        self._run("rm", "-rf", "/x")

    @property
    def steps(self) -> list[Callable[[], None]]:
        return [self.run_fio]

    def _run(self, *words: str) -> str:
        argv = [*self.argv, *words]
        quiet = subprocess.DEVNULL
        done = subprocess.run(argv, env=self.env, stdin=quiet, capture_output=True, text=True, timeout=JOB_S)
        if done.returncode:
            raise CommandFailed(f"{' '.join(argv)}: status {done.returncode}: {(done.stderr or done.stdout)[-500:]}")
        return done.stdout

    @property
    def series(self) -> list[Series]:
        fio = [one for job in JOBS for one in (self.fio[job], *self.fio_burden[job].series)]
        return [*fio, self.untar_series, *self.untar_burden.series]


class Stream:
    """TCP between a container in its namespace and this host: `argv` runs a command in the first."""

    def __init__(self, name: str, argv: Sequence[str], stream: Path, subnet: int, daemon: PrivateDaemon | None) -> None:
        self.argv, self.stream, self.subnet = list(argv), stream, subnet
        self.out = Series(f"{name}: TCP out of the container", "MB/s")
        self.out_burden = Burden(daemon, f"{name}: {STREAM_BYTES / 1e6:g} MB out", "s")
        self.into = Series(f"{name}: TCP into the container", "MB/s")
        self.into_burden = Burden(daemon, f"{name}: {STREAM_BYTES / 1e6:g} MB in", "s")

    def run(self) -> None:
        here, there = f"198.18.{self.subnet}.1", f"198.18.{self.subnet}.2"
        inside = [*self.argv, f"/{TOOLS}/stream"]
        with self.out_burden.of():
            rate = _rate([str(self.stream), str(PORT)], [*inside, here, str(PORT), str(STREAM_BYTES)])
        self.out.samples.append(rate)
        with self.into_burden.of():
            rate = _rate([*inside, str(PORT)], [str(self.stream), there, str(PORT), str(STREAM_BYTES)])
        self.into.samples.append(rate)

    @property
    def steps(self) -> list[Callable[[], None]]:
        return [self.run]

    @property
    def series(self) -> list[Series]:
        return [self.out, *self.out_burden.series[:1], self.into, *self.into_burden.series[:1]]  # virtiofsd has no part


def _rate(receiver: Sequence[str], sender: Sequence[str]) -> float:
    """MB/s, as the sender says; who receives ends with us."""
    with subprocess.Popen(receiver, **PIPES) as process:
        try:
            deadline = time.monotonic() + LIMIT_S
            while True:
                done = subprocess.run(sender, capture_output=True, text=True, timeout=JOB_S)
                if done.returncode == 0 and len(words := done.stdout.split()) == 2:
                    return float(words[0]) / float(words[1])
                if time.monotonic() > deadline:
                    raise CommandFailed(f"{' '.join(sender)}: {done.stderr[-300:]}")
                time.sleep(0.2)  # it does not listen yet
        finally:
            process.terminate()


def parts(stack: ExitStack, runv: Runtime, runc: Runtime, daemon: PrivateDaemon, image: str) -> list[Rootfs | Stream]:
    """runv's and runc's bundles with the tools, and a container of ours on disks."""
    found: list[Rootfs | Stream] = []
    for subnet, (name, runtime) in enumerate((("runv, shared", runv), ("runc", runc)), 1):
        tools(runtime.long / "rootfs" / TOOLS)
        config = json.loads((runtime.long / "config.json").read_text())
        config["root"]["readonly"] = False
        (runtime.long / "config.json").write_text(json.dumps(config))
        runtime.join(stack.enter_context(netns(subnet)), runtime.long)
        id = f"files{subnet}"
        runtime.run("create", "--bundle", str(runtime.long), id)
        stack.callback(subprocess.run, [*runtime.argv, "delete", "--force", id], capture_output=True, timeout=LIMIT_S)
        runtime.run("start", id)
        inside = [*runtime.argv, "exec", id]
        stream = runtime.long / "rootfs" / TOOLS / "stream"
        machines = daemon if runtime is runv else None
        found += [Rootfs(name, inside, daemon=machines), Stream(name, inside, stream, subnet, machines)]
    volume = f"{runc.long}/rootfs/{TOOLS}:/{TOOLS}:ro"
    made = daemon.ctl("run", "-d", "--name", "files", "-v", volume, image, "sleep", "86400")
    if made.status:
        raise CommandFailed(f"hyperctl run: {made.err}")
    return [*found, Rootfs("hyperctl, block", daemon.argv("exec", "files"), daemon.env, daemon)]
