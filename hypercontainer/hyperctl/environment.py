"""Variables, labels and the files that they come in: -e, --env-file, --label, --label-file."""

from __future__ import annotations

from hypercontainer.hyperctl import flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

FLAGS = (
    flags.many("env", "Set a variable; without a value it is taken from your environment", "e", metavar="NAME[=VALUE]"),
    flags.many("env-file", "Read variables from a file, one a line", metavar="path"),
)


def lines(path: str) -> Iterator[str]:
    """The lines of `path` that say something. Raises InvalidInput."""
    from hypercontainer.errors import InvalidInput

    try:
        with open(path, encoding="utf-8-sig") as f:
            for line in f:
                text = line.rstrip("\r\n").lstrip()
                if text and not text.startswith("#"):
                    yield text
    except (OSError, UnicodeDecodeError) as e:
        raise InvalidInput(f"cannot read {path}: {getattr(e, 'strerror', None) or e}") from e


def collect(files: Iterable[str], words: Iterable[str], environ: Mapping[str, str]) -> list[str]:
    """["K=v"]: those of the files first, so that the words win. A name alone that is not set is left out."""
    from_files = (line for path in files for line in lines(path))
    found: dict[str, str] = {}
    for many, where in ((from_files, "--env-file"), (words, "--env")):
        for word in many:
            name, equals, value = word.partition("=")
            _check(name, word, where)
            if equals:
                found[name] = value
            elif name in environ:
                found[name] = environ[name]
    return [f"{name}={value}" for name, value in found.items()]


def labels(files: Iterable[str], words: Iterable[str]) -> dict[str, str]:
    found = {}
    for many, where in (((line for path in files for line in lines(path)), "--label-file"), (words, "--label")):
        for word in many:
            name, _, value = word.partition("=")
            _check(name, word, where)
            found[name] = value
    return found


def _check(name: str, word: str, where: str) -> None:
    if not name or any(c.isspace() for c in name):
        from hypercontainer.errors import InvalidInput

        raise InvalidInput(f"invalid {where} {word[:60]!r}: use NAME=VALUE, the name without spaces")
