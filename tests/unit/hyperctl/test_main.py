"""The process: global flags, unknown words, help, errors, and the commands that do one thing."""
# ruff: noqa: E501

import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from hypercontainer.hyperctl import commands
from tests.unit.hyperctl.conftest import Hyperctl
from tests.unit.hyperctl.fake import Refusal, Request

NAMES = [name for name in commands.COMMANDS if not name.startswith("_")]


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_every_command_is_there_and_has_help(name: str) -> None:
    command = commands.load(name)
    shorts = [flag.short for flag in command.flags if flag.short]
    assert len(set(shorts)) == len(shorts)
    assert len({flag.name for flag in command.flags}) == len(command.flags)
    if not name.startswith("_"):
        assert commands.COMMANDS[name].summary
        assert command.example
        assert not (command.refused.keys() & {flag.name for flag in command.flags})


def test_help(hyperctl: Hyperctl) -> None:
    for words in ([], ["--help"], ["-h"], ["help"]):
        done = hyperctl(*words)
        assert (done.status, done.err) == (0, "")
        assert "  run         Create a container from an image" in done.out
        assert "__complete" not in done.out
    assert "  ls          List pods\n" in hyperctl("pod").out
    assert hyperctl("pod", "--help").out == hyperctl("help", "pod").out
    assert hyperctl("help", "pod", "ls").out == hyperctl("pod", "ls", "--help").out
    done = hyperctl("logs", "--help")
    assert done.out.startswith(
        "Usage:  hyperctl logs [OPTIONS] CONTAINER\n\nShow what a container has written\n\nOptions:"
    )
    assert done.out.endswith("Example:\n  hyperctl logs -f --tail 20 web\n")
    assert hyperctl.hyperd.requests == []


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["imgaes"], 1, "unknown command: imgaes: did you mean 'images'? (see 'hyperctl --help')"),
        (["xyzzy"], 1, "unknown command: xyzzy (see 'hyperctl --help')"),
        (["pod", "lss"], 1, "unknown command: pod lss: did you mean 'pod ls'? (see 'hyperctl pod --help')"),
        (["--nonsense", "ps"], 125, "unknown flag: --nonsense (see 'hyperctl --help')"),
        (["-H"], 125, "flag needs an argument: -H (see 'hyperctl --help')"),
        (["ps", "--al"], 125, "unknown flag: --al (did you mean --all?) (see 'hyperctl ps --help')"),
        (["rm"], 1, "rm requires at least 1 argument: [OPTIONS] CONTAINER [CONTAINER...] (see 'hyperctl rm --help')"),
        (["run"], 1, "run requires at least 1 argument: [OPTIONS] IMAGE [COMMAND] [ARG...] (see 'hyperctl run --help')"),
        (["-H", "tcp://1.2.3.4", "ps"], 125,
         "'tcp://1.2.3.4' is not an address of hyperd: use unix:///path/of/its.sock, or tcp://HOST:PORT"),
        (["-H=unix://relative", "ps"], 125,
         "'unix://relative' is not an address of hyperd: use unix:///path/of/its.sock, or tcp://HOST:PORT"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(hyperctl: Hyperctl, words: list[str], status: int, message: str) -> None:
    assert hyperctl(*words) == (status, "", f"hyperctl: {message}\n")


def test_the_address(hyperctl: Hyperctl) -> None:
    hyperctl.hyperd.answers["GET", "/v1/containers"] = []
    address = hyperctl.environment.pop("HYPER_HOST")
    for words in (["-H", address], [f"--host={address}"], ["--host", str(hyperctl.hyperd.path)]):
        assert hyperctl(*words, "ps", "-q") == (0, "", "")


def test_an_error_of_many_lines_is_one(hyperctl: Hyperctl) -> None:
    hyperctl.hyperd.answers["GET", "/v1/containers"] = Refusal(500, "internal", "line 1\nline 2\r\n\tline 3")
    assert hyperctl("ps").err == "hyperctl: line 1 line 2 line 3\n"


VERBS = ("start", "stop", "restart", "kill", "pause", "unpause")


@pytest.mark.parametrize("verb", VERBS)
def test_verbs_for_several_containers(hyperctl: Hyperctl, verb: str) -> None:
    for name in ("a", "c"):
        hyperctl.hyperd.answers["POST", f"/v1/containers/{name}/{verb}"] = None
    done = hyperctl(verb, "a", "b", "c")
    assert done == (1, "a\nc\n", f"hyperctl: no such thing: /v1/containers/b/{verb}\n")
    paths = {request.path for request in hyperctl.hyperd.requests} - {"/v1/ping"}
    assert paths == {f"/v1/containers/{name}/{verb}" for name in "abc"}


@pytest.mark.parametrize("group", [(), ("pod",)])
def test_what_is_not_there_is_removed_by_force(hyperctl: Hyperctl, group: tuple[str, ...]) -> None:
    kind = "pods" if group else "containers"
    hyperctl.hyperd.answers["DELETE", f"/v1/{kind}/a"] = None
    hyperctl.hyperd.answers["DELETE", f"/v1/{kind}/held"] = Refusal(409, "conflict", "cannot remove held")
    said = f"hyperctl: no such thing: /v1/{kind}/b\n"
    assert hyperctl(*group, "rm", "-f", "b") == (0, "", said)
    assert hyperctl(*group, "rm", "-f", "b", "a") == (0, "a\n", said)
    assert hyperctl(*group, "rm", "b") == (1, "", said)
    assert hyperctl(*group, "rm", "-f", "held").status == 1
    assert hyperctl(*group, "rm", "-f", "held", "b").status == 1


def test_an_image_that_is_not_there_is_removed_by_force(hyperctl: Hyperctl) -> None:
    assert hyperctl("rmi", "-f", "b") == (0, "", "hyperctl: no such thing: /v1/images\n")
    assert hyperctl("rmi", "b") == (1, "", "hyperctl: no such thing: /v1/images\n")


def test_stops_are_at_the_same_time(hyperctl: Hyperctl) -> None:
    """None is answered before all have come."""
    import threading

    barrier = threading.Barrier(10, timeout=30)

    def stop(_: Request) -> None:
        barrier.wait()

    names = [f"c{i}" for i in range(20)]
    for name in names:
        hyperctl.hyperd.answers["POST", f"/v1/containers/{name}/stop"] = stop
    assert hyperctl("stop", *names[:10]) == (0, "".join(f"{name}\n" for name in names[:10]), "")


@pytest.mark.parametrize("verb", ["start", "restart"])
def test_starts_are_one_after_the_other(hyperctl: Hyperctl, verb: str) -> None:
    """In the order given: one may share the network of another one, which must run."""
    import threading

    both, met = threading.Barrier(2), list[str]()

    def start(request: Request) -> None:
        with suppress(threading.BrokenBarrierError):
            both.wait(timeout=0.1)
            met.append(request.path)

    for name in ("web", "side"):
        hyperctl.hyperd.answers["POST", f"/v1/containers/{name}/{verb}"] = start
    assert hyperctl(verb, "web", "side") == (0, "web\nside\n", "")
    assert [request.path for request in hyperctl.hyperd.requests] == [
        f"/v1/containers/{name}/{verb}" for name in ("web", "side")
    ]
    assert met == []


def test_their_flags(hyperctl: Hyperctl) -> None:
    answers, requests = hyperctl.hyperd.answers, hyperctl.hyperd.requests
    for verb in (*VERBS, "rename"):
        answers["POST", f"/v1/containers/a/{verb}"] = None
    answers["DELETE", "/v1/containers/a"] = None
    hyperctl("stop", "-t", "0", "a")
    hyperctl("restart", "--timeout=5", "a")
    hyperctl("kill", "-s", "HUP", "a")
    hyperctl("rm", "-fv", "a")
    hyperctl("rename", "a", "b")
    hyperctl("container", "stop", "a")
    assert [(r.method, r.path.rpartition("/")[2], r.query) for r in requests] == [
        ("POST", "stop", [("timeout", "0")]),
        ("POST", "restart", [("timeout", "5")]),
        ("POST", "kill", [("signal", "HUP")]),
        ("DELETE", "a", [("force", "1"), ("volumes", "1")]),
        ("POST", "rename", [("name", "b")]),
        ("POST", "stop", []),
    ]
    assert "--signal is not supported: choose it with" in hyperctl("stop", "--signal=HUP", "a").err
    assert "cannot remove link 'a': use CONTAINER/ALIAS" in hyperctl("rm", "--link", "a").err
    answers["DELETE", "/v1/containers/a/links/b"] = None
    assert hyperctl("rm", "-l", "/a/b").status == 0


def test_wait(hyperctl: Hyperctl) -> None:
    hyperctl.hyperd.answers["POST", "/v1/containers/a/wait"] = {"StatusCode": 7}
    assert hyperctl("wait", "a", "nope") == (1, "7\n", "hyperctl: no such thing: /v1/containers/nope/wait\n")


def test_container_prune(hyperctl: Hyperctl) -> None:
    hyperctl.hyperd.answers["GET", "/v1/containers"] = [{"Id": "a"}, {"Id": "b"}]
    hyperctl.hyperd.answers["DELETE", "/v1/containers/a"] = None
    hyperctl.hyperd.answers["DELETE", "/v1/containers/b"] = None
    assert hyperctl("container", "prune", "-f") == (0, "Deleted Containers:\na\nb\n", "")
    assert hyperctl.hyperd.requests[0].query == [
        ("all", "1"),
        ("filter", "status=created"),
        ("filter", "status=exited"),
    ]


def test_logs(hyperctl: Hyperctl) -> None:
    lines = [(1, 1_000_000_001, "b25l"), (1, 2_000_000_000, "IGxpbmUKdHdv"), (2, 3_000_000_000, "ZXJyCg=="),
             (1, 4_000_000_000, "Cg==")]  # fmt: skip
    body = "".join(f'{{"stream":{stream},"time_ns":{ns},"data":"{data}"}}\n' for stream, ns, data in lines)
    hyperctl.hyperd.answers["GET", "/v1/containers/a/logs"] = body.encode()
    assert hyperctl("logs", "-f", "--tail", "5", "--since", "1.5", "a") == (0, "one line\ntwo\n", "err\n")
    assert hyperctl.hyperd.requests[0].query == [
        ("follow", "1"), ("since", "1.500000000"), ("tail", "5"), ("stdout", "1"), ("stderr", "1"),
    ]  # fmt: skip
    done = hyperctl("logs", "-t", "--tail", "all", "a")
    assert done.out == "1970-01-01T00:00:01.000000001Z one line\n1970-01-01T00:00:02.000000000Z two\n"
    assert done.err == "1970-01-01T00:00:03.000000000Z err\n"
    assert ("tail", "all") not in hyperctl.hyperd.requests[-1].query
    assert "use a whole number" in hyperctl("logs", "-n", "x", "a").err
    assert "use a time" in hyperctl("logs", "--since", "x", "a").err


def test_ctrl_c_ends_as_a_signal_does(hyperctl: Hyperctl) -> None:
    import threading

    asked, ended = threading.Event(), threading.Event()

    def wait(_: Request) -> dict[str, int]:
        asked.set()
        ended.wait(30)
        return {"StatusCode": 0}

    hyperctl.hyperd.answers["POST", "/v1/containers/a/wait"] = wait
    with hyperctl.popen("wait", "a", stderr=subprocess.PIPE) as process:
        assert asked.wait(30)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == -signal.SIGINT
        ended.set()
        assert process.stderr
        assert process.stderr.read() == b""


def test_output_that_the_terminal_cannot_show(hyperctl: Hyperctl) -> None:
    hyperctl.hyperd.answers["GET", "/v1/volumes"] = [
        {"Name": "€", "Driver": "local", "Mountpoint": "/m", "CreatedAt": "x", "Labels": {}, "Scope": "local"}
    ]
    done = hyperctl("volume", "ls", "-q", environment={"LC_ALL": "POSIX", "LANG": ""})
    assert done.status == 0
    assert done.out.strip() in ("€", "\\u20ac")


def test_the_launcher_finds_an_editable_install_and_a_wheel(tmp_path: Path) -> None:
    from hypercontainer import launch

    site = tmp_path / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    site.mkdir(parents=True)
    assert launch.packages(f"{tmp_path}/bin/hyperctl") == [str(site)]


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--rm", "--restart", "always", "busybox"),
        ("run", "--network", "none", "-p", "80", "busybox"),
        ("ps", "--format", "{{.Nope.Nope}"),
        ("-H", "tcp://1.2.3.4:5", "ps"),
    ],
)
def test_the_overview_is_pointed_at_only_where_it_helps(hyperctl: Hyperctl, words: tuple[str, ...]) -> None:
    done = hyperctl(*words)
    assert done.status and done.err and "--help" not in done.err
