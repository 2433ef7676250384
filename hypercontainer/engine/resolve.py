"""What was asked for + what the image says = what will be run. Pure, but that a bind's source is looked for."""

import re
from collections.abc import Iterable, Sequence

from hypercontainer.engine import config, health, logoptions, mounts, namespaces
from hypercontainer.errors import InvalidInput
from hypercontainer.lib import clock
from hypercontainer.model import defaults, ids, signals
from hypercontainer.model.arch import host_name
from hypercontainer.model.documents import ProcessConfig
from hypercontainer.model.record import VERSION, ContainerRecord, LogSinkRecord, PodRecord, RootfsRecord
from hypercontainer.model.spec import NONE, ContainerSpec, Mount, PodSpec, PortMapping
from hypercontainer.network import dns
from hypercontainer.network.ports import MAX_PORTS

MAX_VCPUS, MAX_MEMORY_MIB, MIN_MEMORY_MIB = 64, 1 << 20, 96
PUBLISHED = re.compile(r"(\d{1,5})/(tcp|udp)", re.ASCII)
EXPOSED = re.compile(r"[1-9][0-9]{0,4}(/(tcp|udp|sctp))?")
MIN_LOG_BYTES, MAX_LOG_BYTES, MAX_LOG_FILES = 1024, 1 << 40, 1000
MIN_LIMIT_MIB = 6  # of what a container may use, as docker has it


def pod(spec: PodSpec, *, name: str, implicit: bool, arch: str = "") -> PodRecord:
    """The record of a new pod, without its containers, its machine of that architecture ("": this host's). InvalidInput
    names what is absurd."""
    if spec.tenant:
        ids.check_name("tenant", spec.tenant, ids.MAX_LABEL)
    for given in (spec.hostname, spec.domainname):
        if given:
            ids.check_hostname(given)
    check_size(spec, implicit=implicit)
    if len(spec.ports) > MAX_PORTS:
        raise InvalidInput(f"cannot publish {len(spec.ports)} ports: {MAX_PORTS} at most")
    for port in spec.ports:
        check_port(port)
    dns.hosts("", [], spec.extra_hosts, "" if spec.networks[0].network == NONE else "127.0.0.1")
    kept = PodSpec(
        **{f: getattr(spec, f) for f in spec.__struct_fields__ if f not in ("containers", "name")}, name=name
    )
    return PodRecord(
        version=VERSION,
        id=ids.new_pod_id(),
        name=name,
        spec=kept,
        implicit=implicit,
        created_ns=clock.now_ns(),
        arch=arch or host_name(),
    )


def check_size(spec: PodSpec, *, implicit: bool) -> None:
    """InvalidInput when no VM is of this size. `implicit`: a small one is a limit inside."""
    if not 0 <= spec.vcpus <= MAX_VCPUS:
        raise InvalidInput(f"cannot make a pod of {spec.vcpus} vCPUs: 1 to {MAX_VCPUS}")
    if implicit:
        _check_limit(spec.memory_mib)
    elif spec.memory_mib and not MIN_MEMORY_MIB <= spec.memory_mib <= MAX_MEMORY_MIB:
        raise InvalidInput(
            f"cannot make a pod of {spec.memory_mib} MiB: {MIN_MEMORY_MIB} to {MAX_MEMORY_MIB}; "
            "the guest's kernel alone takes about 45"
        )


def _check_limit(memory_mib: int) -> None:
    if memory_mib and not MIN_LIMIT_MIB <= memory_mib <= MAX_MEMORY_MIB:
        raise InvalidInput(f"cannot limit memory to {memory_mib} MiB: {MIN_LIMIT_MIB} to {MAX_MEMORY_MIB}")


def check_port(port: PortMapping) -> None:
    if not 1 <= port.container_port <= 65535 or not 0 <= port.host_port <= 65535:
        raise InvalidInput(f"cannot publish port {port.host_port}:{port.container_port}: ports are 1 to 65535")


def container(
    spec: ContainerSpec,
    image_id: str,
    image: ProcessConfig,
    rootfs: RootfsRecord,
    *,
    name: str,
    others: Sequence[Mount] = (),
    own_ipc: bool = False,
    joined: str = "",
    arch: str = "",
) -> ContainerRecord:
    """The record of a new container. `others`: what it mounts of other containers; `own_ipc`, `joined`: see
    ContainerConfig and ContainerRecord; `arch`: its machine's, "" is this host's.

    Everything the caller gave is checked here, before anything is made."""
    check_numbers(spec)
    own = mounts.plan(mounts.joined(spec.mounts, others), image.volumes)
    check = health.resolve(spec.healthcheck, image.healthcheck)
    return ContainerRecord(
        id=ids.new_id(),
        name=name,
        spec=spec,
        image_id=image_id,
        image_name=spec.image,
        config=config.container(spec, image, own, own_ipc=own_ipc, arch=arch or host_name()),
        rootfs=rootfs,
        sinks=[_log(spec)] if spec.log == "file" else [],
        stop_signal=_stop_signal(spec, image),
        healthcheck=check,
        probe=health.command(check, spec.shell or image.shell) if check else [],
        labels={**image.labels, **spec.labels},
        mounts=own,
        exposed_ports=exposed(image.exposed_ports, spec.expose),
        volumes=list(image.volumes),
        joined=joined,
        created_ns=clock.now_ns(),
    )


def _log(spec: ContainerSpec) -> LogSinkRecord:
    """One file is two of half the size: what is to outlive us is in the one before when a new one begins."""
    halved = spec.log_files == 1
    return LogSinkRecord(
        max_bytes=spec.log_max_bytes // 2 if halved else spec.log_max_bytes, files=2 if halved else spec.log_files
    )


def exposed(image: Iterable[str], own: Sequence[str]) -> list[str]:
    """Each once, with its protocol."""
    for port in own:
        if not EXPOSED.fullmatch(port):
            raise InvalidInput(f"invalid port {port[:40]!r} to expose: use 1 to 65535, and /tcp, /udp or /sctp")
    return list(dict.fromkeys(port if "/" in port else f"{port}/tcp" for port in (*image, *own)))


def port(exposed: str) -> PortMapping:
    """ "80/tcp", on a port of the host that is free. InvalidInput for one that is not published."""
    if not (found := PUBLISHED.fullmatch(exposed)):
        raise InvalidInput(f"cannot publish exposed port {exposed[:40]!r}: only one of tcp or udp can be")
    return PortMapping(container_port=int(found[1]), protocol="udp" if found[2] == "udp" else "tcp")


def _stop_signal(spec: ContainerSpec, image: ProcessConfig) -> int:
    if spec.stop_signal:
        return signals.number(spec.stop_signal)
    return signals.number(image.stop_signal if _is_signal(image.stop_signal) else "SIGTERM")


def _is_signal(text: str) -> bool:
    try:
        return signals.number(text) > 0
    except InvalidInput:
        return False


def warnings(spec: ContainerSpec, image: ProcessConfig) -> list[str]:
    """What the image says that will not be done."""
    odd = [entry for entry in image.env if not config.is_entry(entry)]
    said = [f"the image's environment entry {entry[:60]!r} is left out: it is not NAME=value" for entry in odd]
    if image.stop_signal and not spec.stop_signal and not _is_signal(image.stop_signal):
        said.append(f"the image's stop signal {image.stop_signal[:40]!r} is not known: SIGTERM is sent instead")
    if namespaces.other(spec.ipc) and spec.shm_mib != defaults.SHM_MIB:
        said.append("a size of /dev/shm (shm_mib) changes nothing: it is that of another container")
    if check := health.resolve(spec.healthcheck, image.healthcheck):
        said += health.warnings(check)
    return said + logoptions.warnings(spec.log_options)


def check_numbers(spec: ContainerSpec) -> None:
    bounds: list[tuple[str, float, float]] = [
        ("cpus", spec.cpus, MAX_VCPUS),
        ("pids", spec.pids, 1 << 22),
        ("cpu_shares", spec.cpu_shares, 1 << 18),
        *(("group", group, (1 << 32) - 2) for group in spec.groups if isinstance(group, int)),
        ("shm_mib", spec.shm_mib, MAX_MEMORY_MIB),
        ("scratch_mib", spec.scratch_mib, 8 << 20),
        *(("size of a terminal", size, 65535) for size in (spec.rows, spec.columns)),
        ("stop_timeout_s", spec.stop_timeout_s, 86400 * 365),
        ("restart.max_retries", spec.restart.max_retries, 1 << 31),
    ]
    for name, value, most in bounds:
        if not 0 <= value <= most:
            raise InvalidInput(f"invalid {name} {value:g}: 0 to {most:g}")
    for group in spec.groups:
        if isinstance(group, str) and (
            not 0 < len(group.encode()) <= 255 or set(group) & set(":\0\n") or group.isdecimal()
        ):
            raise InvalidInput(f"invalid group {group[:60]!r}: use its number, or its name in the image's /etc/group")
    if not -1000 <= spec.oom_score_adj <= 1000:
        raise InvalidInput(f"invalid oom_score_adj {spec.oom_score_adj}: -1000 to 1000")
    _check_limit(spec.memory_mib)
    if spec.healthcheck:
        health.check(spec.healthcheck)
    _check_log(spec)
    if spec.scratch_mib and spec.scratch_mib < 16:
        raise InvalidInput(f"invalid scratch_mib {spec.scratch_mib}: a writable layer needs 16 MiB at least")
    if spec.auto_remove and spec.restart.name != "no":
        raise InvalidInput("cannot both remove a container when it ends and restart it")


def _check_log(spec: ContainerSpec) -> None:
    if (spec.log_max_bytes or spec.log_files or spec.log_options) and spec.log == "none":
        raise InvalidInput("cannot bound or describe a log that is not kept")
    logoptions.check(spec.log_options)
    if spec.log_max_bytes and not MIN_LOG_BYTES <= spec.log_max_bytes <= MAX_LOG_BYTES:
        raise InvalidInput(f"invalid log_max_bytes {spec.log_max_bytes}: {MIN_LOG_BYTES} to {MAX_LOG_BYTES}")
    if not 0 <= spec.log_files <= MAX_LOG_FILES:
        raise InvalidInput(f"invalid log_files {spec.log_files}: 1 to {MAX_LOG_FILES}")
    if spec.log_files == 1 and not spec.log_max_bytes:
        raise InvalidInput("cannot keep a log in one file of no size: say log_max_bytes too")
