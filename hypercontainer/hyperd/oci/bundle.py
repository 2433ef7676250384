"""What config.json says -> what the engine is asked for. Pure, but that the size of a /dev/shm is looked up."""

import os
from collections.abc import Mapping, Sequence
from functools import lru_cache

import msgspec

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.oci import document, limits, scheduling
from hypercontainer.lib import apparmor, kubernetes, libseccomp
from hypercontainer.model import capabilities, ulimits
from hypercontainer.model.bundle import Bind, Bundle, BundleExec
from hypercontainer.model.container import (
    Capabilities,
    ContainerConfig,
    Device,
    IdMap,
    IdRange,
    Mount,
    Process,
    Resources,
    TimeOffsets,
    Users,
)
from hypercontainer.model.record import StandInRecord
from hypercontainer.model.ulimits import Rlimit
from hypercontainer.model.users import owned

USUAL = Resources()
RLIMITS = (*ulimits.NAMES.values(), "RLIMIT_AS")
KERNELS = {"proc": "proc", "sysfs": "sysfs", "mqueue": "mqueue", "devpts": "devpts", "tmpfs": "tmpfs"}
CGROUP = ("cgroup", "cgroup2")
NAMESPACES = ("pid", "network", "ipc", "uts", "mount", "user", "cgroup", "time")
SHARED = ("pid", "ipc", "uts")  # which containers of one machine can have together, beside the network
PROPAGATIONS = ("private", "slave", "shared", "unbindable")
HOSTNAME_BYTES = 64
FILTERS = 8  # of seccomp that are kept, of 32 KiB at most
MAX_MAPPINGS = 64
IDMAPS = ("idmap", "ridmap")
MAX_OFFSET_S = 4_000_000_000  # what a kernel can count, and more than it takes
IN_PROC = (  # what an engine may put there, as runc has it
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
)
RECURSIVE = {f"r{word}": word for word in ("ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime")}
SHM = "/dev/shm"  # noqa: S108  a container's


def described(
    found: document.Config,
    *,
    owner: str,
    id: str,
    path: str,
    trees: Mapping[str, int],
    netns: str,
    stand_in: StandInRecord,
    cgroup: str = "",
) -> Bundle:
    """All that the engine is asked for. `cgroup`: the stand-in's, removed with it. InvalidInput names the field that
    it cannot be."""
    assert found.root and found.linux  # noqa: S101  document.checked
    runs, binds = config(found, path, trees)
    hooks, said = found.hooks or document.Hooks(), found.annotations or {}
    whole = kubernetes.limits(said)
    return Bundle(
        owner=owner,
        id=id,
        path=path,
        oci_version=found.oci_version,
        annotations=said,
        rootfs=os.path.join(path, found.root.path),
        read_only=False,
        config=runs,
        binds=binds,
        netns=netns,
        namespaces={kind: path for kind, path in _namespaces(found.linux).items() if path and kind in SHARED},
        sandbox=kubernetes.sandbox(said),
        pinned=kubernetes.is_pinned(said),
        machine=Resources(
            memory_bytes=whole.memory_bytes,
            cpu_quota_us=whole.cpu_quota_us,
            cpu_period_us=whole.cpu_period_us or USUAL.cpu_period_us,
        ),
        domainname=found.domainname,
        cgroup=cgroup,
        start_container=hooks.start_container or [],
        poststart=hooks.poststart or [],
        poststop=hooks.poststop or [],
        stand_in=stand_in,
    )


def sources(found: document.Config, path: str) -> list[str]:
    """Paths of the root file system and of all that is bound into it, each once."""
    assert found.root  # noqa: S101  document.checked
    binds = [each.source for each in found.mounts or [] if _is_bind(each)]
    return list(dict.fromkeys(os.path.join(path, source) for source in [found.root.path, *binds]))


def _is_bind(found: document.Mount) -> bool:
    return found.type == "bind" or bool({"bind", "rbind"} & set(found.options or []))


def further(found: document.Process, stand_in: StandInRecord, name: str = "") -> BundleExec:
    """One more process."""
    box = found.console_size or document.Box()
    return BundleExec(process=process(found), rows=box.height, columns=box.width, stand_in=stand_in, name=name)


def config(found: document.Config, bundle: str, trees: Mapping[str, int] = {}) -> tuple[ContainerConfig, list[Bind]]:
    """What runs, and what of the host it is shown: `trees`, by the paths of binds. InvalidInput names the field."""
    linux = found.linux or document.Linux()
    assert found.process  # noqa: S101  document.checked
    refuse(found, linux)
    users = _users(linux)
    mounts, binds = _mounts(found.mounts or [], bundle, trees, users)
    resources, devices = linux.resources or document.Resources(), [_device(each) for each in linux.devices or []]
    return ContainerConfig(
        process=process(found.process, linux.seccomp, linux.personality),
        hostname=found.hostname,
        read_only=bool(found.root and found.root.readonly),
        mounts=[owned(mount, users) for mount in mounts] if users else mounts,
        masked_paths=linux.masked_paths or [],
        readonly_paths=linux.readonly_paths or [],
        devices=devices,
        device_rules=limits.device_rules(resources.devices or [], devices),
        propagation=linux.rootfs_propagation,
        users=users,
        time_offsets=_time_offsets(linux),
        sysctl=linux.sysctl or {},
        resources=limits.update(resources).of(USUAL),
        annotations=found.annotations or {},
    ), binds


def refuse(found: document.Config, linux: document.Linux) -> None:
    """InvalidInput for what a virtual machine cannot mean, or nobody has taught this door yet."""
    kinds = _namespaces(linux)
    if linux.rootfs_propagation and linux.rootfs_propagation.removeprefix("r") not in PROPAGATIONS:
        raise InvalidInput(f"invalid linux.rootfsPropagation {linux.rootfs_propagation[:40]!r}: use private or slave")
    for kind in ("mount", "user", "cgroup", "time"):
        if kinds.get(kind):
            raise _unsupported(f"linux.namespaces: a {kind} namespace of this host", "it is not in the machine")
    for kind in ("network", "pid", "ipc", "uts"):
        if kind not in kinds:
            raise _unsupported(f"linux.namespaces: no {kind} namespace, which is the host's", "give it one of its own")
    if "kernel.hostname" in (linux.sysctl or {}):
        raise InvalidInput("cannot use linux.sysctl kernel.hostname: it is config.json's hostname; say it there")
    if len(found.hostname) > HOSTNAME_BYTES:
        raise InvalidInput(f"invalid hostname {found.hostname[:80]!r}: {HOSTNAME_BYTES} letters at most")
    for name, value in (
        ("linux.intelRdt", linux.intel_rdt),
        ("linux.mountLabel", linux.mount_label),
    ):
        if value:
            raise _unsupported(name)
    _check_hooks(found.hooks or document.Hooks())


def _check_hooks(found: document.Hooks) -> None:
    for kind in msgspec.structs.fields(found):
        for n, hook in enumerate(getattr(found, kind.name) or []):
            if not hook.path.startswith("/") or (hook.timeout is not None and hook.timeout <= 0):
                why = "it is no absolute path" if not hook.path.startswith("/") else "a timeout is more than 0 seconds"
                raise InvalidInput(f"invalid hooks.{kind.encode_name} #{n} {hook.path[:60]!r}: {why}")


def _users(linux: document.Linux) -> Users | None:
    said = {"uidMappings": linux.uid_mappings or [], "gidMappings": linux.gid_mappings or []}
    if "user" not in _namespaces(linux):
        if name := next((name for name, found in said.items() if found), ""):
            raise InvalidInput(f"invalid linux.{name}: they are of a user namespace, and there is none in the list")
        return None
    uids, gids = (_ranges(f"linux.{name}", found) for name, found in said.items())
    return Users(uids=uids, gids=gids)


def _ranges(what: str, found: Sequence[document.IdMapping]) -> list[IdRange]:
    if not 1 <= len(found) <= MAX_MAPPINGS:
        raise InvalidInput(f"invalid {what}: a user namespace has 1 to {MAX_MAPPINGS} of them")
    for each in found:
        if each.size < 1 or max(each.container_id, each.host_id) + each.size > 2**32 - 1:
            raise InvalidInput(f"invalid {what}: there are no {each.size} ids from {each.host_id} on")
    return [IdRange(inside=each.container_id, outside=each.host_id, size=each.size) for each in found]


def _time_offsets(linux: document.Linux) -> TimeOffsets | None:
    said = linux.time_offsets or {}
    if "time" not in _namespaces(linux):
        if said:
            raise InvalidInput("invalid linux.timeOffsets: they are of a time namespace, and there is none in the list")
        return None
    for name, clock in said.items():
        if name not in ("monotonic", "boottime") or abs(clock.secs) > MAX_OFFSET_S:
            why = "there is no such clock" if name not in ("monotonic", "boottime") else "it is too far"
            raise InvalidInput(f"invalid linux.timeOffsets: {name[:40]!r}: {why}")
    ns = {name: clock.secs * 10**9 + clock.nanosecs for name, clock in said.items()}
    return TimeOffsets(monotonic_ns=ns.get("monotonic", 0), boottime_ns=ns.get("boottime", 0))


def _namespaces(linux: document.Linux) -> dict[str, str]:
    """Their paths by their types."""
    kinds: dict[str, str] = {}
    for namespace in linux.namespaces or []:
        if namespace.type not in NAMESPACES or namespace.type in kinds:
            why = "it is there twice" if namespace.type in kinds else "there is none of that type"
            raise InvalidInput(f"invalid linux.namespaces: {namespace.type[:40]!r}: {why}")
        if namespace.path and not namespace.path.startswith("/"):
            raise InvalidInput(f"invalid linux.namespaces: {namespace.path[:60]!r} is no absolute path")
        kinds[namespace.type] = namespace.path
    return kinds


def _unsupported(what: str, why: str = "it is not there yet") -> InvalidInput:
    return InvalidInput(f"cannot create the container with {what}: {why}")


def process(
    found: document.Process,
    seccomp: document.Seccomp | None = None,
    personality: document.Personality | None = None,
) -> Process:
    if not found.args or not found.args[0]:
        raise InvalidInput("cannot run nothing: process.args is empty")
    if not found.cwd.startswith("/"):
        raise InvalidInput(f"invalid process.cwd {found.cwd[:60]!r}: it is no absolute path")
    limits = [limit.type for limit in found.rlimits or []]
    for limit in limits:
        if limit not in RLIMITS or limits.count(limit) > 1:
            why = "it is there twice" if limit in RLIMITS else "there is none of that name"
            raise InvalidInput(f"invalid process.rlimits: {limit[:40]!r}: {why}")
    caps = found.capabilities or document.Capabilities()
    if found.selinux_label:
        name = f"process.selinuxLabel {found.selinux_label[:60]!r}"
        raise _unsupported(name, "the machine's kernel has no SELinux: have the engine set no labels")
    user = found.user
    given = set(caps.permitted or []) & set(caps.inheritable or [])  # what else is ambient no kernel grants
    return Process(
        args=found.args,
        env=found.env or [],
        cwd=found.cwd,
        user=f"{user.uid}:{user.gid}",
        groups=user.additional_gids or [],
        umask=user.umask,
        terminal=found.terminal,
        capabilities=Capabilities(
            bounding=_known(caps.bounding),
            effective=_known(caps.effective),
            permitted=_known(caps.permitted),
            inheritable=_known(caps.inheritable),
            ambient=_known([name for name in caps.ambient or [] if name in given]),
        ),
        rlimits=[
            Rlimit(type=limit.type, soft=_rlimit(limit.soft), hard=_rlimit(limit.hard)) for limit in found.rlimits or []
        ],
        no_new_privileges=found.no_new_privileges,
        oom_score_adj=found.oom_score_adj or 0,
        seccomp=filter(seccomp) if seccomp else b"",
        apparmor=apparmor.meant(found.apparmor_profile),
        scheduling=scheduling.scheduling(found, personality),
    )


def _rlimit(said: int) -> int:
    """OCI's 2**64 - 1 is no limit, which the guest's agent knows as -1."""
    return ulimits.UNLIMITED if said > ulimits.HIGHEST else said


def _known(names: list[str] | None) -> list[str]:
    """A capability that the guest's kernel does not have is nobody's, as runc has it."""
    return [name for name in names or [] if name in capabilities.NUMBERS]


def filter(found: document.Seccomp) -> bytes:
    """What the kernel runs. InvalidInput names what of it there is not."""
    if found.listener_path:
        raise _unsupported("linux.seccomp.listenerPath", "an agent on the host sees no process in the machine")
    return _filter(msgspec.json.encode(found))


@lru_cache(maxsize=FILTERS)
def _filter(profile: bytes) -> bytes:
    """Of a document, in bytes. To make one takes as long as all else that is done with a config.json, several times
    over, and an engine gives nearly all of its containers the same."""
    found = document.seccomp(profile)
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


def _mounts(
    found: Sequence[document.Mount], bundle: str, trees: Mapping[str, int], users: Users | None
) -> tuple[list[Mount], list[Bind]]:
    mounts, binds = [], []
    for each in (_placed(mount) for mount in found):
        options = each.options or []
        ids = _id_map(each, users)
        if ids and not _is_bind(each):
            raise _unsupported(f"mounts: ids of {each.destination}, a {each.type[:40]}", "those of binds are mapped")
        if _is_bind(each):
            source = os.path.join(bundle, each.source)
            if each.destination == SHM and source in trees and (size := _shm_bytes(source, trees[source])):
                mounts.append(_shm(size))
                continue
            mounts.append(_bind(each, options))
            read_only = bool({"ro", "rro"} & set(options))
            binds.append(Bind(target=each.destination, source=source, read_only=read_only, ids=ids))
        elif each.type == "tmpfs" and each.destination == "/dev":
            mounts.append(Mount(type="dev", destination="/dev", options=options))
        elif each.type in CGROUP:
            known = [option for option in options if option in ("ro", "rw", "nosuid", "nodev", "noexec", "relatime")]
            mounts.append(Mount(type="cgroup", destination=each.destination, options=known))
        elif each.type in KERNELS:
            mounts.append(Mount(type=each.type, destination=each.destination, options=options))  # type: ignore[arg-type]
        else:
            raise InvalidInput(f"cannot mount a {each.type[:40]!r} at {each.destination}: no such device")
    return mounts, binds


def _id_map(found: document.Mount, users: Users | None) -> IdMap | None:
    """Its own mappings, or where it asks for some and has none those of the container's user namespace."""
    asked = set(IDMAPS) & set(found.options or [])
    uids, gids = found.uid_mappings, found.gid_mappings
    if not (asked or uids or gids):
        return None
    what = f"mounts: {found.destination}"
    if bool(uids) != bool(gids):
        raise InvalidInput(f"invalid {what}: it has uidMappings or gidMappings, and needs both")
    if uids and gids:
        users = Users(uids=_ranges(f"{what}: uidMappings", uids), gids=_ranges(f"{what}: gidMappings", gids))
    if users is None:
        why = "it has no uidMappings and gidMappings, nor has the container a user namespace"
        raise InvalidInput(f"invalid {what} with {asked.pop()}: {why}")
    return IdMap(uids=users.uids, gids=users.gids, recursive="ridmap" in asked)


def _placed(found: document.Mount) -> document.Mount:
    """With a plain path, as runc has it: dots mean what they say."""
    destination = os.path.normpath(f"/{found.destination}".replace("//", "/"))
    if destination.startswith("/proc/") and destination not in IN_PROC and found.type not in KERNELS:
        raise InvalidInput(f"cannot mount at {destination}: it is inside /proc")
    return msgspec.structs.replace(found, destination=destination)


def _bind(found: document.Mount, options: Sequence[str]) -> Mount:
    kept = [RECURSIVE.get(option, option) for option in options if option not in ("bind", "rbind", *IDMAPS)]
    return Mount(type="bind", destination=found.destination, options=kept)


def _shm_bytes(source: str, tree: int) -> int:
    """Of a tmpfs that an engine has made for a container's /dev/shm; 0: it is something else."""
    if os.path.basename(source) != "shm":
        return 0
    stats = os.fstatvfs(tree)
    return stats.f_blocks * stats.f_frsize


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
