"""hyperctl: the process. Reads the command line, calls the command, says what went wrong in one line."""

from __future__ import annotations

import os
import sys

from hypercontainer.client.connection import Remote
from hypercontainer.hyperctl import commands, flags
from hypercontainer.hyperctl.context import Context, complain, parse_address
from hypercontainer.hyperctl.flags import Args, Command, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
else:
    import _signal  # `signal` would cost 5 ms: enum

LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")
FAILED = 125  # ours, not the container's status
PASS_ON = ("run", "pod run")  # whose status may be a container's


def main() -> int:
    """The whole process: reads the command line, returns the exit status."""
    _open_standard_files()
    try:
        status = _main(sys.argv[1:], sys.argv[0])
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        _die_of(_signal.SIGPIPE)
    except KeyboardInterrupt:
        _die_of(_signal.SIGINT)
    return FAILED


def _main(words: list[str], program: str) -> int:
    name = ""
    try:
        host, words = _global_flags(words)
        if text := commands.overview(words):
            print(text)
            return 0
        name, words = commands.find(words)
        command = commands.load(name)
        args = flags.parse(name, command, words)
        if args is None:
            print(flags.help_text(name, commands.COMMANDS[name].summary, command))
            return 0
        return _run(command, args, Context(_address(host), program, dict(os.environ)))
    except UsageError as e:
        see = f"hyperctl {e.command}".strip()
        complain(e.message if e.final else f"{e.message} (see '{see} --help')")
        return e.status
    except Exception as e:
        from hypercontainer.errors import HyperError

        if not isinstance(e, HyperError):
            raise
        complain(e)
        return FAILED if name.removeprefix("container ") in PASS_ON else 1


def _run(command: Command, args: Args, context: Context) -> int:
    try:
        return command.run(context, args)
    except UsageError as e:
        e.final = e.final or not e.command  # the overview of all commands would tell nothing of a value
        raise
    finally:
        context.close()


def _address(host: str) -> str | Remote:
    try:
        return parse_address(host or os.environ.get("HYPER_HOST", ""), os.environ)
    except ValueError as e:
        raise UsageError(str(e), final=True) from e


def _global_flags(words: list[str]) -> tuple[str, list[str]]:
    """Take what stands before the command: -H, --host, --version; docker's --debug and --log-level change nothing."""
    host = ""
    while words and words[0].startswith("-"):
        name, equals, value = words[0].partition("=")
        if name in ("-H", "--host"):
            if not equals and len(words) < 2:
                raise UsageError(f"flag needs an argument: {name}")
            host, words = (value, words[1:]) if equals else (words[1], words[2:])
        elif name in ("-l", "--log-level"):
            if not equals and len(words) < 2:
                raise UsageError(f"flag needs an argument: {name}")
            level, words = (value, words[1:]) if equals else (words[1], words[2:])
            if level not in LOG_LEVELS:
                raise UsageError(f"invalid argument {level!r} for {name}: use one of {', '.join(LOG_LEVELS)}")
            complain(f"warning: {name} changes nothing: hyperctl keeps no log")
        elif words[0] in ("-D", "--debug"):
            complain(f"warning: {words[0]} changes nothing: hyperctl keeps no log")
            words = words[1:]
        elif words[0] in ("-v", "--version"):
            return host, ["version", "--short"]
        elif words[0] in ("-h", "--help"):
            return host, []
        else:
            raise UsageError(f"unknown flag: {words[0]}")
    return host, words


def _open_standard_files() -> None:
    """A descriptor 0, 1 or 2 that the caller closed must not become our socket."""
    while (fd := os.open("/dev/null", os.O_RDWR)) <= 2:
        pass
    os.close(fd)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _die_of(number: int) -> None:
    """End as a program does that never heard of the signal, so that shells see it."""
    null = os.open("/dev/null", os.O_WRONLY)
    os.dup2(null, 1)  # what is still buffered has no reader
    _signal.signal(number, _signal.SIG_DFL)
    os.kill(os.getpid(), number)
