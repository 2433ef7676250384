"""A kernel of our own boots and has what containers, the network and storage need. Collected when `make kernel` has
built one. (The whole suite on it: pytest tests/vm --kernel NAME.)"""

import base64
import gzip
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercontainer.kernel import config
from hypercontainer.kernel.bundle import KernelStore
from hypercontainer.testing.daemon import PrivateDaemon, private_daemon
from tests.conftest import ACCELERATOR, KERNELS

pytestmark = pytest.mark.vm

BUILT = [bundle.name for bundle in KernelStore(KERNELS.parent).list() if bundle.source]
FILESYSTEMS = {"erofs", "ext4", "overlay", "fuse", "virtiofs", "9p", "tmpfs", "nfs", "nfs4", "cgroup2", "mqueue"}
CONTROLLERS = {
    "cpuset",
    "cpu",
    "blkio",
    "memory",
    "hugetlb",
    "pids",
    "rdma",
    "misc",
    "devices",
    "freezer",
    "perf_event",
}
USED_MIB = 24  # with a container in it; Debian's kernel takes about 40


@pytest.fixture(scope="module", params=BUILT)
def daemon(request: pytest.FixtureRequest, kernels: Path, busybox_archive: Path) -> Iterator[PrivateDaemon]:
    """A hyperd whose guests boot a kernel that was built here."""
    with private_daemon(kernels, {"accelerator": ACCELERATOR, "kernel": request.param, "memory_mib": 128}) as daemon:
        assert daemon.ctl("load", "-i", str(busybox_archive)).status == 0
        yield daemon


def inside(daemon: PrivateDaemon, *words: str) -> str:
    done = daemon.ctl("run", "--rm", *words)
    assert done.status == 0, done  # on a slow machine it says on stderr what takes its time
    return done.out


def script(daemon: PrivateDaemon, text: str) -> str:
    return inside(daemon, "--privileged", "busybox", "sh", "-ec", text)


def test_it_is_the_one_that_was_asked_for(daemon: PrivateDaemon) -> None:
    assert inside(daemon, "busybox", "uname", "-r").strip().endswith("-hyper")
    [current] = [line for line in daemon.ctl("kernel", "ls").out.splitlines() if line.startswith("*")]
    assert str(daemon.settings["kernel"]) in current


def test_it_has_what_the_fragments_ask_for(daemon: PrivateDaemon, tmp_path: Path) -> None:
    text = script(daemon, "base64 /proc/config.gz")
    packed = base64.b64decode(text)
    config.check(config.fragments(), config.parse(gzip.decompress(packed).decode()))


def test_it_has_no_module_and_needs_none(daemon: PrivateDaemon) -> None:
    assert script(daemon, "cat /proc/modules") == ""
    bundle = KernelStore(KERNELS.parent).get(str(daemon.settings["kernel"]))
    assert list((bundle.path / "modules").rglob("*.ko")) == []


def test_filesystems_and_controllers_are_there(daemon: PrivateDaemon) -> None:
    known = {line.split()[-1] for line in script(daemon, "cat /proc/filesystems").splitlines()}
    assert known >= FILESYSTEMS
    rows = [line.split() for line in script(daemon, "cat /proc/cgroups").splitlines()]
    assert {row[0] for row in rows if row[3] == "1"} >= CONTROLLERS


def test_containers_can_build_networks(daemon: PrivateDaemon) -> None:
    lines = script(
        daemon,
        "ip link add b0 type bridge; ip link add v0 type veth; ip link set v0 master b0; "
        "ip link add d0 type dummy; ip link set v0 up; ip -o link; cat /proc/net/ip_vs /proc/net/if_inet6; "
        "cat /proc/sys/net/netfilter/nf_conntrack_max /proc/sys/net/bridge/bridge-nf-call-iptables",
    )
    assert {"b0", "v0", "d0"} <= set(re.findall(r"^\d+: (\w+)", lines, re.MULTILINE))
    assert "IP Virtual Server" in lines


def test_containers_have_namespaces_of_their_own(daemon: PrivateDaemon) -> None:
    kinds = set(script(daemon, "ls /proc/self/ns").split())
    assert kinds >= {"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"}


def test_it_is_small(daemon: PrivateDaemon) -> None:
    text = inside(daemon, "busybox", "cat", "/proc/meminfo")
    kib = {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
    assert (kib["MemTotal"] - kib["MemAvailable"]) / 1024 < USED_MIB


def test_memory_given_back_reaches_the_host_by_a_driver(daemon: PrivateDaemon) -> None:
    drivers = set(script(daemon, "ls /sys/bus/virtio/drivers").split())
    assert drivers >= {"virtio_balloon", "virtio_mem", "virtio_pmem", "virtio_scsi", "virtio_net", "virtio_console"}


def test_ip_vs_wakes_only_the_guests_of_those_who_can_use_it(daemon: PrivateDaemon) -> None:
    look = ("busybox", "ls", "/proc/net/")
    assert "ip_vs" not in inside(daemon, *look).split()
    assert "ip_vs" in inside(daemon, "--cap-add", "NET_ADMIN", *look).split()
