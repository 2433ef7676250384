"""A hyperd is started when none listens, once, and has nothing of the engine's."""

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercontainer.runv import daemon
from tests.unit.hyperctl.conftest import LAUNCH, PACKAGES, PYTHON, ROOT, Result

# speaks as the door for bundles does: every call's answer is an empty list
SCRIPT = f"""#!{sys.executable}
import os, signal, socket, struct, sys
sys.path[:0] = [{str(ROOT)!r}]
from pathlib import Path
from hypercontainer.model.settings import load
assert sys.argv[1] == "--config", sys.argv
settings = load(Path(sys.argv[2]))
print("started", flush=True)
sock = socket.socket(socket.AF_UNIX)
Path(settings.bundles_socket()).unlink(missing_ok=True)
sock.bind(settings.bundles_socket())
sock.listen()
while True:
    caller = sock.accept()[0]
    head = caller.recv(4, socket.MSG_WAITALL)
    if head:
        caller.recv(struct.unpack("<I", head)[0], socket.MSG_WAITALL)
        answer = b'{{"answer": []}}'
        caller.sendall(struct.pack("<I", len(answer)) + answer)
    caller.close()
"""


class Lonely:
    """A runv beside a hyperd that does not run yet."""

    def __init__(self, folder: Path, script: str = SCRIPT) -> None:
        self.folder, self.socket = folder, folder / "h-oci.sock"
        self.log, self.config = folder / "run/hyperd.log", folder / "config.toml"
        self.config.write_text(f'socket = "{folder}/h.sock"\nrun = "{folder}/run"\n')
        (folder / "bin").mkdir()
        (folder / "lib").symlink_to(PACKAGES.parent.parent)
        self.hyperd, self.program = folder / "bin/hyperd", folder / "bin/runv"
        self.hyperd.write_text(script)
        self.hyperd.chmod(0o755)

    def argv(self, *words: str) -> list[str]:
        return [*PYTHON, str(LAUNCH), str(self.program), *words]

    def __call__(self, *words: str, **environment: str) -> Result:
        env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **environment}
        done = subprocess.run(self.argv(*words), env=env, capture_output=True, text=True, timeout=300)
        return Result(done.returncode, done.stdout, done.stderr)

    def pids(self) -> list[int]:
        """Of the daemons whose stdout is the log."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and (entry / "fd/1").samefile(self.log):
                    found.append(int(entry.name))
            except OSError:
                pass
        return found


@pytest.fixture
def lonely(tmp_path: Path) -> Iterator[Lonely]:
    made = Lonely(tmp_path)
    yield made
    for pid in made.pids():
        os.kill(pid, signal.SIGKILL)


def test_ten_at_once_start_one(lonely: Lonely) -> None:
    env = {"PATH": os.environ["PATH"], "HYPER_CONFIG": str(lonely.config)}
    pipe = subprocess.PIPE
    callers = [subprocess.Popen(lonely.argv("list", "-q"), env=env, stdout=pipe, stderr=pipe) for _ in range(10)]
    assert [(*caller.communicate(timeout=300), caller.returncode) for caller in callers] == [(b"", b"", 0)] * 10
    assert lonely.log.read_text() == "started\n"
    assert len(lonely.pids()) == 1


def test_one_that_is_killed_is_followed_by_another(lonely: Lonely) -> None:
    words = ("--config", str(lonely.config), "list", "-q")
    assert lonely(*words) == (0, "", "")
    (first,) = lonely.pids()
    with open(os.pidfd_open(first)) as end:
        os.kill(first, signal.SIGKILL)
        select.select([end], [], [])  # until then it may still be called
    assert lonely(*words) == (0, "", "")
    assert lonely.pids() != [first] and lonely.log.read_text() == "started\n" * 2


def test_it_has_nothing_of_the_engines(lonely: Lonely) -> None:
    ours, theirs = os.pipe()
    os.set_inheritable(theirs, True)
    argv = lonely.argv("--config", str(lonely.config), "list")
    env = {"PATH": os.environ["PATH"], "NOTIFY_SOCKET": "/run/theirs", "_OCI_SYNCPIPE": "3", "TZ": "UTC"}
    subprocess.run(argv, env=env, pass_fds=[theirs], check=True, capture_output=True, cwd=lonely.folder, timeout=300)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        assert pipe.read() == b""  # whose other end nobody has: runv has ended, hyperd has not
    (pid,) = lonely.pids()
    files = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1, 2)}
    assert files == {"/dev/null", str(lonely.log)}
    assert (os.getsid(pid), os.readlink(f"/proc/{pid}/cwd")) == (pid, "/")
    known = Path(f"/proc/{pid}/environ").read_text()
    assert "TZ=UTC" in known and "NOTIFY" not in known and "_OCI" not in known


def test_one_that_dies_is_quoted(tmp_path: Path) -> None:
    lonely = Lonely(tmp_path, "#!/bin/sh\necho first\necho 'hyperd: cannot start: no QEMU' >&2\nexit 3\n")
    log = tmp_path / "error"
    done = lonely("--config", str(lonely.config), "--log", str(log), "list")
    said = "hyperd ended with status 3: first | hyperd: cannot start: no QEMU"
    assert (done.status, done.err) == (1, f"{said} ({lonely.log})\n")
    assert said in log.read_text()  # where engines look


@pytest.mark.parametrize("words", [("--host", "{socket}"), ("--host", "unix://{socket}"), ()])
def test_a_socket_alone_starts_none(lonely: Lonely, words: tuple[str, ...]) -> None:
    environment = {} if words else {"HYPER_OCI_HOST": f"unix://{lonely.socket}"}
    done = lonely(*(word.format(socket=lonely.socket) for word in words), "list", **environment)
    assert (done.status, lonely.log.exists()) == (1, False)
    assert f"hyperd does not listen on {lonely.socket}" in done.err


def test_a_socket_beside_its_settings(lonely: Lonely) -> None:
    settings = ("--config", str(lonely.config))
    done = lonely("--host", "unix:///tmp/elsewhere.sock", *settings, "list")
    assert done.status == 1 and f"one with {lonely.config} listens at {lonely.socket}" in done.err
    assert lonely("--host", f"unix://{lonely.socket}", *settings, "list", "-q") == (0, "", "")


def test_settings_with_no_place_for_runv(lonely: Lonely) -> None:
    lonely.config.write_text('oci_socket = ""\n')
    done = lonely("--config", str(lonely.config), "list")
    assert (done.status, done.err) == (1, f'cannot call hyperd: oci_socket is "" in {lonely.config}\n')
    lonely.config.write_text("oci_soket = 1\n")
    assert f"cannot read {lonely.config}" in lonely("--config", str(lonely.config), "list").err


def test_one_that_is_kept_by_somebody_is_waited_for(lonely: Lonely, monkeypatch: pytest.MonkeyPatch) -> None:
    from hypercontainer.client import daemon as common

    with socket.socket(socket.AF_UNIX) as kept:  # as systemd has it, which does not start one here
        kept.bind(f"{lonely.folder}/h.sock")
        kept.listen()
        monkeypatch.setattr(common, "READY_S", 0.2)
        with pytest.raises(OSError, match="whoever keeps its socket has not started one"):
            daemon.start(str(lonely.socket), str(lonely.config))
    assert not lonely.log.exists()


def test_it_is_in_the_namespaces_of_the_host() -> None:
    assert daemon.outside(os.getpid()) == []
    with subprocess.Popen(
        ["unshare", "--user", "--map-root-user", "--mount", "--uts", "cat"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as other:  # fmt: skip
        assert other.stdin and other.stdout
        other.stdin.write(b"x")
        other.stdin.flush()
        other.stdout.read(1)  # it has entered them
        assert daemon.outside(other.pid) == [f"--target={other.pid}", "--mount", "--uts"]
        other.stdin.close()
