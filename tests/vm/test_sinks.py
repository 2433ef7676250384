"""What a container says is in each of its sinks, all of it, in order, once: whatever becomes of hyperd meanwhile."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from hypercontainer.testing.daemon import PrivateDaemon, private_daemon
from tests.conftest import ACCELERATOR
from tests.vm.conftest import ok, time_passes

pytestmark = pytest.mark.vm

LINES, LENGTH = 100_000, 100
KILLS = 6
PIPE = 1 << 16  # bytes that a fifo takes at once
NUMBERS = f'BEGIN {{ for (i = 0; i < {LINES}; i++) printf "%0{LENGTH - 1}d\\n", i }}'
SAYS = f"awk '{NUMBERS}' & awk '{NUMBERS}' >&2; wait"
SAID = b"".join(b"%0*d\n" % (LENGTH - 1, n) for n in range(LINES))


@pytest.fixture
def hyperd(kernels: Path, busybox_archive: Path) -> Iterator[PrivateDaemon]:
    with private_daemon(kernels, {"accelerator": ACCELERATOR, "factory": "direct", "log_max_mib": 64}) as daemon:
        daemon.hyperd = [sys.executable, str(Path(__file__).with_name("hyperd_reopening.py"))]
        ok(daemon, "load", "-i", str(busybox_archive))
        yield daemon


def hand_over(hyper: PrivateDaemon, *sinks: dict[str, object]) -> None:
    """To the one container, by its record: no door does it."""
    hyper.signal(signal.SIGKILL)
    [path] = hyper.root.glob("pods/*/pod.json")
    pod = json.loads(path.read_text())
    [container] = pod["containers"]
    container["sinks"] = sinks
    path.write_text(json.dumps(pod))
    hyper.start()


def raw(path: Path, stream: str) -> dict[str, object]:
    file = path.stat()
    return {"kind": "raw", "path": str(path), "streams": [stream], "device": file.st_dev, "inode": file.st_ino}


@contextmanager
def read(fifo: Path, into: Path) -> Iterator[None]:
    """By another process, which sees its end when the block is left: until then somebody holds it open for writing."""
    os.mkfifo(fifo)
    with open(into, "wb") as f:
        reader = subprocess.Popen(["cat", str(fifo)], stdout=f)
    fd = os.open(fifo, os.O_WRONLY)
    try:
        yield
    finally:
        os.close(fd)
        reader.wait(60)


def said_once(got: bytes, *, but: int = 0) -> None:
    """All that was said, in order; so many times the bytes of one write may have come again."""
    while got != SAID and but:
        at = next((n for n, (one, other) in enumerate(zip(got, SAID, strict=False)) if one != other), len(SAID))
        again = next((n for n in range(1, PIPE + 1) if SAID[at - n :].startswith(got[at : at + 10 * LENGTH])), 0)
        got, but = got[:at] + got[at + again :], but - 1
    assert len(got) == len(SAID) and got == SAID


def logged(hyper: PrivateDaemon) -> tuple[bytes, bytes]:
    done = hyper.ctl("logs", "says")
    assert done.status == 0, done
    return done.out.encode(), done.err.encode()


def rows(files: list[Path]) -> tuple[bytes, bytes]:
    """The streams that are in logs of Kubernetes' format."""
    got: dict[str, list[str]] = {"stdout": [], "stderr": []}
    for file in files:
        for row in file.read_text().split("\n")[:-1]:
            _, stream, tag, content = row.split(" ", 3)
            got[stream].append(content + ("\n" if tag == "F" else ""))
    return "".join(got["stdout"]).encode(), "".join(got["stderr"]).encode()


def test_no_line_is_missing_or_there_twice_in_any_sink(hyperd: PrivateDaemon, tmp_path: Path) -> None:
    """hyperd is killed again and again, and one log rotated: before, while and after it is."""
    names = ("stdout", "stderr")
    files = {name: tmp_path / f"{name}.raw" for name in names}
    log, rotated = tmp_path / "0.log", [tmp_path / f"0.log.{n}" for n in range(KILLS)]
    with ExitStack() as stack:
        for name, file in files.items():
            file.touch()
            stack.enter_context(read(tmp_path / f"{name}.fifo", tmp_path / f"{name}.read"))
        ok(hyperd, "create", "--name", "says", "busybox", "sh", "-c", SAYS)
        fifos = [raw(tmp_path / f"{name}.fifo", name) for name in names]
        hand_over(
            hyperd, {"kind": "log"}, {"kind": "cri", "path": str(log)}, *(raw(files[n], n) for n in names), *fifos
        )
        ok(hyperd, "start", "says")
        for n, older in enumerate(rotated):
            while files["stdout"].stat().st_size < (n + 1) * len(SAID) / (KILLS + 2):
                time_passes()
            if n % 3 == 0:
                log.rename(older)
            if n % 3 == 1:
                log.rename(older)
                reopened(hyperd, log)
            hyperd.signal(signal.SIGKILL)
            if n % 3 == 2:
                log.rename(older)
            hyperd.start()
            if n % 3 != 1:
                reopened(hyperd, log)
        assert ok(hyperd, "inspect", "--format", "{{.State.Running}}", "says") == "true"
        assert ok(hyperd, "wait", "says") == "0"
    for name, text, row in zip(names, logged(hyperd), rows([*rotated, log]), strict=True):
        said_once(text)
        said_once(row)
        said_once(files[name].read_bytes())
        said_once((tmp_path / f"{name}.read").read_bytes(), but=KILLS)
    assert all(older.stat().st_size for older in rotated)


def reopened(hyper: PrivateDaemon, log: Path) -> None:
    assert hyper.process
    hyper.process.send_signal(signal.SIGUSR2)
    while not log.exists():
        time_passes()


@pytest.mark.parametrize("log", [True, False], ids=["a log alone", "nothing"])
def test_a_container_may_have_a_log_alone_or_nothing(hyperd: PrivateDaemon, log: bool) -> None:
    ok(hyperd, "create", "--name", "says", *([] if log else ["--log-driver", "none"]), "busybox", "sh", "-c", SAYS)
    ok(hyperd, "start", "says")
    [pod] = hyperd.root.glob("pods/*")
    for n in range(KILLS):
        while log and sum(f.stat().st_size for f in pod.glob("*/log/*")) < (n + 1) * 2 * len(SAID) / (KILLS + 2):
            time_passes()
        hyperd.signal(signal.SIGKILL)
        hyperd.start()
    assert ok(hyperd, "wait", "says") == "0"
    if log:
        for text in logged(hyperd):
            said_once(text)
        return
    refused = hyperd.ctl("logs", "says")
    assert (refused.status, refused.err) == (1, "hyperctl: cannot read the log of says: it was made without a log\n")
    assert {path.name for path in pod.glob("*/*")} == {"scratch.img"}
