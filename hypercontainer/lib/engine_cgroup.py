"""The control group that an engine names for a container: its stand-in is there, and engines read it from that pid.

It is a path below the root of each hierarchy, with / in front; or slice:prefix:name, a scope that systemd is asked for.
"""

from __future__ import annotations

import errno
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = "/sys/fs/cgroup"
LIMIT_S = 10.0  # systemd may be busy
GOING_S = 2.0  # until one of that name is gone that has just ended
STEP_S = 0.002
SYSTEMD = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
COUNTED = ("memory", "pids", "cpu", "cpuacct", "blkio")  # hierarchies of version 1
OF_VERSION_2 = ("cpu", "cpuset", "io", "memory", "pids")
LIMITS = ("memory.max", "pids.max", "cpu.max")  # of version 2
PROPERTIES = (  # of a scope, and the file of either version that has it; of two that are there the later one counts
    ("MemoryMax", "memory.max"),
    ("MemoryMax", "memory.limit_in_bytes"),
    ("TasksMax", "pids.max"),
    ("CPUQuotaPerSecUSec", "cpu.max"),
    ("CPUQuotaPerSecUSec", "cpu.cfs_quota_us"),
    ("CPUWeight", "cpu.weight"),
    ("CPUShares", "cpu.shares"),
    ("IOWeight", "io.bfq.weight"),
    ("IOWeight", "io.weight"),
    ("BlockIOWeight", "blkio.bfq.weight"),
    ("BlockIOWeight", "blkio.weight"),
)
USUAL_WEIGHT = 100
BFQ_STEP = 11  # of an io.weight above the usual one, for each of an io.bfq.weight: 1,000 there are 10,000 here
INFINITY = (1 << 64) - 1
OF_CPUSET = ("cpuset.cpus", "cpuset.mems")
THERE = "already"  # in what systemd says of a unit that is loaded


class NoScope(OSError):
    """systemd makes none, or cannot be asked."""


def named(path: str, id: str, *, systemd: bool) -> str:
    """What `cgroupsPath` of a container means; "": none. ValueError: it is no slice:prefix:name."""
    if not systemd:
        return os.path.normpath(f"///{path}") if path else ""  # below the root, whatever it says
    found = path or f"system.slice:runv:{id}"
    if not is_scope(found):
        raise ValueError(f"cannot use linux.cgroupsPath {path[:200]!r}: with systemd it is slice:prefix:name")
    return found


def is_scope(path: str) -> bool:
    """Whether that has the form of a slice:prefix:name."""
    words = path.split(":")
    return len(words) == 3 and (not words[0] or words[0].endswith(".slice")) and bool(words[2]) and "/" not in path


def place(group: str, pid: int, *, root: str = ROOT) -> None:
    """Have `pid` in there, in each hierarchy that there is; made if it is missing. NoScope."""
    if not group.startswith("/"):
        slice_, scope = _unit(group)
        _start(slice_, scope, pid)
    for folder in _folders(group, root):
        try:
            os.makedirs(folder, exist_ok=True)
            _enable(os.path.dirname(folder), root)
            for name in OF_CPUSET:
                _inherit(folder, name)
            with open(os.path.join(folder, "cgroup.procs"), "w") as file:
                file.write(str(pid))
        except OSError:
            pass  # a hierarchy that this host does not let us use: the pid is where we are


def _enable(folder: str, root: str) -> None:
    """Version 2: a group has what all above it give."""
    if folder != root:
        _enable(os.path.dirname(folder), root)
    for name in OF_VERSION_2 if os.path.exists(os.path.join(folder, "cgroup.subtree_control")) else ():
        try:
            with open(os.path.join(folder, "cgroup.subtree_control"), "w") as file:
                file.write(f"+{name}")
        except OSError:
            pass  # it has none itself, or processes are in it


def counting(group: str, *, root: str = ROOT) -> list[str]:
    """The folders of a group that is there, if it counts and limits all that a machine takes; else []."""
    folders = _folders(group, root)
    if os.path.exists(f"{root}/cgroup.controllers"):
        return [folder for folder in folders if all(os.path.exists(f"{folder}/{name}") for name in LIMITS)]
    found = {os.path.relpath(folder, root).split("/")[0]: folder for folder in folders if os.path.isdir(folder)}
    wanted = [name for name in COUNTED if os.path.isdir(f"{root}/{name}")]
    return [found[name] for name in wanted] if "memory" in wanted and found.keys() >= set(wanted) else []


def keep(folders: Sequence[str]) -> None:
    """Tell systemd the limits that `folders` have, if they are a scope of its: it sets all that it knows whenever it
    is reloaded. NoScope."""
    scope = os.path.basename(folders[0])
    if not scope.endswith(".scope"):
        return
    found: dict[str, int] = {}
    for name, file in PROPERTIES:
        for path in [os.path.join(folder, file) for folder in folders]:
            if os.path.exists(path):
                found[name] = _value(path)
    properties = [word for name, value in found.items() for word in (name, "t", str(value))]
    _call("SetUnitProperties", "sba(sv)", scope, "true", str(len(found)), *properties)


def _value(path: str) -> int:
    """Of a limit, in the words of systemd."""
    name = os.path.basename(path)
    with open(path) as file:
        first, *others = file.read().removeprefix("default").split()  # others: of a period, or of single disks
    if first in ("max", "-1"):
        return INFINITY
    if name == "cpu.cfs_quota_us":
        with open(path.replace("quota", "period")) as file:
            others = [file.read()]
    if name in ("cpu.max", "cpu.cfs_quota_us"):  # microseconds in each second
        return int(first) * 1_000_000 // int(others[0])
    if name == "io.bfq.weight" and int(first) > USUAL_WEIGHT:
        return USUAL_WEIGHT + (int(first) - USUAL_WEIGHT) * BFQ_STEP
    return int(first)


def _inherit(folder: str, name: str) -> str:
    """Version 1: a group has neither processors nor memory nodes until it is given some, and lets nobody in before.
    Those of its parent, then."""
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        return ""
    with open(path) as file:
        found = file.read().strip()
    if not found and (found := _inherit(os.path.dirname(folder), name)):
        with open(path, "w") as file:
            file.write(found)
    return found


def remove(group: str, *, root: str = ROOT) -> None:
    """Groups with nobody in them; who is ending is waited for. What is not there is no error."""
    if not group.startswith("/") and is_scope(group):
        try:
            _call("StopUnit", "ss", _unit(group)[1], "replace")
        except NoScope:
            pass  # it ended with its last process, or systemd did
    until = time.monotonic() + GOING_S
    for folder in _folders(group, root):
        while _is_busy(folder) and time.monotonic() < until:
            time.sleep(STEP_S)


def _is_busy(folder: str) -> bool:
    """Remove a group. It is not, though nobody is in it: a process leaves it last."""
    try:
        os.rmdir(folder)
    except OSError as e:
        if e.errno != errno.EBUSY:
            return False
        try:
            with open(os.path.join(folder, "cgroup.procs")) as file:
                return not file.read() and not any(entry.is_dir() for entry in os.scandir(folder))
        except OSError:
            pass
    return False


def _folders(group: str, root: str) -> list[str]:
    """Of the group in each hierarchy."""
    path = group
    if not group.startswith("/") and is_scope(group):
        slice_, scope = _unit(group)
        path = f"{_of_slice(slice_)}/{scope}"
    return [os.path.join(hierarchy, path.strip("/")) for hierarchy in _hierarchies(root)]


def _hierarchies(root: str) -> list[str]:
    if os.path.exists(f"{root}/cgroup.controllers"):
        return [root]
    try:
        return [entry.path for entry in os.scandir(root) if os.path.exists(f"{entry.path}/cgroup.procs")]
    except OSError:
        return []


def _unit(group: str) -> tuple[str, str]:
    """Names of a slice, and of the scope in it."""
    slice_, prefix, name = group.split(":")
    return slice_ or "system.slice", f"{prefix}-{name}.scope" if prefix else f"{name}.scope"


def _of_slice(name: str) -> str:
    """The path of a slice: a-b.slice is in a.slice, and -.slice is the root."""
    words = name.removesuffix(".slice").split("-")
    return "".join(f"/{'-'.join(words[:n])}.slice" for n in range(1, len(words) + 1)) if any(words) else ""


def _start(slice_: str, scope: str, pid: int) -> None:
    properties = [
        *("Description", "s", f"the stand-in of a virtual machine ({scope})"),
        *("Slice", "s", slice_),
        *("PIDs", "au", "1", str(pid)),
        *("Delegate", "b", "true"),
        *("DefaultDependencies", "b", "false"),  # an engine stops its containers itself
        *("CollectMode", "s", "inactive-or-failed"),  # nobody has to reset it
    ]
    for controller in ("CPU", "IO", "Memory", "Tasks"):
        properties += [f"{controller}Accounting", "b", "true"]
    count = str(6 + 4)
    began = time.monotonic()
    while True:
        try:
            _call("StartTransientUnit", "ssa(sv)a(sa(sv))", scope, "replace", count, *properties, "0")
            break
        except NoScope as e:
            if THERE not in str(e) or time.monotonic() > began + GOING_S:
                raise NoScope(f"cannot make {scope} in {slice_}: {e}") from e
        time.sleep(STEP_S)
    until = time.monotonic() + LIMIT_S
    while not _is_in(scope, pid):
        if time.monotonic() > until:
            raise NoScope(f"cannot make {scope} in {slice_}: systemd did not within {LIMIT_S:g} s")
        time.sleep(STEP_S)  # until its job is done


def _is_in(scope: str, pid: int) -> bool:
    with open(f"/proc/{pid}/cgroup") as file:
        return any(line.endswith(f"/{scope}\n") for line in file)


def _call(method: str, signature: str, *words: str) -> None:
    """NoScope has what systemd says."""
    import subprocess

    argv = ["busctl", "--system", "--quiet", "call", *SYSTEMD, method, signature, *words]
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT_S)
    except FileNotFoundError as e:
        raise NoScope("busctl is not installed: it comes with systemd, use cgroupfs where there is none") from e
    except subprocess.TimeoutExpired as e:
        raise NoScope(f"systemd did not answer within {LIMIT_S:g} s") from e
    if done.returncode:
        raise NoScope(done.stderr.decode(errors="replace").strip() or f"busctl ended with {done.returncode}")
