"""The text of a Dockerfile: lines, flags, forms, and what is wrong in docker's words."""

import pytest

from hypercontainer.engine.build import dockerfile
from hypercontainer.engine.build.dockerfile import Pair, Syntax
from hypercontainer.errors import InvalidInput


def test_stages_and_what_is_in_them() -> None:
    file = dockerfile.parse(
        b"# a comment\n\nARG TAG=1\nfrom busybox:$TAG AS Base\nRUN one && \\\n  # not of the line\n\n  two\n"
        b'FROM --platform=linux/amd64 scratch\nCOPY --from=base --chown=1:2 ["a b", "/c/"]\n\tCMD ["x"]\r\n'
    )
    assert [each.rest for each in file.arguments] == ["TAG=1"]
    first, second = file.stages
    assert (first.name, first.base, first.line) == ("base", "busybox:$TAG", 4)
    [run] = first.instructions
    assert (run.word, run.rest, run.line) == ("RUN", "one &&   two", 5)
    copy, cmd = second.instructions
    assert (dict(copy.flags), copy.words) == ({"from": "base", "chown": "1:2"}, ["a b", "/c/"])
    assert (second.platform, cmd.exec_form, file.steps) == ("linux/amd64", ["x"], 6)
    assert [stage.name for stage in file.to("BASE").stages] == ["base"]
    with pytest.raises(InvalidInput, match="failed to reach build target no in Dockerfile"):
        file.to("no")


def test_another_escape_leaves_backslashes_alone() -> None:
    file = dockerfile.parse(b"# escape=`\nFROM x\nRUN dir c:\\\nRUN a `\n b\n")
    assert [each.rest for each in file.stages[0].instructions] == ["dir c:\\", "a  b"]


def test_a_directive_behind_a_comment_is_one() -> None:
    file = dockerfile.parse(b"# hello\n# escape=`\nFROM x\nRUN a `\n")
    assert file.escape == "\\"


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("ENV a b  c", [Pair("a", "b  c")]),
        ("ENV a=b c='d e' f=", [Pair("a", "b"), Pair("c", "'d e'"), Pair("f", "")]),
        ("ARG a b=1", [Pair("a", None), Pair("b", "1")]),
        ('LABEL "a b"=c', [Pair('"a b"', "c")]),
    ],
)
def test_pairs(text: str, pairs: list[Pair]) -> None:
    assert dockerfile.instruction_of(text, 1, "\\").pairs() == pairs


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "file with no instructions"),
        ("# nothing", "file with no instructions"),
        ("RUN true", "line 1: no build stage in current context"),
        ("ARG A", "no build stage in current context"),
        ("FROM a b", "line 1: FROM requires either one or three arguments"),
        ("FROM a to b", "FROM requires either one or three arguments"),
        ("FROM a as 1b", "invalid name for build stage: '1b'"),
        ("FROM a\nFOO x", "dockerfile parse error line 2: unknown instruction: FOO"),
        ("FROM a\nRUN", "line 2: RUN requires at least one argument"),
        ("FROM a\nCOPY x", "COPY requires at least two arguments, but only one was provided"),
        ("FROM a\nCOPY --nope=1 x y", "Unknown flag: nope"),
        ("FROM a\nCOPY --from x y", "Missing a value on flag: from"),
        ("FROM a\nENV x", "ENV must have two arguments"),
        ("FROM a\nENV a=b c", 'can\'t find = in "c". Must be of the form: name=value'),
        ("FROM a\nENV =b", "ENV names can not be blank"),
        ("FROM a\nSHELL sh -c", "SHELL requires the arguments to be in JSON form"),
        ("FROM a\nONBUILD ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("FROM a\nONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("FROM a\nHEALTHCHECK RUN x", 'Unknown type "RUN" in HEALTHCHECK'),
        ("FROM a\nHEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("# escape=x\nFROM a", "invalid ESCAPE"),
        ("FROM a\nRUN x\0y", "NUL"),
    ],
)
def test_what_is_wrong_is_said_as_docker_says_it(text: str, why: str) -> None:
    with pytest.raises(Syntax) as caught:
        dockerfile.parse(text.encode())
    assert why in str(caught.value)


def test_what_is_absurd_is_refused() -> None:
    with pytest.raises(Syntax, match="instructions"):
        dockerfile.parse(b"FROM a\n" + b"RUN x\n" * 10_001)
    with pytest.raises(Syntax, match="bytes"):
        dockerfile.parse(b"#" * (dockerfile.MAX_TEXT + 1))
