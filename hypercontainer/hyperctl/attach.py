"""hyperctl attach, and what run, exec and start -a do alike: be the terminal of a process."""

from __future__ import annotations

import os

from hypercontainer.hyperctl import flags, terminal
from hypercontainer.hyperctl.containers import path
from hypercontainer.hyperctl.context import complain
from hypercontainer.hyperctl.flags import Args, Command
from hypercontainer.hyperctl.session import Forced, TerminalSession

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from hypercontainer.client.http import Upgraded
    from hypercontainer.hyperctl.context import Context

DETACH_KEYS = flags.Flag(
    "detach-keys",
    "Keys that leave a terminal to itself",
    metavar="keys",
    default=terminal.DEFAULT_KEYS,
    parse=lambda word: terminal.parse_keys(word) and word,
)
SIG_PROXY = flags.switch("sig-proxy", "Hand signals on to the process", default=True)


def keys(args: Args) -> bytes:
    return terminal.parse_keys(args.detach_keys)


def need_terminal(*, tty: bool, stdin: bool) -> None:
    """docker's error for -it in a pipe."""
    if tty and stdin and not os.isatty(0):
        from hypercontainer.errors import InvalidInput

        raise InvalidInput("the input device is not a TTY: leave out -t, or call it from a terminal")


def talk(
    upgraded: Upgraded,
    *,
    stdin: bool,
    tty: bool,
    keys: bytes,
    proxy: bool,
    redraw: bool = False,
    done: Callable[[TerminalSession], None] | None = None,
) -> int:
    """Be the terminal until the process ends; the exit status. 0 if the user detached.

    `done` is told the session afterwards, whatever happened."""
    session = TerminalSession(upgraded, stdin=0 if stdin else None, tty=tty, redraw=redraw, keys=keys, proxy=proxy)
    try:
        status = session.run()
    except Forced as e:
        complain(e)
        return 1
    finally:
        if done:
            done(session)
    if session.detached:
        complain("read escape sequence: detached")
        return 0
    if status is None:
        raise BrokenPipeError
    if session.reason:
        complain(session.reason)
    return status


def attach(context: Context, args: Args) -> int:
    name = args.operands[0]
    container = context.client.get(path(name))
    if container["State"]["Paused"]:  # or it would wait for words that nobody can say
        from hypercontainer.errors import WrongState

        raise WrongState("attach to", name, "paused", "unpause it")
    config = container["Config"]
    stdin = config["OpenStdin"] and not args.no_stdin
    need_terminal(tty=config["Tty"], stdin=stdin)
    upgraded = context.client.upgrade(path(name, "attach"), stdin=stdin, stdout=True, stderr=True)
    tty = config["Tty"]
    return talk(upgraded, stdin=stdin, tty=tty, redraw=tty, keys=keys(args), proxy=args.sig_proxy)


COMMANDS = {
    "attach": Command(
        attach,
        "[OPTIONS] CONTAINER",
        "hyperctl attach --no-stdin web",
        flags.switch("no-stdin", "Do not read stdin"),
        SIG_PROXY,
        DETACH_KEYS,
        least=1,
        most=1,
        objects="running",
    )
}
