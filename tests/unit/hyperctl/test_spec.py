"""The flags of run and create, as the PodSpec that the model takes."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hypercontainer.hyperctl import flags, run, spec
from hypercontainer.hyperctl.flags import UsageError
from hypercontainer.model.spec import ContainerSpec, ExecSpec, PodSpec
from tests.unit.hyperctl.conftest import Hyperctl

ENVIRONMENT = {"HOME": "/root", "EMPTY": ""}


def pod(*words: str, command: str = "run") -> dict[str, Any]:
    args = flags.parse(command, run.COMMANDS[command], words)
    assert args is not None
    document = spec.pod(args, ENVIRONMENT)
    msgspec.convert(document, PodSpec)  # the engine takes it
    return document


def container(*words: str) -> dict[str, Any]:
    document = pod(*words, "image")
    made: dict[str, Any] = document["containers"][0]
    assert made.pop("image") == "image"
    return made


def test_what_is_not_said_is_left_to_the_engine() -> None:
    assert pod("busybox") == {"containers": [{"image": "busybox"}]}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("-e A=b -e HOME -e UNSET -e EMPTY -e C= -e D=x=y",
         {"env": ["A=b", "HOME=/root", "EMPTY=", "C=", "D=x=y"]}),
        ("-e A=1 -e A=2", {"env": ["A=2"]}),
        ("-w /src -u 1000:100", {"working_dir": "/src", "user": "1000:100"}),
        ("-i -t", {"open_stdin": True, "tty": True}),
        ("--entrypoint sh", {"entrypoint": ["sh"], "command": []}),
        ("--entrypoint=", {"entrypoint": [], "command": []}),
        ("--read-only --init --privileged", {"read_only": True, "init": True, "privileged": True}),
        ("--cap-add NET_ADMIN --cap-add SYS_TIME --cap-drop ALL",
         {"cap_add": ["NET_ADMIN", "SYS_TIME"], "cap_drop": ["ALL"]}),
        ("--ulimit nofile=1024:2048 --ulimit nproc=5",
         {"ulimits": [{"name": "nofile", "soft": 1024, "hard": 2048}, {"name": "nproc", "soft": 5, "hard": 5}]}),
        ("--sysctl net.core.somaxconn=99 -l a=b -l c",
         {"sysctls": {"net.core.somaxconn": "99"}, "labels": {"a": "b", "c": ""}}),
        ("--stop-signal INT --stop-timeout 0", {"stop_signal": "INT", "stop_timeout_s": 0}),
        ("--restart always", {"restart": {"name": "always"}}),
        ("--restart on-failure:3", {"restart": {"name": "on-failure", "max_retries": 3}}),
        ("--restart no", {"restart": {"name": "no"}}),
        ("--shm-size 128m --pids-limit 50 --storage-size 2g", {"shm_mib": 128, "pids": 50, "scratch_mib": 2048}),
        ("--pids-limit -1", {}),
        ("--pid container:web --ipc container:web", {"pid": "container:web", "ipc": "container:web"}),
        ("--ipc shareable", {"ipc": "shareable"}),
        ("--security-opt no-new-privileges --security-opt seccomp=unconfined",
         {"no_new_privileges": True, "seccomp": "unconfined"}),
        ("--security-opt no-new-privileges:true", {"no_new_privileges": True}),
        ("--security-opt apparmor=mine", {"apparmor": "mine"}),
        ("--health-cmd true --health-interval 1m30s --health-retries 2",
         {"healthcheck": {"test": ["CMD-SHELL", "true"], "interval_s": 90.0, "retries": 2}}),
        ("--no-healthcheck", {"healthcheck": {"test": ["NONE"]}}),
        ("--group-add 44 --group-add adm", {"groups": [44, "adm"]}),
        ("--volumes-from web:ro --volumes-from db", {"volumes_from": ["web:ro", "db"]}),
        ("--expose 80 -c 512 --oom-score-adj -5", {"expose": ["80"], "cpu_shares": 512, "oom_score_adj": -5}),
        ("--storage-opt size=1g", {"scratch_mib": 1024}),
        ("--log-opt max-size=10m --log-opt max-file=3", {"log_max_bytes": 10 << 20, "log_files": 3}),
        ("--log-opt tag={{.Name}} --log-opt labels=a,b --log-opt max-file=2 --log-opt tag=x",
         {"log_files": 2, "log_options": {"tag": "x", "labels": "a,b"}}),
        ("--device /dev/fuse --device /dev/kmsg:/k --device /dev/null:/dev/null:rwm",
         {"devices": [{"path": "/dev/fuse"}, {"path": "/dev/kmsg", "target": "/k"}, {"path": "/dev/null"}]}),
        ("--log-driver json-file", {"log": "file"}),
        ("--log-driver local", {"log": "file"}),
        ("--log-driver=none", {"log": "none"}),
        ("--rm", {"auto_remove": True}),
        ("-v /h:/d:ro --tmpfs /t --mount type=volume,source=x,target=/x",
         {"mounts": [{"type": "bind", "source": "/h", "target": "/d", "create": True, "read_only": True},
                     {"type": "volume", "source": "x", "target": "/x"},
                     {"type": "tmpfs", "target": "/t"}]}),
    ],
)  # fmt: skip
def test_a_container(words: str, expected: dict[str, Any]) -> None:
    assert container(*words.split()) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--name web --hostname h", {"name": "web", "hostname": "h"}),
        ("-h h", {"hostname": "h"}),
        ("--domainname example.com", {"domainname": "example.com"}),
        ("--tenant acme", {"tenant": "acme"}),
        ("--factory template", {"factory": "template"}),
        ("--locks host", {"locks": "host"}),
        ("--cpus 1.5 -m 512m", {"vcpus": 2, "memory_mib": 512}),
        ("--cpu-quota 150000", {"vcpus": 2}),
        ("--cpu-quota 50000 --cpu-period 25000", {"vcpus": 2}),
        ("-P", {"publish_exposed": True}),
        ("--add-host up:host-gateway", {"extra_hosts": {"up": "host-gateway"}}),
        ("--cpus 2 --memory 1025k", {"vcpus": 2, "memory_mib": 2}),
        ("--network none", {"networks": [{"network": "none"}]}),
        ("--network default", {"networks": [{"network": "bridge"}]}),
        ("--network a --net b", {"networks": [{"network": "a"}, {"network": "b"}]}),
        ("--network name=a,ip=10.1.2.3,ip6=fd00::3,alias=x,alias=y",
         {"networks": [{"network": "a", "address": "10.1.2.3", "address6": "fd00::3", "aliases": ["x", "y"]}]}),
        ("--network a --network b --ip 10.1.2.3 --network-alias x",
         {"networks": [{"network": "a", "address": "10.1.2.3", "aliases": ["x"]}, {"network": "b"}]}),
        ("--link db:store --link web", {"networks": [{"network": "bridge", "links": ["db:store", "web"]}]}),
        ("--ip6 fd00::3", {"networks": [{"network": "bridge", "address6": "fd00::3"}]}),
        ("-p 80:8080 -p 53/udp",
         {"ports": [{"container_port": 8080, "host_port": 80}, {"container_port": 53, "protocol": "udp"}]}),
        ("--dns 1.1.1.1 --dns-search a.b --dns-option ndots:1",
         {"dns": {"nameservers": ["1.1.1.1"], "search": ["a.b"], "options": ["ndots:1"]}}),
        ("--add-host a:1.2.3.4 --add-host b=[fd00::1] --add-host c:fd00::2",
         {"extra_hosts": {"a": "1.2.3.4", "b": "fd00::1", "c": "fd00::2"}}),
    ],
)  # fmt: skip
def test_a_pod(words: str, expected: dict[str, Any]) -> None:
    document = pod(*words.split(), "image")
    assert document.pop("containers")[0]["image"] == "image"
    assert document == expected


def test_what_follows_the_image_is_the_command() -> None:
    document = pod("-t", "image", "sh", "-c", "echo -n --rm")["containers"][0]
    assert document["command"] == ["sh", "-c", "echo -n --rm"]
    assert pod("--entrypoint", "a", "image", "b")["containers"][0]["command"] == ["b"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--rm --restart always", "--rm and --restart exclude each other"),
        ("--no-healthcheck --health-cmd x", "--no-healthcheck conflicts with --health-* options"),
        ("--health-interval soon", "use a duration such as 30s"),
        ("--network none -p 80", "--network none publishes no ports"),
        ("--network driver-opt=x", "'driver-opt' is not supported"),
        ("--network ip=10.1.2.3", "use name="),
        ("--network name=a,name=b", "name is there twice"),
        ("--network name=a,ip=10.1.2.3 --ip 10.1.2.4", "network a is given an address or alias twice"),
        ("--cpus 0", "use a number of processors"),
        ("--cpus many", "use a number of processors"),
        ("--cpus nan", "use a number of processors"),
        ("-m lots", "use a size"),
        ("--restart sometimes", "use one of no, always"),
        ("--restart always:3", "use one of no, always"),
        ("--ulimit nofile", "use NAME=VALUE"),
        ("--ulimit nofile=many", "use a whole number"),
        ("--sysctl x", "use NAME=VALUE"),
        ("--add-host x", "use NAME:ADDRESS"),
        ("--security-opt apparmor", "'apparmor' is not supported"),
        ("--security-opt selinux=x", "'selinux' is not supported"),
        ("--security-opt seccomp=profile.json", "only the default profile"),
        ("--device fuse", "use PATH[:TARGET]"),
        ("--device /dev/fuse:/dev/fuse:r", "whoever has a device may do all with it"),
        ("--device-read-bps /dev/sda:1mb", "--device-read-bps is not supported: disk traffic is not limited"),
        ("--oom-score-adj 1001", "use a number from -1000"),
        ("--storage-opt dm.x=1", "use size=BYTES"),
        ("--log-opt tag", "use NAME=VALUE"),
        ("--cpus 1 --cpu-quota 50000", "--cpus and --cpu-quota say the same"),
        ("--pull sometimes", "use one of missing, always, never"),
        ("--detach-keys ctrl-1", "'ctrl-1' is no key"),
    ],
)
def test_what_makes_no_sense_is_refused(words: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        pod(*words.split(), "image")


def test_files_of_variables_and_labels(tmp_path: Path) -> None:
    variables, labels = tmp_path / "env", tmp_path / "labels"
    variables.write_text("# a comment\n\nA=from the file\n  B=b \nHOME\nUNSET\n", encoding="utf-8-sig")
    labels.write_text("x=1\ny\n")
    document = container("--env-file", str(variables), "-e", "B=word", "--label-file", str(labels), "-l", "x=2")
    assert document == {"env": ["A=from the file", "B=word", "HOME=/root"], "labels": {"x": "2", "y": ""}}


def test_in_a_pod_that_exists_the_pods_flags_are_refused() -> None:
    def member(*words: str) -> dict[str, Any]:
        args = flags.parse("run", run.COMMANDS["run"], ["--pod", "p", *words, "image"])
        assert args is not None
        document = spec.member(args, ENVIRONMENT)
        msgspec.convert(document, ContainerSpec)
        return document

    assert member("--cpus", "0.5", "-m", "64m", "--hostname", "h", "--name", "n") == {
        "image": "image", "name": "n", "hostname": "h", "cpus": 0.5, "memory_mib": 64,
    }  # fmt: skip
    with pytest.raises(UsageError, match="--publish belongs to the whole pod"):
        member("-p", "80")


def test_the_pods_name_is_said_once() -> None:
    """The engine names an implicit pod after its container, or the other way round; both are told."""
    document = pod("--name", "web", "image")
    assert document == {"name": "web", "containers": [{"image": "image", "name": "web"}]}


def test_exec(hyperctl: Hyperctl) -> None:
    hyperctl.hyperd.answers["POST", "/v1/containers/c/exec"] = {"Id": "e"}
    done = hyperctl("exec", "-d", "-e", "A=b", "-w", "/w", "-u", "me", "--privileged", "-i", "-t", "c", "sh", "-c", "x")
    assert done == (0, "", "")
    body = hyperctl.hyperd.requests[0].body
    assert body == {
        "command": ["sh", "-c", "x"], "env": ["A=b"], "working_dir": "/w", "user": "me", "privileged": True,
        "detach": True, "open_stdin": True, "tty": True,
    }  # fmt: skip
    msgspec.convert(body, ExecSpec)
