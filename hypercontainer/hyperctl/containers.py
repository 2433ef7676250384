"""Commands that do one thing to containers: stop kill restart rm pause unpause rename wait top port, a prune."""

from __future__ import annotations

import _thread
import os

from hypercontainer.client.http import segment
from hypercontainer.hyperctl import flags, table
from hypercontainer.hyperctl.context import complain, each
from hypercontainer.hyperctl.flags import Args, Command, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from hypercontainer.client.http import Client
    from hypercontainer.hyperctl.context import Context

AT_ONCE = 16
PRUNE_FILTERS = ("label", "label!", "until")


def path(container: str, verb: str = "") -> str:
    return f"/v1/containers/{segment(container)}" + (f"/{verb}" if verb else "")


def together(
    context: Context, names: list[str], act: Callable[[Client, str], object], *, absent_ok: bool = False
) -> int:
    """`act` on all at the same time, each over a connection of its own: a stop may take ten seconds."""
    if len(names) == 1:
        return each(names, lambda name: act(context.client, name), absent_ok=absent_ok)
    context.client.get("/v1/ping")  # starts a hyperd if there is none, once
    status = 0
    for i in range(0, len(names), AT_ONCE):
        works = {name: Work(context.client, name, act) for name in names[i : i + AT_ONCE]}
        done = each([*works], lambda name: works[name].result(), absent_ok=absent_ok)  # noqa: B023  called at once
        status = done or status
    return status


class Work:
    """`act` on one name, in a thread of its own; `concurrent.futures` would cost 13 ms."""

    def __init__(self, client: Client, name: str, act: Callable[[Client, str], object]) -> None:
        self._client, self._name, self._act = client, name, act
        self._error: BaseException | None = None
        self._busy = _thread.allocate_lock()
        self._busy.acquire()
        _thread.start_new_thread(self._run, ())

    def _run(self) -> None:
        try:
            with self._client.another() as client:
                self._act(client, self._name)
        except BaseException as e:
            self._error = e
        finally:
            self._busy.release()

    def result(self) -> None:
        self._busy.acquire()
        if self._error:
            raise self._error


def given_timeout(args: Args) -> int | None:
    return args.timeout if "timeout" in args.given else None


def stop(context: Context, args: Args) -> int:
    return together(context, args.operands, lambda c, name: c.post(path(name, "stop"), timeout=given_timeout(args)))


def restart(context: Context, args: Args) -> int:
    """One after the other, as `start` does."""
    timeout = given_timeout(args)
    return each(args.operands, lambda name: context.client.post(path(name, "restart"), timeout=timeout))


def kill(context: Context, args: Args) -> int:
    return each(args.operands, lambda name: context.client.post(path(name, "kill"), signal=args.signal))


def pause(context: Context, args: Args) -> int:
    return each(args.operands, lambda name: context.client.post(path(name, "pause")))


def unpause(context: Context, args: Args) -> int:
    return each(args.operands, lambda name: context.client.post(path(name, "unpause")))


def remove(context: Context, args: Args) -> int:
    if args.link:
        return each(args.operands, lambda link: context.client.delete(path(*_link(link))))
    return together(
        context,
        args.operands,
        lambda c, name: c.delete(path(name), force=args.force, volumes=args.volumes),
        absent_ok=args.force,
    )


def _link(word: str) -> tuple[str, str]:
    """Of CONTAINER/ALIAS, docker's name of a link."""
    container, found, alias = word.removeprefix("/").partition("/")
    if not found:
        raise UsageError(f"cannot remove link {word!r}: use CONTAINER/ALIAS")
    return container, f"links/{segment(alias)}"


def rename(context: Context, args: Args) -> int:
    old, new = args.operands
    context.client.post(path(old, "rename"), name=new)
    return 0


def wait(context: Context, args: Args) -> int:
    return each(
        args.operands, lambda name: print(context.client.post(path(name, "wait"))["StatusCode"], flush=True), say=False
    )


STOPPED = ("status=created", "status=exited")  # of containers that a prune removes


def prune(context: Context, args: Args) -> int:
    """Remove what does not run."""
    for word in args.filter:
        if word.partition("=")[0] not in PRUNE_FILTERS:
            from hypercontainer.errors import InvalidInput

            raise InvalidInput(f"invalid filter {word!r}: use one of {', '.join(PRUNE_FILTERS)}")
    if not args.force and not confirmed(f"This removes all containers that do not run{table.matching(args)}."):
        return 1
    entries = context.client.get("/v1/containers", all=True, filter=[*STOPPED, *args.filter])
    if entries:
        print("Deleted Containers:")
    return each([entry["Id"] for entry in entries], lambda name: context.client.delete(path(name)))


def top(context: Context, args: Args) -> int:
    name, *options = args.operands
    document = context.client.get(path(name, "top"), ps_args=" ".join(options) or None)
    table.write(document["Titles"], document["Processes"])
    return 0


def port(context: Context, args: Args) -> int:
    """All published ports, or the host's end of one."""
    name, *wanted = args.operands
    published = context.client.get(path(name))["NetworkSettings"]["Ports"]
    key = ""
    if wanted:
        key = wanted[0] if "/" in wanted[0] else f"{wanted[0]}/tcp"
        if not published.get(key):
            from hypercontainer.errors import NotFound

            raise NotFound("published port", f"{key} of {name}")
    for inside, outside in sorted(published.items(), key=_by_number):
        for binding in outside or ():
            host = binding["HostIp"] or "0.0.0.0"
            address = f"{f'[{host}]' if ':' in host else host}:{binding['HostPort']}"
            if not key:
                print(f"{inside} -> {address}")
            elif inside == key:
                print(address)
    return 0


def _by_number(item: tuple[str, Any]) -> tuple[int, str]:
    number, _, protocol = item[0].partition("/")
    return int(number), protocol


def confirmed(warning: str) -> bool:
    """Ask on the terminal."""
    if not os.isatty(0):
        raise UsageError(f"{warning} There is no terminal to ask on: add --force")
    complain(f"warning: {warning}")
    print("Are you sure you want to continue? [y/N] ", end="", flush=True)
    return input().strip().lower() in ("y", "yes")


TIMEOUT = flags.Flag(
    "timeout",
    "Seconds to wait before it is killed (default: as it was created with)",
    short="t",
    metavar="int",
    parse=flags.number,
)
FORCE = flags.switch("force", "Do not ask", "f")
NO_SIGNAL = {"signal": "choose it with 'hyperctl run --stop-signal', or use 'hyperctl kill'"}
LEGACY = {"time": "say --timeout", **NO_SIGNAL}
SEVERAL = "CONTAINER [CONTAINER...]"

COMMANDS = {
    "stop": Command(
        stop, f"[OPTIONS] {SEVERAL}", "hyperctl stop -t 3 web", TIMEOUT,
        least=1, most=None, objects="running", refused=LEGACY,
    ),
    "restart": Command(
        restart, f"[OPTIONS] {SEVERAL}", "hyperctl restart web", TIMEOUT,
        least=1, most=None, objects="containers", refused=LEGACY,
    ),
    "kill": Command(
        kill, f"[OPTIONS] {SEVERAL}", "hyperctl kill -s HUP web",
        flags.Flag("signal", "A name or a number", short="s", default="KILL", words=("HUP", "INT", "KILL", "TERM")),
        least=1, most=None, objects="running",
    ),
    "rm": Command(
        remove, f"[OPTIONS] {SEVERAL}", "hyperctl rm -f web db",
        flags.switch("force", "Kill it first if it runs", "f"),
        flags.switch("volumes", "Remove its anonymous volumes too", "v"),
        flags.switch("link", "Remove a link, CONTAINER/ALIAS, and no container", "l"),
        least=1, most=None, objects="containers",
    ),
    "pause": Command(
        pause, SEVERAL, "hyperctl pause web", least=1, most=None, objects="running",
        notes="All containers of a pod are in one VM: they pause together.",
    ),
    "unpause": Command(unpause, SEVERAL, "hyperctl unpause web", least=1, most=None, objects="running"),
    "rename": Command(
        rename, "CONTAINER NEW_NAME", "hyperctl rename web old-web", least=2, most=2, objects="containers",
    ),
    "wait": Command(wait, SEVERAL, "hyperctl wait job", least=1, most=None, objects="containers"),
    "top": Command(
        top, "CONTAINER [PS OPTIONS]", "hyperctl top web aux", least=1, most=None, in_order=True, objects="running",
        notes="Of ps there are -ef, aux, ax, -A and -o COLUMNS: the guest lists the processes itself.",
    ),
    "port": Command(
        port, "CONTAINER [PORT[/PROTOCOL]]", "hyperctl port web 80", least=1, most=2, objects="running",
    ),
    "container prune": Command(
        prune, "[OPTIONS]", "hyperctl container prune -f", FORCE,
        table.filter_flag("Remove only what matches: until=24h, label=…, label!=…", ""),
    ),
}  # fmt: skip
