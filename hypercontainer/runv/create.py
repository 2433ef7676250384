"""create, run and exec: what makes processes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from hypercontainer.lib import engine_cgroup, stand_in
from hypercontainer.runv import console, hooks, program
from hypercontainer.runv.door import Door
from hypercontainer.runv.flags import UsageError, Words


class BadBundle(Exception):
    """A file of the bundle is missing, or is no JSON."""


def read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            found = json.load(file)
    except OSError as e:
        raise BadBundle(f"cannot read {path}: {e.strerror}") from e
    except ValueError as e:
        raise BadBundle(f"cannot read {path}: it is no JSON: {e}") from e
    if not isinstance(found, dict):
        raise BadBundle(f"cannot read {path}: it is no JSON object")
    return found


def create(door: Door, owner: str, words: Words, *, waiting: bool) -> stand_in.StandIn:
    """Make a container of a bundle. What was made is gone when this fails. `waiting`: for its end."""
    id = words.arguments[0]
    folder = os.path.abspath(words.values.get("bundle", "."))
    config = read(os.path.join(folder, "config.json"))
    linux: dict[str, Any] = _object(config, "linux")
    process = _object(config, "process")
    network = [each for each in linux.get("namespaces") or [] if each.get("type") == "network"]
    path = network[0].get("path", "") if network else ""
    if path and os.stat(path).st_ino == os.stat("/proc/self/ns/net").st_ino:
        raise BadBundle(f"cannot use the network namespace {path}: it is this host's own; give the container another")
    group = engine_cgroup.named(linux.get("cgroupsPath") or "", id, systemd="systemd-cgroup" in words.switches)
    if group:
        linux["cgroupsPath"] = group
    if any(container["id"] == id for container in door.call("list", owner=owner)):
        raise BadBundle(f"container with given ID already exists: {id}")
    os.makedirs(owner, 0o711, exist_ok=True)  # nothing is in it: engines look whether it is there
    with _stdio(words, process, waiting=waiting) as stdio:
        new = bool(network and not path)
        made = stand_in.start(
            door.stand_ins, stdio.fds, terminal=stdio.terminal, network=path, new_network=new
        )._replace(master=stdio.master)
    created = False
    try:
        if group:
            engine_cgroup.place(group, made.pid)
        state = {
            "ociVersion": config.get("ociVersion", ""),
            "id": id,
            "status": "creating",
            "pid": made.pid,
            "bundle": folder,
            "annotations": config.get("annotations") or {},
        }
        wanted = config.get("hooks") or {}
        hooks.run(wanted.get("prestart"), "prestart", state)
        hooks.run(wanted.get("createRuntime"), "createRuntime", state)
        root, binds, others = _files(config, folder)
        wanted_trees = {root: True}
        for bind in binds:
            wanted_trees[bind.source] = wanted_trees.get(bind.source, False) or bind.recursive
        with _trees([_Tree(*each) for each in wanted_trees.items()]) as trees:
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
            )
        created = True
        seen = [_Tree(root, True), *(_Tree(bind.source, bind.recursive, bind.read_only) for bind in binds)]
        with _trees([tree._replace(private=True) for tree in seen]) as trees:  # or no root can be made of it
            made.go(trees, [bind.place for bind in binds])
        program.check(f"/proc/{made.pid}/root", process, others)
        _write_pid(words, made.pid)
    except BaseException:
        made.give_up()
        if created:
            door.call("delete", owner=owner, id=id, force=True)
        if group:
            engine_cgroup.remove(group)
        raise
    return made


def exec_(door: Door, owner: str, words: Words, *, waiting: bool) -> stand_in.StandIn:
    """One more process in a container that runs. `waiting`: for its end."""
    id = words.arguments[0]
    process = _process(door, owner, words)
    with _stdio(words, process, waiting=waiting) as stdio:
        made = stand_in.start(door.stand_ins, stdio.fds, terminal=stdio.terminal)._replace(master=stdio.master)
    try:
        door.call("exec", owner=owner, id=id, process=process, key=made.key, pid=made.pid, start_time=made.start_time)
        _write_pid(words, made.pid)
    except BaseException:
        made.give_up()
        raise
    made.go()
    return made


def _process(door: Door, owner: str, words: Words) -> dict[str, Any]:
    for flag in ("process-label", "apparmor", "cgroup"):
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
    if "no-new-privs" in words.switches:
        process["noNewPrivileges"] = True
    if gids := words.lists.get("additional-gids"):
        process.setdefault("user", {})["additionalGids"] = [int(gid) for gid in gids]
    return process


def _object(document: dict[str, Any], key: str) -> dict[str, Any]:
    found = document.get(key) or {}
    if not isinstance(found, dict):
        raise BadBundle(f"cannot read config.json: {key} is no object")
    return found


class _Stdio(NamedTuple):
    """What a process gets. `terminal`: that is one, with its other end at `master` if that is ours to keep."""

    fds: Sequence[int] = (0, 1, 2)
    terminal: bool = False
    master: int = -1


@contextmanager
def _stdio(words: Words, process: dict[str, Any], *, waiting: bool) -> Iterator[_Stdio]:
    """For the block. `waiting`: we stay as long as the process, and can pass on what our own terminal says."""
    path = words.values.get("console-socket")
    if not process.get("terminal"):
        if path:
            raise UsageError("--console-socket is for a process with a terminal")
        yield _Stdio()
        return
    size = process.get("consoleSize") or {}
    master = -1
    if path:
        slave = _console(path, size.get("height", 0), size.get("width", 0))
    elif waiting:
        from hypercontainer.runv import terminal

        if not size:
            size["height"], size["width"] = terminal.size()
        process["consoleSize"] = size  # from its first moment on
        master, slave = terminal.pair(size.get("height", 0), size.get("width", 0))
    else:
        raise UsageError("a process with a terminal needs --console-socket where nobody waits for it")
    try:
        yield _Stdio((slave,) * 3, True, master)
    finally:
        os.close(slave)


def _console(path: str, rows: int, columns: int) -> int:
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


class _Bind(NamedTuple):
    source: str
    place: str
    recursive: bool
    read_only: bool


class _Tree(NamedTuple):
    """`private`: what is mounted in it goes nowhere else."""

    path: str
    recursive: bool  # with what is mounted below
    read_only: bool = False
    private: bool = False


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
            binds.append(_Bind(source, place, "bind" not in options, bool({"ro", "rro"} & options)))
        else:
            others.append(place)
    return os.path.join(folder, root), binds, others


@contextmanager
def _trees(wanted: Sequence[_Tree]) -> Iterator[list[int]]:
    """What this process sees there, for the block: hyperd, and others, may see something else."""
    trees: list[int] = []
    try:
        for tree in wanted:
            trees += [_clone(tree)]  # one by one: those so far are closed when one fails
        yield trees
    finally:
        for fd in trees:
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
