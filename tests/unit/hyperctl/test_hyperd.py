"""A hyperd is started when none listens."""

import os
import re
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercontainer.client import daemon
from hypercontainer.hyperctl import hyperd
from tests.unit.hyperctl.conftest import LAUNCH, PYTHON, ROOT, Hyperctl
from tests.unit.hyperctl.fake import FakeHyperd

SCRIPT = f"""#!{sys.executable}
import os, signal, sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from tests.unit.hyperctl.fake import FakeHyperd
assert len(sys.argv) == 1, sys.argv
print("hello", flush=True)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
fake = FakeHyperd(Path("/run/hyper.sock"), {{("GET", "/v1/containers"): []}})
signal.sigwait([signal.SIGTERM])
os._exit(0)
"""


HOST, LOG = "unix:///run/hyper.sock", "/run/hyper/hyperd.log"


class Lonely(Hyperctl):
    """A hyperctl beside a hyperd that does not run yet, with a /run of their own."""

    def __init__(self, folder: Path, script: str = SCRIPT) -> None:
        self.folder, self.socket = folder, folder / "run" / "hyper.sock"
        self.socket.parent.mkdir()
        self.log = folder / "run" / "hyper" / "hyperd.log"
        (folder / "bin").mkdir()
        self.program = folder / "bin" / "hyperctl"
        hyperd = folder / "bin" / "hyperd"
        hyperd.write_text(script)
        hyperd.chmod(0o755)
        self.environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}

    def argv(self, *words: str | Path) -> list[str]:
        own = ["unshare", "-rm", "sh", "-c", 'mount --bind "$0" /run && exec "$@"', str(self.socket.parent)]
        return [*own, *PYTHON, str(LAUNCH), str(self.program), *map(str, words)]


@pytest.fixture
def lonely(tmp_path: Path) -> Iterator[Lonely]:
    made = Lonely(tmp_path)
    yield made
    for pid in pids(made.log):
        os.kill(pid, signal.SIGTERM)


def pids(log: Path) -> list[int]:
    """Of the daemons whose stdout is `log`."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "fd/1").samefile(log):
                found.append(int(entry.name))
        except OSError:
            pass
    return found


def test_one_is_started_and_said_so(lonely: Lonely) -> None:
    done = lonely("ps", "-q")
    assert (done.status, done.out) == (0, "")
    said = re.fullmatch(rf"hyperctl: no hyperd at {HOST}: started one \(pid (\d+), log {LOG}\)\n", done.err)
    assert said
    pid = int(said[1])
    assert pids(lonely.log) == [pid]
    assert os.getsid(pid) == pid
    assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
    assert lonely.log.read_text() == "hello\n"
    assert stat.S_IMODE(lonely.log.stat().st_mode) == 0o600
    assert lonely("ps", "-q") == (0, "", "")


def test_a_socket_that_nobody_listens_at(lonely: Lonely) -> None:
    FakeHyperd(lonely.socket).close()
    assert lonely.socket.exists()
    lonely.folder.joinpath("bin/hyperd").write_text(SCRIPT.replace("fake = ", "os.unlink('/run/hyper.sock')\nfake = "))
    done = lonely("ps", "-q")
    assert done.status == 0
    assert "started one" in done.err


def test_of_many_at_once_one_starts_it(lonely: Lonely) -> None:
    results = []
    threads = [threading.Thread(target=lambda: results.append(lonely("ps", "-q"))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result.status for result in results] == [0] * 5
    assert sum("started one" in result.err for result in results) == 1
    assert len(pids(lonely.log)) == 1


def test_one_that_dies_is_quoted(tmp_path: Path) -> None:
    lonely = Lonely(tmp_path, "#!/bin/sh\necho first\necho 'hyperd: cannot start: no QEMU' >&2\nexit 3\n")
    lonely.log.parent.mkdir()
    lonely.log.write_text("words of an earlier one\n")
    done = lonely("ps")
    assert done.status == 1
    said = "first | hyperd: cannot start: no QEMU"
    assert done.err.splitlines()[1] == f"hyperctl: hyperd ended with status 3: {said} ({LOG})"


def test_one_that_cannot_be_started(tmp_path: Path) -> None:
    lonely = Lonely(tmp_path, "#!/no/such/interpreter\n")
    done = lonely("ps")
    assert done.status == 1
    assert f"and {tmp_path}/bin/hyperd cannot be started: No such file or directory" in done.err


def test_one_that_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from hypercontainer.errors import Unavailable

    lonely = Lonely(tmp_path, "#!/bin/sh\necho thinking\nexec sleep 60\n")
    monkeypatch.setattr(daemon, "READY_S", 0.2)
    monkeypatch.setattr(hyperd, "LOG", str(lonely.log))
    monkeypatch.setattr(hyperd, "DEFAULT_ADDRESS", str(lonely.socket))
    with pytest.raises(Unavailable, match=r"\(pid \d+\) did not answer within 0\.2 s"):
        hyperd.start(str(lonely.program))
    assert "started one" in capfd.readouterr().err
    for pid in pids(lonely.log):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_no_place_for_its_log(tmp_path: Path) -> None:
    lonely = Lonely(tmp_path)
    lonely.log.parent.write_text("a file in the way")
    done = lonely("ps")
    assert done.status == 1
    assert f"and none can be started: {LOG}: " in done.err


@pytest.mark.parametrize("left", ["nothing", "a socket that nobody listens at"])
def test_no_other_socket_starts_one(lonely: Lonely, left: str) -> None:
    elsewhere = lonely.folder / "mine.sock"
    if left != "nothing":
        FakeHyperd(elsewhere).close()
    for words, status in ((("ps",), 1), (("rm", "-f", "c"), 1), (("run", "busybox"), 125)):
        done = lonely("-H", f"unix://{elsewhere}", *words)
        assert (done.status, done.out) == (status, "")
        assert done.err.startswith(f"hyperctl: no hyperd at unix://{elsewhere}: ")
    assert not lonely.log.exists()


def test_questions_that_start_nothing(lonely: Lonely) -> None:
    assert lonely("version").status == 1
    assert lonely("__complete", "--", "rm", "").out == ""
    assert lonely("ps", "--help").status == 0
    assert not lonely.log.exists()


def test_what_is_started(tmp_path: Path) -> None:
    assert daemon.command("hyperctl") == [sys.executable, "-m", "hypercontainer.hyperd.main"]
    lonely = Lonely(tmp_path)
    assert daemon.command(str(lonely.program)) == [str(tmp_path / "bin" / "hyperd")]
