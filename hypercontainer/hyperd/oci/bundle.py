"""What config.json says -> what the engine is asked for. Pure, but that the size of a /dev/shm is looked up."""

import os
from collections.abc import Sequence
from math import ceil

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.oci import document
from hypercontainer.lib import libseccomp
from hypercontainer.model.bundle import Bind
from hypercontainer.model.container import Capabilities, ContainerConfig, Device, Mount, Process, Resources
from hypercontainer.model.ulimits import Rlimit

KERNELS = {"proc": "proc", "sysfs": "sysfs", "mqueue": "mqueue", "devpts": "devpts", "tmpfs": "tmpfs"}
CGROUP = ("cgroup", "cgroup2")
MIB = 1 << 20
PERIOD_US = 100_000
SHM = "/dev/shm"  # noqa: S108  a container's


def config(found: document.Config, bundle: str) -> tuple[ContainerConfig, list[Bind]]:
    """What runs, and what of the host it is shown. InvalidInput names the field."""
    linux = found.linux or document.Linux()
    assert found.process  # noqa: S101  document.checked
    refuse(found, linux)
    mounts, binds = _mounts(found.mounts or [], bundle)
    return ContainerConfig(
        process=process(found.process, linux.seccomp),
        hostname=found.hostname,
        read_only=bool(found.root and found.root.readonly),
        mounts=mounts,
        masked_paths=linux.masked_paths or [],
        readonly_paths=linux.readonly_paths or [],
        devices=[_device(each) for each in linux.devices or []],
        sysctl=linux.sysctl or {},
        resources=_resources(linux.resources),
        annotations=found.annotations or {},
    ), binds


def refuse(found: document.Config, linux: document.Linux) -> None:
    """InvalidInput for what a virtual machine cannot mean, or nobody has taught this door yet."""
    kinds = {namespace.type: namespace.path for namespace in linux.namespaces or []}
    for kind in ("pid", "ipc", "uts", "mount", "user", "cgroup", "time"):
        if kinds.get(kind):
            raise _unsupported(f"linux.namespaces: a {kind} namespace of this host", "it is not in the machine")
    if "network" not in kinds:
        raise _unsupported("linux.namespaces: no network namespace, which is the host's", "give it one of its own")
    for name, value in (
        ("domainname", found.domainname),
        ("linux.uidMappings", linux.uid_mappings),
        ("linux.gidMappings", linux.gid_mappings),
        ("linux.personality", linux.personality),
        ("linux.timeOffsets", linux.time_offsets),
        ("linux.intelRdt", linux.intel_rdt),
    ):
        if value:
            raise _unsupported(name)
    hooks = found.hooks or document.Hooks()
    for name, value in (("createContainer", hooks.create_container), ("startContainer", hooks.start_container)):
        if value:
            raise _unsupported(f"hooks.{name}", "it would run in the container's namespaces, which are the machine's")


def _unsupported(what: str, why: str = "it is not there yet") -> InvalidInput:
    return InvalidInput(f"cannot create the container with {what}: {why}")


def process(found: document.Process, seccomp: document.Seccomp | None = None) -> Process:
    if not found.args or not found.args[0]:
        raise InvalidInput("cannot run nothing: process.args is empty")
    if not found.cwd.startswith("/"):
        raise InvalidInput(f"invalid process.cwd {found.cwd[:60]!r}: it is no absolute path")
    for name, value in (("process.scheduler", found.scheduler), ("process.ioPriority", found.io_priority)):
        if value:
            raise _unsupported(name)
    caps = found.capabilities or document.Capabilities()
    user = found.user
    return Process(
        args=found.args,
        env=found.env or [],
        cwd=found.cwd,
        user=f"{user.uid}:{user.gid}",
        groups=user.additional_gids or [],
        umask=user.umask,
        terminal=found.terminal,
        capabilities=Capabilities(
            bounding=caps.bounding or [],
            effective=caps.effective or [],
            permitted=caps.permitted or [],
            inheritable=caps.inheritable or [],
            ambient=caps.ambient or [],
        ),
        rlimits=[Rlimit(type=limit.type, soft=limit.soft, hard=limit.hard) for limit in found.rlimits or []],
        no_new_privileges=found.no_new_privileges,
        oom_score_adj=found.oom_score_adj or 0,
        seccomp=_seccomp(seccomp) if seccomp else b"",
    )


def _seccomp(found: document.Seccomp) -> bytes:
    if found.listener_path:
        raise _unsupported("linux.seccomp.listenerPath", "an agent on the host sees no process in the machine")
    rules = [
        libseccomp.Rule(
            call.names,
            call.action,
            call.errno_ret,
            [libseccomp.Comparison(arg.index, arg.op, arg.value, arg.value_two) for arg in call.args or []],
        )
        for call in found.syscalls or []
    ]
    arches = [name.removeprefix("SCMP_ARCH_").lower() for name in found.architectures or []]
    return libseccomp.compile(found.default_action, found.default_errno_ret, arches, rules)


def _mounts(found: Sequence[document.Mount], bundle: str) -> tuple[list[Mount], list[Bind]]:
    mounts, binds = [], []
    for each in found:
        options = each.options or []
        if each.uid_mappings or each.gid_mappings:
            raise _unsupported(f"mounts: {each.destination} with idmaps")
        if each.type == "bind" or {"bind", "rbind"} & set(options):
            if each.destination == SHM and (size := _shm_bytes(each.source)):
                mounts.append(_shm(size))
                continue
            mounts.append(_bind(each, options))
            source = os.path.join(bundle, each.source)
            binds.append(Bind(target=each.destination, source=source, read_only="ro" in options))
        elif each.type == "tmpfs" and each.destination == "/dev":
            mounts.append(Mount(type="dev", destination="/dev", options=options))
        elif each.type in CGROUP:
            known = [option for option in options if option in ("ro", "rw", "nosuid", "nodev", "noexec", "relatime")]
            mounts.append(Mount(type="cgroup", destination=each.destination, options=known))
        elif each.type in KERNELS:
            mounts.append(Mount(type=each.type, destination=each.destination, options=options))  # type: ignore[arg-type]
        else:
            raise _unsupported(f"mounts: a {each.type[:40]!r} at {each.destination}")
    return mounts, binds


def _bind(found: document.Mount, options: Sequence[str]) -> Mount:
    kept = [option for option in options if option not in ("bind", "rbind")]
    return Mount(type="bind", destination=found.destination, options=kept)


def _shm_bytes(source: str) -> int:
    """Of a tmpfs that an engine has made for a container's /dev/shm; 0: it is something else."""
    try:
        stats = os.statvfs(source)
        kind = os.path.basename(source) == "shm"
    except OSError:
        return 0
    return stats.f_blocks * stats.f_frsize if kind else 0


def _shm(size: int) -> Mount:
    return Mount(type="tmpfs", destination=SHM, options=["nosuid", "nodev", "noexec", "mode=1777", f"size={size}"])


def _device(found: document.Device) -> Device:
    if found.type not in ("b", "c", "u"):
        raise _unsupported(f"linux.devices: {found.path} of type {found.type[:10]!r}")
    return Device(
        path=found.path,
        type="b" if found.type == "b" else "c",
        major=found.major,
        minor=found.minor,
        file_mode=0o666 if found.file_mode is None else found.file_mode & 0o7777,
        uid=found.uid or 0,
        gid=found.gid or 0,
    )


def _resources(found: document.Resources | None) -> Resources:
    found = found or document.Resources()
    memory, cpu, pids = found.memory, found.cpu, found.pids
    return Resources(
        memory_bytes=max(0, memory.limit or 0) if memory else 0,
        cpu_quota_us=max(0, cpu.quota or 0) if cpu else 0,
        cpu_period_us=(cpu.period if cpu else 0) or PERIOD_US,
        cpu_shares=(cpu.shares if cpu else 0) or 0,
        pids=max(0, pids.limit or 0) if pids else 0,
        unified=found.unified or {},
    )


def size(resources: Resources) -> tuple[int, int]:
    """Processors and MiB of a machine for that; 0 = as usual."""
    vcpus = ceil(resources.cpu_quota_us / resources.cpu_period_us) if resources.cpu_quota_us else 0
    return vcpus, ceil(resources.memory_bytes / MIB)
