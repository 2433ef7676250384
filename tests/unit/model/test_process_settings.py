"""Capabilities, limits and signals: docker's words, docker's arithmetic."""

import signal

import pytest

from hypercontainer.errors import InvalidInput
from hypercontainer.model import capabilities, signals, ulimits
from hypercontainer.model.spec import Ulimit


def test_the_default_set_is_dockers() -> None:
    names = "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT MKNOD"
    assert capabilities.resolve([], []) == [f"CAP_{n}" for n in [*names.split(), "AUDIT_WRITE", "SETFCAP"]]


def test_every_name_has_the_kernels_number() -> None:
    assert [capabilities.NUMBERS[f"CAP_{name}"] for name in ("CHOWN", "SYS_ADMIN", "SYSLOG", "CHECKPOINT_RESTORE")] == [
        0, 21, 34, 40,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        (["net_admin"], ["ALL"], ["CAP_NET_ADMIN"]),
        (["CAP_NET_ADMIN", "NET_ADMIN"], ["all"], ["CAP_NET_ADMIN"]),
        ([], ["ALL"], []),
        (["ALL"], [], list(capabilities.ALL)),
        (["all"], ["SYS_ADMIN"], [name for name in capabilities.ALL if name != "CAP_SYS_ADMIN"]),
        (["ALL"], ["ALL"], list(capabilities.ALL)),
    ],
)
def test_adding_and_dropping(add: list[str], drop: list[str], expected: list[str]) -> None:
    assert capabilities.resolve(add, drop) == expected


def test_what_is_both_added_and_dropped_is_granted() -> None:
    assert "CAP_CHOWN" in capabilities.resolve(["CHOWN"], ["CHOWN"])
    assert "CAP_CHOWN" not in capabilities.resolve([], ["chown"])
    assert "CAP_SYS_TIME" in capabilities.resolve(["sys_time"], [])


def test_privileged_is_everything() -> None:
    assert capabilities.resolve([], ["ALL"], privileged=True) == list(capabilities.ALL)


@pytest.mark.parametrize("name", ["", "CAP_", "NET", "NET_ADMIN ", "CAP_CAP_CHOWN", "CAP_ALL", "x" * 1000])
def test_a_name_that_is_no_capability(name: str) -> None:
    for add, drop in (([name], []), ([], [name])):
        with pytest.raises(InvalidInput) as e:
            capabilities.resolve(add, drop)
        assert len(str(e.value)) < 200


def limit(name: str, soft: int, hard: int) -> tuple[str, int, int]:
    found = ulimits.resolve(Ulimit(name=name, soft=soft, hard=hard))
    return found.type, found.soft, found.hard


def test_limits() -> None:
    assert limit("nofile", 1024, 4096) == ("RLIMIT_NOFILE", 1024, 4096)
    assert limit("core", 0, -1) == ("RLIMIT_CORE", 0, -1)
    assert limit("nproc", -1, -1) == ("RLIMIT_NPROC", -1, -1)


@pytest.mark.parametrize(
    ("name", "soft", "hard"),
    [
        ("NOFILE", 1, 1),
        ("RLIMIT_NOFILE", 1, 1),
        ("as", 1, 1),
        ("nofile", 2, 1),
        ("nproc", -1, 1),
        ("core", -2, 1),
        ("core", 0, 1 << 63),
        ("nofile", 1024, -1),
        ("nofile", 1024, (1 << 20) + 1),
    ],
)
def test_limits_that_are_none(name: str, soft: int, hard: int) -> None:
    with pytest.raises(InvalidInput):
        limit(name, soft, hard)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("SIGTERM", 15), ("TERM", 15), ("sigkill", 9), ("15", 15), ("1", 1), ("64", 64), ("IOT", 6), ("CLD", 17),
        ("RTMIN", 34), ("RTMIN+3", 37), ("SIGRTMIN+30", 64), ("RTMAX", 64), ("RTMAX-2", 62), ("SIGRTMAX-30", 34),
    ],
)  # fmt: skip
def test_signals(text: str, number: int) -> None:
    assert signals.number(text) == number


def test_they_are_those_of_this_machine() -> None:
    for each in signal.Signals:
        assert signals.number(each.name) == each.value
        assert signals.number(signals.name(each.value)) == each.value
    assert (signals.name(15), signals.name(37), signals.name(34), signals.name(99)) == (
        "SIGTERM", "SIGRTMIN+3", "SIGRTMIN", "99",
    )  # fmt: skip


@pytest.mark.parametrize(
    "text", ["", "0", "65", "-1", "NOPE", "SIGSIGTERM", "RTMIN+31", "RTMIN+", "RTMIN-1", "RTMAX+1", "RTMAX-31", "1 5",
             "SIG15", "²", "15\n", "9" * 1000],
)  # fmt: skip
def test_signals_that_are_none(text: str) -> None:
    with pytest.raises(InvalidInput) as e:
        signals.number(text)
    assert len(str(e.value)) < 200
