"""Command lines as docker reads them: a table of flags a command, its parser, its help.

argparse has other rules (abbreviations, no `--rm=false`, options after the image) and costs 9 ms to import.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from hypercontainer.hyperctl.context import Context

BOOL, TEXT, LIST = "bool", "text", "list"
HELP_COLUMN = 30


class UsageError(Exception):
    """The command line is wrong: `message` says how, `command` whose help would tell more. `final`: no help would."""

    def __init__(self, message: str, command: str = "", status: int = 125, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final
        self.message, self.command, self.status = message, command, status


class Flag:
    """One option; a `help` of "" hides the flag from --help. `parse` turns each word into a value and raises ValueError
    with the reason. `usual` is what --help calls the default where somebody else has it: the engine, the image.
    `words` are candidates for completion: texts, or the name of a kind of object ("containers")."""

    __slots__ = ("default", "help", "kind", "metavar", "name", "parse", "short", "usual", "words")

    def __init__(
        self,
        name: str,
        help: str,
        *,
        short: str = "",
        kind: str = TEXT,
        metavar: str = "",
        default: Any = None,
        usual: str = "",
        parse: Callable[[str], Any] | None = None,
        words: Sequence[str] | str = (),
    ) -> None:
        self.name, self.help, self.short, self.kind, self.parse, self.words = name, help, short, kind, parse, words
        self.usual = usual
        self.metavar = metavar or {BOOL: "", TEXT: "string", LIST: "list"}[kind]
        self.default: Any = {BOOL: False, TEXT: "", LIST: []}[kind] if default is None else default

    def value(self, word: str) -> Any:
        if self.kind == BOOL:
            return boolean(word)
        return self.parse(word) if self.parse else word


def switch(name: str, help: str, short: str = "", *, default: bool = False) -> Flag:
    return Flag(name, help, short=short, kind=BOOL, default=default)


def many(
    name: str,
    help: str,
    short: str = "",
    *,
    metavar: str = "list",
    usual: str = "",
    parse: Callable[[str], Any] | None = None,
    words: Sequence[str] | str = (),
) -> Flag:
    return Flag(name, help, short=short, kind=LIST, metavar=metavar, usual=usual, parse=parse, words=words)


def boolean(word: str) -> bool:
    """As Go reads one."""
    if word in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if word in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise ValueError("use true or false")


def number(word: str) -> int:
    if not word.removeprefix("-").isdecimal() or len(word) > 18:
        raise ValueError("use a whole number")
    return int(word)


def count(word: str) -> int:
    n = number(word)
    if n < 0:
        raise ValueError("use a number that is not negative")
    return n


class Args:
    """What was parsed: `args.detach` for --detach, `args.operands` for the rest; `args.given` are the flags used."""

    def __init__(self) -> None:
        self.operands: list[str] = []
        self.given: set[str] = set()
        self.values: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        try:
            return self.values[name]
        except KeyError:
            raise AttributeError(name) from None


class Command:
    """A command: its words, what it takes, and the function that does it and returns the exit status.

    `least` and `most` bound the operands (`most` None: any number). `in_order`: flags end at the first operand,
    because what follows belongs to somebody else's command line. `refused`: flags of docker's that we do not have,
    and why or what instead. `objects` is the kind of the operands, for completion.
    """

    def __init__(
        self,
        run: Callable[[Context, Args], int],
        usage: str,
        example: str,
        *flags: Flag,
        least: int = 0,
        most: int | None = 0,
        in_order: bool = False,
        refused: dict[str, str] | None = None,
        objects: str = "",
        notes: str = "",
    ) -> None:
        self.run, self.usage, self.example, self.flags = run, usage, example, flags
        self.least, self.most, self.in_order = least, most, in_order
        self.refused, self.objects, self.notes = refused or {}, objects, notes


def parse(name: str, command: Command, words: Sequence[str]) -> Args | None:
    """Read `words` by `command`'s table; None if help was asked for. Raises UsageError."""
    args = Args()
    for flag in command.flags:
        args.values[flag.name.replace("-", "_")] = [] if flag.kind == LIST else flag.default
    rest = list(reversed(words))
    try:
        while rest:
            word = rest.pop()
            if word == "--":
                args.operands += reversed(rest)
                break
            if word == "--help":
                return None
            if word.startswith("--"):
                _long(command, args, word[2:], rest)
            elif word.startswith("-") and word != "-":
                if _shorts(command, args, word[1:], rest):
                    return None
            else:
                args.operands.append(word)
                if command.in_order:
                    args.operands += reversed(rest)
                    break
        _check_operands(name, command, args.operands)
    except UsageError as e:
        e.command = name
        raise
    return args


def _long(command: Command, args: Args, word: str, rest: list[str]) -> None:
    name, equals, value = word.partition("=")
    flag = next((f for f in command.flags if f.name == name), None)
    if flag is None:
        raise _unknown(command, name)
    if not equals:
        if flag.kind == BOOL:
            value = "true"
        elif not rest:
            raise UsageError(f"flag needs an argument: --{name}")
        else:
            value = rest.pop()
    _set(flag, args, value)


def _shorts(command: Command, args: Args, word: str, rest: list[str]) -> bool:
    """Read a group such as -it or -p80:80; True if help was asked for."""
    letters = word
    while letters:
        letter, letters = letters[0], letters[1:]
        flag = next((f for f in command.flags if f.short == letter), None)
        if flag is None:
            if letter == "h":
                return True
            raise UsageError(f"unknown shorthand flag: {letter!r} in -{word}")
        if flag.kind == BOOL and not letters.startswith("="):
            _set(flag, args, "true")
            continue
        if not letters and not rest:
            raise UsageError(f"flag needs an argument: -{letter}")
        _set(flag, args, letters.removeprefix("=") if letters else rest.pop())
        letters = ""
    return False


def _set(flag: Flag, args: Args, word: str) -> None:
    try:
        value = flag.value(word)
    except ValueError as e:
        both = f"-{flag.short}, --{flag.name}" if flag.short else f"--{flag.name}"
        raise UsageError(f"invalid argument {word!r} for {both}: {e}") from e
    key = flag.name.replace("-", "_")
    args.given.add(key)
    if flag.kind == LIST:
        args.values[key].append(value)
    else:
        args.values[key] = value


def _unknown(command: Command, name: str) -> UsageError:
    if name in command.refused:
        return UsageError(f"--{name} is not supported: {command.refused[name]}", final=True)
    near = nearest(name, [f.name for f in command.flags])
    return UsageError(f"unknown flag: --{name}" + (f" (did you mean --{near}?)" if near else ""))


def _check_operands(name: str, command: Command, operands: list[str]) -> None:
    """docker's words, and its status 1."""
    got, plural = len(operands), "argument" if command.least == 1 else "arguments"
    if command.most == command.least and got != command.least:
        wants = f"requires {command.least or 'no'} {plural}"
    elif got < command.least:
        wants = f"requires at least {command.least} {plural}"
    elif command.most is not None and got > command.most:
        wants = f"takes at most {command.most} argument{'s' if command.most != 1 else ''}"
    else:
        return
    raise UsageError(f"{name} {wants}: {command.usage}", status=1)


def nearest(word: str, words: Sequence[str]) -> str:
    """The one of `words` that was probably meant; "" if none is near."""
    best, near = 3 if len(word) > 3 else 2, ""
    for candidate in words:
        distance = edits(word, candidate)
        if candidate.startswith(word) and len(word) > 2:
            distance = min(distance, 1)
        if distance < best:
            best, near = distance, candidate
    return near


def edits(a: str, b: str) -> int:
    """Letters to insert, delete, replace or swap to make `b` of `a`."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        older, before, row = before, row, [i]
        for j, y in enumerate(b, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
    return row[-1]


def help_text(name: str, summary: str, command: Command) -> str:
    """What --help prints."""
    lines = [f"Usage:  hyperctl {name} {command.usage}".rstrip(), "", summary]
    if command.notes:
        lines += ["", command.notes]
    if command.flags:
        lines += ["", "Options:", *(line for flag in command.flags if flag.help for line in _help_lines(flag))]
    return "\n".join([*lines, "", "Example:", *(f"  {line}" for line in command.example.splitlines())])


def _help_lines(flag: Flag) -> list[str]:
    short = f"-{flag.short}, " if flag.short else "    "
    left = f"  {short}--{flag.name} {flag.metavar}".rstrip()
    text = flag.help
    if flag.usual:
        text += f" (default {flag.usual})"
    elif flag.default not in ("", False, []):
        text += f" (default {str(flag.default).lower() if flag.kind == BOOL else flag.default})"
    if len(left) >= HELP_COLUMN:
        return [left, " " * HELP_COLUMN + text]
    return [left.ljust(HELP_COLUMN) + text]
