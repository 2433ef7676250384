"""`hyperctl cp` from a real guest whose agent has been taken over; tests/hostile has the archives, and what holds."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercontainer.testing.daemon import PrivateDaemon
from tests import zig
from tests.conftest import ACCELERATOR, CHECKOUT
from tests.hostile.archives import WAYS, archives, check, prepared
from tests.vm.conftest import hyperd_of

pytestmark = pytest.mark.vm

EVERY = 9  # of the archives, here: tests/unit/hyperctl/test_hostile_agent.py has them all


@pytest.fixture(scope="module")
def hyperstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The guest's PID 1, its part that packs and unpacks replaced."""
    guest = CHECKOUT / "guest"
    sources = [Path(__file__).with_name("hostile.c"), *(p for p in guest.glob("*.c") if p.name != "archive.c")]
    return zig.program(tmp_path_factory.mktemp("hostile") / "hyperstart", "-I", guest, *sources)


@pytest.fixture
def hostile(kernels: Path, busybox_archive: Path, hyperstart: Path) -> Iterator[PrivateDaemon]:
    """A hyperd with one container, c."""
    settings: dict[str, str | int] = {"accelerator": ACCELERATOR, "factory": "direct"}
    daemon = PrivateDaemon(Path(tempfile.mkdtemp(prefix="hyper-")), kernels, settings)
    daemon.hyperd = hyperd_of(hyperstart)
    try:
        daemon.start()
        assert daemon.ctl("load", "-i", str(busybox_archive)).status == 0
        done = daemon.ctl("run", "-d", "--name", "c", "busybox", "sleep", "100000")
        assert done.status == 0, done
        yield daemon
    finally:
        daemon.close()


def copy(daemon: PrivateDaemon, *words: str, cwd: Path, stdin: bytes = b"") -> tuple[int, bytes, str]:
    argv = daemon.argv("cp", *words)
    done = subprocess.run(argv, env=daemon.env, cwd=cwd, input=stdin, capture_output=True, timeout=600)
    return done.returncode, done.stdout, done.stderr.decode(errors="backslashreplace")


def test_every_way_out_and_in(hostile: PrivateDaemon, tmp_path: Path) -> None:
    chosen = {name: said for number, (name, said) in enumerate(archives().items()) if number % EVERY == 0}
    for name, said in chosen.items():
        assert hostile.ctl("exec", "-i", "c", "sh", "-c", "cat > /hostile", stdin=said).status == 0
        for way in WAYS:
            home = tmp_path / f"{name}, {way}".replace("/", " ").replace("'", "")[:200]
            done = copy(hostile, *WAYS[way][0], cwd=prepared(home, way))
            try:
                check(home, way, said, done)
            except AssertionError as e:
                raise AssertionError(f"{name}, {way}: {done}") from e
    here = prepared(tmp_path / "in", "into the folder here")
    (here / "f").write_text("given")
    hostile.ctl("exec", "c", "sh", "-c", "mkdir /x; tar -c -f /hostile x")  # an honest answer: it is a folder
    assert copy(hostile, "f", "c:/x", cwd=here) == (0, b"", "")
    assert copy(hostile, "-", "c:/x", cwd=here, stdin=b"from stdin") == (0, b"", "")
    taken = hostile.ctl("exec", "c", "cat", "/taken").out
    assert "given" in taken and taken.endswith("from stdin") and "classified" not in taken
    assert sorted(os.listdir(here)) == ["f"]
