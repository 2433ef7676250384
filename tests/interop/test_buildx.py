"""buildx, unchanged, against hyperd: its driver docker-container, with buildkitd privileged in a machine of its own."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercontainer.testing import busybox
from hypercontainer.testing.daemon import PrivateDaemon, Result
from tests.interop.clients import CLIENTS, image_of

BUILT, RUNC = CLIENTS / "docker", Path("/usr/sbin/runc")
pytestmark = [
    pytest.mark.interop,
    pytest.mark.docker,
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="hyperd is root's"),
    pytest.mark.skipif(not (BUILT / "version").exists(), reason="there is no buildx: run `make interop`"),
    pytest.mark.skipif(not RUNC.exists(), reason="there is no runc"),
]
DOCKERFILE = """
FROM scratch AS base
ADD root.tar /
FROM base
ARG WORD
RUN echo $WORD >/made && uname -r >>/made
CMD ["cat", "/made"]
"""


@pytest.fixture
def builder(hyper: PrivateDaemon, tmp_path: Path) -> Iterator[str]:
    """The image of one, as moby/buildkit is."""
    with image_of(hyper, tmp_path, BUILT / "buildkitd", BUILT / "buildctl", RUNC) as name:
        yield name


def test_a_builder_in_a_container(hyper: PrivateDaemon, builder: str, tmp_path: Path) -> None:
    env = {**os.environ, "DOCKER_HOST": f"unix://{hyper.folder}/hyper-docker.sock", "DOCKER_CONFIG": str(tmp_path)}

    def buildx(*words: str) -> Result:
        argv = [str(BUILT / "buildx"), *words]
        done = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1200)
        return Result(done.returncode, done.stdout, done.stderr)

    context = tmp_path / "context"
    context.mkdir()
    (context / "root.tar").write_bytes(busybox.layer(busybox.find_busybox(), {}))
    (context / "Dockerfile").write_text(DOCKERFILE)
    made = buildx("create", "--name", "b", "--driver", "docker-container", "--driver-opt", f"image={builder},memory=1g")
    assert made.status == 0, made
    # loaded, too; to compress is most of the work where guests are emulated
    plain = ["build", "--builder", "b", "--progress", "plain", "--output", "type=docker,compression=uncompressed"]
    done = buildx(*plain, "-t", "made:1", "--build-arg", "WORD=hello", str(context))
    assert done.status == 0, done
    assert hyper.ctl("run", "--rm", "made:1").out.startswith("hello\n6.")
    again = buildx(*plain, "-t", "made:2", "--build-arg", "WORD=hello", str(context))
    assert (again.status, again.err.count(" CACHED\n")) == (0, 2), again.err  # ADD and RUN
    assert buildx("rm", "b").status == 0
    assert hyper.ctl("rmi", "made:1", "made:2").status == 0
    assert (hyper.ctl("ps", "-a", "-q").out, hyper.ctl("volume", "ls", "-q").out) == ("", "")
