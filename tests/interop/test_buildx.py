"""buildx, unchanged, against hyperd: its driver docker-container, with buildkitd privileged in a machine of its own."""

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercontainer.testing import busybox
from hypercontainer.testing.daemon import PrivateDaemon, Result
from tests.interop.clients import CLIENTS

BUILDX, RUNC = CLIENTS / "buildx", Path("/usr/sbin/runc")
pytestmark = [
    pytest.mark.interop,
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="hyperd is root's"),
    pytest.mark.skipif(not (BUILDX / "version").exists(), reason="there is no buildx: run `make go-clients`"),
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
    """The image of one, as moby/buildkit is: buildkitd, buildctl and runc, with its libraries."""
    linked = subprocess.run(["ldd", RUNC], check=True, capture_output=True, text=True, timeout=60).stdout
    libraries = [word for line in linked.splitlines() for word in line.split() if word.startswith("/")]
    with tarfile.open(tmp_path / "builder.tar", "w") as tar:
        with tarfile.open(fileobj=io.BytesIO(busybox.layer(busybox.find_busybox(), {}))) as base:
            for member in base:
                tar.addfile(member, base.extractfile(member) if member.isreg() else None)
        for program in (BUILDX / "buildkitd", BUILDX / "buildctl", RUNC):
            tar.add(program, f"usr/bin/{program.name}")
        for library in libraries:
            tar.add(os.path.realpath(library), library.lstrip("/"))
    done = hyper.ctl("import", "-c", 'ENTRYPOINT ["buildkitd"]', str(tmp_path / "builder.tar"), "buildkit:1")
    assert done.status == 0, done
    yield "buildkit:1"
    hyper.clear()
    assert hyper.ctl("rmi", "buildkit:1").status == 0


def test_a_builder_in_a_container(hyper: PrivateDaemon, builder: str, tmp_path: Path) -> None:
    env = {**os.environ, "DOCKER_HOST": f"unix://{hyper.folder}/hyper-docker.sock", "DOCKER_CONFIG": str(tmp_path)}

    def buildx(*words: str) -> Result:
        argv = [str(BUILDX / "buildx"), *words]
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
