"""docker with runv as the runtime: what dockerd makes of it, beside runc."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercontainer.testing.daemon import PrivateDaemon, Result
from tests.interop.dockerd import DOCKERD, Dockerd, dockerd

pytestmark = [
    pytest.mark.interop,
    pytest.mark.docker,
    pytest.mark.vm,
    pytest.mark.skipif(not DOCKERD.exists(), reason="there is no dockerd: run `make interop`"),
]


NAMESERVER = Path(__file__).with_name("programs") / "nameserver.py"


class Docker:
    """One dockerd, whose containers run by runv unless another runtime is said."""

    def __init__(self, daemon: Dockerd, hyper: PrivateDaemon) -> None:
        self.daemon, self.hyper = daemon, hyper

    def __call__(self, *words: str, stdin: bytes = b"") -> Result:
        argv = self.daemon.argv(*words)
        done = subprocess.run(argv, env=self.daemon.env, input=stdin, capture_output=True, timeout=600)
        return Result(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def ok(self, *words: str, stdin: bytes = b"") -> str:
        done = self(*words, stdin=stdin)
        assert done.status == 0, (words, done)
        return done.out.strip()


@pytest.fixture(scope="module")
def docker(shared_hyperd: PrivateDaemon, busybox_archive: Path) -> Iterator[Docker]:
    env = {"HYPER_OCI_HOST": f"unix://{shared_hyperd.folder}/hyper-oci.sock"}
    flags = ["--add-runtime", f"runv={shared_hyperd.bin}/runv", "--default-runtime", "runv"]
    with dockerd(network=True, flags=flags, env=env) as daemon:
        docker = Docker(daemon, shared_hyperd)
        docker.ok("load", "-q", "-i", str(busybox_archive))
        yield docker


@pytest.mark.parametrize(
    ("words", "stdin"),
    [
        (["busybox", "sh", "-c", "echo out; echo err >&2; exit 42"], b""),
        (["-i", "busybox", "wc", "-c"], b"x" * 100_000),
        (["-t", "busybox", "tty"], b""),
        (["-e", "A=b", "-w", "/tmp", "-u", "33:50", "busybox", "sh", "-c", "echo $A; pwd; id -u; id -g"], b""),
        (["--hostname", "there", "busybox", "hostname"], b""),
        (["--read-only", "busybox", "touch", "/x"], b""),
        (["--tmpfs", "/t:size=1m", "busybox", "sh", "-c", "df -m /t | tail -1 | awk '{print $2}'"], b""),
        (["--shm-size", "7m", "busybox", "sh", "-c", "df -m /dev/shm | tail -1 | awk '{print $2}'"], b""),
        (["--cap-drop", "ALL", "busybox", "chown", "33", "/tmp"], b""),
        (["--ulimit", "nofile=77:88", "busybox", "sh", "-c", "ulimit -n; ulimit -Hn"], b""),
        (["--sysctl", "net.ipv4.ip_default_ttl=77", "busybox", "cat", "/proc/sys/net/ipv4/ip_default_ttl"], b""),
        (["busybox", "sh", "-c", "kill -TERM $$"], b""),
        (["busybox", "cat", "/etc/hostname", "/nosuchfile"], b""),
        (["busybox", "ip", "-4", "route", "show", "default"], b""),
    ],
)
def test_a_run_is_what_it_is_with_runc(docker: Docker, words: list[str], stdin: bytes) -> None:
    def run(*flags: str) -> Result:
        return docker("run", "--rm", *flags, "--name", "same", "--hostname", "same", *words, stdin=stdin)

    assert run() == run("--runtime", "runc")


def test_what_cannot_be_run_has_dockers_status(docker: Docker) -> None:
    assert docker("run", "--rm", "busybox", "nosuch").status == 127
    assert docker("run", "--rm", "busybox", "/etc").status == 126
    refused = docker("run", "--rm", "--network", "host", "busybox", "true")
    assert refused.status != 0 and "network namespace" in refused.err
    assert docker.ok("ps", "-a", "-q") == ""


def test_a_life(docker: Docker) -> None:
    docker.ok("run", "-d", "--name", "life", "-m", "200m", "-v", "kept:/kept", "busybox", "sleep", "1000")
    try:
        assert docker.ok("exec", "life", "uname", "-r") != docker.ok("info", "-f", "{{.KernelVersion}}")
        assert docker("exec", "-i", "life", "sh", "-c", "cat >/kept/file; exit 9", stdin=b"words").status == 9
        assert docker.ok("exec", "life", "cat", "/kept/file") == "words"
        docker.ok("pause", "life")
        assert "(Paused)" in docker.ok("ps", "--format", "{{.Status}}")
        docker.ok("unpause", "life")
        docker.ok("stop", "-t", "1", "life")
        assert docker.ok("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "life") == "exited 137"
        docker.ok("start", "life")
        assert docker.ok("exec", "life", "cat", "/kept/file") == "words"
    finally:
        docker("rm", "-f", "-v", "life")
        docker("volume", "rm", "kept")


def test_statistics_are_of_the_machine(docker: Docker) -> None:
    """docker reads the control group that the container is in."""

    def shown(*names: str) -> list[str]:
        words = " ".join(f"{{{{.{name}}}}}" for name in names)
        return docker.ok("stats", "--no-stream", "--format", words, "burns").split()

    script = "head -c 100000000 /dev/zero >/dev/shm/file; echo >/dev/shm/filled; while :; do :; done"
    docker.ok("run", "-d", "--name", "burns", "--shm-size", "120m", "-m", "200m", "busybox", "sh", "-c", script)
    try:
        until(docker, "test -s /dev/shm/filled", of="burns")
        processor, processes, used, _, limit = shown("CPUPerc", "PIDs", "MemUsage")
        assert float(processor.rstrip("%")) > 10  # some would be 90 where nobody else wants a processor
        # of 95, less what the machine had been given before that
        assert int(processes) > 1 and "MiB" in used and float(used.rstrip("MiB")) > 70
        assert limit == "512MiB"  # the usual machine, and what a VMM needs
        docker.ok("update", "-m", "400m", "--memory-swap", "400m", "burns")
        assert shown("MemUsage")[2] == "656MiB"
    finally:
        docker("rm", "-f", "burns")


def test_two_on_a_network(docker: Docker) -> None:
    docker.ok("network", "create", "front")
    try:
        docker.ok("run", "-d", "--name", "web", "--network", "front", "busybox", "httpd", "-f", "-h", "/www")
        address = docker.ok("inspect", "-f", "{{.NetworkSettings.Networks.front.IPAddress}}", "web")
        page = docker.ok("run", "--rm", "--network", "front", "busybox", "wget", "-q", "-O", "-", f"http://{address}/")
        assert "virtual machine" in page
    finally:
        docker("rm", "-f", "web")
        docker("network", "rm", "front")


def test_two_on_a_network_with_names(docker: Docker) -> None:
    """By UDP and TCP, also when another hyperd has come."""
    docker.ok("network", "create", "named")
    try:
        docker.ok("run", "-d", "--name", "web", "--network", "named", "busybox", "httpd", "-f", "-h", "/www")
        docker.ok("run", "-d", "--name", "asker", "--network", "named", "busybox", "sleep", "1000")
        address = docker.ok("inspect", "-f", "{{.NetworkSettings.Networks.named.IPAddress}}", "web")
        page = docker.ok("exec", "asker", "wget", "-q", "-O", "-", "http://web/")
        assert "virtual machine" in page
        assert f"Address: {address}" in docker.ok("exec", "asker", "nslookup", "-type=a", "web")
        # what TCP takes: length, head, one question of the address of "web"; the address ends the answer
        asked = r"\0\041\0\01\01\0\0\01\0\0\0\0\0\0\03web\0\0\01\0\01".replace(r"\041", r"\025")
        script = f"(printf '{asked}'; sleep 2) | nc 127.0.0.11 53 | tail -c 4 | od -An -tu1 | xargs | tr ' ' ."
        assert docker.ok("exec", "asker", "sh", "-c", script) == address
        docker.hyper.signal(signal.SIGKILL)
        docker.hyper.start()
        assert f"Address: {address}" in docker.ok("exec", "asker", "nslookup", "-type=a", "web")
    finally:
        docker("rm", "-f", "web", "asker")
        docker("network", "rm", "named")


def test_names_that_docker_asks_others_for(docker: Docker) -> None:
    """From the container's namespace, whose interfaces are the guest's."""
    docker.ok("network", "create", "named")
    argv = [*docker.daemon.inside, sys.executable, str(NAMESERVER)]
    try:
        gateway = docker.ok("network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "named")
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as nameserver:
            try:
                assert nameserver.stdout and nameserver.stdout.readline()
                words = ["run", "--rm", "--network", "named", "--dns", gateway, "busybox", "nslookup", "-type=a"]
                assert "Address: 192.0.2.7" in docker.ok(*words, "elsewhere.example")
            finally:
                nameserver.kill()
    finally:
        docker("network", "rm", "named")


def test_hyperd_may_die(docker: Docker) -> None:
    script = "while read line; do echo got $line; done"
    argv = docker.daemon.argv("run", "--rm", "-i", "busybox", "sh", "-c", script)
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, env=docker.daemon.env, stdin=pipe, stdout=pipe) as client:
        assert client.stdin and client.stdout
        client.stdin.write(b"1\n")
        client.stdin.flush()
        assert client.stdout.readline() == b"got 1\n"
        while not docker.ok("ps", "-q"):  # dockerd has not been told of its start
            continue
        docker.hyper.signal(signal.SIGKILL)
        client.stdin.write(b"2\n")
        client.stdin.flush()
        docker.hyper.start()
        assert client.stdout.readline() == b"got 2\n"
        client.stdin.close()
        assert client.wait(600) == 0


def test_who_shares_a_network_is_in_the_same_machine(docker: Docker) -> None:
    docker.ok("run", "-d", "--name", "web", "--ipc", "shareable", "-m", "200m", "busybox", "httpd", "-f", "-h", "/etc")
    try:
        docker.ok("exec", "web", "sh", "-c", "echo words >/dev/shm/file")
        beside = ("run", "--rm", "--network", "container:web")
        assert docker.ok(*beside, "busybox", "wget", "-q", "-O", "-", "http://127.0.0.1/hostname")
        boots = [docker.ok(*words, "cat", "/proc/sys/kernel/random/boot_id") for words in (
            ("exec", "web"), (*beside, "busybox"), ("run", "--rm", "busybox"))]  # fmt: skip
        assert boots[0] == boots[1] != boots[2]
        # memory and processes are each one's own, unless it is said
        assert docker(*beside, "busybox", "ls", "/dev/shm/file").status == 1
        assert docker.ok(*beside, "--ipc", "container:web", "busybox", "cat", "/dev/shm/file") == "words"
        assert "httpd" not in docker.ok(*beside, "busybox", "ps")
        assert "httpd" in docker.ok(*beside, "--pid", "container:web", "busybox", "ps")
        memory = int(docker.ok("exec", "web", "sh", "-c", "free -m | awk '/Mem:/ {print $2}'"))
        docker.ok(*beside, "-m", "900m", "busybox", "true")
        assert int(docker.ok("exec", "web", "sh", "-c", "free -m | awk '/Mem:/ {print $2}'")) >= memory + 500
        refused = docker("run", "--rm", "--pid", "container:web", "busybox", "true")
        assert refused.status == 125 and "give it that one's network namespace as well" in refused.err
    finally:
        docker("rm", "-f", "web")


def test_who_shares_a_network_may_outlive_whose_it_was(docker: Docker) -> None:
    docker.ok("network", "create", "back")
    try:
        docker.ok("run", "-d", "--name", "other", "--network", "back", "busybox", "sleep", "1000")
        docker.ok("run", "-d", "--name", "first", "--network", "back", "busybox", "sleep", "1000")
        docker.ok("run", "-d", "--name", "second", "--network", "container:first", "busybox", "sleep", "1000")
        docker.ok("rm", "-f", "first")
        assert docker.ok("exec", "second", "echo", "there") == "there"
        docker.hyper.signal(signal.SIGKILL)
        docker.hyper.start()
        assert docker.ok("exec", "second", "echo", "there") == "there"
    finally:
        docker("rm", "-f", "first", "second", "other")
        docker("network", "rm", "back")


def until(docker: Docker, script: str, *, of: str) -> None:
    """Wait in the container until that is true there; a failure shows its network."""
    done = docker("exec", of, "sh", "-c", f"for n in $(seq 300); do {script} && exit; sleep 0.2; done; exit 1")
    assert done.status == 0, docker("exec", of, "sh", "-c", f"ip addr; ip route; {script}")


def test_networks_come_and_go_while_it_runs(docker: Docker) -> None:
    for network in ("one", "two"):
        docker.ok("network", "create", network)
    try:
        docker.ok("run", "-d", "--name", "web", "--network", "two", "busybox", "httpd", "-f", "-h", "/www")
        docker.ok("run", "-d", "--name", "mover", "--network", "one", "busybox", "sleep", "1000")
        links, asks = "[ $(ip -o link | wc -l) = {} ]", "wget -q -O - http://web/ | grep -q machine"
        for _ in range(2):
            docker.ok("network", "connect", "two", "mover")
            until(docker, f"{links.format(3)} && {asks}", of="mover")
            docker.ok("network", "disconnect", "two", "mover")
            until(docker, links.format(2), of="mover")
        docker.hyper.signal(signal.SIGKILL)
        docker.ok("network", "connect", "two", "mover")  # nobody is there to see that
        docker.hyper.start()
        until(docker, asks, of="mover")
        docker.ok("network", "disconnect", "one", "mover")
        until(docker, f"{links.format(2)} && ip route | grep -q default && {asks}", of="mover")
        docker.ok("network", "disconnect", "two", "mover")
        until(docker, links.format(1), of="mover")
        docker.ok("network", "connect", "two", "mover")
        until(docker, asks, of="mover")
    finally:
        docker("rm", "-f", "web", "mover")
        for network in ("one", "two"):
            docker("network", "rm", network)


def test_from_no_network_to_one_with_names(docker: Docker) -> None:
    docker.ok("network", "create", "late")
    try:
        docker.ok("run", "-d", "--name", "web", "--network", "late", "busybox", "httpd", "-f", "-h", "/www")
        docker.ok("run", "-d", "--name", "lone", "--network", "none", "busybox", "sleep", "1000")
        assert docker("exec", "lone", "ip", "route").out == ""
        docker.ok("network", "disconnect", "none", "lone")
        docker.ok("network", "connect", "late", "lone")
        until(docker, "wget -q -O - http://web/ | grep -q machine", of="lone")
        assert "nameserver 127.0.0.11" in docker.ok("exec", "lone", "cat", "/etc/resolv.conf")
    finally:
        docker("rm", "-f", "web", "lone")
        docker("network", "rm", "late")


@pytest.fixture(scope="module")
def restored(shared_hyperd: PrivateDaemon, busybox_archive: Path) -> Iterator[Docker]:
    """A dockerd that leaves its containers running when it ends."""
    env = {"HYPER_OCI_HOST": f"unix://{shared_hyperd.folder}/hyper-oci.sock"}
    flags = ["--add-runtime", f"runv={shared_hyperd.bin}/runv", "--live-restore"]
    with dockerd(network=True, flags=flags, env=env) as daemon:
        docker = Docker(daemon, shared_hyperd)
        docker.ok("load", "-q", "-i", str(busybox_archive))
        yield docker


@pytest.mark.parametrize("runtime", ["runc", "runv"])
def test_a_container_lives_through_another_dockerd(restored: Docker, runtime: str) -> None:
    """And through another hyperd, which came in the meantime."""
    docker, script = restored, "mkfifo /p; echo ready; while :; do read line </p && echo got $line; done"
    docker.ok("run", "-d", "--name", "on", "--runtime", runtime, "busybox", "sh", "-c", script)

    def says(line: str) -> None:
        with subprocess.Popen(docker.daemon.argv("logs", "-f", "on"), stdout=subprocess.PIPE, text=True) as logs:
            assert logs.stdout
            assert any(found.strip() == line for found in logs.stdout)
            logs.kill()

    def hyperd_dies() -> None:
        docker.hyper.signal(signal.SIGKILL)
        docker.hyper.start()

    try:
        says("ready")
        docker.ok("exec", "on", "sh", "-c", "echo before >/p")
        says("got before")
        docker.daemon.restart(hyperd_dies)
        assert docker.ok("inspect", "-f", "{{.State.Status}} {{.RestartCount}}", "on") == "running 0"
        docker.ok("exec", "on", "sh", "-c", "echo after >/p")
        says("got after")
        assert docker.ok("logs", "on").split("\n") == ["ready", "got before", "got after"]
        docker.ok("stop", "-t", "0", "on")
        assert docker.ok("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "on") == "exited 137"
    finally:
        docker("rm", "-f", "on")


def test_a_machine_that_dies_is_followed_by_another_one(docker: Docker) -> None:
    """SIGKILL of QEMU, with docker's policy for a restart."""
    docker.ok("run", "-d", "--name", "again", "--restart", "always", "busybox", "sh", "-c", "echo begun; sleep 1000")

    def begun(times: int) -> None:
        while docker.ok("logs", "again").split() != ["begun"] * times:
            pass  # a log that is followed ends with the container

    try:
        begun(1)
        files = [file for file in (docker.hyper.folder / "run/pods").glob("*/qemu.pid") if "-" not in file.parent.name]
        [vmm] = [int(file.read_text().splitlines()[1].split()[0]) for file in files]  # others wait in the pool
        os.kill(vmm, signal.SIGKILL)
        begun(2)
        assert docker.ok("inspect", "-f", "{{.State.Running}} {{.RestartCount}}", "again") == "true 1"
    finally:
        docker("rm", "-f", "again")
