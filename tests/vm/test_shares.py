"""Shared folders of clones: they have memory of their own, that virtiofsd sees, and nothing else is different."""

import hashlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from hypercontainer.errors import Unavailable
from hypercontainer.factory.template import TemplateFactory
from hypercontainer.hypervisor.base import SNAPSHOT_MAC, Nic, SharedFolder, VmConfig
from hypercontainer.hypervisor.host import limits
from hypercontainer.lib.trace import Timings
from hypercontainer.testing.contract import made
from hypercontainer.testing.daemon import PrivateDaemon, private_daemon
from tests.conftest import ACCELERATOR

pytestmark = pytest.mark.vm

BIG = 24 << 20  # bytes: more than the guest's page cache has to spare, and than a queue holds


@pytest.fixture
def config(with_agent: Callable[..., VmConfig]) -> VmConfig:
    """Its NIC leads nowhere."""
    return with_agent(nics=[Nic(tap="", mac=SNAPSHOT_MAC)])


async def test_a_copy_of_the_memory_that_cannot_be_had_is_said_and_leaves_nothing(
    factory: TemplateFactory, config: VmConfig, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with made(factory, config, run_dir):
        pass  # the template is there
    monkeypatch.setattr(limits, "OVERHEAD_MIB", 16 - config.memory_mib)
    with pytest.raises(Unavailable, match="no memory is left for the virtual machine"):
        await factory.boot(replace(config, share=SharedFolder(folder=tmp_path)), run_dir, Timings())
    assert list(run_dir.iterdir()) == []
    monkeypatch.undo()
    async with made(factory, replace(config, share=SharedFolder(folder=tmp_path)), run_dir) as vm:
        await vm.agent.ping()
    assert [kept.clones for kept in factory.templates()] == [2]  # the template was not to blame


# hyperd's


@pytest.fixture(scope="module")
def cloning(kernels: Path, busybox_archive: Path) -> Iterator[PrivateDaemon]:
    """A hyperd whose guests are clones, with the image busybox and its template."""
    with private_daemon(kernels, {"accelerator": ACCELERATOR, "factory": "template"}) as daemon:
        assert daemon.ctl("load", "-i", str(busybox_archive)).status == 0
        assert daemon.ctl("run", "--rm", "busybox", "true").status == 0
        yield daemon
        assert "booting" not in daemon.log()


@pytest.fixture
def run(cloning: PrivateDaemon) -> Callable[..., str]:
    """run(WORD…): what `hyperctl run --rm WORD…` printed; its guest was a clone."""

    def run(*words: str) -> str:
        done = cloning.ctl("run", "--rm", "--timings", *words)
        assert done.status == 0, done
        assert "clone" in done.err
        return done.out

    return run


def test_both_sides_see_each_others_files(run: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "in").write_text("from the host\n")
    script = "cat /data/in; echo back > /data/out; ln -s in /data/link; readlink /data/link"
    assert run("-v", f"{tmp_path}:/data", "busybox", "sh", "-c", script) == "from the host\nin\n"
    assert (tmp_path / "out").read_text() == "back\n"


def test_big_files_are_the_same_on_both_sides(run: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(os.urandom(1 << 20) * (BIG >> 20))
    script = "sha256sum < /data/in; cp /data/in /data/out; sync; sha256sum < /data/out"
    digest = hashlib.sha256((tmp_path / "in").read_bytes()).hexdigest()
    assert run("-v", f"{tmp_path}:/data", "busybox", "sh", "-c", script) == f"{digest}  -\n" * 2
    assert hashlib.sha256((tmp_path / "out").read_bytes()).hexdigest() == digest


def test_a_program_of_the_host_runs_mapped(run: Callable[..., str], tmp_path: Path) -> None:
    busybox = shutil.which("busybox")
    assert busybox
    shutil.copy(busybox, tmp_path / "busybox")
    assert run("-v", f"{tmp_path}:/data:ro", "busybox", "/data/busybox", "echo", "mapped") == "mapped\n"


def test_a_read_only_folder_stays_as_it_is(cloning: PrivateDaemon, tmp_path: Path) -> None:
    script = "touch /data/x || mount -o remount,rw /data; touch /data/x"
    done = cloning.ctl("run", "--rm", "--privileged", "-v", f"{tmp_path}:/data:ro", "busybox", "sh", "-c", script)
    assert done.status != 0
    assert list(tmp_path.iterdir()) == []


def test_a_volume_starts_with_the_images_files_and_keeps_its_own(
    run: Callable[..., str], cloning: PrivateDaemon
) -> None:
    run("-v", "pages:/www", "busybox", "sh", "-c", "test -s /www/index.html && echo more > /www/more")
    assert run("-v", "pages:/mnt", "busybox", "ls", "/mnt").split() == ["index.html", "more"]
    assert cloning.ctl("volume", "rm", "pages").status == 0


def test_pods_at_once_have_their_own_folders_and_memory(run: Callable[..., str], tmp_path: Path) -> None:
    def one(n: int) -> str:
        folder = tmp_path / str(n)
        folder.mkdir()
        (folder / "in").write_text(f"{n}\n")
        return run("-v", f"{folder}:/data", "busybox", "sh", "-c", "cat /data/in; hostname > /data/out")

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(one, range(2))) == ["0\n", "1\n"]
    assert (tmp_path / "0/out").read_text() != (tmp_path / "1/out").read_text()


def test_a_later_container_brings_a_volume_to_a_pod_that_has_some(cloning: PrivateDaemon, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("shared")
    a_pod(cloning, tmp_path, volume=True)
    late = ["--pod", "late", "-v", f"{tmp_path}:/d"]
    assert cloning.ctl("run", *late, "busybox", "cat", "/d/f").out == "shared"
    assert cloning.ctl("pod", "rm", "-f", "late").status == 0


def test_a_pod_without_volumes_refuses_one_until_it_is_started_again(cloning: PrivateDaemon, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("shared")
    a_pod(cloning, tmp_path, volume=False)
    words = ["--pod", "late", "--name", "second", "-v", f"{tmp_path}:/d", "busybox", "sleep", "1000"]
    refused = cloning.ctl("run", "-d", *words)
    assert refused.status == 125
    assert "without folders of this host; stop the pod and start it again" in refused.err
    assert cloning.ctl("exec", "first", "echo", "runs on").out == "runs on\n"
    assert cloning.ctl("pod", "stop", "-t", "0", "late").status == 0
    assert cloning.ctl("pod", "start", "late").status == 0
    assert cloning.ctl("start", "second").status == 0
    assert cloning.ctl("exec", "second", "cat", "/d/f").out == "shared"
    assert cloning.ctl("pod", "rm", "-f", "late").status == 0


def a_pod(daemon: PrivateDaemon, folder: Path, *, volume: bool) -> None:
    """The pod "late" with one container, "first"."""
    mounts = [{"volume": "shared", "path": "/first"}] if volume else []
    first = {"name": "first", "image": "busybox", "command": ["sleep", "1000"], "volumes": mounts}
    volumes = [{"name": "shared", "source": str(folder)}]
    (folder / "pod.yaml").write_text(json.dumps({"name": "late", "containers": [first], "volumes": volumes}))
    done = daemon.ctl("pod", "run", "-f", str(folder / "pod.yaml"))
    assert done.status == 0, done


def test_a_shared_folder_outlives_the_hyperd_that_made_it(cloning: PrivateDaemon, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("before")
    cloning.ctl("run", "-d", "--name", "kept", "-v", f"{tmp_path}:/d", "busybox", "sleep", "1000")
    cloning.signal(signal.SIGKILL)
    cloning.start()
    assert cloning.ctl("exec", "kept", "sh", "-c", "cat /d/f; echo after > /d/f").out == "before"
    assert (tmp_path / "f").read_text() == "after\n"
    assert cloning.ctl("rm", "-f", "kept").status == 0
    assert list((cloning.folder / "run/shares").iterdir()) == []


def test_the_end_of_virtiofsd_is_the_machines_end(cloning: PrivateDaemon, tmp_path: Path) -> None:
    cloning.ctl("run", "-d", "--name", "cut", "-v", f"{tmp_path}:/d", "busybox", "sleep", "1000")
    (pids,) = (cloning.folder / "run/pods").glob("[0-9a-f]*/virtiofsd.pid")
    os.kill(int(pids.read_text().splitlines()[1].split()[0]), signal.SIGKILL)
    assert cloning.ctl("wait", "cut").out == "255\n"
    error = cloning.ctl("inspect", "-f", "{{.State.Error}}", "cut").out
    assert "its shared folders are gone: virtiofsd ended by signal 9 (SIGKILL)" in error
    assert cloning.ctl("rm", "-f", "cut").status == 0
