"""Patterns of .dockerignore: docker's documented cases."""

import pytest

from hypercontainer.lib.dockerignore import Ignored, patterns


def ignored(text: str, *paths: str) -> list[str]:
    rule = Ignored(patterns(text))
    return [path for path in paths if rule(path)]


@pytest.mark.parametrize(
    ("text", "out", "kept"),
    [
        ("# comment", [], ["# comment"]),
        ("*/temp*", ["somedir/temporary.txt", "somedir/temp", "somedir/temp/x"], ["temp", "a/b/temp"]),
        ("*/*/temp*", ["somedir/subdir/temporary.txt"], ["somedir/temp"]),
        ("temp?", ["tempa", "tempb"], ["temp", "tempab"]),
        ("**/*.go", ["a.go", "a/b/c.go"], ["a.gox"]),
        ("/foo/bar", ["foo/bar", "foo/bar/x"], ["foo"]),
        ("foo/../bar/", ["bar", "bar/x"], ["foo"]),
        ("*.md\n!README.md", ["a.md"], ["README.md"]),
        ("*.md\n!README*.md\nREADME-secret.md", ["a.md", "README-secret.md"], ["README.md", "README-x.md"]),
        ("*.md\nREADME-secret.md\n!README*.md", ["a.md"], ["README-secret.md"]),
        ("dir\n!dir/keep", ["dir", "dir/a"], ["dir/keep"]),
        ("**", ["a", "a/b"], []),
        ("a/**/z", ["a/z", "a/b/z", "a/b/c/z"], ["z", "az"]),
        ("a[b-d]e", ["abe", "ade"], ["aee"]),
        ("a\\*b", ["a*b"], ["axb"]),
        (".git", [".git", ".git/config"], ["x.git"]),
        ("  spaced  ", ["spaced"], []),
        ("\ufeffbom", ["bom"], []),
    ],
)
def test_what_is_left_out(text: str, out: list[str], kept: list[str]) -> None:
    assert ignored(text, *out, *kept) == out


@pytest.mark.parametrize("text", ["[", "a\\", "!", "[z-a]"])
def test_what_is_no_pattern(text: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        Ignored(patterns(text))


def test_a_pattern_that_could_take_for_ever_does_not() -> None:
    assert ignored("a*" * 12 + "b", "a" * 60) == []
