"""The docker CLI, unchanged, against hyperd: what it prints, what it ends with, and what it did."""

import asyncio
import io
import json
import os
import shutil
import subprocess
import tarfile
import time
from contextlib import closing
from pathlib import Path

import pytest

from hypercontainer.testing.daemon import PrivateDaemon
from tests.interop.docker_cli import CLIS, DockerCli
from tests.interop.registries import docker_registry

pytestmark = [
    pytest.mark.interop,
    pytest.mark.docker,
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="hyperd is root's"),
    pytest.mark.skipif(not CLIS, reason="there is no docker CLI: run `make interop`"),
]


@pytest.fixture(params=CLIS or [Path()], ids=str)
def docker(request: pytest.FixtureRequest, hyper: PrivateDaemon, tmp_path: Path) -> DockerCli:
    """Each that is installed; what a test leaves is removed after it."""
    return DockerCli(request.param, hyper, tmp_path)


def inspect(docker: DockerCli, what: str) -> dict[str, object]:
    [document] = json.loads(docker.ok("inspect", what))
    assert isinstance(document, dict)
    return document


# run


def test_it_finds_us(docker: DockerCli) -> None:
    version = json.loads(docker.ok("version", "--format", "{{json .}}"))
    assert version["Server"]["ApiVersion"] == "1.51"
    assert version["Client"]["ApiVersion"] <= "1.51"
    info = json.loads(docker.ok("info", "--format", "{{json .}}"))
    assert (info["OSType"], info["DefaultRuntime"]) == ("linux", "hyper")
    assert "emulated" in dict(info["DriverStatus"])["Isolation"]


def test_a_run(docker: DockerCli) -> None:
    assert docker("run", "--rm", "busybox", "echo", "hi") == (0, "hi\n", "")
    assert docker("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7") == (7, "out\n", "err\n")
    assert docker("run", "--rm", "-i", "busybox", "cat", stdin=b"piped") == (0, "piped", "")
    assert docker.ok("ps", "-a", "-q") == ""


def test_10_mb_come_through_as_they_are(docker: DockerCli) -> None:
    data = os.urandom(1 << 20) * 10
    with docker.start("run", "--rm", "-i", "busybox", "cat") as process:
        out, err = process.communicate(data, timeout=300)
    assert (out == data, err, process.returncode) == (True, b"", 0)


@pytest.mark.parametrize(
    ("command", "status"), [("nosuch", 127), ("/nosuch", 127), ("/etc", 126), ("/etc/passwd", 126)]
)
def test_what_cannot_be_run(docker: DockerCli, command: str, status: int) -> None:
    done = docker("run", "--rm", "busybox", command)
    assert (done.status, done.out) == (status, ""), done
    assert docker.ok("ps", "-a", "-q") == ""


def test_a_run_at_a_terminal(docker: DockerCli) -> None:
    with closing(docker.terminal("run", "--rm", "-it", "busybox", "sh", rows=31, columns=97)) as terminal:
        terminal.expect(b"# ")
        terminal.type(b"stty size; tty; echo [$((40 + 2))]\n")
        shown = terminal.expect(b"[42]")
        assert b"31 97" in shown and b"/dev/pts/0" in shown
        terminal.type(b"exit 3\n")
        assert terminal.end()[0] == 3


def test_a_ctrl_c_at_a_terminal(docker: DockerCli) -> None:
    script = "trap 'exit 9' INT; echo ready; while :; do sleep 0.1; done"
    with closing(docker.terminal("run", "--rm", "-it", "busybox", "sh", "-c", script)) as terminal:
        terminal.expect(b"ready")
        terminal.type(b"\x03")
        assert terminal.end()[0] == 9


def test_leaving_a_terminal_and_coming_back(docker: DockerCli) -> None:
    with closing(docker.terminal("run", "-it", "--name", "web", "busybox", "sh")) as terminal:
        terminal.expect(b"# ")
        terminal.type(b"a=here\n")
        terminal.expect(b"# ")
        terminal.type(b"\x10\x11")
        assert terminal.end()[0] == 0
    assert docker.ok("inspect", "-f", "{{.State.Status}}", "web") == "running"
    with closing(docker.terminal("attach", "web")) as terminal:
        terminal.type(b"echo [$a]\n")
        terminal.expect(b"[here]")
        terminal.type(b"exit 4\n")
        assert terminal.end()[0] == 4
    assert docker.ok("wait", "web") == "4"


def test_signals_reach_it(docker: DockerCli) -> None:
    script = "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.1; done"
    with docker.start("run", "--rm", "busybox", "sh", "-c", script) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        process.terminate()
        assert process.stdout.read() == b"caught\n"
        assert process.wait(120) == 5


# a life


def test_a_life(docker: DockerCli) -> None:
    id = docker.ok("run", "-d", "--name", "web", "--label", "a=b", "busybox", "sleep", "1000")
    assert docker.ok("ps", "-q", "--no-trunc", "--filter", "label=a=b") == id
    assert docker.ok("ps", "--format", "{{.Image}} {{.Command}} {{.Names}}") == 'busybox "sleep 1000" web'
    assert docker("run", "--name", "web", "busybox").status == 125
    for verb, state in ("pause", "paused"), ("unpause", "running"), ("restart", "running"):
        assert docker.ok(verb, *(["-t", "0"] if verb == "restart" else []), "web") == "web"
        assert docker.ok("inspect", "-f", "{{.State.Status}}", "web") == state
    docker.ok("rename", "web", "other")
    assert docker.ok("inspect", "-f", "{{.Name}} {{.Id}}", "other") == f"/other {id}"
    assert docker("rm", "other").status == 1
    assert docker.ok("kill", "-s", "KILL", "other") == "other"
    assert docker.ok("wait", "other") == "137"
    assert docker.ok("start", "other") == "other"
    assert docker.ok("stop", "-t", "0", "other") == "other"
    assert docker.ok("stop", "other") == "other"
    assert docker.ok("rm", "other") == "other"
    assert docker("inspect", "other").status == 1


def test_health(docker: DockerCli) -> None:
    words = ["--health-cmd", "test -e /tmp/well", "--health-interval", "200ms", "--health-retries", "1"]
    id = docker.ok("run", "-d", "--name", "web", *words, "busybox", "sleep", "1000")
    wanted = ["--filter", "event=health_status", "--filter", f"container={id}"]

    def told(status: str) -> None:
        argv = docker.argv("events", "--since", "0", *wanted, "--format", "{{.Action}}")
        with subprocess.Popen(argv, env=docker.env, stdout=subprocess.PIPE, text=True) as events:
            assert events.stdout
            assert any(line.strip() == f"health_status: {status}" for line in events.stdout)
            events.kill()

    told("unhealthy")
    assert docker.ok("ps", "--filter", "health=unhealthy", "--format", "{{.Status}}").endswith("(unhealthy)")
    shown = "{{(index .State.Health.Log 0).ExitCode}} {{.Config.Healthcheck.Retries}}"
    assert docker.ok("inspect", "-f", shown, "web") == "1 1"
    docker.ok("exec", "web", "touch", "/tmp/well")
    told("healthy")
    assert docker.ok("inspect", "-f", "{{.State.Health.Status}}", "web") == "healthy"


def test_both_apis_have_the_same_containers(docker: DockerCli, hyper: PrivateDaemon) -> None:
    id = docker.ok("run", "-d", "--name", "web", "busybox", "sleep", "1000")
    assert hyper.ctl("ps", "-q", "--no-trunc").out.strip() == id
    assert hyper.ctl("run", "-d", "--name", "ours", "busybox", "true").status == 0
    assert docker.ok("ps", "-a", "--format", "{{.Names}}").split() == ["ours", "web"]


def test_a_start_that_is_watched_from_before(docker: DockerCli) -> None:
    docker.ok("create", "--name", "web", "-i", "busybox", "sh", "-c", "read x; echo [$x]; exit 3")
    assert docker("start", "-a", "-i", "web", stdin=b"one\n") == (3, "[one]\n", "")
    assert docker("start", "-a", "-i", "web", stdin=b"two\n") == (3, "[two]\n", "")
    assert docker.ok("logs", "web") == "[one]\n[two]"


def test_restart_policies(docker: DockerCli) -> None:
    docker.ok("run", "-d", "--name", "web", "--restart", "on-failure:2", "busybox", "false")
    deadline = time.monotonic() + 120
    while docker.ok("inspect", "-f", "{{.State.Status}}{{.RestartCount}}", "web") != "exited2":
        assert time.monotonic() < deadline


def test_what_it_was_made_with_is_in_its_inspection(docker: DockerCli) -> None:
    options = ["-e", "A=b", "-l", "k=v", "--memory", "200m", "--cpus", "0.5", "--init", "--stop-signal", "INT"]
    docker.ok("create", "--name", "web", *options, "--restart", "always", "-p", "127.0.0.1::80", "busybox", "sh")
    document = inspect(docker, "web")
    config, host = document["Config"], document["HostConfig"]
    assert isinstance(config, dict) and isinstance(host, dict)
    assert "A=b" in config["Env"] and config["Labels"] == {"k": "v"} and config["StopSignal"] == "SIGINT"
    assert (host["Memory"], host["NanoCpus"], host["Init"]) == (200 << 20, 500_000_000, True)
    assert host["PortBindings"] == {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}
    assert host["RestartPolicy"] == {"Name": "always", "MaximumRetryCount": 0}
    assert host["LogConfig"]["Type"] == "json-file"


def test_a_container_without_a_log(docker: DockerCli) -> None:
    assert docker.ok("run", "--rm", "--log-driver", "none", "busybox", "echo", "heard") == "heard"
    docker.ok("run", "-d", "--name", "web", "--log-driver", "none", "busybox", "sleep", "1000")
    assert docker.ok("inspect", "-f", "{{.HostConfig.LogConfig.Type}}", "web") == "none"
    done = docker("logs", "web")
    assert (done.status, "configured logging driver does not support reading" in done.err) == (1, True), done


def test_groups_and_weights(docker: DockerCli) -> None:
    options = ["--group-add", "1234", "--group-add", "staff", "--cpu-shares", "512", "--oom-score-adj", "77"]
    script = "id -G; cat /proc/self/oom_score_adj"
    said = docker.ok("run", "--name", "web", *options, "busybox", "sh", "-c", script)
    assert said.split() == ["0", "50", "1234", "77"]
    assert docker.ok("inspect", "-f", "{{.HostConfig.CpuShares}} {{.HostConfig.GroupAdd}}", "web") == "512 [1234 staff]"


def test_what_a_machine_makes_void_is_a_warning(docker: DockerCli) -> None:
    options = ["--cpuset-cpus", "0", "--pid", "host", "--mac-address", "02:42:ac:11:00:0a"]
    done = docker("run", "--name", "web", *options, "busybox", "cat", "/sys/class/net/eth0/address")
    assert (done.status, done.out) == (0, "02:42:ac:11:00:0a\n"), done
    assert inspect(docker, "web")["HostConfig"].items() >= {"CpusetCpus": "0", "PidMode": "host"}.items()  # type: ignore[attr-defined]
    warned = docker("create", "--cpuset-cpus", "0", "busybox").err
    assert "CpusetCpus changes nothing: a virtual machine has processors of its own" in warned


def test_the_host_has_a_name(docker: DockerCli) -> None:
    script = "grep host.docker.internal /etc/hosts; ip route | grep default"
    hosts, route = docker.ok(
        "run", "--rm", "--add-host", "host.docker.internal:host-gateway", "busybox", "sh", "-c", script
    ).splitlines()
    assert hosts.split()[0] == route.split()[2]


def test_an_update(docker: DockerCli) -> None:
    docker.ok("create", "--name", "web", "busybox", "sh")
    docker.ok("update", "--memory", "300m", "--restart", "always", "web")
    assert docker.ok("inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name}}", "web") == (
        f"{300 << 20} always"
    )


# what flows


def test_logs(docker: DockerCli) -> None:
    script = "echo one; echo two >&2; read x; echo three"
    with docker.start("run", "-i", "--name", "web", "busybox", "sh", "-c", script) as client:
        assert client.stdout and client.stdin
        assert client.stdout.readline() == b"one\n"
        with docker.start("logs", "-f", "web") as following:
            assert following.stdout and following.stderr
            assert (following.stdout.readline(), following.stderr.readline()) == (b"one\n", b"two\n")
            client.communicate(b"\n", timeout=120)
            assert following.stdout.read() == b"three\n"
    assert docker("logs", "--tail", "1", "web") == (0, "three\n", "")
    stamped = docker("logs", "-t", "web").out.splitlines()
    assert [line.split(" ", 1)[1] for line in stamped] == ["one", "three"]
    assert all(line[10] == "T" and line[19] == "." and line[29] == "Z" for line in stamped)


def test_execs(docker: DockerCli) -> None:
    docker.ok("run", "-d", "--name", "web", "busybox", "sleep", "1000")
    assert docker("exec", "web", "sh", "-c", "echo out; echo err >&2; exit 5") == (5, "out\n", "err\n")
    assert docker("exec", "-i", "web", "cat", stdin=b"piped") == (0, "piped", "")
    assert (
        docker.ok("exec", "-e", "A=b", "-w", "/tmp", "-u", "33", "web", "sh", "-c", "echo $A $PWD $(id -u)")
        == "b /tmp 33"
    )
    assert docker("exec", "web", "nosuch").status == 127
    assert docker("exec", "nobody", "true").status == 1
    docker.ok("exec", "-d", "web", "sh", "-c", "echo hello > /made")
    deadline = time.monotonic() + 60
    while docker("exec", "web", "cat", "/made").out != "hello\n":
        assert time.monotonic() < deadline
    with closing(docker.terminal("exec", "-it", "web", "sh", rows=33, columns=99)) as terminal:
        terminal.expect(b"# ")
        terminal.type(b"stty size\n")
        terminal.expect(b"33 99")
        terminal.type(b"exit 6\n")
        assert terminal.end()[0] == 6


def test_files_in_and_out(docker: DockerCli, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("content\n")
    docker.ok("create", "--name", "web", "busybox")
    docker.ok("cp", str(tmp_path / "in"), "web:/tmp/in")  # it does not run
    docker.ok("cp", "web:/tmp/in", str(tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "content\n"
    docker.ok("cp", "web:/etc", str(tmp_path / "etc"))
    assert (tmp_path / "etc" / "passwd").read_text().startswith("root:")
    docker.ok("create", "--name", "theirs", "--user", "www", "busybox", "stat", "-c", "%u %g", "/tmp/in")
    docker.ok("cp", "-a", str(tmp_path / "in"), "theirs:/tmp/in")
    assert docker.ok("start", "-a", "theirs") == "33 33"
    missing = docker("cp", "web:/nosuch", str(tmp_path))
    assert (missing.status, "/nosuch" in missing.err) == (1, True)  # an older CLI says it in words of its own


def test_an_inline_config_as_compose_writes_it(docker: DockerCli) -> None:
    """Into a container that never ran, by an absolute name."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        info = tarfile.TarInfo("/etc/app/config")
        info.size, info.mode, info.uid = 5, 0o440, 33
        archive.addfile(info, io.BytesIO(b"a: b\n"))
    docker.ok("create", "--name", "web", "busybox", "sh", "-c", "stat -c '%a %u' /etc/app/config; cat /etc/app/config")
    docker.ok("cp", "-", "web:/", stdin=tar.getvalue())
    assert docker.ok("start", "-a", "web") == "440 33\na: b"


def test_top_stats_and_ports(docker: DockerCli) -> None:
    docker.ok("run", "-d", "--name", "web", "-p", "127.0.0.1::80", "busybox", "sleep", "1000")
    assert "sleep 1000" in docker.ok("top", "web")
    stats = json.loads(docker.ok("stats", "--no-stream", "--format", "{{json .}}", "web"))
    assert stats["Name"] == "web" and stats["CPUPerc"].endswith("%") and "MiB" in stats["MemUsage"]
    assert docker.ok("port", "web").startswith("80/tcp -> 127.0.0.1:")


def test_events(docker: DockerCli) -> None:
    began = str(int(time.time()))
    docker.ok("run", "--name", "web", "--label", "a=b", "busybox", "true")
    docker.ok("rm", "web")
    ended = str(int(time.time()) + 1)
    told = docker.ok("events", "--since", began, "--until", ended, "--filter", "label=a=b", "--format", "{{json .}}")
    events = [json.loads(line) for line in told.splitlines()]
    assert [event["Action"] for event in events] == ["create", "attach", "start", "die", "destroy"]
    assert events[3]["Actor"]["Attributes"]["exitCode"] == "0"


# images and volumes


def test_images(docker: DockerCli, tmp_path: Path) -> None:
    docker.ok("tag", "busybox", "team/app:2")
    assert "team/app" in docker.ok("images", "--format", "{{.Repository}}")
    docker.ok("save", "-o", str(tmp_path / "saved"), "team/app:2")
    docker.ok("rmi", "team/app:2")
    assert docker("image", "inspect", "team/app:2").status == 1
    assert docker.ok("load", "-i", str(tmp_path / "saved")) == "Loaded image: team/app:2"
    assert docker.ok("run", "--rm", "team/app:2", "echo", "again") == "again"
    assert docker.ok("history", "-q", "--no-trunc", "busybox").startswith("sha256:")
    docker.ok("rmi", "team/app:2")
    assert docker("rmi", "nosuch").status == 1


@pytest.mark.skipif(not shutil.which("docker-registry"), reason="docker-registry is not installed")
async def test_a_registry_with_credentials(docker: DockerCli, tmp_path: Path) -> None:
    async with docker_registry(tmp_path / "registry", auth=True) as host:

        def walk() -> None:
            docker.ok("tag", "busybox", f"{host}/team/app:1")
            assert docker("push", f"{host}/team/app:1").status == 1
            assert docker("login", "-u", "me", "-p", "wrong", host).status == 1
            docker.ok("login", "-u", "me", "-p", "secret", host)
            pushed = docker.ok("push", f"{host}/team/app:1")
            digest = pushed.rpartition("digest: ")[2].partition(" ")[0]
            docker.ok("rmi", f"{host}/team/app:1")
            pulled = docker.ok("pull", f"{host}/team/app:1")
            assert f"Digest: {digest}" in pulled and f"{host}/team/app:1" in pulled
            assert docker.ok("run", "--rm", f"{host}/team/app:1", "echo", "back") == "back"
            docker.ok("rmi", f"{host}/team/app:1")
            missing = docker("pull", f"{host}/team/none:1")
            assert (missing.status, "none" in missing.err) == (1, True)
            docker.ok("logout", host)

        await asyncio.to_thread(walk)


@pytest.mark.skipif(not shutil.which("docker-registry"), reason="docker-registry is not installed")
async def test_what_a_registry_has(docker: DockerCli, tmp_path: Path) -> None:
    """All tags of a repository, and what is under one, without a pull."""
    async with docker_registry(tmp_path / "registry") as host:
        app = f"{host}/team/app"

        def walk() -> None:
            for tag in "1", "2":
                docker.ok("tag", "busybox", f"{app}:{tag}")
            pushed = docker.ok("push", "-a", app)
            digest = pushed.rpartition("digest: ")[2].partition(" ")[0]
            docker.ok("rmi", f"{app}:1", f"{app}:2")
            pulled = docker.ok("pull", "-a", app)
            assert "1: Pulling from team/app" in pulled and f"2: Digest: {digest}" in pulled
            assert docker.ok("images", "--format", "{{.Tag}}", app).split() == ["1", "2"]
            found = docker.get(f"/distribution/{app}:1/json")
            assert found["Descriptor"]["digest"] == digest
            assert found["Platforms"] == [{"os": "linux", "architecture": "amd64"}]
            docker.ok("rmi", f"{app}:1", f"{app}:2")

        await asyncio.to_thread(walk)


@pytest.mark.skipif(not all(map(shutil.which, ("docker-registry", "skopeo"))), reason="docker-registry, skopeo")
async def test_an_index_that_the_cli_makes(docker: DockerCli, tmp_path: Path) -> None:
    """Of what was pushed here. In docker's words: the CLI of 20.10 finds no others."""
    async with docker_registry(tmp_path / "registry") as host:
        app = f"{host}/team/app"

        def walk() -> None:
            docker.ok("save", "-o", str(tmp_path / "a.tar"), "busybox")
            source, there = f"docker-archive:{tmp_path / 'a.tar'}", f"docker://{host}/from/app:1"
            copy = ["skopeo", "copy", "--format", "v2s2", "--dest-tls-verify=false", source, there]
            subprocess.run(copy, check=True, capture_output=True, timeout=300)
            docker.ok("pull", f"{host}/from/app:1")
            docker.ok("tag", f"{host}/from/app:1", f"{app}:1")
            digest = docker.ok("push", f"{app}:1").rpartition("digest: ")[2].partition(" ")[0]
            docker.ok("manifest", "create", "--insecure", f"{app}:many", f"{app}:1")
            index = docker.ok("manifest", "push", "--insecure", f"{app}:many")
            assert digest in docker.ok("manifest", "inspect", "--insecure", f"{app}:many")
            assert f"Digest: {index}" in docker.ok("pull", f"{app}:many")
            assert docker.get(f"/distribution/{app}:many/json")["Descriptor"]["digest"] == index
            assert docker.ok("run", "--rm", f"{app}@{index}", "echo", "of an index") == "of an index"
            docker.ok("rmi", f"{host}/from/app:1", f"{app}:1", f"{app}:many")

        await asyncio.to_thread(walk)


def test_registries_cannot_be_searched(docker: DockerCli) -> None:
    done = docker("search", "busybox")
    assert (done.status, "the protocol of registries has no search" in done.err) == (1, True)


def test_volumes(docker: DockerCli) -> None:
    assert docker.ok("volume", "create", "--label", "a=b", "data") == "data"
    docker.ok("run", "--rm", "-v", "data:/d", "busybox", "sh", "-c", "echo kept > /d/x")
    assert docker.ok("run", "--rm", "-v", "data:/d:ro", "busybox", "cat", "/d/x") == "kept"
    docker.ok("create", "--name", "web", "-v", "data:/d", "busybox")
    assert docker("volume", "rm", "data").status == 1
    assert docker.ok("run", "--rm", "--volumes-from", "web", "busybox", "cat", "/d/x") == "kept"
    docker.ok("rm", "web")
    assert json.loads(docker.ok("volume", "inspect", "data"))[0]["Labels"] == {"a": "b"}
    assert docker.ok("volume", "ls", "-q") == "data"
    assert docker.ok("volume", "rm", "data") == "data"


def test_a_daemon_of_ours_in_a_container_of_ours(docker: DockerCli) -> None:
    """The same docker, in a container that it has made, makes others: next to its own, as ever."""
    socket = f"{docker.daemon.folder}/hyper-docker.sock:/var/run/docker.sock"
    programs = ("-v", f"{docker.docker}:/docker:ro", "-v", "/usr/lib:/lib:ro", "-v", "/usr/lib64:/lib64:ro")
    docker.ok("run", "-d", "--name", "ci", "-v", socket, *programs, "busybox", "sleep", "100000")

    def inside(*words: str, stdin: bytes = b"") -> str:
        return docker.ok("exec", "-i", "ci", "/docker", *words, stdin=stdin)

    assert inside("ps", "--format", "{{.Names}}") == "ci"
    assert inside("run", "--rm", "-i", "busybox", "cat", stdin=b"through two machines") == "through two machines"
    inside("run", "-d", "--name", "beside", "busybox", "sh", "-c", "while :; do date; sleep 0.1; done")
    assert docker.ok("ps", "--format", "{{.Names}}").split() == ["beside", "ci"]
    assert inside("logs", "-f", "--until=-1s", "beside")  # a second from now
    inside("rm", "-f", "beside")
    assert socket in json.loads(docker.ok("inspect", "ci"))[0]["HostConfig"]["Binds"]
    docker.ok("rm", "-f", "ci")


def test_networks(docker: DockerCli) -> None:
    id = docker.ok("network", "create", "--label", "a=b", "net")
    try:
        assert docker.ok("network", "ls", "-q", "--no-trunc", "--filter", "label=a=b") == id
        assert docker("network", "create", "net").status == 1
        docker.ok(
            "run",
            "-d",
            "--name",
            "web",
            "--network",
            "net",
            "--network-alias",
            "w",
            "busybox",
            "httpd",
            "-f",
            "-h",
            "/www",
        )
        docker.ok("run", "-d", "--name", "other", "busybox", "sleep", "1000")
        address = docker.ok("inspect", "-f", "{{.NetworkSettings.Networks.net.IPAddress}}", "web")
        get = "wget", "-q", "-O", "-", f"http://{address}/"
        assert docker.ok("inspect", "-f", "{{.NetworkSettings.Networks.net.NetworkID}}", "web") == id
        assert docker.ok("network", "inspect", "-f", "{{range .Containers}}{{.Name}}{{end}}", "net") == "web"
        assert docker("network", "rm", "net").status == 1
        assert docker("exec", "other", "timeout", "3", *get).status != 0
        docker.ok("network", "connect", "net", "other")
        assert "virtual machine" in docker.ok("exec", "other", *get)
        for name in ("web", "w", "web.net"):
            assert "virtual machine" in docker.ok("exec", "other", "wget", "-q", "-O", "-", f"http://{name}/")
        assert docker("network", "connect", "net", "other").status == 1
        docker.ok("network", "disconnect", "net", "other")
        assert docker("exec", "other", "timeout", "3", *get).status != 0
    finally:
        docker("rm", "-f", "web", "other")
        docker.ok("network", "rm", "net")
    assert docker("run", "--rm", "--network", "net", "busybox", "true").status == 125


def test_the_network_of_another(docker: DockerCli) -> None:
    get = "wget", "-q", "-O", "-", "http://127.0.0.1/"
    server = "httpd", "-f", "-h", "/www"
    id = docker.ok("run", "-d", "--name", "web", "--hostname", "shop", "busybox", *server)
    try:
        assert "virtual machine" in docker.ok("run", "--rm", "--network", "container:web", "busybox", *get)
        docker.ok("run", "-d", "--name", "side", "--network", f"container:{id[:12]}", "busybox", "sleep", "1000")
        assert docker.ok("exec", "side", "hostname") == "shop"
        assert docker.ok("inspect", "-f", "{{.HostConfig.NetworkMode}}", "side") == f"container:{id}"
        assert docker.ok("inspect", "-f", "{{.NetworkSettings.Networks}}", "side") == "map[]"
        assert docker("network", "connect", "bridge", "side").status == 1
        for flags in ("-p", "80"), ("--add-host", "a:10.0.0.1"), ("--dns", "10.0.0.1"), ("--expose", "80"):
            refused = docker("run", "--rm", "--network", "container:web", *flags, "busybox", "true")
            assert refused.status == 125 and "conflicting options" in refused.err
        docker.ok("stop", "-t", "0", "side", "web")
        refused = docker("start", "side")
        assert refused.status == 1 and "cannot join network of a non running container" in refused.err
        docker.ok("start", "web", "side")
        assert "virtual machine" in docker.ok("exec", "side", *get)
        docker.ok("rm", "-f", "web")
        assert docker.ok("ps", "--format", "{{.Names}}") == "side"
    finally:
        docker("rm", "-f", "web", "side")
    nobody = docker("run", "--rm", "--network", "container:web", "busybox", "true")
    assert nobody.status == 125 and "No such container: web" in nobody.err


def test_the_namespaces_of_another(docker: DockerCli) -> None:
    web, seen = ("--network", "container:web"), ("ps", "-o", "args")
    id = docker.ok("run", "-d", "--name", "web", "--ipc", "shareable", "busybox", "sleep", "1111")
    try:
        refused = docker("run", "--rm", "--pid", "container:web", "busybox", "true")
        assert refused.status == 125 and "say --network container:web as well" in refused.err
        both = "--pid", "container:web", "--ipc", f"container:{id[:12]}"
        docker.ok("run", "-d", "--name", "side", *web, *both, "busybox", "sleep", "2222")
        for c in ("web", "side"):
            assert {"sleep 1111", "sleep 2222"} <= set(docker.ok("exec", c, *seen).splitlines())
        docker.ok("exec", "web", "sh", "-c", "echo here > /dev/shm/file")
        assert docker.ok("exec", "side", "cat", "/dev/shm/file") == "here"
        modes = "{{.HostConfig.PidMode}} {{.HostConfig.IpcMode}}"
        assert docker.ok("inspect", "-f", modes, "side") == f"container:{id} container:{id}"
        assert docker.ok("inspect", "-f", modes, "web").split() == ["shareable"]
        docker.ok("run", "-d", "--name", "other", *web, "busybox", "sleep", "1000")
        refused = docker("run", "--rm", *web, "--ipc", "container:other", "busybox", "true")
        assert refused.status == 125 and "non-shareable IPC (hint: use IpcMode:shareable" in refused.err
        docker.ok("kill", "web")
        assert docker.ok("wait", "side") == "137"
        assert docker("start", "side").status == 1
        docker.ok("start", "web", "side")
        assert "sleep 2222" in docker.ok("exec", "web", *seen)
    finally:
        docker("rm", "-f", "web", "side", "other")


def test_what_a_container_made_of_its_image(docker: DockerCli, tmp_path: Path) -> None:
    docker.ok("run", "--name", "web", "busybox", "sh", "-c", "echo x > /made; rm /etc/group")
    assert set(docker.ok("diff", "web").splitlines()) == {"C /etc", "D /etc/group", "A /made"}
    docker.ok("commit", "-m", "why", "--change", 'CMD ["cat", "/made"]', "web", "made:1")
    try:
        assert docker.ok("run", "--rm", "made:1") == "x"
        assert "why" in docker.ok("history", "made:1")
    finally:
        docker.ok("rmi", "made:1")
    docker.ok("export", "-o", str(tmp_path / "tar"), "web")
    with tarfile.open(tmp_path / "tar") as tar:
        names = {name.removeprefix("./") for name in tar.getnames()}
    assert "made" in names and "etc/group" not in names


def test_a_prune_of_everything(docker: DockerCli) -> None:
    id = docker.ok("create", "busybox")
    assert id in docker.ok("container", "prune", "-f")
    docker.ok("volume", "create", "data")
    docker.ok("system", "prune", "-f")
    docker.ok("volume", "prune", "-f")
    docker("volume", "rm", "data")


# what is not there


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "--rm", "--network", "host", "busybox", "true"], "cannot set NetworkMode to host"),
        (["run", "--rm", "--gpus", "all", "busybox", "true"], "could not select device driver"),
        (["run", "--rm", "--log-driver", "syslog", "busybox", "true"], "looking up logging plugin syslog"),
        (["network", "create", "-d", "overlay", "x"], "not found"),
        (["swarm", "init"], "not a swarm manager"),
    ],
)
def test_what_is_refused_is_said(docker: DockerCli, words: list[str], said: str) -> None:
    done = docker(*words)
    assert (done.status != 0, said in done.err) == (True, True), done
    assert docker.ok("ps", "-a", "-q") == ""


def test_what_changes_nothing_is_a_warning(docker: DockerCli) -> None:
    done = docker("run", "--rm", "--memory-swappiness", "5", "busybox", "echo", "hi")
    assert (done.status, done.out, "MemorySwappiness changes nothing" in done.err) == (0, "hi\n", True)
