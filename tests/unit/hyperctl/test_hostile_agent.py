"""`hyperctl cp` from a container whose root has taken over the agent: a real hyperd, a real hyperctl, the real wire."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercontainer.testing import busybox
from tests.hostile.archives import WAYS, archives, check, file, folder, prepared, symlink, tar

CHECKOUT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent
PATIENT_S = 120.0
CONFIG = 'accelerator = "tcg"\nfactory = "direct"\npool = []\nscratch_mib = 16\n'

# The agent says what is in the folder `answer`: out, a tar; err; status; links, how many questions it answers by a link
DAEMON = """
import sys
from pathlib import Path

import msgspec

from hypercontainer.agent import messages as m
from hypercontainer.engine.local import LocalEngine
from hypercontainer.hyperd import main
from hypercontainer.testing.fake_network import FakeNetwork
from hypercontainer.testing.fakes import FakeAgent, FakeHypervisor
from tests.hostile.archives import symlink, tar
from tests.unit.engine.world import FakeKernels

ANSWER = Path(sys.argv.pop())

class Hostile(FakeAgent):
    def _process_archive(self, args):
        asked = msgspec.convert(args, m.ProcessArchive)

        async def take(process):
            if (ANSWER / "takes").exists():
                while data := await process.read():
                    with open(ANSWER / "taken", "ab") as f:
                        f.write(data)
            return await say(process)

        async def say(process):
            if (err := ANSWER / "err").exists():
                await process.write(err.read_bytes(), to=2)
            return int((ANSWER / "status").read_text())

        async def give(process):
            left = int((ANSWER / "links").read_text())
            if left:
                (ANSWER / "links").write_text(str(left - 1))
                name = "x" if left % 2 else ".bashrc"
                await process.write(tar(symlink(name, f"/y/{'.ssh' if left % 2 else '../../.bashrc'}")))
                return 0
            await process.write((ANSWER / "out").read_bytes())
            return await say(process)

        return {"pid": self.begin(asked.id, asked.container, ["tar"], asked.streams, {"write": take}.get(asked.mode, give)).pid}

def engine(settings):
    made = LocalEngine(settings, hypervisor=FakeHypervisor(Hostile), bridges=lambda _: FakeNetwork())
    made.host.kernels = FakeKernels()
    return made

main.engine = engine
sys.exit(main.main())
"""  # noqa: E501


class Attacked:
    """A container c, in a guest whose agent says what it is told to."""

    def __init__(self, home: Path, answer: Path) -> None:
        self.home, self.answer = home, answer
        self.env = {**os.environ, "HYPER_HOST": f"unix://{home}/hyper.sock"}

    def says(self, out: bytes = b"", err: bytes = b"", status: int = 0, links: int = 0, takes: bool = True) -> None:
        (self.answer / "out").write_bytes(out)
        (self.answer / "err").write_bytes(err)
        (self.answer / "status").write_text(str(status))
        (self.answer / "links").write_text(str(links))
        for name in ("takes", "taken"):
            (self.answer / name).unlink(missing_ok=True)
        if takes:
            (self.answer / "takes").touch()

    def ctl(self, *words: str, cwd: Path | None = None, stdin: bytes = b"") -> tuple[int, bytes, str]:
        argv = [str(BIN / "hyperctl"), *words]
        done = subprocess.run(argv, env=self.env, cwd=cwd, input=stdin, capture_output=True, timeout=PATIENT_S)
        return done.returncode, done.stdout, done.stderr.decode(errors="backslashreplace")


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    home = Path(tempfile.mkdtemp(prefix="hyper-"))  # sockets need short paths
    answer = tmp_path_factory.mktemp("answer")
    (home / "config.toml").write_text(CONFIG)
    busybox.write_archive(home / "busybox.tar")
    argv: list[str | Path] = [
        sys.executable, "-c", DAEMON,
        "--config", home / "config.toml",
        "--root", home / "root",
        "--run", home / "run",
        "--host", f"unix://{home}/hyper.sock",
        answer,
    ]  # fmt: skip
    with open(home / "log", "wb") as log:
        process = subprocess.Popen(argv, cwd=CHECKOUT, stdout=log, stderr=log)
    try:
        attacked = Attacked(home, answer)
        until = time.monotonic() + PATIENT_S
        while attacked.ctl("version")[0]:
            assert process.poll() is None and time.monotonic() < until, (home / "log").read_text()
        attacked.says()
        assert attacked.ctl("load", "-i", str(home / "busybox.tar"))[0] == 0
        done = attacked.ctl("run", "-d", "--name", "c", "busybox", "sleep", "100000")
        assert done[0] == 0, (done, (home / "log").read_text())
        yield attacked
        assert process.poll() is None
        assert attacked.ctl("rm", "-f", "c")[0] == 0
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENT_S) == 0
        assert "Traceback" not in (home / "log").read_text()
        shutil.rmtree(home)


@pytest.mark.parametrize("way", WAYS)
def test_nothing_comes_out_but_what_was_asked_for(attacked: Attacked, tmp_path: Path, way: str) -> None:
    first = list(WAYS).index(way)
    for number, (name, said) in enumerate(archives().items()):
        if first and (number + first) % 4:
            continue  # the first way meets all of them, each other one every fourth, and all together all of them
        home = tmp_path / str(number)
        here = prepared(home, way)
        attacked.says(said)
        done = attacked.ctl("cp", *WAYS[way][0], cwd=here)
        try:
            check(home, way, said, done)
        except AssertionError as e:
            raise AssertionError(f"{name}: {done}") from e


@pytest.mark.parametrize("links", [1, 2, 5, 1000])
def test_links_lead_nowhere_on_the_host(attacked: Attacked, tmp_path: Path, links: int) -> None:
    """The agent answers by links to other places, under other names, and then by a file."""
    attacked.says(tar(file("authorized_keys")), links=links)
    here = prepared(tmp_path / "h", way := "of what a link leads to")
    check(tmp_path / "h", way, b"", attacked.ctl("cp", *WAYS[way][0], cwd=here))


@pytest.mark.parametrize("way", WAYS)
def test_its_complaints_are_words_and_a_failure(attacked: Attacked, tmp_path: Path, way: str) -> None:
    """After an archive that seems whole, too: hyperd cuts the connection."""
    for number, out in enumerate((b"", tar(file("x")))):
        attacked.says(out, err=b"\x1b[2J\x07gone\r\n" * 100_000, status=1)
        home = tmp_path / str(number)
        status, _, err = attacked.ctl("cp", *WAYS[way][0], cwd=prepared(home, way))
        assert status == 1
        assert "Traceback" not in err and err.replace("\n", "").isprintable()
        assert len(err) < 10_000


@pytest.mark.parametrize("source", ["f", "d", "d/.", "l", "-"])
def test_into_it_goes_only_what_was_named(attacked: Attacked, tmp_path: Path, source: str) -> None:
    """Whatever it says of the place: a folder, links to folders of the host's, nothing, nonsense."""
    here = prepared(tmp_path / "h", "into the folder here")
    (here / "f").write_text("f's")
    (here / "d").mkdir()
    (here / "d/g").write_text("g's")
    (here / "l").symlink_to("../outside/secret")
    places = {
        "a folder": tar(folder("x")),
        "a link": tar(symlink("x", "/etc/passwd")),
        "nothing": b"",
        "a hostile one": tar(symlink("../../outside/secret", "../../outside/secret")),
        "no tar": b"x" * 1024,
    }
    for links in (0, 3):
        for place, said in places.items():
            attacked.says(said, links=links)
            status, out, err = attacked.ctl("cp", source, "c:/x", cwd=here, stdin=b"stdin")
            assert (status in (0, 1), out) == (True, b""), place
            assert "Traceback" not in err and err.replace("\n", "").isprintable(), (place, err)
            taken = (attacked.answer / "taken").read_bytes() if (attacked.answer / "taken").exists() else b""
            assert b"classified" not in taken, place


def test_one_that_takes_nothing_is_a_failure_and_no_wait(attacked: Attacked, tmp_path: Path) -> None:
    here = prepared(tmp_path / "h", "into the folder here")
    (here / "f").write_bytes(bytes(3_000_000))
    for status in (0, 1):
        attacked.says(tar(folder("x")), err=b"no\n", status=status, takes=False)
        done = attacked.ctl("cp", "f", "c:/x", cwd=here)
        assert (done[0], done[2].count("\n")) == (status, status)
