"""The words of runv's command line."""

import pytest

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
