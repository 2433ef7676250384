"""What docker has and a VM does not need: a warning where it changes nothing, a reason where it is not there."""

import pytest

from hypercontainer.hyperctl import commands, moot
from tests.unit.hyperctl.conftest import Hyperctl
from tests.unit.hyperctl.fake import FakeHyperd, Lines


@pytest.fixture
def made(hyperd: FakeHyperd) -> FakeHyperd:
    hyperd.answers["POST", "/v1/containers"] = {"Id": "c" * 64, "Warnings": []}
    return hyperd


@pytest.mark.parametrize(
    ("flag", "reason"),
    [
        (("--security-opt", "apparmor=unconfined"), "--security-opt apparmor=unconfined changes nothing: the VM"),
        (("--security-opt", "label=disable"), "--security-opt label=disable changes nothing"),
        (("--security-opt", "label:type:svirt_t"), "--security-opt label:type:svirt_t changes nothing"),
        (("--cgroupns", "private"), "--cgroupns changes nothing"),
        (("--cgroupns=host",), "--cgroupns changes nothing"),
        (("--userns", "host"), "--userns changes nothing"),
        (("--isolation", "default"), "--isolation changes nothing"),
        (("--disable-content-trust",), "--disable-content-trust changes nothing"),
        (("--disable-content-trust=false",), "--disable-content-trust changes nothing"),
        (("--memory-reservation", "1g"), "--memory-reservation changes nothing: a VM has all of its memory"),
        (("--memory-swap", "-1"), "--memory-swap changes nothing: VMs have no swap"),
        (("--memory-swap", "2g"), "--memory-swap changes nothing: VMs have no swap"),
        (("--memory-swappiness", "0"), "--memory-swappiness changes nothing"),
    ],
)
def test_what_changes_nothing_is_warned_of(
    hyperctl: Hyperctl, made: FakeHyperd, flag: tuple[str, ...], reason: str
) -> None:
    done = hyperctl("create", *flag, "busybox")
    assert (done.status, done.out) == (0, "c" * 64 + "\n")
    assert done.err.startswith(f"hyperctl: warning: {reason}")
    assert done.err.count("\n") == 1
    assert made.requests[-1].body == {"containers": [{"image": "busybox"}]}


@pytest.mark.parametrize(
    "flag",
    [
        ("--security-opt", "apparmor="),
        ("--log-driver", "syslog"),
        ("--cgroupns", "x"),
        ("--userns", "keep-id"),
        ("--isolation", "hyperv"),
        ("--oom-score-adj", "1001"),
        ("--memory-swap", "x"),
        ("--cpu-shares", "-1"),
    ],
)
def test_what_asks_for_something_else_is_refused(hyperctl: Hyperctl, made: FakeHyperd, flag: tuple[str, ...]) -> None:
    done = hyperctl("run", *flag, "busybox")
    assert (done.status, done.out) == (125, "")
    assert flag[0] in done.err
    assert made.requests == []


def test_every_flag_has_its_reason() -> None:
    assert {flag.name for flag in moot.FLAGS} == moot.REASONS.keys()


def test_net_is_network(hyperctl: Hyperctl, made: FakeHyperd) -> None:
    assert hyperctl("create", "--net", "none", "busybox").err == ""
    assert made.requests[-1].body == {"networks": [{"network": "none"}], "containers": [{"image": "busybox"}]}


@pytest.mark.parametrize("name", commands.REFUSED)
def test_a_command_that_is_not_there_has_a_reason(hyperctl: Hyperctl, name: str) -> None:
    assert name not in {word.partition(" ")[0] for word in commands.COMMANDS}
    done = hyperctl(name, "x")
    assert (done.status, done.out) == (1, "")
    assert done.err == f"hyperctl: {name} is not supported: {commands.REFUSED[name]}\n"


@pytest.mark.parametrize("words", [("image", "search", "x")])
def test_nor_below_its_group(hyperctl: Hyperctl, words: tuple[str, ...]) -> None:
    done = hyperctl(*words)
    assert done.status == 1
    assert done.err.startswith(f"hyperctl: {words[0]} {words[1]} is not supported: {commands.REFUSED[words[1]]}")


@pytest.mark.parametrize("words", [("-D",), ("--debug",), ("-l", "debug"), ("--log-level=warn",)])
def test_dockers_global_flags(hyperctl: Hyperctl, hyperd: FakeHyperd, words: tuple[str, ...]) -> None:
    hyperd.answers["GET", "/v1/containers"] = []
    done = hyperctl(*words, "ps", "-q")
    assert (done.status, done.out) == (0, "")
    assert done.err == f"hyperctl: warning: {words[0].partition('=')[0]} changes nothing: hyperctl keeps no log\n"


def test_a_level_that_is_none(hyperctl: Hyperctl) -> None:
    assert hyperctl("--log-level", "loud", "ps").status == 125
    assert hyperctl("-l").err.startswith("hyperctl: flag needs an argument: -l")


@pytest.mark.parametrize("flag", ["--disable-content-trust", "--disable-content-trust=true"])
def test_a_pull_that_shall_check_no_signatures(hyperctl: Hyperctl, hyperd: FakeHyperd, flag: str) -> None:
    hyperd.answers["POST", "/v1/images/pull"] = Lines({"images": []})
    done = hyperctl("pull", "-q", flag, "busybox")
    assert (done.status, done.err) == (
        0,
        "hyperctl: warning: --disable-content-trust changes nothing: no signatures are checked\n",
    )
