"""Real guests that wait with a share: a pod's folders appear in one that nobody's were in, and nothing else changes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercontainer.hypervisor.qemu.rundir import qemu_run
from hypercontainer.lib import proc
from hypercontainer.testing.daemon import PrivateDaemon, private_daemon
from tests.conftest import ACCELERATOR
from tests.vm.conftest import mounts, ok, time_passes
from tests.vm.test_faults import ROOT
from tests.vm.test_pool import full, pools

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def sharing_hyperd(kernels: Path, busybox_archive: Path) -> Iterator[PrivateDaemon]:
    """A hyperd where one VM with a share waits, and one without."""
    pool: list[dict[str, int | bool]] = [{"share": True}, {}]
    with private_daemon(
        kernels, {"accelerator": ACCELERATOR, "factory": "cache", "memory_mib": 256, "pool": pool}
    ) as daemon:
        assert daemon.ctl("load", "-i", str(busybox_archive)).status == 0
        yield daemon
        daemon.signal(signal.SIGTERM)
        assert shares(daemon) == [] == mounts([daemon.folder])


@pytest.fixture
def sharing(sharing_hyperd: PrivateDaemon) -> Iterator[PrivateDaemon]:
    """All wait. Whatever the test does, nothing of its pods is left, and who waited still does."""
    full(sharing_hyperd)
    yield sharing_hyperd
    sharing_hyperd.clear()
    full(sharing_hyperd)
    while len(servers(sharing_hyperd)) > 1:  # who asks is told before its machine has gone
        time_passes()
    [waiting] = shares(sharing_hyperd)
    assert waiting.startswith("waiting-")
    assert mounts([sharing_hyperd.folder]) == [f"mount {sharing_hyperd.folder}/run/shares/{waiting}/tree"]
    assert len(servers(sharing_hyperd)) == 1


def taken(daemon: PrivateDaemon) -> list[int]:
    """Of those with a share, of those without."""
    return [pool["Taken"] for pool in pools(daemon)]


def shares(daemon: PrivateDaemon) -> list[str]:
    folder = daemon.folder / "run/shares"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def servers(daemon: PrivateDaemon, of: str = "*") -> list[int]:
    """Each virtiofsd of a pod, or of a VM that waits."""
    files = daemon.folder.glob(f"run/pods/{of}/virtiofsd.pid")
    found = [qemu_run(file.parent).processes("virtiofsd") for file in files]
    return [processes[1].pid for processes in found if len(processes) > 1]


def test_both_sides_see_each_others_files_in_a_guest_that_waited(sharing: PrivateDaemon, tmp_path: Path) -> None:
    before = taken(sharing)
    (tmp_path / "in").write_text("from the host\n")
    script = "cat /data/in; echo back > /data/out"
    ran = sharing.ctl("run", "--rm", "--timings", "-v", f"{tmp_path}:/data", "busybox", "sh", "-c", script)
    assert (ran.status, ran.out) == (0, "from the host\n"), ran.err
    assert "claim" in ran.err and "monitor" not in ran.err
    assert (tmp_path / "out").read_text() == "back\n"
    assert taken(sharing) == [before[0] + 1, before[1]]


def test_a_read_only_folder_is_refused_to_a_guest_that_waited(sharing: PrivateDaemon, tmp_path: Path) -> None:
    before = taken(sharing)
    script = "mount -o remount,rw /data; touch /data/x"
    ran = sharing.ctl(
        "run", "--rm", "--cap-add", "SYS_ADMIN", "-v", f"{tmp_path}:/data:ro", "busybox", "sh", "-c", script
    )
    assert ran.status != 0 and "Read-only file system" in ran.err
    assert list(tmp_path.iterdir()) == []
    assert taken(sharing)[0] == before[0] + 1


def test_who_asks_for_something_else_is_given_none_of_them(sharing: PrivateDaemon, tmp_path: Path) -> None:
    before = taken(sharing)
    ok(sharing, "run", "--rm", "-v", f"{tmp_path}:/data", "--locks", "host", "busybox", "touch", "/data/x")
    assert taken(sharing) == before
    ok(sharing, "run", "--rm", "busybox", "true")
    assert taken(sharing) == [before[0], before[1] + 1]


def test_containers_of_a_pod_and_later_ones_have_their_folders_in_one_share(
    sharing: PrivateDaemon, tmp_path: Path
) -> None:
    before = taken(sharing)
    for name in ("both", "later"):
        (tmp_path / name).mkdir()
    (tmp_path / "later/f").write_text("late")
    wait = "while ! test -e /both/first; do usleep 20000; done; cp /both/first /both/.x; mv /both/.x /both/second"
    both = {"image": "busybox", "volumes": [{"volume": "both", "path": "/both"}]}
    pod = {
        "name": "pair",
        "containers": [
            both | {"name": "one", "command": ["sh", "-c", "echo 1 > /both/first; sleep 1000"]},
            both | {"name": "two", "command": ["sh", "-c", f"{wait}; sleep 1000"]},
        ],
        "volumes": [{"name": "both", "source": str(tmp_path / "both")}],
    }
    (tmp_path / "pod.yaml").write_text(json.dumps(pod))  # JSON is YAML
    ok(sharing, "pod", "run", "-f", str(tmp_path / "pod.yaml"))
    while not (tmp_path / "both/second").exists():
        time_passes()
    assert taken(sharing)[0] == before[0] + 1
    assert ok(sharing, "run", "--pod", "pair", "-v", f"{tmp_path}/later:/d:ro", "busybox", "cat", "/d/f") == "late"
    ok(sharing, "pod", "rm", "-f", "pair")


def test_a_new_volume_is_filled_by_a_guest_that_waited(sharing: PrivateDaemon) -> None:
    before = taken(sharing)
    script = "cat /www/index.html; touch /www/x"
    ran = sharing.ctl("run", "--rm", "-v", "pages:/www:ro", "busybox", "sh", "-c", script)
    assert ran.out and "Read-only file system" in ran.err
    assert taken(sharing)[0] == before[0] + 1
    ok(sharing, "volume", "rm", "pages")


def test_a_guest_sees_its_pods_folders_and_one_that_waits_sees_nobodys(sharing: PrivateDaemon, tmp_path: Path) -> None:
    pods: dict[str, str] = {}
    for name in ("others", "mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"of-{name}").touch()
        full(sharing)
        volume = ("-v", f"{tmp_path}/{name}:/data")
        ok(sharing, "run", "-d", "--cap-add", "SYS_ADMIN", "--name", name, *volume, "busybox", "sleep", "1000")
        pods[name] = json.loads(ok(sharing, "pod", "inspect", name))[0]["Id"]
    full(sharing)
    for of, seen in ((pods["mine"], ["of-mine"]), (pods["others"], ["of-others"]), ("waiting-*", [])):
        roots = [Path(f"/proc/{server}/root") for server in servers(sharing, of)]
        assert roots and [path.name for root in roots for path in root.glob("*/*")] == seen
    # root of the guest, with the device at hand, finds all that virtiofsd shows
    found = ok(sharing, "exec", "mine", "sh", "-c", "mkdir /all && mount -t virtiofs hyper /all && find /all -type f")
    assert [Path(line).name for line in found.splitlines()] == ["of-mine"]


def test_one_whose_virtiofsd_ends_is_replaced(sharing: PrivateDaemon, tmp_path: Path) -> None:
    before = pools(sharing)[0]["Poisoned"]
    [server] = servers(sharing)
    os.kill(server, signal.SIGKILL)
    while pools(sharing)[0]["Poisoned"] == before:
        time_passes()
    full(sharing)
    ok(sharing, "run", "--rm", "-v", f"{tmp_path}:/data", "busybox", "touch", "/data/x")


def test_a_killed_hyperd_takes_up_whose_folders_it_shares_and_removes_who_waited(
    sharing: PrivateDaemon, tmp_path: Path
) -> None:
    (tmp_path / "f").write_text("still here")
    ok(sharing, "run", "-d", "--name", "kept", "-v", f"{tmp_path}:/data", "busybox", "sleep", "1000")
    full(sharing)
    [old] = servers(sharing, "waiting-*")
    started = proc.start_time(old)
    before = shares(sharing)
    sharing.signal(signal.SIGKILL)
    assert proc.start_time(old) == started
    sharing.start()
    assert proc.start_time(old) != started
    assert ok(sharing, "exec", "kept", "cat", "/data/f") == "still here"
    ok(sharing, "exec", "kept", "touch", "/data/new")
    assert (tmp_path / "new").exists()
    full(sharing)
    assert [name for name in before if name in shares(sharing)] == [before[0]]  # the pod's: "waiting-" is above all hex
    ok(sharing, "rm", "-f", "kept")


@pytest.mark.parametrize("step", ["claim", "pod", "rootfs"])
def test_a_hyperd_killed_as_a_share_changes_hands_leaves_none(
    sharing: PrivateDaemon, tmp_path: Path, step: str
) -> None:
    sharing.signal(signal.SIGTERM)
    argv = [sys.executable, "-m", "tests.vm.mortal", str(sharing.config), "mortal", "self", step, str(tmp_path)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [name for name in shares(sharing) if not name.startswith("waiting-")]
    sharing.start()
    full(sharing)
    assert [name.partition("-")[0] for name in shares(sharing)] == ["waiting"]
    ok(sharing, "start", "mortal")
    ok(sharing, "exec", "mortal", "touch", "/data/x")
    assert (tmp_path / "x").exists()
    ok(sharing, "rm", "-f", "mortal")


def test_a_pod_without_a_network_takes_one_that_has_none(kernels: Path, busybox_archive: Path) -> None:
    pool: list[dict[str, int | bool]] = [{"network": False}, {}]
    with private_daemon(
        kernels, {"accelerator": ACCELERATOR, "factory": "cache", "memory_mib": 256, "pool": pool}
    ) as daemon:
        assert daemon.ctl("load", "-i", str(busybox_archive)).status == 0
        full(daemon)
        links = ok(daemon, "run", "--rm", "--network", "none", "busybox", "ls", "/sys/class/net")
        assert links.split() == ["lo"] and taken(daemon) == [1, 0]
