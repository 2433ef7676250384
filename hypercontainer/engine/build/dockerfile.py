"""The text of a Dockerfile -> its stages and instructions. Pure. What is wrong is said with its line, in docker's
words."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from hypercontainer.engine.build import words
from hypercontainer.errors import InvalidInput

MAX_TEXT = 1 << 20
MAX_INSTRUCTIONS = 10_000
DIRECTIVE = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.+?)\s*")
STAGE_NAME = re.compile(r"[a-z][a-z0-9\-_.]*")
FLAGS: Mapping[str, tuple[str, ...]] = {
    "ADD": ("chown", "chmod"),
    "COPY": ("from", "chown", "chmod"),
    "FROM": ("platform",),
    "HEALTHCHECK": ("interval", "timeout", "start-period", "retries"),
}


class Syntax(InvalidInput):
    """A Dockerfile that cannot be read."""


class Pair(NamedTuple):
    """NAME=VALUE of an instruction, as it is written; None where no value is."""

    name: str
    value: str | None


class Instruction(NamedTuple):
    """One instruction. `rest` is what follows its word and its flags."""

    word: str  # in capitals
    flags: Mapping[str, str]
    rest: str
    source: str  # the whole of it as one line, as docker shows it
    line: int
    escape: str

    @property
    def exec_form(self) -> list[str] | None:
        """Its JSON form, if it has that."""
        return json_list(self.rest)

    @property
    def words(self) -> list[str]:
        return self.exec_form if self.exec_form is not None else self.rest.split()

    def pairs(self) -> list[Pair]:
        return _pairs(self)


class Stage(NamedTuple):
    """FROM, and what follows it."""

    name: str  # "" when it has none
    base: str  # as it is written
    platform: str
    source: str
    line: int
    instructions: list[Instruction]


class Dockerfile(NamedTuple):
    arguments: list[Instruction]  # ARGs before the first stage
    stages: list[Stage]
    escape: str

    def to(self, target: str) -> "Dockerfile":
        """As far as the stage `target`, a name or number; "" is all of it."""
        if not target:
            return self
        number = find(self.stages, target)
        if number is None:
            raise InvalidInput(f"failed to reach build target {target[:80]} in Dockerfile")
        return self._replace(stages=self.stages[: number + 1])

    @property
    def steps(self) -> int:
        return len(self.arguments) + sum(1 + len(stage.instructions) for stage in self.stages)


def find(stages: Sequence[Stage], name: str) -> int | None:
    """The number of the stage that is called so, or has that number."""
    found = [n for n, stage in enumerate(stages) if stage.name and stage.name == name.lower()]
    if found:
        return found[0]
    return int(name) if name.isascii() and name.isdigit() and len(name) < 6 and int(name) < len(stages) else None


def parse(data: bytes) -> Dockerfile:
    """Syntax says what is wrong, and in which line."""
    if len(data) > MAX_TEXT:
        raise Syntax(f"the Dockerfile has more than {MAX_TEXT} bytes")
    text = data.removeprefix(b"\xef\xbb\xbf").decode(errors="replace")
    if "\0" in text:
        raise Syntax("the Dockerfile has a NUL in it")
    lines = text.split("\n")
    escape = _escape(lines)
    arguments: list[Instruction] = []
    stages: list[Stage] = []
    for count, (line, source) in enumerate(_logical(lines, escape)):
        if count >= MAX_INSTRUCTIONS:
            raise Syntax(f"the Dockerfile has more than {MAX_INSTRUCTIONS} instructions")
        instruction = instruction_of(source, line, escape)
        if instruction.word == "FROM":
            stages.append(_stage(instruction))
        elif stages:
            stages[-1].instructions.append(instruction)
        elif instruction.word == "ARG":
            arguments.append(instruction)
        else:
            raise _wrong(line, "no build stage in current context")
    if not stages:
        raise Syntax("file with no instructions" if not arguments else "no build stage in current context")
    return Dockerfile(arguments, stages, escape)


def trigger(text: str) -> Instruction:
    """An instruction that an image has for builds upon it."""
    return instruction_of(text, 1, "\\")


def _escape(lines: Sequence[str]) -> str:
    """What the comments at the very beginning say that it is."""
    seen: set[str] = set()
    for number, line in enumerate(lines, 1):
        match = DIRECTIVE.fullmatch(line.strip())
        if not match:
            break
        name, value = match[1].lower(), match[2]
        if name in seen:
            raise _wrong(number, f"only one {name} parser directive can be used")
        seen.add(name)
        if name == "escape":
            if value not in ("\\", "`"):
                raise _wrong(number, f"invalid ESCAPE {value[:20]!r}. Must be ` or \\")
            return value
        if name != "syntax":
            break
    return "\\"


def _logical(lines: Sequence[str], escape: str) -> Iterator[tuple[int, str]]:
    """Each instruction as one line, and the number of its first one. Comments and empty lines within it go."""
    goes_on = re.compile(rf"{re.escape(escape)}[ \t]*$")
    begin, whole = 0, ""
    for number, each in enumerate(lines, 1):
        line = each.removesuffix("\r")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not begin:
            begin, line = number, line.lstrip()
        cut = goes_on.sub("", line)
        whole += cut
        if cut == line:
            yield begin, whole
            begin, whole = 0, ""
    if begin and whole.strip():
        yield begin, whole


def instruction_of(source: str, line: int, escape: str) -> Instruction:
    """One line as an instruction that makes sense by itself."""
    word, _, rest = _by_blank(source)
    word, rest = word.upper(), rest.strip()
    flags: dict[str, str] = {}
    if word not in KNOWN:
        raise _wrong(line, f"unknown instruction: {word[:60]}")
    while word in FLAGS and rest.startswith("--"):
        flag, _, rest = _by_blank(rest)
        rest = rest.strip()
        if flag == "--":
            break
        name, equals, value = flag.removeprefix("--").partition("=")
        if name not in FLAGS[word]:
            raise _wrong(line, f"Unknown flag: {name[:60]}")
        if not equals:
            raise _wrong(line, f"Missing a value on flag: {name}")
        if name in flags:
            raise _wrong(line, f"Duplicate flag specified: {name}")
        flags[name] = value
    made = Instruction(word, flags, rest, source, line, escape)
    try:
        KNOWN[word](made)
    except ValueError as e:
        raise _wrong(line, str(e)) from e
    return made


def _by_blank(text: str) -> tuple[str, str, str]:
    parts = text.split(None, 1)
    return parts[0], " ", parts[1] if len(parts) > 1 else ""


def _wrong(line: int, why: str) -> Syntax:
    return Syntax(f"dockerfile parse error line {line}: {why}")


def _stage(instruction: Instruction) -> Stage:
    parts = instruction.rest.split()
    name = parts[2].lower() if len(parts) == 3 else ""
    if len(parts) not in (1, 3) or (len(parts) == 3 and parts[1].lower() != "as"):
        raise _wrong(instruction.line, "FROM requires either one or three arguments")
    if name and not STAGE_NAME.fullmatch(name):
        raise _wrong(
            instruction.line,
            f"invalid name for build stage: {name[:60]!r}, name can't start with a number or contain symbols",
        )
    platform = instruction.flags.get("platform", "")
    return Stage(name, parts[0], platform, instruction.source, instruction.line, [])


def json_list(text: str) -> list[str] | None:
    """Of words, in JSON; None for anything else."""
    if not text.startswith("["):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, list) and all(isinstance(word, str) for word in value) else None


def _pairs(instruction: Instruction) -> list[Pair]:
    """K=v K2="v w", or the old form of ENV and LABEL: K and the rest of the line."""
    found = words.split(instruction.rest, instruction.escape)
    if instruction.word == "ARG":
        pairs = [word.partition("=") for word in found]
        return [Pair(name, value if equals else None) for name, equals, value in pairs]
    if "=" not in found[0]:
        parts = instruction.rest.split(None, 1)
        if len(parts) < 2:
            raise ValueError(f"{instruction.word} must have two arguments")
        return [Pair(parts[0], parts[1])]
    out = []
    for word in found:
        name, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f"Syntax error - can't find = in {json.dumps(word)}. Must be of the form: name=value")
        out.append(Pair(name, value))
    return out


# What each instruction has to have. ValueError says what it lacks.


def _some(instruction: Instruction) -> None:
    if not instruction.rest:
        raise ValueError(f"{instruction.word} requires at least one argument")


def _one(instruction: Instruction) -> None:
    if not instruction.rest or (instruction.exec_form is not None and len(instruction.exec_form) != 1):
        raise ValueError(f"{instruction.word} requires exactly one argument")


def _two(instruction: Instruction) -> None:
    _some(instruction)
    if len(instruction.words) < 2:
        raise ValueError(
            f"{instruction.word} requires at least two arguments, but only one was provided. "
            "Destination could not be determined."
        )


def _named(instruction: Instruction) -> None:
    _some(instruction)
    for name, _ in instruction.pairs():
        if not name:
            raise ValueError(f"{instruction.word} names can not be blank")


def _any(instruction: Instruction) -> None:
    pass


def _json(instruction: Instruction) -> None:
    if not instruction.exec_form:
        raise ValueError(
            "SHELL requires the arguments to be in JSON form"
            if instruction.exec_form is None
            else "SHELL requires at least one argument"
        )


def _on_build(instruction: Instruction) -> None:
    _some(instruction)
    word = instruction.rest.split(None, 1)[0].upper()
    if word == "ONBUILD":
        raise ValueError("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if word in ("FROM", "MAINTAINER"):
        raise ValueError(f"{word} isn't allowed as an ONBUILD trigger")


def _health(instruction: Instruction) -> None:
    _some(instruction)
    word, _, rest = _by_blank(instruction.rest)
    if word.upper() == "NONE":
        if rest:
            raise ValueError("HEALTHCHECK NONE takes no arguments")
    elif word.upper() != "CMD":
        raise ValueError(f"Unknown type {json.dumps(word[:60])} in HEALTHCHECK (try CMD)")
    elif not rest.strip():
        raise ValueError("Missing command after HEALTHCHECK CMD")


KNOWN: Mapping[str, Callable[[Instruction], None]] = {
    "ADD": _two,
    "ARG": _named,
    "CMD": _any,
    "COPY": _two,
    "ENTRYPOINT": _any,
    "ENV": _named,
    "EXPOSE": _some,
    "FROM": _some,
    "HEALTHCHECK": _health,
    "LABEL": _named,
    "MAINTAINER": _one,
    "ONBUILD": _on_build,
    "RUN": _some,
    "SHELL": _json,
    "STOPSIGNAL": _one,
    "USER": _one,
    "VOLUME": _some,
    "WORKDIR": _one,
}
