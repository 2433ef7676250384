"""run, create, start, exec, attach: requests, output, exit status."""

import _thread
import platform
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from hypercontainer.client.http import Client
from hypercontainer.errors import NotFound
from hypercontainer.hyperctl.waiting import Waiting
from tests.unit.hyperctl.conftest import Hyperctl
from tests.unit.hyperctl.fake import FakeHyperd, Lines, Refusal, Request, Stream

ID = "c" * 64
ATTACH = f"/v1/containers/{ID}/attach"
EXEC = "/v1/containers/web/exec"
FUTEX = {"x86_64": "202", "aarch64": "98"}  # the system call in which a thread waits for another


@pytest.fixture
def play(hyperd: FakeHyperd) -> FakeHyperd:
    """A hyperd that creates containers; tests give the script."""
    hyperd.answers["POST", "/v1/containers"] = {"Id": ID, "Warnings": []}
    hyperd.answers["POST", ATTACH] = True
    hyperd.answers["POST", EXEC] = True
    hyperd.scripts[ATTACH] = lambda stream: stream.exit(0)
    return hyperd


def asked(hyperd: FakeHyperd) -> list[str]:
    return [f"{request.method} {request.path}" for request in hyperd.requests]


def test_run_takes_two_round_trips_on_one_connection(hyperctl: Hyperctl, play: FakeHyperd) -> None:
    def script(stream: Stream) -> None:
        stream.send(4, {"Id": ID, "timings": []})
        stream.send(1, b"out\n")
        stream.send(2, b"err\n")
        stream.exit(7)

    play.scripts[ATTACH] = script
    assert hyperctl("run", "--rm", "busybox", "echo", "-n") == (7, "out\n", "err\n")
    assert asked(play) == ["POST /v1/containers", f"POST {ATTACH}"]
    assert {request.connection for request in play.requests} == {1}
    assert play.requests[0].body == {
        "containers": [{"image": "busybox", "auto_remove": True, "command": ["echo", "-n"]}]
    }
    assert play.requests[1].query == [("start", "1"), ("stdout", "1"), ("stderr", "1")]


def test_timings(hyperctl: Hyperctl, play: FakeHyperd) -> None:
    def script(stream: Stream) -> None:
        steps = [{"name": "QEMU", "begin_ms": 0.0, "took_ms": 25.0}, {"name": "kernel", "begin_ms": 25, "took_ms": 75}]
        stream.send(4, {"Id": ID, "timings": steps})
        stream.exit(0)

    play.scripts[ATTACH] = script
    done = hyperctl("run", "--timings", "busybox")
    lines = done.err.splitlines()
    assert (done.status, done.out) == (0, "")
    assert lines[0] == "STEP                             BEGIN      TOOK"
    assert lines[1] == "QEMU                            0.0 ms   25.0 ms  ▇▇▇▇▇▇▇▇"
    assert lines[2].startswith("kernel                         25.0 ms   75.0 ms         ▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇")
    assert lines[3].startswith("start in hyperd, together") and lines[3].endswith("100.0 ms")
    assert [line.partition("  ")[0] for line in lines[4:]] == [
        "hyperctl: create", "hyperctl: start to end", "hyperctl: its own CPU",
    ]  # fmt: skip
    assert hyperctl("run", "busybox").err == ""


def test_run_detached(hyperctl: Hyperctl, play: FakeHyperd) -> None:
    play.answers["POST", f"/v1/containers/{ID}/start"] = None
    assert hyperctl("run", "-dit", "busybox") == (0, f"{ID}\n", "")
    assert asked(play) == ["POST /v1/containers", f"POST /v1/containers/{ID}/start"]


def test_create(hyperctl: Hyperctl, play: FakeHyperd, tmp_path: Path) -> None:
    play.answers["POST", "/v1/containers"] = {"Id": ID, "Warnings": ["no swap"]}
    cidfile = tmp_path / "cid"
    assert hyperctl("create", "--cidfile", cidfile, "busybox") == (0, f"{ID}\n", "hyperctl: warning: no swap\n")
    assert cidfile.read_text() == ID
    done = hyperctl("create", "--cidfile", cidfile, "busybox")
    assert done.status == 125
    assert "exists already" in done.err


def test_in_a_pod(hyperctl: Hyperctl, play: FakeHyperd) -> None:
    play.answers["POST", "/v1/pods/p/containers"] = {"Id": ID, "Warnings": []}
    assert hyperctl("create", "--pod", "p", "busybox").status == 0
    assert play.requests[0].body == {"image": "busybox"}


def test_an_unknown_image_is_pulled_first(hyperctl: Hyperctl, play: FakeHyperd) -> None:
    answers = iter([Refusal.of(NotFound("image", "busybox")), {"Id": ID, "Warnings": []}])
    play.answers["POST", "/v1/containers"] = lambda _: next(answers)
    play.answers["POST", "/v1/images/pull"] = Lines(
        {"id": "", "action": "Resolving", "current": 0, "total": 0},
        {"id": "sha256:" + "1" * 64, "action": "Downloading", "current": 0, "total": 2_000_000},
        {"id": "sha256:" + "1" * 64, "action": "Downloading", "current": 1_000_000, "total": 2_000_000},
        {"images": [{"Id": "sha256:2", "Name": "docker.io/library/busybox:latest"}]},
    )
    done = hyperctl("run", "--platform", "linux/amd64", "busybox")
    assert done.status == 0
    assert done.out == ""
    assert done.err == (
        "hyperctl: Unable to find image 'busybox' locally\nResolving\n111111111111: Downloading (2MB)\n"
    )
    assert asked(play) == ["POST /v1/containers", "POST /v1/images/pull", "POST /v1/containers", f"POST {ATTACH}"]
    assert play.requests[1].body == {"name": "busybox", "platform": "linux/amd64"}


def test_pull_always_and_never(hyperctl: Hyperctl, play: FakeHyperd) -> None:
    play.answers["POST", "/v1/images/pull"] = Lines({"images": []})
    assert hyperctl("run", "--pull", "always", "-q", "busybox") == (0, "", "")
    assert asked(play)[0] == "POST /v1/images/pull"
    play.answers["POST", "/v1/containers"] = Refusal.of(NotFound("image", "busybox"))
    assert hyperctl("run", "--pull=never", "busybox") == (125, "", "hyperctl: no such image: busybox\n")
    play.answers["POST", "/v1/pods/p/containers"] = Refusal.of(NotFound("pod", "p"))
    assert hyperctl("run", "--pod", "p", "busybox") == (125, "", "hyperctl: no such pod: p\n")


def test_a_pull_that_fails(hyperctl: Hyperctl, play: FakeHyperd) -> None:
    play.answers["POST", "/v1/containers"] = Refusal.of(NotFound("image", "x"))
    play.answers["POST", "/v1/images/pull"] = Lines(
        {"error": {"message": "cannot pull x: denied", "kind": "permission"}}
    )
    done = hyperctl("run", "x")
    assert (done.status, done.err) == (
        125,
        "hyperctl: Unable to find image 'x' locally\nhyperctl: cannot pull x: denied\n",
    )


@pytest.mark.parametrize(
    ("refusal", "run", "execute"),
    [
        (Refusal(502, "guest", "cannot run sh: No such file or directory", errno=2, exec=True), 127, 127),
        (Refusal(502, "guest", "cannot run /a/b: Not a directory", errno=20, exec=True), 127, 127),
        (Refusal(502, "guest", "cannot run sh: Permission denied", errno=13, exec=True), 126, 126),
        (Refusal(502, "guest", "cannot run sh: Exec format error", errno=8, exec=True), 126, 126),
        (Refusal(502, "guest", "cannot run sh: Argument list too long", errno=7, exec=True), 126, 126),
        (Refusal(502, "guest", "cannot mount on /x: No such file or directory", errno=2), 125, 126),
        (Refusal(502, "guest", "cannot enter /x: Permission denied", errno=13), 125, 126),
        (Refusal(502, "guest", "cannot find user x: /etc/passwd names none", errno=22), 125, 126),
        (Refusal(502, "guest", "the guest died: no such file or directory"), 125, 1),
        (Refusal(507, "exhausted", "cannot start x: disk is full, no such file or directory"), 125, 1),
        (Refusal(500, "internal", "bug"), 125, 1),
    ],
)
def test_statuses_of_what_did_not_start(
    hyperctl: Hyperctl, play: FakeHyperd, refusal: Refusal, run: int, execute: int
) -> None:
    play.answers["POST", ATTACH] = refusal
    play.scripts.clear()
    done = hyperctl("run", "busybox")
    assert (done.status, done.out) == (run, "")
    assert done.err == f"hyperctl: {refusal.document['message']}\n"
    play.answers["POST", EXEC] = refusal
    assert hyperctl("exec", "web", "sh").status == execute
    play.answers["POST", f"/v1/containers/{ID}/start"] = refusal
    assert hyperctl("run", "-d", "busybox").status == run
    play.answers["POST", "/v1/containers/web/attach"] = refusal
    assert hyperctl("start", "-a", "web").status == 1  # docker's, whatever the reason


def test_an_error_in_the_stream(hyperctl: Hyperctl, play: FakeHyperd) -> None:
    def script(stream: Stream) -> None:
        stream.send(1, b"half")
        stream.send(9, {"message": "the virtual machine died: QEMU was killed", "kind": "guest"})

    play.scripts[ATTACH] = script
    assert hyperctl("run", "busybox") == (125, "half", "hyperctl: the virtual machine died: QEMU was killed\n")


def test_a_hyperd_that_goes_away(hyperctl: Hyperctl, play: FakeHyperd) -> None:
    play.scripts[ATTACH] = lambda stream: stream.send(1, b"half")
    done = hyperctl("run", "busybox")
    assert (done.status, done.out) == (125, "half")
    assert done.err == "hyperctl: hyperd closed the connection: the process may run on, see 'hyperctl ps'\n"
    play.scripts[ATTACH] = lambda stream: stream.sock.sendall(b"\xff" * 100)
    assert "is it of another version?" in hyperctl("run", "busybox").err


def test_why_a_process_was_killed_is_said_last(hyperctl: Hyperctl, play: FakeHyperd) -> None:
    play.scripts[ATTACH] = play.scripts[EXEC] = lambda stream: stream.exit(137, error="killed: out of memory")
    assert hyperctl("run", "busybox") == (137, "", "hyperctl: killed: out of memory\n")
    assert hyperctl("exec", "web", "ls") == (137, "", "hyperctl: killed: out of memory\n")


def test_exec(hyperctl: Hyperctl, play: FakeHyperd) -> None:
    def script(stream: Stream) -> None:
        stream.send(1, b"hi\n")
        stream.exit(3)

    play.scripts[EXEC] = script
    assert hyperctl("exec", "web", "ls", "-l") == (3, "hi\n", "")
    assert play.requests[0].body == {"command": ["ls", "-l"]}


def test_start_and_attach(hyperctl: Hyperctl, play: FakeHyperd) -> None:
    play.answers["GET", "/v1/containers/web"] = {
        "Config": {"Tty": False, "OpenStdin": True},
        "State": {"Paused": False},
    }
    play.answers["POST", "/v1/containers/web/attach"] = True

    def script(stream: Stream) -> None:
        stream.send(1, stream.until(0))
        stream.until(5)
        stream.exit(4)

    play.scripts["/v1/containers/web/attach"] = script
    assert hyperctl("start", "-ai", "web", stdin=b"typed") == (4, "typed", "")
    assert play.requests[-1].query == [("start", "1"), ("stdin", "1"), ("stdout", "1"), ("stderr", "1")]
    assert hyperctl("attach", "web", stdin=b"typed") == (4, "typed", "")
    assert play.requests[-1].query == [("stdin", "1"), ("stdout", "1"), ("stderr", "1")]
    play.scripts["/v1/containers/web/attach"] = lambda stream: stream.exit(0)
    assert hyperctl("attach", "--no-stdin", "web", stdin=b"typed") == (0, "", "")
    assert play.requests[-1].query == [("stdout", "1"), ("stderr", "1")]
    assert hyperctl("start", "-a", "a", "b").status == 1
    play.answers["POST", "/v1/containers/a/start"] = None
    assert hyperctl("start", "a", "b") == (1, "a\n", "hyperctl: no such thing: /v1/containers/b/start\n")


def test_a_terminal_is_needed_for_it(hyperctl: Hyperctl, play: FakeHyperd) -> None:
    done = hyperctl("run", "-it", "busybox")
    assert done.status == 125
    assert done.err.startswith("hyperctl: the input device is not a TTY")
    assert play.requests == []
    assert hyperctl("exec", "-it", "web", "sh").status == 1
    assert hyperctl("run", "-t", "busybox").status == 0


def test_ten_megabytes_of_stdin_arrive_whole(hyperctl: Hyperctl, play: FakeHyperd) -> None:
    data = bytes(range(256)) * 40_000
    got = bytearray()

    def script(stream: Stream) -> None:
        while (frame := stream.receive())[0] != 5:
            assert frame[0] == 0
            assert 0 < len(frame[1]) <= 65536
            got.extend(frame[1])
        stream.exit(0)

    play.scripts[ATTACH] = script
    assert hyperctl("run", "-i", "busybox", "cat", stdin=data) == (0, "", "")
    assert got == data


def test_ten_megabytes_there_and_back_at_once(hyperctl: Hyperctl, play: FakeHyperd) -> None:
    data = bytes(range(256)) * 40_000

    def script(stream: Stream) -> None:
        while (frame := stream.receive())[0] != 5:
            stream.send(1, frame[1])
        stream.exit(0)

    play.scripts[ATTACH] = script
    done = hyperctl.raw("run", "-i", "busybox", "cat", stdin=data)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == data


def test_a_reader_that_stops_is_waited_for_and_nothing_piles_up(hyperctl: Hyperctl, play: FakeHyperd) -> None:
    sent = 0
    stalled = threading.Event()

    def script(stream: Stream) -> None:
        nonlocal sent
        stream.sock.settimeout(0.5)
        try:
            while sent < 64 << 20:
                stream.send(1, bytes(65536))
                sent += 65536
        except TimeoutError:
            stalled.set()
        stream.sock.close()

    play.scripts[ATTACH] = script
    with hyperctl.popen("run", "busybox", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert stalled.wait(30)
        assert sent < 8 << 20
        process.kill()


def test_output_to_a_closed_pipe_ends_quietly(hyperctl: Hyperctl, play: FakeHyperd) -> None:
    left = threading.Event()

    def script(stream: Stream) -> None:
        try:
            while True:
                stream.send(1, b"y\n" * 1000)
        except OSError:
            left.set()

    play.scripts[ATTACH] = script
    with hyperctl.popen("run", "busybox", "yes", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        assert process.stdout.read(2) == b"y\n"
        process.stdout.close()
        assert process.wait(30) == -signal.SIGPIPE
        assert process.stderr.read() == b""
    assert left.wait(30)


def test_a_list_to_a_closed_pipe_ends_quietly(hyperctl: Hyperctl, hyperd: FakeHyperd) -> None:
    volume = {"Name": "x" * 60, "Driver": "local", "Mountpoint": "/m", "CreatedAt": "x", "Labels": {}, "Scope": "local"}
    hyperd.answers["GET", "/v1/volumes"] = [volume] * 5000
    with hyperctl.popen("volume", "ls", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert process.wait(30) == -signal.SIGPIPE
        assert process.stderr.read() == b""


def test_a_closed_stdout_is_not_our_socket(hyperctl: Hyperctl, play: FakeHyperd) -> None:
    def script(stream: Stream) -> None:
        stream.send(1, b"lost\n")
        stream.exit(5)

    play.scripts[ATTACH] = script
    words = " ".join(f"'{word}'" for word in hyperctl.argv("run", "-i", "busybox"))
    for closing in (">&-", "<&-", "2>&-", "<&- >&- 2>&-"):
        done = subprocess.run(f"exec {words} {closing}", shell=True, env=hyperctl.environment, check=False,
                              stdin=subprocess.DEVNULL, capture_output=True)  # fmt: skip
        assert done.returncode == 5, (closing, done.stderr)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1])
@pytest.mark.parametrize("words", [("run", "busybox"), ("exec", "web", "sleep")])
def test_signals_go_to_the_process(hyperctl: Hyperctl, play: FakeHyperd, number: int, words: tuple[str, ...]) -> None:
    def script(stream: Stream) -> None:
        stream.send(1, b"ready\n")
        assert stream.until(7) == b'{"signal":%d}' % number
        stream.exit(128 + number)

    play.scripts[ATTACH] = play.scripts[EXEC] = script
    with hyperctl.popen(*words, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.wait(30) == 128 + number


def test_a_process_that_ignores_signals_can_be_left(hyperctl: Hyperctl, play: FakeHyperd) -> None:
    """Both signals are passed on: what wants to be asked twice is."""
    passed_on, over = [], threading.Event()

    def script(stream: Stream) -> None:
        stream.send(1, b"ready\n")
        passed_on.append(stream.until(7))
        stream.send(1, b"no\n")
        passed_on.append(stream.until(7))
        with pytest.raises(EOFError):
            stream.until(7)
        over.set()

    play.scripts[ATTACH] = script
    with hyperctl.popen("run", "busybox", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        for line in (b"ready\n", b"no\n"):
            assert process.stdout.readline() == line
            process.send_signal(signal.SIGINT)
        assert process.wait(30) == 1
        assert process.stderr.read() == b"hyperctl: got 2 SIGINTs or SIGTERMs, leaving; the process may run on\n"
    assert over.wait(60)
    assert len(passed_on) == 2


def test_sig_proxy_can_be_switched_off(hyperctl: Hyperctl, play: FakeHyperd) -> None:
    def script(stream: Stream) -> None:
        stream.send(1, b"ready\n")
        with pytest.raises(EOFError):
            stream.receive()

    play.scripts[ATTACH] = script
    with hyperctl.popen("run", "--sig-proxy=false", "busybox", stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == -signal.SIGINT


def test_ctrl_c_during_a_start_removes_what_nobody_wants(hyperctl: Hyperctl, play: FakeHyperd) -> None:
    starting, interrupted = threading.Event(), threading.Event()

    def start(request: object) -> None:
        starting.set()
        interrupted.wait(240)

    play.answers["POST", f"/v1/containers/{ID}/start"] = start
    play.answers["DELETE", f"/v1/containers/{ID}"] = None
    with hyperctl.popen("run", "-d", "busybox", stderr=subprocess.PIPE) as process:
        assert starting.wait(120)
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 130
        assert process.stderr and b"removing it" in process.stderr.read()
    interrupted.set()
    assert ("DELETE", f"/v1/containers/{ID}") in [(r.method, r.path) for r in play.requests]


def test_a_signal_that_interrupts_no_system_call_ends_a_start_too(play: FakeHyperd) -> None:
    """It comes between the last look for signals and the wait for hyperd's answer: a busy machine makes that long."""
    interrupted, answering = threading.Event(), threading.Event()
    call = Path(f"/proc/self/task/{threading.main_thread().native_id}/syscall")

    def start(request: object) -> None:
        while call.read_text().split()[0] in ("running", FUTEX[platform.machine()]):
            pass  # it waits for hyperd from here on
        _thread.interrupt_main()  # as a signal does, but for that it interrupts nothing
        interrupted.wait(60)
        answering.set()

    play.answers["POST", f"/v1/containers/{ID}/start"] = start
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever started us had us ignore it, perhaps
    try:
        with Client(str(play.path)) as client:
            with pytest.raises(KeyboardInterrupt), Waiting(client, ID):
                client.post(f"/v1/containers/{ID}/start")
            assert not answering.is_set()
    finally:
        signal.signal(signal.SIGINT, before)
        interrupted.set()


@pytest.mark.parametrize("words", [("run", "busybox"), ("run", "-d", "busybox"), ("start", ID)])
def test_a_start_that_takes_long_says_once_on_stderr_what_is_made(
    hyperctl: Hyperctl, play: FakeHyperd, words: tuple[str, ...]
) -> None:
    """The start is answered when it was asked twice what is made: first nothing that takes long, then a template."""
    making, told = iter(["", "a template is made"]), threading.Event()

    def inspected(request: Request) -> dict[str, object]:
        word = next(making)
        if word:
            told.set()
        return {"State": {"Status": "created", "Starting": word}}

    def started(request: Request) -> object:
        assert told.wait(60)
        return True if request.path == ATTACH else None

    play.answers["GET", f"/v1/containers/{ID}"] = inspected
    play.answers["POST", ATTACH] = play.answers["POST", f"/v1/containers/{ID}/start"] = started
    done = hyperctl(*words)
    assert done.status == 0
    assert done.out == ("" if words == ("run", "busybox") else f"{ID}\n")
    assert done.err == f"hyperctl: starting {ID[:12]} takes a moment: a template is made\n"
