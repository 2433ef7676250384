"""Records -> the documents that frontends show. Pure."""

import shlex
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from hypercontainer.engine import logoptions
from hypercontainer.engine.accelerator import Choice
from hypercontainer.lib import clock
from hypercontainer.model import documents as doc
from hypercontainer.model import signals
from hypercontainer.model.record import (
    ContainerRecord,
    GuestRecord,
    HealthRecord,
    MountRecord,
    NetworkRecord,
    NicRecord,
    PodRecord,
)
from hypercontainer.model.spec import CONTAINER, DEFAULT, ContainerSpec, EndpointSpec, Healthcheck, Mount, PodSpec


def isolation(choice: Choice) -> doc.Isolation:
    level: Literal["hardware", "emulated"] = "emulated" if choice.accelerator == "tcg" else "hardware"
    return doc.Isolation(level=level, accelerator=choice.accelerator, reason=choice.reason)


def ago(ns: int, now_ns: int) -> str:
    """ "3 minutes", as docker rounds it."""
    seconds = max(0, now_ns - ns) // 1_000_000_000
    if seconds < 1:
        return "Less than a second"
    if seconds == 1:
        return "1 second"
    minutes, hours = seconds // 60, round(seconds / 3600)
    for limit, text in (
        (seconds < 60, f"{seconds} seconds"),
        (minutes == 1, "About a minute"),
        (minutes < 60, f"{minutes} minutes"),
        (hours == 1, "About an hour"),
        (hours < 48, f"{hours} hours"),
        (hours < 24 * 14, f"{hours // 24} days"),
        (hours < 24 * 60, f"{hours // 24 // 7} weeks"),
        (hours < 24 * 730, f"{hours // 24 // 30} months"),
    ):
        if limit:
            return text
    return f"{hours // 24 // 365} years"


def status(record: ContainerRecord, now_ns: int) -> str:
    """The STATUS column of `ps`."""
    match record.state:
        case "running":
            return f"Up {ago(record.started_ns, now_ns)}" + (
                f" ({_health_word(record.health)})" if record.health else ""
            )
        case "paused":
            return f"Up {ago(record.started_ns, now_ns)} (Paused)"
        case "suspended":
            return "Suspended"
        case "restarting":
            return f"Restarting ({record.exit_code}) {ago(record.finished_ns, now_ns)} ago"
        case "exited":
            return f"Exited ({record.exit_code}) {ago(record.finished_ns, now_ns)} ago"
        case "removing":
            return "Removal In Progress"
        case _:
            return "Created"


def _health_word(record: HealthRecord) -> str:
    return "health: starting" if record.status == "starting" else record.status


def health(record: HealthRecord) -> doc.Health:
    return doc.Health(
        status=record.status,
        failing_streak=record.failing_streak,
        log=[
            doc.Probe(
                start=clock.rfc3339(probe.started_ns),
                end=clock.rfc3339(probe.ended_ns),
                exit_code=probe.exit_code,
                output=probe.output,
            )
            for probe in record.log
        ],
    )


def health_config(check: Healthcheck) -> doc.HealthConfig:
    return doc.HealthConfig(
        test=check.test,
        interval=round(check.interval_s * 1e9),
        timeout=round(check.timeout_s * 1e9),
        start_period=round(check.start_period_s * 1e9),
        start_interval=round(check.start_interval_s * 1e9),
        retries=check.retries,
    )


def pod_state(pod: PodRecord) -> doc.PodState:
    if pod.suspended:
        return "suspended"
    if pod.paused:
        return "paused"
    if pod.guest:
        return "running"
    return "exited" if any(c.runs for c in pod.containers) else "created"


def ref(pod: PodRecord) -> doc.PodRef:
    return doc.PodRef(id=pod.id, name=pod.name, tenant=pod.spec.tenant)


def entry(
    pod: PodRecord, record: ContainerRecord, now_ns: int, linked: Iterable[str] = (), *, reached: bool = True
) -> doc.ContainerEntry:
    """`linked`: its names by links of others; `reached`: its machine answers, if it has one."""
    runs_unreached = record.state in ("running", "paused") and not reached
    return doc.ContainerEntry(
        id=record.id,
        names=[f"/{record.name}", *linked],
        image=record.image_name,
        image_id=record.image_id,
        command=shlex.join(record.config.process.args),
        created=record.created_ns // 1_000_000_000,
        ports=[
            doc.Port(ip=p.host_ip or "0.0.0.0", private_port=p.container_port, public_port=p.host_port, type=p.protocol)
            for nic in own_nics(pod, record)
            for p in nic.ports
        ],
        labels=record.labels,
        state=record.state,
        status=status(record, now_ns) + (" (Not reached yet)" if runs_unreached else ""),
        mounts=[mount(m) for m in record.mounts],
        networks=_shown(pod, record),
        pod=ref(pod),
        owner=pod.owner,
    )


def own_nics(pod: PodRecord, record: ContainerRecord) -> list[NicRecord]:
    """Those that are shown as its own: one that shares another one's network has none."""
    return [] if record.joined else pod.nics


def networks(pod: PodRecord, record: ContainerRecord) -> list[str]:
    """What it is in, by name; of one that shares another one's network, whose."""
    return [f"{CONTAINER}{record.joined}"] if record.joined else [endpoint.network for endpoint in pod.spec.networks]


def _shown(pod: PodRecord, record: ContainerRecord) -> dict[str, doc.NamedEndpoint]:
    return {networks(pod, record)[0]: doc.NamedEndpoint()} if record.joined else _places(pod)


def mount(record: MountRecord, volume_path: str = "") -> doc.MountPoint:
    return doc.MountPoint(
        type=record.type,
        name=record.source if record.type == "volume" else "",
        source=volume_path or (record.source if record.type == "bind" else ""),
        destination=record.target,
        mode="ro" if record.read_only else "",
        rw=not record.read_only,
        driver="local" if record.type == "volume" else "",
        propagation="rprivate" if record.type == "bind" else "",
    )


def network(pod: PodRecord, record: ContainerRecord | None = None) -> doc.NetworkSettings:
    """The pod's; of a container of it with the ports that its image exposes. One that shares another one's network has
    interfaces only."""
    nics = _there(pod)
    if record and record.joined:
        return doc.NetworkSettings(interfaces=[_interface(nic) for nic in nics])
    return doc.NetworkSettings(
        **msgspec.structs.asdict(endpoint(nics[0]) if nics else doc.Endpoint()),
        ports=_published(pod, record) if nics else {},
        networks=_places(pod),
        interfaces=[_interface(nic) for nic in nics],
    )


def _there(pod: PodRecord) -> list[NicRecord]:
    return [nic for nic in pod.nics if not nic.provisional]


def _places(pod: PodRecord) -> dict[str, doc.NamedEndpoint]:
    """The pod's in its networks, with their addresses where it has an interface."""
    addresses = {nic.network: msgspec.structs.asdict(endpoint(nic)) for nic in _there(pod)}
    return {
        each.network: doc.NamedEndpoint(
            **addresses.get(each.network, {"mac_address": each.mac}),
            aliases=each.aliases,
            links=[] if each.network == DEFAULT else each.links,  # there they are of the container: HostConfig
            ipam_config=_address_config(each),
            driver_opts=each.options,
        )
        for each in pod.spec.networks
    }


def _address_config(place: EndpointSpec) -> doc.AddressConfig | None:
    if not (place.address or place.address6):
        return None
    return doc.AddressConfig(ipv4_address=place.address, ipv6_address=place.address6)


def _interface(nic: NicRecord) -> doc.Interface:
    return doc.Interface(
        name=nic.name,
        network=nic.network,
        netns=nic.netns,
        mac_address=nic.mac,
        mtu=nic.mtu,
        addresses=nic.addresses,
    )


def driver(record: NetworkRecord) -> str:
    return "bridge" if record.bridge else "null"


def network_attributes(record: NetworkRecord) -> dict[str, str]:
    """Of an event of its."""
    return {**record.labels, "name": record.name, "type": driver(record)}


def bare_network(record: NetworkRecord) -> doc.Network:
    """Without who is in it."""
    return doc.Network(
        name=record.name,
        id=record.id,
        created=clock.rfc3339(record.created_ns),
        driver=driver(record),
        enable_ipv6=any(":" in subnet.subnet for subnet in record.subnets),
        ipam=doc.Ipam(
            config=[
                doc.SubnetConfig(
                    subnet=each.subnet,
                    ip_range=each.ip_range,
                    gateway=each.gateway,
                    auxiliary_addresses=each.reserved,
                )
                for each in record.subnets
            ]
        ),
        internal=record.internal,
        options=record.options,
        labels=record.labels,
    )


def network_of(record: NetworkRecord, containers: Iterable[tuple[PodRecord, ContainerRecord]]) -> doc.Network:
    """With those of `containers` that have an interface in it, and run."""
    members = {
        container.id: doc.NetworkMember(
            name=container.name, mac_address=nic.mac, ipv4_address=nic.address, ipv6_address=nic.address6
        )
        for pod, container in containers
        for nic in own_nics(pod, container)
        if nic.network == record.name and container.state in ("running", "paused")
    }
    return msgspec.structs.replace(bare_network(record), containers=members)


def endpoint(nic: NicRecord) -> doc.Endpoint:
    address, _, prefix = nic.address.partition("/")
    address6, _, prefix6 = nic.address6.partition("/")
    return doc.Endpoint(
        ip_address=address,
        ip_prefix_len=int(prefix or 0),
        gateway=nic.gateway,
        global_ipv6_address=address6,
        global_ipv6_prefix_len=int(prefix6 or 0),
        ipv6_gateway=nic.gateway6,
        mac_address=nic.mac,
    )


def _published(pod: PodRecord, record: ContainerRecord | None) -> dict[str, list[doc.HostPort] | None]:
    ports: dict[str, list[doc.HostPort] | None] = dict.fromkeys(exposed(pod, record)) if record else {}
    for port in [port for nic in pod.nics for port in nic.ports]:
        key = f"{port.container_port}/{port.protocol}"
        host = doc.HostPort(host_ip=port.host_ip or "0.0.0.0", host_port=str(port.host_port))
        ports[key] = [*(ports.get(key) or []), host]
    return ports


def exposed(pod: PodRecord, record: ContainerRecord) -> list[str]:
    """ "80/tcp": what the image says that it listens on, and what is published."""
    published = [] if record.joined else [f"{port.container_port}/{port.protocol}" for port in pod.spec.ports]
    return sorted({*record.exposed_ports, *published})


def vm(pod: PodRecord, guest: GuestRecord, choice: Choice, *, vcpus: int, memory_mib: int) -> doc.Vm:
    return doc.Vm(
        driver=guest.driver,
        architecture=guest.arch,
        pid=guest.process.pid,
        vcpus=vcpus,
        memory_mib=memory_mib,
        run_dir=guest.run_dir,
        isolation=isolation(Choice(accelerator=guest.accelerator, reason=choice.reason)),
    )


def container(
    pod: PodRecord,
    record: ContainerRecord,
    choice: Choice,
    *,
    log_path: str,
    vcpus: int,
    memory_mib: int,
    volumes: dict[str, str],
    links: Sequence[str] = (),
) -> doc.Container:
    """`volumes`: name -> folder on the host; `links`: as docker's HostConfig has them."""
    running = record.state in ("running", "paused")
    guest = vm(pod, pod.guest, choice, vcpus=vcpus, memory_mib=memory_mib) if pod.guest else None
    return doc.Container(
        id=record.id,
        created=clock.rfc3339(record.created_ns),
        path=record.config.process.args[0],
        args=record.config.process.args[1:],
        state=doc.ContainerStateDocument(
            status=record.state,
            running=running,
            paused=record.state == "paused",
            restarting=record.state == "restarting",
            oom_killed=record.oom_killed,
            pid=pod.guest.process.pid if running and pod.guest else 0,
            exit_code=record.exit_code,
            error=record.error,
            started_at=clock.rfc3339(record.started_ns),
            finished_at=clock.rfc3339(record.finished_ns),
            health=health(record.health) if record.health else None,
        ),
        image=record.image_id,
        name=f"/{record.name}",
        restart_count=record.restart_count,
        log_path=log_path,
        log_attributes=logoptions.attributes(record),
        host_config=msgspec.structs.replace(_host_config(pod, record), links=list(links)),
        config=_config(pod, record),
        mounts=[mount(m, volumes.get(m.source, "")) for m in record.mounts],
        network_settings=network(pod, record),
        pod=ref(pod),
        architecture=pod.arch,
        vm=guest,
        isolation=guest.isolation if guest else isolation(choice),
        as_asked=record.spec.as_asked,
    )


def _tmpfs_options(mount: Mount) -> str:
    return ",".join([*mount.options, *([f"size={mount.size_mib}m"] if mount.size_mib else [])])


def _host_config(pod: PodRecord, record: ContainerRecord) -> doc.HostConfig:
    spec, sized = record.spec, pod.sized_for(record)
    asked = PodSpec() if record.joined else pod.spec  # of the network, where that is its own
    bindings: dict[str, list[doc.HostPort]] = {}
    for port in asked.ports:
        last = f"-{port.host_port_last}" if port.host_port_last else ""
        host = doc.HostPort(host_ip=port.host_ip, host_port=f"{port.host_port or ''}{last}")
        bindings.setdefault(f"{port.container_port}/{port.protocol}", []).append(host)
    return doc.HostConfig(
        binds=[f"{m.source}:{m.target}" + (":ro" if m.read_only else "") for m in spec.mounts if m.source],
        network_mode=networks(pod, record)[0],
        port_bindings=bindings,
        restart_policy=doc.RestartPolicyDocument(name=spec.restart.name, maximum_retry_count=spec.restart.max_retries),
        auto_remove=spec.auto_remove,
        cap_add=spec.cap_add,
        cap_drop=spec.cap_drop,
        dns=asked.dns.nameservers,
        dns_options=asked.dns.options,
        dns_search=asked.dns.search,
        extra_hosts=[f"{name}:{address}" for name, address in asked.extra_hosts.items()],
        privileged=spec.privileged,
        readonly_rootfs=spec.read_only,
        security_opt=_security_opt(spec, record.config.process.apparmor),
        tmpfs={m.target: _tmpfs_options(m) for m in spec.mounts if m.type == "tmpfs"},
        ulimits=[doc.UlimitDocument(name=u.name, soft=u.soft, hard=u.hard) for u in spec.ulimits],
        sysctls=spec.sysctls,
        shm_size=spec.shm_mib << 20,
        memory=(spec.memory_mib or (pod.spec.memory_mib if sized else 0)) << 20,
        nano_cpus=round(spec.cpus * 1e9) or (pod.spec.vcpus * 1_000_000_000 if sized else 0),
        pids_limit=spec.pids,
        init=spec.init,
        cpu_shares=spec.cpu_shares,
        group_add=[str(group) for group in spec.groups],
        oom_score_adj=spec.oom_score_adj,
        log_config=doc.LogConfig(type="json-file" if spec.log == "file" else "none", config=_log_options(spec)),
        volumes_from=spec.volumes_from,
        publish_all_ports=asked.publish_exposed,
        masked_paths=spec.masked_paths if spec.privileged else record.config.masked_paths,
        readonly_paths=spec.readonly_paths if spec.privileged else record.config.readonly_paths,
        console_size=[spec.rows, spec.columns],
        pid_mode=spec.pid,
        ipc_mode=spec.ipc or "private",
    )


def _log_options(spec: ContainerSpec) -> dict[str, str]:
    said = {"max-size": spec.log_max_bytes, "max-file": spec.log_files}
    return {name: str(value) for name, value in said.items() if value} | spec.log_options


def _security_opt(spec: ContainerSpec, profile: str) -> list[str]:
    options = ["no-new-privileges"] if spec.no_new_privileges else []
    options += ["seccomp=unconfined"] if spec.seccomp == "unconfined" else []
    return options + ([f"apparmor={profile}"] if profile else [])


def _config(pod: PodRecord, record: ContainerRecord) -> doc.ProcessConfig:
    spec, process = record.spec, record.config.process
    return doc.ProcessConfig(
        hostname=spec.hostname or pod.spec.hostname or (pod.containers[0] if record.joined else record).id[:12],
        domainname="" if record.joined else pod.spec.domainname,
        user=process.user,
        tty=spec.tty,
        open_stdin=spec.open_stdin,
        stdin_once=spec.stdin_once,
        env=[
            *process.env,
            *(entry for entry in spec.env if "=" not in entry),
        ],  # docker's way to say what was taken away
        cmd=spec.command,
        entrypoint=spec.entrypoint,
        image=record.image_name,
        working_dir=process.cwd,
        labels=record.labels,
        exposed_ports={port: {} for port in exposed(pod, record)},
        volumes={target: {} for target in record.volumes},
        stop_signal=signals.name(record.stop_signal),
        stop_timeout=spec.stop_timeout_s,
        healthcheck=health_config(record.healthcheck) if record.healthcheck else None,
        shell=spec.shell,
    )


def pod_entry(pod: PodRecord, *, vcpus: int, memory_mib: int) -> doc.PodEntry:
    return doc.PodEntry(
        id=pod.id,
        name=pod.name,
        created=pod.created_ns // 1_000_000_000,
        state=pod_state(pod),
        implicit=pod.implicit,
        vcpus=vcpus,
        memory_mib=memory_mib,
        labels=pod.kube.labels if pod.kube else pod.spec.labels,
        containers=[c.kube.name if c.kube else c.name for c in pod.containers],
        owner=pod.owner,
        kube=str(pod.kube) if pod.kube else "",
    )


def pod(record: PodRecord, choice: Choice, *, vcpus: int, memory_mib: int, now_ns: int) -> doc.Pod:
    guest = vm(record, record.guest, choice, vcpus=vcpus, memory_mib=memory_mib) if record.guest else None
    return doc.Pod(
        id=record.id,
        name=record.name,
        created=clock.rfc3339(record.created_ns),
        state=pod_state(record),
        implicit=record.implicit,
        spec=record.spec,
        network_settings=network(record),
        containers=[entry(record, c, now_ns) for c in record.containers],
        architecture=record.arch,
        vm=guest,
        isolation=guest.isolation if guest else isolation(choice),
    )
