"""Records -> what the agent is asked. Pure."""

import base64
import os
import time
from collections.abc import Sequence
from typing import Literal

from hypercontainer.agent import messages as m
from hypercontainer.hypervisor.base import SNAPSHOT_MAC
from hypercontainer.model import arch, capabilities, seccomp, ulimits
from hypercontainer.model.record import ContainerRecord, MountRecord, NicRecord, PodRecord, RouteRecord, Streams
from hypercontainer.model.spec import ContainerSpec, Dns, ExecSpec

ENTROPY = 64  # bytes for the guest's random pool
CPU_PERIOD_US = 100_000
SHARE_TAG = "hyper"

# As docker and runc have them: what would tell of, or reach, the kernel below.
MASKED_PATHS = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/cmdline",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
]
READONLY_PATHS = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


# Parts of a kernel that only who administrates a network can use, and that wake an idle guest: the IP virtual server
# looks at its memory every second, at its counters every other.
FOR_NET_ADMIN = ("initcall_blacklist=ip_vs_init",)


def kernel_parameters(pod: PodRecord) -> tuple[str, ...]:
    """For a guest with the containers that `pod` has now."""
    specs = [container.spec for container in pod.containers]
    granted = [capabilities.resolve(s.cap_add, s.cap_drop, privileged=s.privileged) for s in specs]
    return () if any("CAP_NET_ADMIN" in each for each in granted) else FOR_NET_ADMIN


def hostname(pod: PodRecord) -> str:
    """As asked for; else as docker has it, the beginning of the container's id, or the pod's name."""
    return pod.spec.hostname or (pod.containers[0].id[:12] if pod.implicit and pod.containers else pod.name)


# A user of a container is a user of its machine alone, where a low port is nobody's privilege and a ping no danger, as
# docker has it. The limits of inotify that a kernel chooses follow from its memory: these are a large host's.
SYSCTLS = {
    "net.ipv4.ip_unprivileged_port_start": "0",
    "net.ipv4.ping_group_range": "0 2147483647",
    "fs.inotify.max_user_instances": "1024",
    "fs.inotify.max_user_watches": "1048576",
}


def pod_setup(
    pod: PodRecord, dns: Dns, hosts: list[list[str]], *, share: bool, hardware: str = SNAPSHOT_MAC
) -> m.PodSetup:
    """Names, addresses, clock, entropy. `hosts`: rows of /etc/hosts; `hardware`: the address that the interface has."""
    return m.PodSetup(
        hostname=hostname(pod),
        # the last one first: none is to have a name that the guest's kernel has given to one that still has it
        interfaces=[_interface(nic, hardware if len(pod.nics) == 1 else "") for nic in reversed(pod.nics)],
        routes=[_route(route) for nic in pod.nics for route in nic.routes],
        dns=m.Resolver(nameservers=dns.nameservers, search=dns.search, options=dns.options),
        hosts=hosts,
        time_ns=time.time_ns(),
        entropy=os.urandom(ENTROPY),
        sysctls=SYSCTLS,
        share_pid=pod.spec.share_pid,
        share=SHARE_TAG if share else "",
    )


def _interface(nic: NicRecord, hardware: str) -> m.Interface:
    return m.Interface(mac=nic.mac, hardware=hardware, name=nic.name, mtu=nic.mtu, addresses=nic.addresses)


def _route(route: RouteRecord) -> m.Route:
    family: Literal[4, 6] = 6 if ":" in route.dst + route.gateway else 4
    return m.Route(dst=route.dst, gateway=route.gateway, family=family, device=route.device)


def container_create(container: ContainerRecord, memory_mib: int = 0) -> m.ContainerCreate:
    """For a container whose disks have their records. `memory_mib`: as `container_update` takes it."""
    assert container.lower and container.upper  # noqa: S101  the engine made them
    spec = container.spec
    return m.ContainerCreate(
        id=container.id,
        rootfs=m.Rootfs(lower=m.Disk(target=container.lower.target), upper=m.Disk(target=container.upper.target)),
        read_only=spec.read_only,
        mounts=[_mount(mount) for mount in container.mounts],
        files=[
            m.File(path=f.path, mode=f.mode, uid=f.uid, gid=f.gid, content=base64.b64decode(f.content, validate=True))
            for f in spec.files
        ],
        hostname=spec.hostname,
        cgroup=_cgroup(spec, spec.memory_mib or memory_mib),
        sysctls=spec.sysctls,
        masked_paths=[] if spec.privileged else MASKED_PATHS,
        readonly_paths=[] if spec.privileged else READONLY_PATHS,
        shm_bytes=spec.shm_mib << 20,
        privileged=spec.privileged,
    )


def container_update(container: ContainerRecord, memory_mib: int) -> m.ContainerUpdate:
    """Its limits anew, and `memory_mib` where it has no limit of memory of its own; 0 = none."""
    spec = container.spec
    return m.ContainerUpdate(id=container.id, cgroup=_cgroup(spec, spec.memory_mib or memory_mib))


def _cgroup(spec: ContainerSpec, memory_mib: int) -> m.Cgroup:
    return m.Cgroup(memory_bytes=memory_mib << 20, cpu_quota_us=round(spec.cpus * CPU_PERIOD_US), pids=spec.pids)


def _mount(mount: MountRecord) -> m.ShareMount | m.TmpfsMount:
    if mount.type == "tmpfs":
        return m.TmpfsMount(
            target=mount.target,
            size_bytes=mount.size_mib << 20,
            mode=mount.mode,
            read_only=mount.read_only,
            options=["nosuid", "nodev", "noexec", *mount.options],
        )
    return m.ShareMount(
        source=mount.share_path, target=mount.target, read_only=mount.read_only, populate=mount.populate
    )


def first_process(container: ContainerRecord, streams: Streams) -> m.ProcessStart:
    """The container's own process."""
    spec = container.spec
    return _process(
        container,
        container.id,
        streams,
        args=container.args,
        env=container.env,
        cwd=container.working_dir,
        user=container.user,
        tty=spec.tty,
        init=spec.init,
        privileged=spec.privileged,
    )


def exec_process(container: ContainerRecord, id: str, spec: ExecSpec, streams: Streams) -> m.ProcessStart:
    """One more process."""
    named = {entry.partition("=")[0]: entry for entry in [*container.env, *spec.env]}
    return _process(
        container,
        id,
        streams,
        args=spec.command,
        env=list(named.values()),
        cwd=spec.working_dir if spec.working_dir is not None else container.working_dir,
        user=spec.user if spec.user is not None else container.user,
        tty=spec.tty,
        rows=spec.rows,
        columns=spec.columns,
        privileged=spec.privileged or container.spec.privileged,
    )


def _process(
    container: ContainerRecord,
    id: str,
    streams: Streams,
    *,
    args: Sequence[str],
    env: Sequence[str],
    cwd: str,
    user: str,
    tty: bool,
    privileged: bool,
    init: bool = False,
    rows: int = 0,
    columns: int = 0,
) -> m.ProcessStart:
    spec = container.spec
    granted = capabilities.resolve(spec.cap_add, spec.cap_drop, privileged=privileged)
    confined = spec.seccomp == "default" and not privileged
    return m.ProcessStart(
        id=id,
        container=container.id,
        args=list(args),
        env=list(env),
        cwd=cwd,
        user=user,
        tty=tty,
        rows=rows,
        columns=columns,
        init=init,
        first=id == container.id,
        capabilities=granted,
        no_new_privs=spec.no_new_privileges,
        rlimits=[ulimits.resolve(limit) for limit in spec.ulimits],
        seccomp=seccomp.compile(granted, arch.host().name) if confined else b"",
        streams=m.StreamSet(stdin=streams.stdin, stdout=streams.stdout, stderr=streams.stderr),
    )
