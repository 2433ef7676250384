"""Docker's words and what an image says -> what runs. The one place where the ones become the other. Pure."""

from collections.abc import Sequence

from msgspec.structs import replace

from hypercontainer.engine import devices, mounts, namespaces
from hypercontainer.errors import InvalidInput
from hypercontainer.lib import apparmor
from hypercontainer.model import capabilities, defaults, ids, seccomp, ulimits
from hypercontainer.model.container import Capabilities, ContainerConfig, Mount, Process, Resources
from hypercontainer.model.documents import ProcessConfig
from hypercontainer.model.record import MountRecord
from hypercontainer.model.spec import ContainerSpec, ExecSpec

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CPU_PERIOD_US = 100_000
MOST_HIDDEN = 128  # paths, of each kind: the guest has room for no more


def container(
    spec: ContainerSpec, image: ProcessConfig, own: Sequence[MountRecord], *, arch: str, own_ipc: bool = False
) -> ContainerConfig:
    """`own`: what is mounted beside the usual; `own_ipc`: see ContainerConfig; `arch`: the machine's. InvalidInput for
    whatever makes no sense."""
    if spec.hostname:
        ids.check_hostname(spec.hostname)
    usual = defaults.mounts((spec.shm_mib or defaults.SHM_MIB) << 20, privileged=spec.privileged)
    return ContainerConfig(
        process=_process(spec, image, arch),
        init=spec.init,
        hostname=spec.hostname,
        read_only=spec.read_only,
        mounts=[*namespaces.mounts(spec, usual), *map(_mount, own)],
        masked_paths=_hidden(spec, spec.masked_paths, defaults.MASKED_PATHS),
        readonly_paths=_hidden(spec, spec.readonly_paths, defaults.READONLY_PATHS),
        devices=devices.resolve(spec.devices),
        all_devices=spec.privileged,
        sysctl=spec.sysctls,
        pid_of=namespaces.other(spec.pid),
        ipc_of=namespaces.other(spec.ipc),
        own_ipc=own_ipc,
        resources=resources(spec),
    )


def _hidden(spec: ContainerSpec, asked: Sequence[str] | None, usual: list[str]) -> list[str]:
    if asked is None:
        return [] if spec.privileged else usual
    if len(asked) > MOST_HIDDEN:
        raise InvalidInput(f"cannot hide {len(asked)} paths: {MOST_HIDDEN} at most")
    return [mounts.target(path, "path to hide") for path in asked]


def resources(spec: ContainerSpec) -> Resources:
    """The limits that `spec` has of its own."""
    return Resources(
        memory_bytes=spec.memory_mib << 20,
        cpu_quota_us=round(spec.cpus * CPU_PERIOD_US),
        cpu_shares=spec.cpu_shares,
        pids=spec.pids,
    )


def placed(config: ContainerConfig, own: Sequence[MountRecord]) -> ContainerConfig:
    """`config`, now that the records say where on this host the sources of its binds are."""
    paths = {mount.target: mount.path for mount in own}
    placed = [replace(m, source=paths[m.destination]) if m.type == "bind" else m for m in config.mounts]
    return replace(config, mounts=placed)


def exec_process(first: Process, spec: ExecSpec) -> Process:
    """One more process beside a container's `first`."""
    named = {entry.partition("=")[0]: entry for entry in [*first.env, *spec.env]}
    process = replace(
        first,
        args=spec.command,
        env=list(named.values()),
        cwd=first.cwd if spec.working_dir is None else mounts.absolute(spec.working_dir, "working directory"),
        user=first.user if spec.user is None else spec.user,
        terminal=spec.tty,
    )
    if spec.privileged:
        process = replace(process, capabilities=Capabilities.granted(list(capabilities.ALL)), seccomp=b"")
    return process


def _process(spec: ContainerSpec, image: ProcessConfig, arch: str) -> Process:
    granted = capabilities.resolve(spec.cap_add, spec.cap_drop, privileged=spec.privileged)
    confined = spec.seccomp == "default" and not spec.privileged
    cwd = spec.working_dir if spec.working_dir is not None else (image.working_dir or "/")
    return Process(
        args=_args(spec, image),
        env=_env(spec, image),
        cwd=mounts.absolute(cwd, "working directory"),
        user=spec.user if spec.user is not None else image.user,
        groups=[group for group in spec.groups if isinstance(group, int)],
        group_names=[group for group in spec.groups if isinstance(group, str)],
        terminal=spec.tty,
        capabilities=Capabilities.granted(granted),
        rlimits=[ulimits.resolve(limit) for limit in spec.ulimits],
        no_new_privileges=spec.no_new_privileges,
        oom_score_adj=spec.oom_score_adj,
        seccomp=seccomp.compile(granted, arch) if confined else b"",
        apparmor=apparmor.meant(spec.apparmor),
    )


def _args(spec: ContainerSpec, image: ProcessConfig) -> list[str]:
    """Docker's rule: an entrypoint of the caller's makes the image's command void."""
    entrypoint = spec.entrypoint if spec.entrypoint is not None else image.entrypoint
    default = image.cmd if spec.entrypoint is None else []
    args = [*(entrypoint or []), *(spec.command if spec.command is not None else default or [])]
    if not args or not args[0]:
        raise InvalidInput(f"no command: image {spec.image} names none, so give one")
    if any("\0" in arg for arg in args):
        raise InvalidInput("cannot run a command with a NUL byte in it")
    return args


def _env(spec: ContainerSpec, image: ProcessConfig) -> list[str]:
    """The image's, then the caller's; the last of one name wins, its place stays. The caller's bare name takes away."""
    env: dict[str, str] = {"PATH": PATH}
    for entry in [*(entry for entry in image.env if is_entry(entry)), *spec.env]:
        name, equals, _ = entry.partition("=")
        if not name or "\0" in entry:
            raise InvalidInput(f"invalid environment entry {entry[:60]!r}: write NAME=value")
        if equals:
            env[name] = entry
        else:
            env.pop(name, None)
    return list(env.values())


def is_entry(entry: str) -> bool:
    """Of an environment."""
    name, equals, _ = entry.partition("=")
    return bool(name and equals) and "\0" not in entry


def _mount(mount: MountRecord) -> Mount:
    read_only = ["ro"] if mount.read_only else []
    if mount.type != "tmpfs":
        return Mount(type="bind", destination=mount.target, options=read_only)
    size = [f"size={mount.size_mib << 20}"] if mount.size_mib else []
    options = [*defaults.PLAIN, f"mode={mount.mode:o}", *size, *mount.options, *read_only]
    return Mount(type="tmpfs", destination=mount.target, options=options)
