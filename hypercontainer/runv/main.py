"""runv VERB: what a verb asks of hyperd, and prints, as runc does."""

from __future__ import annotations

import os
import sys

from hypercontainer.lib import fastjson
from hypercontainer.runv import flags
from hypercontainer.runv.door import CONFIG, DEFAULT, Door, Refused
from hypercontainer.runv.flags import UsageError, Words

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import Any
else:
    import _signal  # `signal` would cost 4 ms: enum

ROOT = "/run/runv"
VERSION = "1.2.0"  # of the runtime specification
KEPT = {_signal.SIGKILL, _signal.SIGSTOP, _signal.SIGCHLD, _signal.SIGURG, _signal.SIGPIPE}  # others are the process's


class Failed(Exception):
    """A verb cannot be done; the words are the caller's to read."""


def main() -> int:
    """0, the status of a process that was waited for, or 1 with a line on stderr and in --log."""
    found = Words()
    try:
        found = flags.parse(flags.GLOBAL, sys.argv[1:])
        if "version" in found.switches:
            return _version()
        if not found.rest or "help" in found.switches:
            return _help()
        return _run(found)
    except UsageError as e:
        return _fail(found, f"runv: {e}")
    except Refused as e:
        return _fail(found, _words(e))
    except (Failed, OSError, ValueError) as e:
        return _fail(found, str(e))


def _run(found: Words) -> int:
    name, *words = found.rest
    if name not in flags.VERBS:
        raise UsageError(f"there is no verb {name!r}: use {', '.join(flags.VERBS)}")
    if found.values.get("rootless", "auto").lower() not in ("auto", "false", "f", "0"):
        raise UsageError(f"--rootless {found.values['rootless']}: runv needs root; use auto or false")
    if words[:1] in (["--help"], ["-h"]):
        return _help()
    parsed = flags.parse(flags.VERBS[name], words)
    parsed.switches.update(found.switches & {"systemd-cgroup"})
    if int(parsed.values.get("preserve-fds", "0")):
        raise UsageError("--preserve-fds: descriptors do not reach into a machine")
    door = _door(found)
    owner = os.path.abspath(found.values.get("root", ROOT))
    return int(_verb(name, door, owner, parsed) or 0)


def _door(found: Words) -> Door:
    """A hyperd whose socket alone is named is somebody's, with settings that are not known here."""
    host = found.values.get("host") or os.environ.get("HYPER_OCI_HOST", "")
    config = found.values.get("config") or os.environ.get("HYPER_CONFIG", "")
    if host:
        return Door(host.removeprefix("unix://"), config)
    if not config:
        return Door(DEFAULT, CONFIG)
    from hypercontainer.runv import daemon

    return Door(daemon.socket_of(config), config)


def _verb(name: str, door: Door, owner: str, words: Words) -> int | None:
    id = words.arguments[0] if words.arguments else ""
    match name:
        case "create" | "run" | "exec" | "restore":
            return _process(name, door, owner, words)
        case "state":
            _print(_state(door.call("state", owner=owner, id=id)))
        case "list":
            _list(door.call("list", owner=owner), words)
        case "ps":
            _ps(door, owner, id, words)
        case "kill":
            _kill(door, owner, id, _number((words.arguments[1:] or ["TERM"])[0]), everyone="all" in words.switches)
        case "delete":
            _delete(door, owner, id, force="force" in words.switches)
        case "start":
            _start(door, owner, id)
        case "pause" | "resume":
            door.call(name, owner=owner, id=id)
        case "update":
            _update(door, owner, words)
        case "events":
            from hypercontainer.runv import events

            every_s = events.interval_s(words.values.get("interval", "5s"))
            events.events(door, owner, id, once="stats" in words.switches, every_s=every_s)
        case "interface":
            _interface(door, owner, words)
        case "manage":
            raise Failed("cannot manage templates: hyperd makes and removes them, as its settings say: [[pool]]")
        case "checkpoint":
            _checkpoint(door, owner, words)
        case "spec":
            from hypercontainer.runv import spec

            if "rootless" in words.switches:
                raise UsageError("--rootless: runv needs root")

            spec.write(words.values.get("bundle", "."))
        case "features":
            from hypercontainer.model import features

            _print(features.features())
    return None


def _interface(door: Door, owner: str, words: Words) -> None:
    from hypercontainer.runv import interface

    command = interface.check(words)
    id = words.arguments[1]
    state = door.call("state", owner=owner, id=id)
    if not state["pid"] or state["status"] == "stopped":
        raise Failed("container not running")
    try:
        match command:
            case "ls":
                _table([["NAME", "MAC", "MTU", "IP"], *interface.listed(state["pid"])], "   ")
            case "add":
                interface.add(state["pid"], words.values)
            case "rm":
                interface.remove(state["pid"], words.arguments[2])
            case "update":
                interface.update(state["pid"], words.arguments[2], words.values)
    except interface.NoInterface as e:
        raise Failed(str(e)) from e


def _checkpoint(door: Door, owner: str, words: Words) -> None:
    from hypercontainer.runv import checkpoint

    try:
        checkpoint.save(door, owner, words)
    except checkpoint.NoImages as e:
        raise Failed(str(e)) from e


def _process(name: str, door: Door, owner: str, words: Words) -> int:
    from hypercontainer.runv import create

    if name == "restore":
        from hypercontainer.runv import checkpoint

        try:
            checkpoint.find(words)
        except checkpoint.NoImages as e:
            raise Failed(str(e)) from e
    try:
        waiting = name != "create" and "detach" not in words.switches
        if name == "exec":
            made = create.exec_(door, owner, words, waiting=waiting)
        else:
            made = create.create(door, owner, words, waiting=waiting, restored=name == "restore")
        if waiting:  # from its first word on
            for number in _signal.valid_signals() - KEPT:
                _signal.signal(number, lambda number, _: os.kill(made.pid, number))
        if name == "exec":
            made.go()
        if name in ("run", "restore"):
            try:
                _start(door, owner, words.arguments[0], restored=words if name == "restore" else None)
            except BaseException:
                _delete(door, owner, words.arguments[0], force=True)
                raise
    except Exception as e:
        from hypercontainer.lib import hooks
        from hypercontainer.runv import program

        if isinstance(e, create.BadBundle | hooks.HookFailed | program.NoProgram):
            raise Failed(str(e)) from e
        raise
    if not waiting:
        return 0
    if made.master >= 0:
        from hypercontainer.runv import terminal

        terminal.pass_on(made.master)
    status = os.waitstatus_to_exitcode(os.waitpid(made.pid, 0)[1])
    if name != "exec" and "keep" not in words.switches:
        _delete(door, owner, words.arguments[0], force=True)
    return status if status >= 0 else 128 - status


def _start(door: Door, owner: str, id: str, *, restored: Words | None = None) -> None:
    if restored:
        from hypercontainer.runv import checkpoint

        state = checkpoint.restore(door, owner, restored)
    else:
        state = door.call("start", owner=owner, id=id)
    _hooks("poststart", state, _state(state))


def _hooks(kind: str, of: dict[str, Any], state: dict[str, Any]) -> None:
    """Those that the specification wants to be no failure."""
    if not of.get(kind):
        return
    from hypercontainer.lib import hooks

    try:
        hooks.run(of[kind], kind, state)
    except hooks.HookFailed as e:
        print(f"runv: {e}", file=sys.stderr)


def _delete(door: Door, owner: str, id: str, *, force: bool) -> None:
    if state := door.call("delete", owner=owner, id=id, force=force):
        _hooks("poststop", state, {**_state(state), "status": "stopped", "pid": 0})


def _state(state: dict[str, Any]) -> dict[str, Any]:
    return {
        "ociVersion": state["oci_version"],
        "id": state["id"],
        "pid": state["pid"],
        "status": state["status"],
        "bundle": state["bundle"],
        "rootfs": state["rootfs"],
        "created": _time(state["created_ns"]),
        "annotations": state.get("annotations") or {},
        "owner": "",
    }


def _time(ns: int) -> str:
    import time

    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(ns // 10**9))}.{ns % 10**9:09}Z"


def _list(states: list[dict[str, Any]], words: Words) -> None:
    rows = [_state(state) for state in states]
    if "quiet" in words.switches:
        for row in rows:
            print(row["id"])
    elif _format(words) == "json":
        print(fastjson.dumps([{**row, "owner": "root"} for row in rows] or None))
    else:
        table = [["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]]
        table += [[row["id"], str(row["pid"]), row["status"], row["bundle"], row["created"], "root"] for row in rows]
        _table(table, "   ")


def _format(words: Words) -> str:
    found = words.values.get("format", "table")
    if found not in ("table", "json"):
        raise UsageError(f"invalid value {found!r} for --format: it is table or json")
    return found


def _table(table: list[list[str]], between: str) -> None:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        print(between.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _ps(door: Door, owner: str, id: str, words: Words) -> None:
    """For programs pids of this host, which are stand-ins; for people the processes in the machine."""
    if _format(words) == "json":
        return print(fastjson.dumps(_of_running(door, "pids", owner=owner, id=id)))
    found = _of_running(door, "top", owner=owner, id=id, options=" ".join(words.rest or ["-ef"]))
    return _table([found["Titles"], *found["Processes"]], " ")


def _update(door: Door, owner: str, words: Words) -> None:
    from hypercontainer.runv import create, update

    try:
        update.update(door, owner, words)
    except create.BadBundle as e:
        raise Failed(str(e)) from e


def _kill(door: Door, owner: str, id: str, number: int, *, everyone: bool) -> None:
    _of_running(door, "kill", owner=owner, id=id, signal=number, everyone=everyone)


def _of_running(door: Door, call: str, **arguments: Any) -> Any:
    """What does not run is told in the words that containerd looks for."""
    try:
        return door.call(call, **arguments)
    except Refused as e:
        if e.kind == "failed-precondition":
            raise Failed("container not running") from e
        raise


def _number(word: str) -> int:
    if word.isdecimal() and int(word) in _signal.valid_signals():
        return int(word)
    name = word.upper().removeprefix("SIG")
    found = getattr(_signal, f"SIG{name}", None) if name.isalnum() else None  # SIG_DFL is none
    if found is None:
        raise UsageError(f"unknown signal {word!r}")
    return int(found)


def _words(refused: Refused) -> str:
    """As engines look for them."""
    message = str(refused)
    if refused.kind == "not-found" and message.startswith("no such container"):
        return "container does not exist"
    return message


def _fail(found: Words, message: str) -> int:
    print(message, file=sys.stderr)
    if path := found.values.get("log"):
        import time

        line = {"level": "error", "msg": message, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        text = fastjson.dumps(line) if found.values.get("log-format") == "json" else f'level=error msg="{message}"'
        try:
            with open(path, "a") as file:
                file.write(f"{text}\n")
        except OSError:
            pass  # stderr has it
    return 1


def _print(document: Any) -> None:
    print(_indented(document))


def _indented(value: Any, margin: str = "") -> str:
    """JSON with a line for each value, as runc prints it."""
    inner = f"{margin}  "
    if isinstance(value, dict):
        lines = [f"{fastjson.dumps(key)}: {_indented(one, inner)}" for key, one in value.items()]
    elif isinstance(value, list):
        lines = [_indented(one, inner) for one in value]
    else:
        return fastjson.dumps(value)
    first, last = "{}" if isinstance(value, dict) else "[]"
    if not lines:
        return first + last
    between = f",\n{inner}"
    return f"{first}\n{inner}{between.join(lines)}\n{margin}{last}"


def _version() -> int:
    from hypercontainer import __version__

    print(f"runv version {__version__}\nspec: {VERSION}")
    return 0


def _help() -> int:
    print(
        "usage: runv [--root DIR] [--log FILE] [--log-format text|json] [--host unix://SOCKET] [--config FILE] VERB …\n"
    )
    print(f"verbs: {', '.join(flags.VERBS)}")
    return 0
