"""checkpoint and restore: by CRIU, which has to know the kernel that the processes are on."""

import shutil
import subprocess
import threading
from collections.abc import Callable

import pytest

from hypercontainer.sandbox.criu import PATH
from tests.oci.runtime import Runtime

CRIU = shutil.which("criu", path=PATH)
COUNTS = "n=0; while :; do n=$((n + 1)); echo $n >/count; sleep 0.1; done"


@pytest.fixture(autouse=True)
def criu(oci: Runtime) -> None:
    if not CRIU:
        pytest.skip("there is no criu: run `make interop`")
    if oci.program.name != "runv" and subprocess.run([CRIU, "check"], capture_output=True).returncode:
        pytest.skip("this host's criu does not know this host's kernel: see `criu check`")


def until(true: Callable[[], bool]) -> None:
    while not true():
        threading.Event().wait(0.05)


def test_it_goes_on_where_it_was(oci: Runtime) -> None:
    bundle, images = oci.bundle("sh", "-c", COUNTS), oci.path("images")
    count = bundle.rootfs / "count"

    def number() -> int:
        return int(count.read_text() or "0") if count.exists() else 0

    container = oci.start(bundle)
    until(lambda: number() > 3)
    oci.ok("checkpoint", "--image-path", images, container.id)
    assert container.wait() == 137
    assert list(images.iterdir())
    oci.call("delete", container.id)  # some have done so
    saved = number()
    count.write_text("")  # which is not open meanwhile
    oci.ok("restore", "--detach", "--image-path", images, "--bundle", bundle.folder, container.id)
    assert container.state()["status"] == "running"
    until(lambda: number() > saved)
    container.kill("KILL")
    until(lambda: container.state()["status"] == "stopped")


def test_it_runs_on_where_that_is_wanted(oci: Runtime) -> None:
    container, images = oci.start(), oci.path("images")
    oci.ok("checkpoint", "--leave-running", "--image-path", images, container.id)
    assert container.state()["status"] == "running"
    container.close()
    assert container.wait() == 0


def test_no_images_are_no_container(oci: Runtime) -> None:
    bundle, id = oci.bundle(), oci.id()
    bundle.save()
    oci.no("restore", "--image-path", oci.path("images"), "--bundle", bundle.folder, id)
    oci.no("state", id)


def test_one_that_was_not_started_is_not_saved(oci: Runtime) -> None:
    container, images = oci.create(oci.bundle()), oci.path("images")
    oci.no("checkpoint", "--image-path", images, container.id)
    assert container.state()["status"] == "created"
    assert not images.exists()


def test_a_paused_one_is_saved_and_still_paused(oci: Runtime) -> None:
    container, images = oci.start(), oci.path("images")
    oci.ok("pause", container.id)
    oci.ok("checkpoint", "--leave-running", "--image-path", images, container.id)
    assert container.state()["status"] == "paused"
    oci.ok("resume", container.id)
    container.close()
    assert container.wait() == 0
