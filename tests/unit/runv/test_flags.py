"""The words of runv's command line."""

import pytest

from hypercontainer.runv import checkpoint, events, update
from hypercontainer.runv.flags import GLOBAL, VERBS, UsageError, parse


def test_what_engines_say() -> None:
    words = ["--root", "/run/x", "--log=/l", "--log-format", "json", "create", "--bundle", "/b", "id"]
    found = parse(GLOBAL, words)
    assert found.values == {"root": "/run/x", "log": "/l", "log-format": "json"}
    assert found.rest == ["create", "--bundle", "/b", "id"]
    create = parse(VERBS["create"], ["--bundle", "/b", "--pid-file=/p", "--no-pivot", "id"])
    assert (create.values, create.switches, create.arguments) == (
        {"bundle": "/b", "pid-file": "/p"},
        {"no-pivot"},
        ["id"],
    )


def test_what_is_behind_an_execs_container_is_its_command() -> None:
    found = parse(VERBS["exec"], ["-e", "A=b", "--env", "C=d", "-t", "id", "ls", "-l", "--all"])
    assert found.lists == {"env": ["A=b", "C=d"]} and found.switches == {"tty"}
    assert (found.arguments, found.rest) == (["id"], ["ls", "-l", "--all"])
    assert parse(VERBS["exec"], ["id", "--", "ls", "-l"]).rest == ["ls", "-l"]


def test_an_argument_that_may_be_left_out() -> None:
    assert parse(VERBS["kill"], ["id"]).arguments == ["id"]
    assert parse(VERBS["kill"], ["--all", "id", "KILL"]).arguments == ["id", "KILL"]


def test_limits_are_in_the_words_of_the_specification() -> None:
    said = [
        "--memory",
        "64m",
        "--memory-swap=-1",
        "--cpu-share",
        "5",
        "--cpuset-cpus",
        "0-1",
        "--pids-limit",
        "7",
        "id",
    ]
    assert update.flagged(parse(VERBS["update"], said)) == {
        "memory": {"limit": 64 << 20, "swap": -1},
        "cpu": {"shares": 5, "cpus": "0-1"},
        "pids": {"limit": 7},
    }
    for words, why in ((["--memory", "64x", "id"], "no number"), (["--blkio-weight", "9", "id"], "no such limit")):
        with pytest.raises(UsageError, match=why):
            update.flagged(parse(VERBS["update"], words))


def test_an_interval_is_as_go_has_it() -> None:
    assert [events.interval_s(text) for text in ("5s", "100ms", "1m30s")] == [5, 0.1, 90]
    for text in ("", "5", "0s", "5 s", "x", "1.2.3s"):
        with pytest.raises(UsageError, match="no duration"):
            events.interval_s(text)


@pytest.mark.parametrize(
    "words", [["--tcp-established"], ["--pre-dump"], ["--status-fd", "5"], ["--manage-cgroups-mode", "soft"]]
)
def test_what_is_not_kept_of_a_container_is_refused_by_name(words: list[str]) -> None:
    checkpoint.check(parse(VERBS["checkpoint"], ["--leave-running", "--manage-cgroups-mode", "ignore", "id"]))
    with pytest.raises(UsageError, match=f"^{words[0]}: "):
        checkpoint.check(parse(VERBS["checkpoint"], [*words, "id"]))


@pytest.mark.parametrize(
    ("verb", "words", "why"),
    [
        ("create", ["--nosuch", "id"], "not defined: -nosuch"),
        ("create", [], "id is missing"),
        ("create", ["--bundle"], "needs an argument: -bundle"),
        ("state", ["id", "more"], "unexpected argument 'more'"),
        ("list", ["id"], "unexpected argument 'id'"),
    ],
)
def test_what_makes_no_sense_is_refused(verb: str, words: list[str], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        parse(VERBS[verb], words)
