"""What a kernel of our own is asked to have: fragments, one concern a file, and the proof that it got it.

A fragment's line is `CONFIG_NAME=value  # reason`, as fragments/README.md says.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hypercontainer.errors import InvalidInput

FRAGMENTS = Path(__file__).with_name("fragments")
LINE = re.compile(r'(CONFIG_[A-Z0-9_a-z]+)=(y|n|0|[1-9][0-9]*|0x[0-9a-f]+|"[^"\\]*")  # (\S.*)')
SET = re.compile(r"(CONFIG_\w+)=(.*)")


class Option(NamedTuple):
    """One line of a fragment."""

    name: str  # CONFIG_SMP
    value: str  # y, n, a number, or a string in its quotes
    reason: str
    origin: str  # file:line


def fragments(folder: Path = FRAGMENTS) -> list[Option]:
    """The options of every *.config in `folder`, by file. InvalidInput names a line that is no option with a reason,
    or that says again what another has said."""
    options: dict[str, Option] = {}
    for path in sorted(folder.glob("*.config")):
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            if not line or line.startswith("#"):
                continue
            option = _option(line, f"{path.name}:{number}")
            if earlier := options.get(option.name):
                raise InvalidInput(f"cannot read {option.origin}: {option.name} is in {earlier.origin} already")
            options[option.name] = option
    return list(options.values())


def _option(line: str, origin: str) -> Option:
    match = LINE.fullmatch(line)
    if not match:
        raise InvalidInput(f"cannot read {origin}: it is not CONFIG_NAME=value, two spaces, # and a reason: {line!r}")
    return Option(match[1], match[2], match[3], origin)


def merged(options: Iterable[Option]) -> str:
    """`options` as kconfig reads them (KCONFIG_ALLCONFIG)."""
    return "".join(f"# {o.name} is not set\n" if o.value == "n" else f"{o.name}={o.value}\n" for o in options)


def parse(text: str) -> dict[str, str]:
    """What a .config sets; what it leaves out or calls "not set" is n."""
    return {match[1]: match[2] for line in text.splitlines() if (match := SET.fullmatch(line))}


def check(options: Sequence[Option], config: Mapping[str, str]) -> None:
    """Raise InvalidInput naming every option that the configuration made of `options` does not have as asked.

    kconfig drops without a word what a kernel does not know, what lacks a dependency, what another choice forbids."""
    wrong = [
        f"{o.name}={o.value} ({o.origin}) became {config.get(o.name, 'n')}"
        for o in options
        if config.get(o.name, "n") != o.value
    ]
    if wrong:
        raise InvalidInput(f"cannot configure the kernel: {'; '.join(wrong)}")
