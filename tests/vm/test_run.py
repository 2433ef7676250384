"""Stories: what a person does with hyperctl, and sees. Each one boots real guests."""

import hashlib
import json
import os
import pty
import select
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hypercontainer.testing.daemon import PrivateDaemon
from tests import zig
from tests.vm.conftest import ok
from tests.vm.runv import until

pytestmark = pytest.mark.vm

WAIT_S = 300.0


def state(hyper: PrivateDaemon, name: str) -> dict[str, object]:
    document = json.loads(ok(hyper, "inspect", name))[0]
    return dict(document["State"])


# Exit statuses


def taking_a_moment(err: str) -> str:
    """The line that a busy machine has hyperctl begin with, where a template had to be made first."""
    first = err.partition("\n")[0]
    return f"{first}\n" if first.startswith("hyperctl: starting ") and " takes a moment: " in first else ""


def test_output_and_status_reach_the_caller(hyper: PrivateDaemon) -> None:
    done = hyper.ctl("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.status, done.out) == (7, "out\n")
    assert done.err.removeprefix(taking_a_moment(done.err)) == "err\n"


def test_a_signalled_process_reports_128_and_the_signal(hyper: PrivateDaemon) -> None:
    assert hyper.ctl("run", "--rm", "busybox", "sh", "-c", "sh -c 'kill -9 $$'; exit $?").status == 137


def test_a_program_that_does_not_exist_is_127_and_a_folder_is_126(hyper: PrivateDaemon) -> None:
    missing, folder = hyper.ctl("run", "--rm", "busybox", "/no/such"), hyper.ctl("run", "--rm", "busybox", "/etc")
    assert (missing.status, folder.status) == (127, 126)
    assert missing.err.splitlines()[-1] == "hyperctl: cannot run /no/such: No such file or directory"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["-u", "nosuch", "busybox", "true"], "cannot find user nosuch"),
        (["-w", "/etc/passwd", "busybox", "true"], "/etc/passwd"),
        (["--tmpfs", "/etc/passwd", "busybox", "true"], "/etc/passwd"),
        (["--sysctl", "net.ipv4.nosuch=1", "busybox", "true"], "nosuch"),
    ],
)
def test_a_set_up_that_fails_is_125_whatever_its_errno(hyper: PrivateDaemon, words: list[str], why: str) -> None:
    done = hyper.ctl("run", "--rm", *words)
    assert (done.status, done.out) == (125, "") and why in done.err.splitlines()[-1]
    assert "Invalid argument" not in done.err


def test_what_start_and_exec_say_of_what_did_not_start(hyper: PrivateDaemon) -> None:
    """docker's: a failed `start -a` is 1; of an exec, 126 is all that came before its command."""
    ok(hyper, "create", "--name", "failing", "busybox", "/no/such")
    assert hyper.ctl("start", "-a", "failing").status == 1
    assert state(hyper, "failing")["ExitCode"] == 127
    ok(hyper, "run", "-d", "--name", "fine", "busybox", "sleep", "1000")
    for words, status in (
        (["fine", "/no/such"], 127),
        (["fine", "/etc"], 126),
        (["-u", "nosuch", "fine", "true"], 126),
        (["-w", "/no/such", "fine", "true"], 126),
    ):
        assert hyper.ctl("exec", *words).status == status, words
    assert ok(hyper, "exec", "-w", "/etc/../tmp//", "fine", "sh", "-c", 'echo "$PWD"') == "/tmp"
    ok(hyper, "rm", "-f", "failing", "fine")


def test_an_unknown_image_is_our_own_failure(hyper: PrivateDaemon) -> None:
    done = hyper.ctl("run", "--rm", "--pull", "never", "no-such-image", "true")
    assert done.status == 125
    assert "no-such-image" in done.err


# Streams


def test_ten_megabytes_of_stdin_arrive_whole_at_a_slow_reader(hyper: PrivateDaemon) -> None:
    data = os.urandom(1 << 20) * 10
    script = "dd bs=1k count=1 2>/dev/null | md5sum; usleep 300000; md5sum"
    done = hyper.ctl("run", "--rm", "-i", "busybox", "sh", "-c", script, stdin=data)
    first, rest = (line.split()[0] for line in done.out.splitlines())
    assert first == hashlib.md5(data[:1024]).hexdigest()
    assert rest == hashlib.md5(data[1024:]).hexdigest()


def test_ten_megabytes_of_output_arrive_whole(hyper: PrivateDaemon) -> None:
    done = hyper.ctl("run", "--rm", "busybox", "sh", "-c", "yes hyper | head -c 10000000")
    assert len(done.out) == 10_000_000
    assert set(done.out.split("\n")[:-1]) == {"hyper"}


def test_without_i_stdin_is_empty(hyper: PrivateDaemon) -> None:
    unseen = hyper.ctl("run", "--rm", "busybox", "cat", stdin=b"unseen")
    assert unseen == (0, "", taking_a_moment(unseen.err))


class Terminal:
    """hyperctl with a terminal around it."""

    def __init__(self, hyper: PrivateDaemon, *words: str) -> None:
        self.fd, inside = pty.openpty()
        self.process = subprocess.Popen(
            hyper.argv(*words), env=hyper.env, stdin=inside, stdout=inside, stderr=inside, start_new_session=True
        )
        os.close(inside)
        self.seen = ""

    def until(self, text: str) -> None:
        """Read until `text` has been seen, WAIT_S at most between two pieces."""
        while text not in self.seen:
            assert select.select([self.fd], [], [], WAIT_S)[0], f"{text!r} did not come: {self.seen!r}"
            self.seen += os.read(self.fd, 65536).decode(errors="replace")

    def type(self, keys: bytes) -> None:
        os.write(self.fd, keys)


@contextmanager
def terminal(hyper: PrivateDaemon, *words: str) -> Iterator[Terminal]:
    t = Terminal(hyper, *words)
    try:
        yield t
    finally:
        t.process.kill()
        t.process.wait(WAIT_S)
        os.close(t.fd)


def test_a_terminal_has_a_size_and_its_keys_make_signals(hyper: PrivateDaemon) -> None:
    with terminal(hyper, "run", "--rm", "-it", "busybox", "sh") as t:
        t.until("# ")
        t.type(b"tty; stty rows 40 cols 100; stty size\n")
        t.until("40 100")
        assert "/dev/pts/0" in t.seen
        t.type(b"sh -c 'echo it be''gins; sleep 1000'\n")
        t.until("it begins")
        t.type(b"\x03")
        t.type(b"echo status $?\n")
        t.until("status 130")
        t.type(b"exit 3\n")
        assert t.process.wait(WAIT_S) == 3


def test_lines_to_a_terminal_are_carried_many_at_once(hyper: PrivateDaemon) -> None:
    """A switch to the worker that carries them and back for each line took three quarters of the time."""
    lines, switches = 20_000, "grep ctxt /proc/stat"
    ok(hyper, "run", "-d", "--name", "c", "busybox", "sleep", "1000")
    out = ok(hyper, "exec", "-t", "c", "sh", "-c", f"{switches}; seq 1 {lines}; {switches}").split("\r\n")
    assert out[1:-1] == [str(n) for n in range(1, lines + 1)]
    before, after = (int(line.split()[1]) for line in (out[0], out[-1]))
    assert after - before < lines


def test_detach_keys_leave_the_container_running(hyper: PrivateDaemon) -> None:
    with terminal(hyper, "run", "-it", "--name", "kept", "busybox", "sh") as t:
        t.until("# ")
        t.type(b"\x10\x11")
        assert t.process.wait(WAIT_S) == 0
    assert state(hyper, "kept")["Running"] is True


# What the process sees


def test_environment_folder_user_and_host_name(hyper: PrivateDaemon) -> None:
    words = ["-e", "A=1 2", "-w", "/tmp", "-u", "www:staff", "--hostname", "box"]
    out = ok(
        hyper, "run", "--rm", *words, "busybox", "sh", "-c", 'echo "$A|$PWD|$(id -un):$(id -gn)|$(hostname)|$HOME"'
    )
    assert out == "1 2|/tmp|www:staff|box|/www"


def test_a_domain_name(hyper: PrivateDaemon) -> None:
    words = ["--hostname", "box", "--domainname", "example.com"]
    out = ok(
        hyper, "run", "--rm", *words, "busybox", "sh", "-c",
        "hostname; cat /proc/sys/kernel/domainname; grep -o 'box.*' /etc/hosts | head -1",
    )  # fmt: skip
    assert out == "box\nexample.com\nbox.example.com box"


def test_devices_that_every_machine_has(hyper: PrivateDaemon) -> None:
    mount = "exec 3<>/dev/fuse; mount -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 none /mnt"
    words = ["--device", "/dev/fuse", "--device", "/dev/kmsg", "--cap-add", "SYS_ADMIN"]
    out = ok(
        hyper,
        "run",
        "--rm",
        *words,
        "busybox",
        "sh",
        "-c",
        f"mkdir /mnt; {mount}; grep -c fuse /proc/mounts; ls -l /dev/kmsg | cut -c 1-10",
    )
    assert out == "1\ncrw-r--r--"
    assert ok(hyper, "run", "--rm", "busybox", "sh", "-c", "ls /dev | grep -c -e fuse -e kmsg; true") == "0"
    refused = hyper.ctl("create", "--device", "/dev/sda", "busybox")
    assert refused.status == 1 and "a virtual machine has no devices of the host" in refused.err


def test_the_kernel_is_not_the_hosts(hyper: PrivateDaemon) -> None:
    assert ok(hyper, "run", "--rm", "busybox", "uname", "-r") != os.uname().release


def test_a_read_only_root_takes_no_writes_but_tmpfs_does(hyper: PrivateDaemon) -> None:
    script = "touch /x 2>/dev/null || echo refused; touch /scratch/x && echo taken"
    out = ok(hyper, "run", "--rm", "--read-only", "--tmpfs", "/scratch", "busybox", "sh", "-c", script)
    assert out.split() == ["refused", "taken"]


def test_limits_hold(hyper: PrivateDaemon) -> None:
    options = ["--memory", "160m", "--ulimit", "nofile=99:99", "--sysctl", "net.ipv4.ip_forward=1"]
    script = "ulimit -n; cat /proc/sys/net/ipv4/ip_forward; tail /dev/zero"
    done = hyper.ctl("run", "--name", "small", *options, "busybox", "sh", "-c", script)
    assert done.out.split() == ["99", "1"]
    assert done.status == 137
    assert state(hyper, "small")["OOMKilled"] is True
    said = "killed: out of memory (limit 160 MiB: give it more with -m)"
    assert (done.err.splitlines()[-1], state(hyper, "small")["Error"]) == (f"hyperctl: {said}", said)


def test_who_runs_out_of_memory_takes_nobody_along(hyper: PrivateDaemon) -> None:
    """The machine's memory or the container's limit: the agent and the next command go on."""
    eat = "sh -c 'tail /dev/zero'; echo $?; sleep 1000"
    for name, limit in (("whole", "160m"), ("part", "32m")):
        ok(hyper, "run", "-d", "--name", name, "-m", limit, "busybox", "sh", "-c", eat)
        done = hyper.ctl("exec", name, "tail", "/dev/zero")
        assert (done.status, done.err.partition(" (")[0]) == (137, "hyperctl: killed: out of memory")
        assert ok(hyper, "exec", name, "echo", "well").strip() == "well"


def test_a_kernel_that_finds_nobody_to_kill_for_memory_names_the_limit(hyper: PrivateDaemon) -> None:
    """A privileged process may say that it is not to be killed."""
    eat = "echo -1000 > /proc/self/oom_score_adj && exec tail /dev/zero"
    done = hyper.ctl("run", "--name", "full", "--privileged", "busybox", "sh", "-c", eat)
    said = f"ended: out of memory (limit {hyper.settings['memory_mib']} MiB: give it more with -m): guest kernel panic:"
    assert (done.status, said in done.err) == (125, True), done
    ended = state(hyper, "full")
    assert (ended["ExitCode"], ended["OOMKilled"], said in str(ended["Error"])) == (255, True, True), ended


def test_a_user_may_what_users_of_dockers_containers_may(hyper: PrivateDaemon) -> None:
    script = """
        httpd -p 80 -h /www && wget -q -O - http://127.0.0.1:80/ | head -c 4; echo
        cat /proc/sys/net/ipv4/ping_group_range
        ulimit -Sn; ulimit -Hn; grep -c 'processes *unlimited' /proc/self/limits
        cat /proc/sys/fs/inotify/max_user_watches /proc/sys/fs/inotify/max_user_instances
        grep Groups: /proc/self/status"""
    out = ok(hyper, "run", "--rm", "-u", "1000:1000", "busybox", "sh", "-c", script).split()
    limits = ["1048576", "1048576", "1", "1048576", "1024"]
    assert out == ["<h1>", "0", "2147483647", *limits, "Groups:", "1000"]


def test_the_name_is_in_the_environment(hyper: PrivateDaemon) -> None:
    ask = ["sh", "-c", "echo $HOSTNAME $(hostname) $TERM"]
    assert ok(hyper, "run", "--rm", "-h", "mine", "busybox", *ask).split() == ["mine", "mine"]
    identity = ok(hyper, "run", "-d", "--name", "c", "busybox", "sleep", "1000")[:12]
    assert ok(hyper, "exec", "c", *ask).split() == [identity, identity]
    assert ok(hyper, "exec", "-t", "c", *ask).split() == [identity, identity, "xterm"]
    [fork] = ok(hyper, "fork", "c").split()
    assert ok(hyper, "exec", fork, *ask).split() == [fork[:12]] * 2
    assert ok(hyper, "exec", "-e", "HOSTNAME=x", "c", *ask).split() == ["x", identity]


def test_capabilities_are_dockers_and_can_be_dropped(hyper: PrivateDaemon) -> None:
    read = ["busybox", "sh", "-c", "grep CapEff /proc/self/status"]
    assert ok(hyper, "run", "--rm", *read).split()[1] == "00000000a80425fb"
    assert ok(hyper, "run", "--rm", "--cap-drop", "ALL", *read).split()[1] == "0000000000000000"


# Files of the host


def test_a_folder_of_the_host_is_seen_by_both_sides(hyper: PrivateDaemon, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("from the host\n")
    out = ok(
        hyper, "run", "--rm", "-v", f"{tmp_path}:/data", "busybox", "sh", "-c", "cat /data/in; echo back > /data/out"
    )
    assert (out, (tmp_path / "out").read_text()) == ("from the host", "back\n")


def test_a_read_only_folder_stays_as_it_is(hyper: PrivateDaemon, tmp_path: Path) -> None:
    script = "touch /data/x || mount -o remount,rw /data; touch /data/x"
    done = hyper.ctl("run", "--rm", "--privileged", "-v", f"{tmp_path}:/data:ro", "busybox", "sh", "-c", script)
    assert done.status != 0
    assert list(tmp_path.iterdir()) == []


def test_a_volume_starts_with_the_images_files_and_keeps_its_own(hyper: PrivateDaemon) -> None:
    ok(
        hyper,
        "run",
        "--rm",
        "-v",
        "pages:/www",
        "busybox",
        "sh",
        "-c",
        "test -s /www/index.html && echo more > /www/more",
    )
    assert ok(hyper, "run", "--rm", "-v", "pages:/mnt", "busybox", "ls", "/mnt").split() == ["index.html", "more"]
    ok(hyper, "volume", "rm", "pages")


# Network


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def fetch(url: str) -> str:
    """The page, once the server has begun to listen."""
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=WAIT_S) as page:
                return str(page.read().decode())
        except OSError:
            if time.monotonic() > deadline:
                raise


def test_a_published_port_leads_to_the_server(hyper: PrivateDaemon) -> None:
    port = free_port(socket.SOCK_STREAM)
    ok(hyper, "run", "-d", "--name", "web", "-p", f"127.0.0.1:{port}:80", "busybox", "httpd", "-f", "-h", "/www")
    assert "virtual machine" in fetch(f"http://127.0.0.1:{port}/")
    assert ok(hyper, "port", "web").endswith(f"127.0.0.1:{port}")


UDP_ECHO = """
#include <arpa/inet.h>
int main(void) {
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(7000) };
    socklen_t n = sizeof a;
    char b[100];
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    bind(s, (void *)&a, n);
    for (;;) {
        long size = recvfrom(s, b, sizeof b, 0, (void *)&a, &n);
        sendto(s, b, size, 0, (void *)&a, n);
    }
}
"""


@pytest.fixture
def udp_echo(tmp_path: Path) -> Path:
    """A folder with the program `echo`: busybox has no server for datagrams."""
    (tmp_path / "echo.c").write_text(UDP_ECHO)
    zig.program(tmp_path / "echo", tmp_path / "echo.c")
    return tmp_path


def test_a_published_udp_port_carries_datagrams(hyper: PrivateDaemon, udp_echo: Path) -> None:
    port = free_port(socket.SOCK_DGRAM)
    options = ["-p", f"127.0.0.1:{port}:7000/udp", "-v", f"{udp_echo}:/programs:ro"]
    ok(hyper, "run", "-d", "--name", "echo", *options, "busybox", "/programs/echo")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(0.5)
        for _ in range(60):
            s.sendto(b"ping", ("127.0.0.1", port))
            try:
                assert s.recv(100) == b"ping"
                return
            except OSError:
                continue  # it does not listen yet
    pytest.fail("no datagram came back")


def test_a_port_in_use_is_said_before_anything_boots(hyper: PrivateDaemon) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        done = hyper.ctl("run", "--rm", "-p", f"127.0.0.1:{port}:80", "busybox", "true")
    assert done.status == 125
    assert str(port) in done.err


def test_without_a_network_there_is_only_loopback(hyper: PrivateDaemon) -> None:
    assert ok(hyper, "run", "--rm", "--network", "none", "busybox", "ls", "/sys/class/net").split() == ["lo"]


def test_two_machines_reach_each_other_by_address(hyper: PrivateDaemon) -> None:
    ok(hyper, "run", "-d", "--name", "server", "busybox", "httpd", "-f", "-h", "/www")
    address = ok(hyper, "inspect", "--format", "{{.NetworkSettings.IPAddress}}", "server")
    fetched = ok(hyper, "run", "--rm", "busybox", "wget", "-q", "-O", "-", f"http://{address}/")
    assert "virtual machine" in fetched


# A life


def test_exec_logs_stop_start_and_rm(hyper: PrivateDaemon) -> None:
    ok(
        hyper,
        "run",
        "-d",
        "--name",
        "c",
        "busybox",
        "sh",
        "-c",
        "trap 'exit 5' TERM; echo begun; while :; do sleep 1; done",
    )
    until(lambda: ok(hyper, "logs", "c").split() == ["begun"])
    assert ok(hyper, "exec", "c", "sh", "-c", "echo kept > /kept; cat /kept") == "kept"
    assert hyper.ctl("exec", "c", "sh", "-c", "exit 9").status == 9
    assert ok(hyper, "exec", "-i", "c", "md5sum", stdin=b"abc") == "900150983cd24fb0d6963f7d28e17f72  -"
    assert hyper.ctl("rm", "c").status == 1
    ok(hyper, "stop", "c")
    assert (state(hyper, "c")["ExitCode"], state(hyper, "c")["Status"]) == (5, "exited")
    ok(hyper, "start", "c")
    assert ok(hyper, "exec", "c", "cat", "/kept") == "kept"
    until(lambda: ok(hyper, "logs", "c").split() == ["begun", "begun"])
    ok(hyper, "rm", "-f", "c")
    assert hyper.ctl("inspect", "--type", "container", "c").status == 1


def test_logs_follow_until_the_end(hyper: PrivateDaemon) -> None:
    script = "for i in 1 2 3; do echo line $i; sleep 0.2; done; echo oops >&2"
    ok(hyper, "run", "-d", "--name", "talks", "busybox", "sh", "-c", script)
    followed = hyper.ctl("logs", "-f", "talks")
    assert followed.out == "line 1\nline 2\nline 3\n"
    assert followed.err == "oops\n"
    assert ok(hyper, "logs", "--tail", "1", "talks") == ""  # the last line went to stderr
    assert ok(hyper, "wait", "talks") == "0"


def test_copy_in_and_out(hyper: PrivateDaemon, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/file").write_text("copied\n")
    ok(hyper, "run", "-d", "--name", "c", "busybox", "sleep", "1000")
    ok(hyper, "cp", f"{tmp_path}/a", "c:/srv")
    assert ok(hyper, "exec", "c", "cat", "/srv/file") == "copied"
    ok(hyper, "cp", "c:/srv/file", f"{tmp_path}/back")
    assert (tmp_path / "back").read_text() == "copied\n"
    ok(hyper, "exec", "c", "ln", "-s", "/srv/file", "/tmp/.bashrc")
    ok(hyper, "exec", "c", "ln", "-s", "/tmp/.bashrc", "/tmp/log")
    (tmp_path / "into").mkdir()
    for source in ("c:/srv/.", "c:srv", "c:/srv/", "c:/tmp/../srv"):
        ok(hyper, "cp", source, f"{tmp_path}/into")
    ok(hyper, "cp", "-L", "c:/tmp/log", f"{tmp_path}/into/")
    found = {str(path.relative_to(tmp_path / "into")) for path in (tmp_path / "into").rglob("*")}
    assert found == {"file", "srv", "srv/file", "log"}


def test_pause_stops_the_clockwork_and_unpause_lets_it_go_on(hyper: PrivateDaemon) -> None:
    ok(hyper, "run", "-d", "--name", "c", "busybox", "sleep", "1000")
    ok(hyper, "pause", "c")
    assert state(hyper, "c")["Status"] == "paused"
    assert hyper.ctl("exec", "c", "true").status == 1
    ok(hyper, "unpause", "c")
    assert hyper.ctl("exec", "c", "true").status == 0


def test_more_of_dockers_words_reach_the_guest(hyper: PrivateDaemon) -> None:
    ok(hyper, "run", "-d", "--name", "web", "-v", "/data", "--expose", "80", "-P", "busybox", "sleep", "1000")
    [(inside, outside)] = json.loads(ok(hyper, "inspect", "web"))[0]["NetworkSettings"]["Ports"].items()
    assert inside == "80/tcp" and int(outside[0]["HostPort"]) > 0
    ok(hyper, "exec", "web", "sh", "-c", "echo theirs >/data/file")
    words = ["--group-add", "44", "--oom-score-adj", "100", "--add-host", "up:host-gateway", "--volumes-from", "web:ro"]
    script = "id -G; cat /proc/self/oom_score_adj /data/file; grep up /etc/hosts; ip route | grep default; >/data/x"
    done = hyper.ctl("run", "--rm", *words, "busybox", "sh", "-c", script)
    groups, score, file, host, route = done.out.splitlines()
    assert ("44" in groups.split(), score, file) == (True, "100", "theirs")
    assert host.split()[0] == route.split()[2]
    assert "Read-only file system" in done.err


def test_restart_on_failure_tries_as_often_as_it_was_told(hyper: PrivateDaemon) -> None:
    ok(hyper, "run", "-d", "--name", "fails", "--restart", "on-failure:2", "busybox", "sh", "-c", "echo try; exit 1")
    while state(hyper, "fails")["Status"] != "exited":
        assert ok(hyper, "wait", "fails") == "1"  # of one try: as with docker, each end is an end
    assert ok(hyper, "logs", "fails").split() == ["try"] * 3
    document = json.loads(ok(hyper, "inspect", "fails"))[0]
    assert document["RestartCount"] == 2


def test_restart_always_brings_back_what_ended(hyper: PrivateDaemon) -> None:
    ok(hyper, "run", "-d", "--name", "lives", "--restart", "always", "busybox", "sh", "-c", "echo up; sleep 0.1")
    follower = subprocess.Popen(hyper.argv("logs", "-f", "lives"), env=hyper.env, stdout=subprocess.PIPE)
    try:
        assert follower.stdout is not None
        assert [follower.stdout.readline() for _ in range(3)] == [b"up\n"] * 3
    finally:
        follower.kill()
        follower.communicate(timeout=WAIT_S)
    ok(hyper, "stop", "lives")
    assert state(hyper, "lives")["Status"] == "exited"


# Pods


def test_containers_of_a_pod_share_its_network_and_nothing_else(hyper: PrivateDaemon, tmp_path: Path) -> None:
    pod = {
        "name": "two",
        "containers": [
            {"name": "server", "image": "busybox", "command": ["httpd", "-f", "-h", "/www"]},
            {"name": "client", "image": "busybox", "command": ["sleep", "1000"]},
        ],
    }
    (tmp_path / "pod.yaml").write_text(json.dumps(pod))  # JSON is YAML
    ok(hyper, "pod", "run", "-f", str(tmp_path / "pod.yaml"))
    ok(hyper, "exec", "server", "touch", "/only-here")
    assert "virtual machine" in ok(hyper, "exec", "client", "wget", "-q", "-O", "-", "http://127.0.0.1/")
    assert hyper.ctl("exec", "client", "test", "-e", "/only-here").status == 1
    assert "httpd" not in ok(hyper, "exec", "client", "ps")
    ok(hyper, "pod", "rm", "-f", "two")


# The daemon dies


def test_a_killed_hyperd_loses_neither_output_nor_status(hyper: PrivateDaemon) -> None:
    script = (
        "for i in $(seq 1 2000); do echo $i; done; read go < /fifo; for i in $(seq 2001 4000); do echo $i; done; exit 6"
    )
    ok(hyper, "run", "-d", "--name", "goes-on", "busybox", "sh", "-c", f"mkfifo /fifo; {script}")
    hyper.signal(signal.SIGKILL)
    hyper.start()
    ok(hyper, "exec", "goes-on", "sh", "-c", "echo go > /fifo")
    assert ok(hyper, "wait", "goes-on") == "6"
    assert ok(hyper, "logs", "goes-on").split() == [str(i) for i in range(1, 4001)]


def test_what_ends_while_no_hyperd_runs_is_known_to_the_next(hyper: PrivateDaemon) -> None:
    ok(hyper, "run", "-d", "--name", "ends", "busybox", "sh", "-c", "sleep 1; echo last words; exit 4")
    vmm = json.loads(ok(hyper, "inspect", "ends"))[0]["Vm"]["Pid"]
    hyper.signal(signal.SIGKILL)
    hyper.start()
    assert ok(hyper, "wait", "ends") == "4"
    assert ok(hyper, "logs", "ends") == "last words"
    assert vmm


def test_a_killed_vmm_is_named_as_the_cause(hyper: PrivateDaemon) -> None:
    ok(hyper, "run", "-d", "--name", "struck", "busybox", "sleep", "1000")
    os.kill(json.loads(ok(hyper, "inspect", "struck"))[0]["Vm"]["Pid"], signal.SIGKILL)
    ok(hyper, "wait", "struck")
    assert state(hyper, "struck")["Running"] is False
    assert "signal 9" in str(state(hyper, "struck")["Error"])
