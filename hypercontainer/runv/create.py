"""create, run and exec: what makes processes."""

from __future__ import annotations

import os

from hypercontainer.lib import engine_cgroup, fastjson, stand_in
from hypercontainer.runv.flags import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from hypercontainer.runv.door import Door
    from hypercontainer.runv.flags import Words


class BadBundle(Exception):
    """A file of the bundle is missing, or is no JSON."""


def read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            data = file.read()
        found = fastjson.loads(data)
    except OSError as e:
        raise BadBundle(f"cannot read {path}: {e.strerror}") from e
    except ValueError as e:
        raise BadBundle(f"cannot read {path}: it is no JSON: {_fault(data) or e}") from e
    if not isinstance(found, dict):
        raise BadBundle(f"cannot read {path}: it is no JSON object")
    return found


def _fault(data: bytes) -> str:
    """What is wrong where, in more words than the quick reader has."""
    import json

    try:
        json.loads(data)
    except (ValueError, RecursionError) as e:
        return str(e)
    return ""


def create(door: Door, owner: str, words: Words, *, waiting: bool, restored: bool) -> stand_in.StandIn:
    """Make a container of a bundle. What was made is gone when this fails. `waiting`: for its end; `restored`: it goes
    on from a checkpoint."""
    from hypercontainer.runv import program

    id = words.arguments[0]
    folder = os.path.abspath(words.values.get("bundle", "."))
    config = read(os.path.join(folder, "config.json"))
    door.call("check", owner=owner, id=id, config=config)  # before a hook runs; and types are right from here on
    linux: dict[str, Any] = _object(config, "linux")
    process = _object(config, "process")
    network = [each for each in linux.get("namespaces") or [] if each.get("type") == "network"]
    path = network[0].get("path", "") if network else ""
    if path and os.stat(path).st_ino == os.stat("/proc/self/ns/net").st_ino:
        raise BadBundle(f"cannot use the network namespace {path}: it is this host's own; give the container another")
    group = engine_cgroup.named(linux.get("cgroupsPath") or "", id, systemd="systemd-cgroup" in words.switches)
    if group:
        linux["cgroupsPath"] = group
    os.makedirs(owner, 0o711, exist_ok=True)  # nothing is in it: engines look whether it is there
    with _Stdio(words, process, waiting=waiting) as stdio:
        new = bool(network and not path)
        made = stand_in.start(
            door.stand_ins,
            stdio.fds,
            args=_args(process),
            terminal=stdio.terminal,
            network=path,
            new_network=new,
        )
        made.master = stdio.master
    created = False
    try:
        state = {
            "ociVersion": config.get("ociVersion", ""),
            "id": id,
            "status": "creating",
            "pid": made.pid,
            "bundle": folder,
            "annotations": config.get("annotations") or {},
        }
        wanted = config.get("hooks") or {}
        if wanted:
            from hypercontainer.lib import hooks

            hooks.run(wanted.get("prestart"), "prestart", state)
            hooks.run(wanted.get("createRuntime"), "createRuntime", state)
        with _Hooked(wanted.get("createContainer"), state):
            root, binds, others = _files(config, folder)
            wanted_trees = {root: True}
            for bind in binds:
                wanted_trees[bind.source] = wanted_trees.get(bind.source, False) or bind.recursive
            with _Trees([_Tree(path, recursive=below) for path, below in wanted_trees.items()]) as trees:
                door.call(
                    "create",
                    trees,
                    owner=owner,
                    id=id,
                    bundle=folder,
                    config=config,
                    key=made.key,
                    pid=made.pid,
                    start_time=made.start_time,
                    netns=f"/proc/{made.pid}/ns/net",
                    trees=list(wanted_trees),
                    restored=restored,
                )
            created = True
            if group:
                engine_cgroup.place(group, made.pid)  # hyperd knows of it, and removes it
            seen = [_Tree(root, recursive=True, private=True)]  # private, or no root can be made of it
            seen += [_Tree(b.source, recursive=b.recursive, read_only=b.read_only, private=True) for b in binds]
            with _Trees(seen) as trees:
                made.go(trees, [bind.place for bind in binds])
        program.check(f"/proc/{made.pid}/root", process, others)
        _write_pid(words, made.pid)
    except BaseException:
        made.give_up()
        if created:
            door.call("delete", owner=owner, id=id, force=True)
        raise
    return made


def exec_(door: Door, owner: str, words: Words, *, waiting: bool) -> stand_in.StandIn:
    """One more process in a container that runs; it is heard once its stand-in goes. `waiting`: for its end."""
    id = words.arguments[0]
    process = _process(door, owner, words)
    with _Stdio(words, process, waiting=waiting) as stdio:
        made = stand_in.start(door.stand_ins, stdio.fds, args=_args(process), terminal=stdio.terminal)
        made.master = stdio.master
    try:
        door.call("exec", owner=owner, id=id, process=process, key=made.key, pid=made.pid, start_time=made.start_time)
        _write_pid(words, made.pid)
    except BaseException:
        made.give_up()
        raise
    return made


def _process(door: Door, owner: str, words: Words) -> dict[str, Any]:
    for flag in ("process-label", "cgroup"):
        if words.values.get(flag):
            raise UsageError(f"--{flag}: it is not there yet")
    if path := words.values.get("process"):
        return read(path)
    if not words.rest:
        raise UsageError("exec needs a command, or --process")
    state = door.call("state", owner=owner, id=words.arguments[0])
    process = _object(read(os.path.join(state["bundle"], "config.json")), "process")
    process["args"] = words.rest
    process["terminal"] = "tty" in words.switches
    process["cwd"] = words.values.get("cwd", process.get("cwd", "/"))
    process["env"] = [*(process.get("env") or []), *words.lists.get("env", [])]
    if user := words.values.get("user"):
        uid, _, gid = user.partition(":")
        process["user"] = {"uid": int(uid), "gid": int(gid or 0)}
    if caps := words.lists.get("cap"):
        sets = _object(process, "capabilities")
        process["capabilities"] = {
            **sets,
            **{kind: [*(sets.get(kind) or []), *caps] for kind in ("bounding", "effective", "permitted")},
        }
    if profile := words.values.get("apparmor"):
        process["apparmorProfile"] = profile
    if "no-new-privs" in words.switches:
        process["noNewPrivileges"] = True
    if gids := words.lists.get("additional-gids"):
        process.setdefault("user", {})["additionalGids"] = [int(gid) for gid in gids]
    return process


def _args(process: dict[str, Any]) -> list[str]:
    """Those that are words: hyperd says what is wrong with others."""
    found = process.get("args")
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []


def _object(document: dict[str, Any], key: str) -> dict[str, Any]:
    found = document.get(key) or {}
    if not isinstance(found, dict):
        raise BadBundle(f"cannot read config.json: {key} is no object")
    return found


class _Stdio:
    """What a process gets, for a block. `terminal`: that is one, with its other end at `master` if we keep that.

    `waiting`: we stay as long as the process, and can pass on what our own terminal says."""

    def __init__(self, words: Words, process: dict[str, Any], *, waiting: bool) -> None:
        self.fds, self.master = (0, 1, 2), -1
        self.terminal = bool(process.get("terminal"))
        path = words.values.get("console-socket")
        if not self.terminal:
            if path:
                raise UsageError("--console-socket is for a process with a terminal")
            return
        size = process.get("consoleSize") or {}
        if path:
            slave = _console(path, size.get("height", 0), size.get("width", 0))
        elif waiting:
            from hypercontainer.runv import terminal

            if not size:
                size["height"], size["width"] = terminal.size()
            process["consoleSize"] = size  # from its first moment on
            self.master, slave = terminal.pair(size.get("height", 0), size.get("width", 0))
        else:
            raise UsageError("a process with a terminal needs --console-socket where nobody waits for it")
        self.fds = (slave,) * 3

    def __enter__(self) -> _Stdio:
        return self

    def __exit__(self, *error: object) -> None:
        if self.terminal:
            os.close(self.fds[0])


def _console(path: str, rows: int, columns: int) -> int:
    from hypercontainer.runv import console

    try:
        return console.to_socket(path, rows, columns)
    except OSError as e:
        raise BadBundle(f"cannot send the terminal to {path}: {e.strerror}") from e


def _write_pid(words: Words, pid: int) -> None:
    if path := words.values.get("pid-file"):
        temporary = os.path.join(os.path.dirname(path) or ".", f".{os.path.basename(path)}")
        with open(temporary, "w") as file:
            file.write(str(pid))
        os.replace(temporary, path)


class _Bind:
    def __init__(self, source: str, place: str, *, recursive: bool, read_only: bool) -> None:
        self.source, self.place, self.recursive, self.read_only = source, place, recursive, read_only


class _Tree:
    """What is at `path`. `recursive`: with what is mounted below; `private`: what is mounted there stays there."""

    def __init__(self, path: str, *, recursive: bool, read_only: bool = False, private: bool = False) -> None:
        self.path, self.recursive, self.read_only, self.private = path, recursive, read_only, private


def _files(config: dict[str, Any], folder: str) -> tuple[str, list[_Bind], list[str]]:
    """The root file system, what is bound in it, and the places of what else is mounted there."""
    root = _object(config, "root").get("path")
    if not isinstance(root, str):
        raise BadBundle("cannot read config.json: root.path is missing")
    binds, others = [], []
    for mount in config.get("mounts") or []:
        options, place = set(mount.get("options") or []), mount.get("destination", "")
        if mount.get("type") == "bind" or {"bind", "rbind"} & options:
            source = os.path.join(folder, mount.get("source", ""))
            read_only = bool({"ro", "rro"} & options)
            binds.append(_Bind(source, place, recursive="bind" not in options, read_only=read_only))
        else:
            others.append(place)
    return os.path.join(folder, root), binds, others


class _Hooked:
    """Where hooks of createContainer have run, for a block: what they mount below the root file system the container
    has, and nobody else. Without any it is where we are."""

    def __init__(self, hooks: list[dict[str, Any]] | None, state: dict[str, Any]) -> None:
        self._hooks, self._state = hooks, state

    def __enter__(self) -> None:
        if not self._hooks:
            return
        from hypercontainer.lib import hooks, mount

        self._apart = mount.Apart()
        self._apart.__enter__()
        try:
            hooks.run(self._hooks, "createContainer", self._state)
        except BaseException:
            self._apart.__exit__()
            raise

    def __exit__(self, *error: object) -> None:
        if self._hooks:
            self._apart.__exit__()


class _Trees:
    """What this process sees there, for a block: hyperd, and others, may see something else."""

    def __init__(self, wanted: Sequence[_Tree]) -> None:
        self._wanted = wanted
        self._fds: list[int] = []

    def __enter__(self) -> list[int]:
        try:
            for tree in self._wanted:
                self._fds += [_clone(tree)]  # one by one: those so far are closed when one fails
        except BaseException:
            self.__exit__()
            raise
        return self._fds

    def __exit__(self, *error: object) -> None:
        for fd in self._fds:
            os.close(fd)


def _clone(wanted: _Tree) -> int:
    from hypercontainer.lib import mount

    try:
        fd = os.open(wanted.path, os.O_PATH | os.O_CLOEXEC)
        try:
            return mount.clone(
                fd,
                attributes=mount.RDONLY if wanted.read_only else 0,
                propagation=mount.MS_PRIVATE if wanted.private else 0,
                recursive=wanted.recursive,
            )
        finally:
            os.close(fd)
    except OSError as e:
        raise BadBundle(f"cannot use {wanted.path}: {e.strerror}") from e
