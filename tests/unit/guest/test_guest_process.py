"""Processes: their start, streams, signals, end."""

import base64
import errno
import hashlib
import os
import resource
from typing import Any

import pytest

from tests.unit.guest.conftest import ENV, Guest
from tests.unit.guest.wire_client import DATA, Refused


def test_output_and_status(running: Guest) -> None:
    assert running.sh("echo out; echo err >&2; exit 7") == (7, "out\n", "err\n")


@pytest.mark.parametrize("read_only", [False, True])
def test_who_rehearses_says_a_word_and_leaves_nothing(guest: Guest, read_only: bool) -> None:
    guest.container(read_only=read_only)
    guest.first()
    assert guest.sh("echo a word | hyperstart --rehearse && echo over; ls /tmp") == (0, "ready\nover\n", "")


@pytest.mark.parametrize("number", [9, 15, 2, 6])
def test_a_signalled_process_reports_128_and_the_signal(running: Guest, number: int) -> None:
    running.start("p", "sleep", "1000")
    running.host.call("process.signal", process="p", signal=number)
    assert running.host.exit_of("p")["status"] == 128 + number


def test_the_first_process_is_pid_1_and_its_end_ends_the_others(running: Guest) -> None:
    assert running.sh("cat /proc/1/comm")[1] == "sleep\n"
    running.start("p", "sleep", "1000")
    running.host.call("process.signal", process="first", signal=9)
    assert running.host.exit_of("first")["status"] == 137
    assert running.host.exit_of("p")["status"] == 137
    with pytest.raises(Refused) as refused:
        running.start("q", "true")
    assert refused.value.errno == errno.ESRCH


def test_a_first_process_may_be_started_again(running: Guest) -> None:
    running.host.call("process.signal", process="first", signal=9)
    running.host.exit_of("first")
    running.host.call("process.forget", process="first")
    running.first()
    assert running.sh("echo again")[1] == "again\n"


@pytest.mark.parametrize(
    ("words", "number"),
    [
        (["nothing-of-that-name"], errno.ENOENT),
        (["/bin/nothing"], errno.ENOENT),
        (["/bin/notexec"], errno.EACCES),
        (["notexec"], errno.EACCES),
        (["/bin/wrong"], errno.ENOEXEC),
        (["/etc"], errno.EACCES),
        (["/bin/badint"], errno.ENOENT),
        (["/data/file/x"], errno.ENOTDIR),
        (["/run/true"], errno.EACCES),
        ([""], errno.ENOENT),
    ],
)
@pytest.mark.parametrize("init", [False, True])
def test_what_cannot_be_run_says_why(guest: Guest, words: list[str], number: int, init: bool) -> None:
    mounts = [{"type": "tmpfs", "target": "/run", "options": ["noexec"]}]
    files = [{"path": "/run/true", "mode": 0o755, "content": base64.b64encode(b"#!/bin/true\n").decode()}]
    guest.container(mounts=mounts, files=files)
    with pytest.raises(Refused) as refused:
        guest.start("p", *words, first=True, init=init)
    assert (refused.value.errno, refused.value.exec) == (number, True)
    assert f"run {words[0]}" in refused.value.message
    assert guest.host.call("list")["processes"] == []
    guest.first()
    with pytest.raises(Refused) as refused:
        guest.start("p", *words, init=init)
    assert (refused.value.errno, refused.value.exec) == (number, True)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"user": "nosuch"}, "find user nosuch: /etc/passwd names none"),
        ({"user": "0:nosuch"}, "find group nosuch: /etc/group names none"),
        ({"cwd": "/data/file"}, "/data/file"),
        ({"cwd": "/data/file/x"}, "/data/file"),
        ({"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1 << 40, "hard": 1 << 40}]}, "limit"),
    ],
)
@pytest.mark.parametrize("init", [False, True])
def test_what_cannot_be_set_up_is_not_said_to_be_the_command(
    guest: Guest, args: dict[str, Any], words: str, init: bool
) -> None:
    guest.container()
    for first in (True, False):
        with pytest.raises(Refused) as refused:
            guest.start("p", "true", first=first, init=init, **args)
        assert words in refused.value.message and not refused.value.exec
        assert "Invalid argument" not in refused.value.message
        if first:
            guest.first()


def test_ten_megabytes_of_stdin_reach_a_slow_reader_whole(running: Guest) -> None:
    data = os.urandom(10 << 20)
    streams = running.start("p", "sh", "-c", "sleep 0.2; sha256sum", stdin=True)
    running.host.write(streams["stdin"], data, end=True)
    assert running.host.read_all(streams["stdout"]).decode().split()[0] == hashlib.sha256(data).hexdigest()
    assert running.host.exit_of("p")["status"] == 0


def test_lines_of_a_terminal_that_come_without_a_pause_are_joined(running: Guest) -> None:
    lines = 1000  # of one shell, each a moment after the other: with a process for each, a busy machine makes pauses
    moment = "j=0; while [ $j -lt 20 ]; do j=$((j+1)); done"
    script = f"i=0; while [ $i -lt {lines} ]; do echo $i; {moment}; i=$((i+1)); done"
    streams = running.start("p", "sh", "-c", script, tty=True)
    out = running.host.read_all(streams["stdout"])
    assert out == b"".join(b"%d\r\n" % i for i in range(lines))
    frames = [f for f in running.host.frames_seen if f[:2] == (DATA, streams["stdout"])]
    assert len(frames) < lines / 10


def test_a_stalled_stdin_stalls_only_itself(running: Guest) -> None:
    streams = running.start("p", "sh", "-c", "trap '' TERM; sleep 1000", stdin=True)
    running.host.write(streams["stdin"], bytes(1 << 20))
    assert running.sh("echo still here")[1] == "still here\n"
    stream = running.host.inputs[streams["stdin"]]
    assert stream.sent - stream.acked <= 262144
    assert stream.acked <= 262144  # what the pipe holds: consumed, as far as we can tell


def test_output_that_nobody_acknowledges_stalls_its_writer_and_loses_nothing(running: Guest) -> None:
    streams = running.host.streams()
    running.host.outputs[streams["stdout"]].held = True
    words = ["sh", "-c", "yes | head -c 1000000; echo done >&2"]
    running.host.call("process.start", id="p", container="c1", args=words, streams=streams, env=["PATH=/bin"])
    output = running.host.outputs[streams["stdout"]]
    running.host.until(lambda: len(output.data) >= 262144)
    running.sh("true")
    assert len(output.data) == 262144
    assert running.host.outputs[streams["stderr"]].data == b""
    output.held = False
    running.host.reconnect()
    assert running.host.read_all(streams["stdout"]) == b"y\n" * 500000
    assert running.host.read_all(streams["stderr"]) == b"done\n"


def test_a_process_that_closes_stdin_stops_the_stream(running: Guest) -> None:
    streams = running.start("p", "sh", "-c", "exec <&-; sleep 1000", stdin=True)
    running.host.until(lambda: running.host.inputs[streams["stdin"]].stopped)


def test_a_stopped_output_never_blocks_its_writer(running: Guest) -> None:
    streams = running.host.streams()
    running.host.outputs[streams["stdout"]].held = True
    running.host.call(
        "process.start", id="p", container="c1", args=["sh", "-c", "yes | head -c 3000000; echo done >&2"],
        streams=streams, env=["PATH=/bin"],
    )  # fmt: skip
    running.host.stop(streams["stdout"])
    assert running.host.read_all(streams["stderr"]) == b"done\n"


def test_eof_waits_for_the_last_writer_and_the_exit_event_does_not(running: Guest) -> None:
    # By way of 3: a shell gives what it runs in the background /dev/null for 0.
    streams = running.start("p", "sh", "-c", "exec 3<&0; (read x <&3; echo late) & exit 3", stdin=True)
    assert running.host.exit_of("p")["status"] == 3
    assert not running.host.outputs[streams["stdout"]].ended
    running.host.write(streams["stdin"], b"go\n")
    assert running.host.read_all(streams["stdout"]) == b"late\n"


def test_without_streams_it_is_dev_null(running: Guest) -> None:
    words = ["sh", "-c", "cat; echo x; echo y >&2; readlink /proc/self/fd/0 > /tmp/in"]
    running.host.call("process.start", id="p", container="c1", args=words, env=["PATH=/bin"])
    assert running.host.exit_of("p")["status"] == 0
    assert running.sh("cat /tmp/in")[1] == "/dev/null\n"


def test_orphans_are_reaped(running: Guest) -> None:
    """By our reaper, which is what init: true puts above the first process."""
    running.container("c2")
    running.start("one", "sleep", "1000", container="c2", first=True, init=True)
    running.sh("(sleep 0.05 & ) ; true", container="c2")
    status, out, _ = running.sh("sleep 0.2; ps -o comm,stat", container="c2")
    assert status == 0
    assert "init" in out
    assert "Z" not in out.replace("COMMAND", "")


def test_the_reaper_passes_signals_on_and_keeps_the_status(guest: Guest) -> None:
    guest.container()
    script = "trap 'echo got; exit 5' USR1; echo ready; while :; do sleep 0.01; done"
    streams = guest.start("p", "sh", "-c", script, first=True, init=True)
    guest.host.until(lambda: guest.host.outputs[streams["stdout"]].data == b"ready\n")
    guest.host.call("process.signal", process="p", signal=10)
    assert guest.host.read_all(streams["stdout"]) == b"ready\ngot\n"
    assert guest.host.exit_of("p")["status"] == 5


def test_the_reaper_reports_signals_as_128_and_n(guest: Guest) -> None:
    guest.container()
    guest.start("p", "sleep", "1000", first=True, init=True)
    guest.host.call("process.signal", process="p", signal=15)
    assert guest.host.exit_of("p")["status"] == 143


def test_a_group_is_signalled_together(running: Guest) -> None:
    streams = running.start("p", "sh", "-c", "sleep 1000 & sleep 1000; true")
    running.host.call("process.signal", process="p", signal=9, group=True)
    assert running.host.exit_of("p")["status"] == 137
    assert running.host.read_all(streams["stdout"]) == b""


def test_all_of_a_container_is_signalled(running: Guest) -> None:
    running.start("p", "sleep", "1000")
    running.host.call("process.signal", process="p", signal=9, all=True)
    assert running.host.exit_of("p")["status"] == 137
    assert running.host.exit_of("first")["status"] == 137


def test_a_terminal(running: Guest) -> None:
    streams = running.start(
        "t", "sh", "-c", "tty; stty size; read x; echo got $x", stdin=True, tty=True, rows=33, columns=99
    )
    output = running.host.outputs[streams["stdout"]]
    running.host.until(lambda: b"33 99" in output.data)
    assert output.data.startswith(b"/dev/pts/")
    running.host.write(streams["stdin"], b"word\n")
    assert running.host.read_all(streams["stdout"]).endswith(b"word\r\ngot word\r\n")
    assert running.host.exit_of("t")["status"] == 0


def test_a_terminal_resized_tells_its_foreground(running: Guest) -> None:
    script = "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.02; done"
    streams = running.start("t", "sh", "-c", script, tty=True, stdin=True)
    running.host.until(lambda: b"ready" in running.host.outputs[streams["stdout"]].data)
    running.host.call("process.resize", process="t", rows=40, columns=120)
    assert b"40 120" in running.host.read_all(streams["stdout"])


def test_the_first_process_has_its_terminal_as_console(guest: Guest) -> None:
    guest.container()
    streams = guest.first("sh", "-c", "echo hello > /dev/console; ls -l /dev/console | cut -c1", tty=True)
    assert guest.host.read_all(streams["stdout"]) == b"hello\r\nc\r\n"


def test_a_reader_that_hangs_up_is_a_broken_pipe(running: Guest) -> None:
    streams = running.start("p", "sh", "-c", "yes; echo $? >&2; exit 3")
    running.host.until(lambda: running.host.outputs[streams["stdout"]].data)
    running.host.call("process.hang_up", process="p", stream=streams["stdout"])
    running.host.call("process.hang_up", process="p", stream=streams["stdout"])
    assert running.host.read_all(streams["stderr"]) == b"141\n"
    assert running.host.exit_of("p")["status"] == 3
    for process, stream, number in (("p", 0, errno.EINVAL), ("p", 999, errno.EINVAL), ("none", 1, errno.ESRCH)):
        with pytest.raises(Refused) as refused:
            running.host.call("process.hang_up", process=process, stream=stream)
        assert refused.value.errno == number
    running.host.call("process.forget", process="p")


CRIU = {"program": "criu", "images": "images", "work": "work"}


def test_what_has_no_checkpoint(guest: Guest) -> None:
    guest.container()

    def refused(op: str, **arguments: object) -> int:
        with pytest.raises(Refused) as refused:
            guest.host.call(op, container="c1", **arguments)
        return refused.value.errno

    assert refused("process.checkpoint", id="p", criu=CRIU) == errno.ESRCH  # nothing runs
    assert refused("process.checkpoint", id="p", criu=CRIU, changes=True) == errno.ESRCH
    assert refused("process.checkpoint", id="p", criu={"program": "criu"}) == errno.EINVAL
    words: dict[str, object] = {"id": "c", "args": ["true"], "restore": CRIU}
    assert refused("process.start", **words) == errno.EINVAL  # it is not the first
    assert refused("process.start", **words, first=True, tty=True) == errno.EINVAL
    assert refused("process.start", **words, first=True, init=True) == errno.EINVAL
    assert refused("process.start", **words, first=True) == errno.ENOENT  # of the share, which has no such folder
    guest.first("sh", "-c", "sleep 1000", tty=True)
    assert refused("process.checkpoint", id="p", criu=CRIU) == errno.EINVAL


def test_a_checkpoint_with_changes_that_fails_leaves_nothing_frozen(running: Guest) -> None:
    """There is no share, and so no CRIU."""
    running.host.call("process.checkpoint", id="p", container="c1", criu=CRIU, changes=True)
    assert running.host.exit_of("p")["status"] == 1
    assert running.sh("echo on")[1] == "on\n"
    running.host.call("process.forget", process="p")


@pytest.mark.parametrize("stdin", [False, True])
def test_a_terminal_that_is_hung_up_ends_who_is_at_it(running: Guest, stdin: bool) -> None:
    streams = running.start("t", "sh", "-c", "echo ready; sleep 1000", tty=True, stdin=stdin)
    running.host.until(lambda: b"ready" in running.host.outputs[streams["stdout"]].data)
    running.host.call("process.hang_up", process="t", stream=streams["stdout"])
    assert running.host.exit_of("t")["status"] == 128 + 1
    with pytest.raises(Refused) as refused:
        running.host.call("process.resize", process="t", rows=1, columns=1)
    assert refused.value.errno == errno.ENOTTY
    running.host.call("process.forget", process="t")


def test_control_c_and_control_d(running: Guest) -> None:
    streams = running.start("t", "cat", tty=True, stdin=True)
    running.host.write(streams["stdin"], b"\x03")
    assert running.host.exit_of("t")["status"] == 130
    streams = running.start("u", "cat", tty=True, stdin=True)
    running.host.write(streams["stdin"], b"line\n", end=True)
    assert running.host.exit_of("u")["status"] == 0
    assert running.host.read_all(streams["stdout"]) == b"line\r\nline\r\n"


def test_a_megabyte_pasted_into_a_terminal_arrives_whole(running: Guest) -> None:
    data = os.urandom(1 << 20)
    script = "stty raw -echo; echo ready; head -c 1048576 | sha256sum"
    streams = running.start("t", "sh", "-c", script, tty=True, stdin=True)
    running.host.until(lambda: b"ready" in running.host.outputs[streams["stdout"]].data)
    running.host.write(streams["stdin"], data)
    assert hashlib.sha256(data).hexdigest().encode() in running.host.read_all(streams["stdout"])


def test_a_reaper_on_a_terminal_leaves_the_keyboard_to_its_child(guest: Guest) -> None:
    guest.container()
    streams = guest.start("t", "sh", "-c", "echo ready; cat", first=True, init=True, tty=True, stdin=True)
    guest.host.until(lambda: b"ready" in guest.host.outputs[streams["stdout"]].data)
    guest.host.write(streams["stdin"], b"\x03")
    assert guest.host.exit_of("t")["status"] == 130


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", "0 0 0"),
        ("user", "1000 1000 1000 2000"),
        ("1000", "1000 1000 1000 2000"),
        ("user:other", "1000 3000 3000"),
        ("4321", "4321 0 0"),
        ("4321:77", "4321 77 77"),
        ("root:user", "0 1000 1000"),
    ],
)
def test_users(running: Guest, user: str, expected: str) -> None:
    assert running.sh("echo $(id -u) $(id -g) $(id -G)", user=user)[1].strip() == expected
    _, _, *groups = expected.split()  # the first one too: a setgid program would leave it else (CVE-2022-36109)
    assert running.sh("grep Groups: /proc/self/status", user=user)[1].split()[1:] == groups


def test_the_environment_that_every_process_has(running: Guest) -> None:
    script = "echo $HOSTNAME; cat /proc/sys/kernel/hostname; echo $TERM $HOME"
    status, out, _ = running.sh(script, env=[*ENV, "HOME=/there"])
    assert (status, out.split()) == (0, [out.split()[0]] * 2 + ["/there"])
    assert running.sh(script, tty=True)[1].split()[2:] == ["xterm", "/root"]
    given = [*ENV, "HOSTNAME=mine", "TERM=vt100"]
    assert running.sh(script, tty=True, env=given)[1].split()[::2] == ["mine", "vt100"]


def test_more_groups_and_home(running: Guest) -> None:
    assert running.sh("id -G; echo $HOME; umask", user="user", groups=[55])[1] == "1000 55 2000\n/home/user\n0022\n"
    assert running.sh("echo $HOME", user="user", env=["PATH=/bin", "HOME=/x"])[1] == "/x\n"


@pytest.mark.parametrize(
    ("user", "memberships", "expected"),
    [
        ("user", "merge", [1000, 2000]),
        ("1000", "merge", [1000, 2000]),
        ("1000:7", "merge", [7, 2000]),
        ("1000:7", "strict", [7]),
        ("user", "strict", [1000]),
        ("4711", "merge", [0]),
    ],
)
def test_whether_memberships_count(running: Guest, user: str, memberships: str, expected: list[int]) -> None:
    groups = running.sh("grep Groups: /proc/self/status", user=user, memberships=memberships, groups=[55])[1].split()
    assert [int(group) for group in groups[1:]] == sorted([*expected, 55])


def test_groups_by_their_names(running: Guest) -> None:
    assert running.sh("id -G", user="7:8", groups=[55], group_names=["other", "other"])[1] == "8 55 3000\n"
    with pytest.raises(Refused, match="find group nosuch: /etc/group names none"):
        running.sh("true", group_names=["other", "nosuch"])


def test_a_plain_user_may_open_its_stdout_again(running: Guest) -> None:
    assert running.sh("echo x > /dev/stdout; echo y > /dev/stderr", user="user") == (0, "x\n", "y\n")


@pytest.mark.parametrize("user", ["nobody-here", "user:nothing", "-1", "4294967295"])
def test_unknown_users_are_refused(running: Guest, user: str) -> None:
    with pytest.raises(Refused) as refused:
        running.sh("true", user=user)
    assert refused.value.errno == errno.EINVAL
    assert running.sh("true") == (0, "", "")


def test_working_directories(guest: Guest) -> None:
    guest.container()
    guest.first("sleep", "1000", cwd="/made/when/missing")
    assert guest.sh("pwd", cwd="/made/when/missing")[1] == "/made/when/missing\n"
    with pytest.raises(Refused) as refused:
        guest.sh("pwd", cwd="/not/there")
    assert refused.value.errno == errno.ENOENT


def test_capabilities(running: Guest) -> None:
    show = "grep Cap /proc/self/status | cut -f2"
    wanted = f"{1 << 0 | 1 << 5:016x}"
    out = running.sh(show, capabilities=["CAP_CHOWN", "CAP_KILL"])[1].split()
    assert out == ["0" * 16, wanted, wanted, wanted, "0" * 16]
    out = running.sh(show, capabilities=["CAP_CHOWN", "CAP_KILL"], user="user")[1].split()
    assert out == ["0" * 16, "0" * 16, "0" * 16, wanted, "0" * 16]
    assert set(running.sh(show)[1].split()) == {"0" * 16}


def test_no_new_privileges_and_limits(running: Guest) -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # a guest's PID 1 has 1048576
    limits = [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 88}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]
    script = "grep NoNewPrivs /proc/self/status | cut -f2; ulimit -Sn; ulimit -Hn; ulimit -c"
    assert running.sh(script, no_new_privs=True, rlimits=limits)[1] == "1\n77\n88\n0\n"
    assert running.sh("grep NoNewPrivs /proc/self/status | cut -f2; ulimit -Sn")[1] == f"0\n{most}\n"


def test_nothing_of_ours_is_left_open_in_a_process(running: Guest) -> None:
    assert running.sh("ls /proc/self/fd")[1].split() == ["0", "1", "2", "3"]  # 3 is ls's own
    assert running.sh("cat /proc/self/status | grep -E '^(SigBlk|SigIgn)' | cut -f2")[1].split() == ["0" * 16] * 2
    running.container("c2")
    streams = running.start("one", "sh", "-c", "sleep 0.1; ls -l /proc/1/fd", container="c2", first=True, init=True)
    assert len(running.host.read_all(streams["stdout"]).splitlines()) == 4  # "total 0" and three


def test_forgetting(running: Guest) -> None:
    running.start("p", "sleep", "1000")
    with pytest.raises(Refused) as refused:
        running.host.call("process.forget", process="p")
    assert refused.value.errno == errno.EBUSY
    running.host.call("process.signal", process="p", signal=9)
    running.host.exit_of("p")
    running.host.call("process.forget", process="p")
    for op in ("process.forget", "process.signal"):
        with pytest.raises(Refused) as refused:
            running.host.call(op, process="p", **({"signal": 9} if op == "process.signal" else {}))
        assert refused.value.errno == errno.ESRCH


def test_ids_and_streams_are_used_once(running: Guest) -> None:
    streams = running.start("p", "sleep", "1000")
    with pytest.raises(Refused) as refused:
        running.start("p", "true")
    assert refused.value.errno == errno.EEXIST
    with pytest.raises(Refused) as refused:
        running.host.call("process.start", id="q", container="c1", args=["true"], streams={"stdout": streams["stdout"]})
    assert refused.value.errno == errno.EEXIST
    with pytest.raises(Refused) as refused:
        running.host.call("process.start", id="q", container="c1", args=["true"], streams={"stdout": 90, "stderr": 90})
    assert refused.value.errno == errno.EINVAL
    assert running.sh("echo fine")[1] == "fine\n"


def test_a_hundred_processes_at_once(running: Guest) -> None:
    streams = [running.host.streams() for _ in range(100)]
    for wave in (range(50), range(50, 100)):
        asked = [
            running.host.ask(
                "process.start", id=f"p{i}", container="c1", args=["sh", "-c", f"echo {i}; exit {i}"],
                streams=streams[i], env=["PATH=/bin"],
            )
            for i in wave
        ]  # fmt: skip
        for number in asked:
            running.host.answer(number)
    for i in range(100):
        assert running.host.read_all(streams[i]["stdout"]) == b"%d\n" % i
        assert running.host.exit_of(f"p{i}")["status"] == i


SETS = "grep ^Cap /proc/self/status | cut -f2; umask"


def test_five_sets_of_capabilities(running: Guest) -> None:
    sets = {
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_FOWNER"],
        "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "effective": ["CAP_CHOWN"],
        "inheritable": ["CAP_KILL", "CAP_CHOWN"],
        "ambient": ["CAP_KILL"],
    }
    out = running.sh(SETS, capability_sets=sets, user="user")[1].split()
    # a program that is run has of them what is ambient, and all that is bounding can come back by its file
    assert [int(mask, 16) for mask in out[:5]] == [0b100001, 0b100000, 0b100000, 0b101001, 0b100000]
    with pytest.raises(Refused, match="ambient"):
        running.sh(SETS, process="q", capability_sets={**sets, "ambient": ["CAP_FOWNER"]})
    with pytest.raises(Refused, match="twice"):
        running.sh(SETS, process="r", capability_sets=sets, capabilities=["CAP_CHOWN"])
    with pytest.raises(Refused, match="none of that name"):
        running.sh(SETS, process="s", capability_sets={"ambient": ["CAP_FLY"]})


def test_a_filter_is_loaded_by_one_without_the_capability_for_it(running: Guest) -> None:
    allow = base64.b64encode(bytes.fromhex("060000000000ff7f")).decode()
    both = {"bounding": ["CAP_SYS_ADMIN"], "permitted": ["CAP_SYS_ADMIN"]}
    out = running.sh(SETS, capability_sets=both, seccomp=allow, user="user")[1].split()
    assert [int(mask, 16) for mask in out[:5]] == [0, 0, 0, 1 << 21, 0]


def test_scheduling_and_personality(running: Guest) -> None:
    said = {"policy": 3, "nice": 7, "io_priority": 3 << 13, "personality": 8}
    script = "cut -d ' ' -f 19,41 /proc/self/stat; uname -m"
    nice, policy, machine = running.sh(script, scheduling=said)[1].split()
    assert (nice, policy) == ("7", "3") and machine != os.uname().machine
    usual = running.sh(script, process="q", scheduling={"personality": 0})[1].split()
    assert usual == ["0", "0", os.uname().machine]
    for process, (key, value) in enumerate([("policy", 100), ("nice", 20), ("io_priority", 1 << 16), ("colour", 1)]):
        with pytest.raises(Refused):
            running.sh(script, process=f"r{process}", scheduling={key: value})


@pytest.mark.parametrize(("said", "mask"), [({}, "0022"), ({"umask": 0}, "0000"), ({"umask": 0o77}, "0077")])
def test_a_umask(running: Guest, said: dict[str, Any], mask: str) -> None:
    assert running.sh("umask", **said)[1].strip() == mask


def test_one_that_is_held_is_joined_and_goes_on(guest: Guest) -> None:
    guest.container(mounts=[{"type": "tmpfs", "target": "/run"}])
    streams = guest.first("sh", "-c", "cat /run/said; cat", hold=True, stdin=True)
    [listed] = guest.host.call("list")["processes"]
    assert (listed["running"], listed["held"]) == (True, True)
    assert guest.sh("echo of an exec > /run/said; cat /proc/1/environ")[:2] == (1, "")  # it is a fork of ours
    with pytest.raises(Refused) as refused:
        guest.first()
    assert refused.value.errno == errno.EEXIST
    pid = guest.host.call("process.release", process="first")["pid"]
    [listed] = guest.host.call("list")["processes"]
    assert (listed["pid"], listed["running"], listed["held"]) == (pid, True, False)
    assert guest.sh("cat /proc/1/environ")[0] == 0
    guest.host.write(streams["stdin"], b"and all it is given\n", end=True)
    assert guest.host.read_all(streams["stdout"]) == b"of an exec\nand all it is given\n"
    assert guest.host.exit_of("first")["status"] == 0


def test_only_one_that_is_held_is_released(guest: Guest) -> None:
    guest.container()
    with pytest.raises(Refused) as refused:
        guest.start("p", "true", hold=True)
    assert refused.value.errno == errno.EINVAL
    guest.first(hold=True)
    guest.host.call("process.release", process="first")
    for process in ("first", "none"):
        with pytest.raises(Refused) as refused:
            guest.host.call("process.release", process=process)
        assert refused.value.errno == errno.ESRCH


@pytest.mark.parametrize("init", [False, True])
def test_what_is_held_and_cannot_be_run_says_so_when_it_is_released(guest: Guest, init: bool) -> None:
    guest.container()
    guest.first("nosuch", hold=True, init=init)
    guest.start("p", "sleep", "1000")
    with pytest.raises(Refused) as refused:
        guest.host.call("process.release", process="first")
    assert (refused.value.errno, refused.value.exec) == (errno.ENOENT, True)
    assert guest.host.exit_of("p")["status"] == 137
    assert [process["id"] for process in guest.host.call("list")["processes"]] == ["p"]


def test_what_is_held_can_be_killed_and_removed(guest: Guest) -> None:
    guest.container()
    guest.first(hold=True)
    guest.start("p", "sleep", "1000")
    guest.host.call("process.signal", process="first", signal=9, all=True)
    assert guest.host.exit_of("first")["status"] == 137
    assert guest.host.exit_of("p")["status"] == 137
    with pytest.raises(Refused) as refused:
        guest.host.call("process.release", process="first")
    assert refused.value.errno == errno.ESRCH
    guest.host.call("process.forget", process="first")
    guest.first(hold=True)
    guest.host.call("container.remove", id="c1")
    assert guest.host.call("list")["processes"] == []


def test_hooks_run_when_it_is_released(guest: Guest) -> None:
    guest.container()
    hooks = [{"path": "/bin/sh", "args": ["sh", "-c", "cat > /tmp/state"], "env": ENV}]
    guest.first(hold=True, hooks=hooks, state='{"id":"c1"}')
    assert guest.sh("cat /tmp/state")[0] == 1
    guest.host.call("process.release", process="first")
    assert guest.sh("cat /tmp/state")[1] == '{"pid":1,"id":"c1"}'


def test_a_terminal_of_one_that_is_held_has_a_size(guest: Guest) -> None:
    guest.container()
    streams = guest.first("stty", "size", tty=True, hold=True)
    guest.host.call("process.resize", process="first", rows=40, columns=120)
    guest.host.call("process.release", process="first")
    assert guest.host.read_all(streams["stdout"]) == b"40 120\r\n"
