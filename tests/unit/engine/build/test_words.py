"""Variables, quotes and escapes, as docker's own table of cases has them."""

import pytest

from hypercontainer.engine.build import words

ENV = {"PWD": "/home", "SHELL": "bash", "TWO": "a b", "EMPTY": ""}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("hello", "hello"),
        ("he'll'o", "hello"),
        ("he'l\\'o", "hel\\o"),
        ("he\\'llo", "he'llo"),
        ('"he\\"llo"', 'he"llo'),
        ('"\\h"', "\\h"),
        ("abc\\", "abc"),
        ("$PWD", "/home"),
        ("'$PWD'", "$PWD"),
        ('"$PWD"', "/home"),
        ("\\$PWD", "$PWD"),
        ('"\\$PWD"', "$PWD"),
        ("hello$NOSUCH", "hello"),
        ("${PWD}x", "/homex"),
        ("${NOSUCH:-a b}", "a b"),
        ("${NOSUCH:-${PWD}/x}", "/home/x"),
        ("${EMPTY:-x}", "x"),
        ("${PWD:+yes}", "yes"),
        ("${NOSUCH:+yes}", ""),
        ("$", "$"),
        ("a$.b", "a$.b"),
        ("$1x", "x"),
        ("한글${SHELL}", "한글bash"),
    ],
)
def test_a_word(text: str, expanded: str) -> None:
    assert words.expand(text, ENV) == expanded


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("'hello", "single-quote"),
        ('"hello', "double-quote"),
        ("${}", "bad substitution"),
        ("${PWD", "modifier"),
        ("${PWD:", "modifier"),
        ("${PWD:x}", "modifier"),
        ("${NOSUCH:?not here}", "NOSUCH: not here"),
        ("${A:-" * 50 + "}" * 50, "nested"),
    ],
)
def test_what_makes_no_sense(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        words.expand(text, ENV)


def test_variables_may_be_several_words_and_quotes_keep_one() -> None:
    assert words.expand_words("$TWO '$TWO' \"$TWO\" x$TWO", ENV) == ["a", "b", "$TWO", "a b", "xa", "b"]
    assert words.expand_words('"" $EMPTY', ENV) == [""]


def test_the_escape_is_the_files_choice() -> None:
    assert words.expand("a`$PWD\\b", ENV, "`") == "a$PWD\\b"


def test_what_grows_without_end_is_refused() -> None:
    with pytest.raises(ValueError, match="characters"):
        words.expand("$A" * 1000, {"A": "x" * 10_000})


def test_words_as_they_are_written() -> None:
    assert words.split("a=\"b c\" d='e f' g\\ h") == ['a="b c"', "d='e f'", "g\\ h"]
