"""Clones of one template, started at once, are machines of their own: from the first act of their first process on.

Clocks are asked in the container while the host looks at its own before and after: what must hold does so however
busy this host is.
"""

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from hypercontainer.testing import layers
from hypercontainer.testing.busybox import find_busybox, layer
from hypercontainer.testing.daemon import PrivateDaemon, private_daemon
from tests import zig
from tests.conftest import ACCELERATOR
from tests.vm.conftest import ok

pytestmark = pytest.mark.vm

CLONES = 4
VCPUS = 2  # each has a random generator of its own
MACHINE_ID = "0123456789abcdef0123456789abcdef"
RIGHT_NS = 50_000_000  # how far the wall clock may be off
RATE = 0.05  # how much quicker or slower a guest's clock may go; what its kernel measured at boot decides
OWN = (
    *("getrandom", "urandom", "at_random", "cpu0", "cpu1", "boot_id", "uuid"),  # random
    *("stack", "vdso", "mapping", "break"),  # where the kernel put the process
    *("hostname", "environment", "mac", "address"),
)


class Clocks(NamedTuple):
    """Of a guest, in nanoseconds, and what this host's were before and after they were read."""

    monotonic: int
    boottime: int
    realtime: int
    before: int  # CLOCK_REALTIME
    after: int
    earliest: int  # CLOCK_MONOTONIC
    latest: int


class Clone(NamedTuple):
    name: str
    words: dict[str, str]  # what its first process said of itself
    clocks: Clocks


class Machines(NamedTuple):
    daemon: PrivateDaemon
    clones: list[Clone]
    making_ns: int  # the template ran no longer


@pytest.fixture(scope="module")
def who_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image who:latest: busybox, /bin/who, and a machine-id of the image's."""
    folder = tmp_path_factory.mktemp("who")
    program = zig.program(folder / "who", Path(__file__).with_name("who.c"))
    member = layers.member("bin/who", program.read_bytes(), mode=0o755)
    files = {"etc/machine-id": f"{MACHINE_ID}\n".encode()}
    archive = folder / "who.tar"
    archive.write_bytes(layers.docker_archive([layer(find_busybox(), files), layers.layer([member])], ["who:latest"]))
    return archive


@pytest.fixture(scope="module")
def machines(kernels: Path, who_archive: Path, pytestconfig: pytest.Config) -> Iterator[Machines]:
    """Clones of one template that were started at once."""
    settings = {"accelerator": ACCELERATOR, "factory": "template", "kernel": str(pytestconfig.getoption("kernel"))}
    with private_daemon(kernels, settings) as daemon:
        ok(daemon, "load", "-i", str(who_archive))
        asked = time.monotonic_ns()
        ok(daemon, "run", "--rm", "--cpus", str(VCPUS), "who", "true")
        made = time.monotonic_ns()
        with ThreadPoolExecutor(CLONES) as pool:
            clones = list(pool.map(lambda n: start(daemon, f"clone{n}"), range(CLONES)))
        yield Machines(daemon, clones, made - asked)
        assert "booting" not in daemon.log() and "cannot clone" not in daemon.log()


def start(daemon: PrivateDaemon, name: str, *options: str) -> Clone:
    """A machine whose first process has said who it is, and stays."""
    cpus = ("--cpus", str(VCPUS))
    with subprocess.Popen(
        daemon.argv("run", "--name", name, *cpus, *options, "who", "who", "stay"),
        env=daemon.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as client:
        assert client.stdout
        words: dict[str, str] = {}
        clocks = read_clocks(client.stdout.readline)
        while "product_uuid" not in words:
            line = client.stdout.readline()
            assert line, words
            key, _, value = line.rstrip("\n").partition(" ")
            words[key] = value
        client.kill()  # it leaves: what it started stays
    words["address"] = ok(daemon, "inspect", "--format", "{{.NetworkSettings.IPAddress}}", name)
    return Clone(name, words, clocks)


def read_clocks(ask: Callable[[], str]) -> Clocks:
    earliest, before = time.monotonic_ns(), time.time_ns()
    word, *numbers = ask().split()
    after, latest = time.time_ns(), time.monotonic_ns()
    assert word == "clocks"
    monotonic, boottime, realtime = map(int, numbers)
    return Clocks(monotonic, boottime, realtime, before, after, earliest, latest)


@contextmanager
def clock_of(daemon: PrivateDaemon, name: str) -> Iterator[Callable[[], Clocks]]:
    """Ask a running container for its clocks, again and again."""
    argv = daemon.argv("exec", "-i", name, "who", "clock")
    with subprocess.Popen(
        argv, env=daemon.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as client:
        stdin, stdout = client.stdin, client.stdout
        assert stdin and stdout

        def ask() -> str:
            stdin.write("\n")
            return stdout.readline()

        yield lambda: read_clocks(ask)
        stdin.close()
        assert client.wait(60) == 0


def right(clocks: Clocks) -> bool:
    return clocks.before - RIGHT_NS <= clocks.realtime <= clocks.after + RIGHT_NS


def at_our_rate(first: Clocks, last: Clocks, *, stopped_ns: int = 0) -> bool:
    """Whether the monotonic clock went on by as much as ours, but for the time that the machine was stopped."""
    least, most = last.earliest - first.latest, last.latest - first.earliest
    passed = last.monotonic - first.monotonic
    return (1 - RATE) * (least - stopped_ns) <= passed <= (1 + RATE) * (most - stopped_ns)


# Who they are


@pytest.mark.parametrize("key", OWN)
def test_no_two_clones_have_the_same(machines: Machines, key: str) -> None:
    values = [clone.words[key] for clone in machines.clones]
    assert all(values) and len(set(values)) == CLONES, values


def test_each_has_its_name_in_its_environment(machines: Machines) -> None:
    for clone in machines.clones:
        name = ok(machines.daemon, "inspect", "--format", "{{.Id}}", clone.name)[:12]
        assert (clone.words["hostname"], clone.words["environment"]) == (name, name)
        assert ok(machines.daemon, "exec", clone.name, "sh", "-c", "echo $HOSTNAME") == name


def test_all_are_of_one_template(machines: Machines) -> None:
    kept = ok(machines.daemon, "factory", "status")
    assert sum(line.split()[1:2] == [str(VCPUS)] for line in kept.splitlines()) == 1, kept


def test_what_the_image_brings_is_the_images(machines: Machines) -> None:
    """A machine-id in it stays, as with docker. One that is made at a start has nothing else to be made from than
    random bytes: the machine itself has no number."""
    assert {clone.words["machine_id"] for clone in machines.clones} == {MACHINE_ID}
    assert {clone.words["product_uuid"] for clone in machines.clones} == {""}


def test_no_number_is_said_twice_in_one_clone(machines: Machines) -> None:
    said = [clone.words[key] for clone in machines.clones for key in ("getrandom", "urandom", "cpu0", "cpu1")]
    said += [clone.words["at_random"] for clone in machines.clones]
    assert len(set(said)) == len(said)


def test_the_hosts_random_numbers_reach_a_clone(machines: Machines) -> None:
    """Its virtio-rng device is alive: hwrng has no other source here."""
    read = "mknod /tmp/hwrng c 10 183; cat /sys/class/misc/hw_random/rng_current; head -c 16 /tmp/hwrng | od -An -tx1"
    run = ("run", "--rm", "--privileged", "--cpus", str(VCPUS), "who", "sh", "-c", read)
    (device, one), (_, other) = (ok(machines.daemon, *run).splitlines() for _ in range(2))
    assert device.startswith("virtio_rng")
    assert re.fullmatch(r"( [0-9a-f]{2}){16}", one) and one != other


# What time it is there


def test_the_wall_clock_is_right_at_the_first_process(machines: Machines) -> None:
    assert all(right(clone.clocks) for clone in machines.clones), machines.clones


def test_the_wall_clock_is_right_while_it_runs(machines: Machines) -> None:
    for clone in machines.clones:
        with clock_of(machines.daemon, clone.name) as ask:
            samples = [ask() for _ in range(20)]
        assert all(right(sample) for sample in samples), samples


def test_time_since_boot_never_runs_backwards_and_goes_at_our_rate(machines: Machines) -> None:
    with clock_of(machines.daemon, machines.clones[0].name) as ask:
        samples = [ask() for _ in range(20)]
        ok(machines.daemon, "run", "--rm", "--cpus", str(VCPUS), "who", "true")  # a second or so
        samples.append(ask())
    for earlier, later in zip([machines.clones[0].clocks, *samples], samples, strict=False):
        assert earlier.monotonic < later.monotonic and earlier.boottime < later.boottime
    assert all(sample.boottime >= sample.monotonic for sample in samples)
    assert at_our_rate(samples[0], samples[-1]), samples


def test_a_clone_is_as_old_as_its_template_was_when_it_was_saved(machines: Machines) -> None:
    """However long the template has been kept: the time in between did not happen."""
    asked = time.monotonic_ns()
    late = start(machines.daemon, "late")
    living_ns = time.monotonic_ns() - asked
    for clone, most_ns in ((machines.clones[0], late.clocks.earliest), (late, machines.making_ns + living_ns)):
        assert 0 < clone.clocks.monotonic <= (1 + RATE) * most_ns
    assert right(late.clocks)
    ok(machines.daemon, "rm", "-f", "late")


def test_a_pause_does_not_happen_but_the_wall_clock_knows_of_it(machines: Machines) -> None:
    name = machines.clones[1].name
    with clock_of(machines.daemon, name) as ask:
        before = ask()
        ok(machines.daemon, "pause", name)
        stopped = time.monotonic_ns()
        ok(machines.daemon, "run", "--rm", "--cpus", str(VCPUS), "who", "true")  # the time goes by
        stopped_ns = time.monotonic_ns() - stopped
        assert stopped_ns > 2 * RIGHT_NS  # it would be seen
        ok(machines.daemon, "unpause", name)
        after = ask()
    assert right(after), (after, stopped_ns)
    assert before.monotonic < after.monotonic
    assert after.monotonic - before.monotonic <= (1 + RATE) * (after.latest - before.earliest - stopped_ns)
