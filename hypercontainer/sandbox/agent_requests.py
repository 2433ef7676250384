"""Records -> what the agent is asked. Pure."""

import base64
import os
import time
from collections.abc import Container, Mapping, Sequence
from typing import Literal

import msgspec

from hypercontainer.agent import messages as m
from hypercontainer.hypervisor.base import HOT_NICS, SHARE_TAG, SNAPSHOT_MAC
from hypercontainer.lib import kubernetes
from hypercontainer.model import defaults, users
from hypercontainer.model.container import Capabilities, DeviceRule, Mount, Process, Resources, Scheduling, Users
from hypercontainer.model.record import (
    BlockRecord,
    BundleRecord,
    ContainerRecord,
    ImageVolumeRecord,
    MountRecord,
    NicRecord,
    PodRecord,
    RouteRecord,
    RuleRecord,
    Streams,
)
from hypercontainer.model.spec import Dns
from hypercontainer.network.base import Place
from hypercontainer.sandbox import rootfs

ENTROPY = 64  # bytes for the guest's random pool

# Parts of a kernel that only who administrates a network can use, and that wake an idle guest: the IP virtual server
# looks at its memory every second, at its counters every other.
FOR_NET_ADMIN = ("initcall_blacklist=ip_vs_init",)


# Instead of what the driver has: the kernel takes the last one. AppArmor walks the path of all that is opened again.
WITH_APPARMOR = ("lsm=landlock,yama,apparmor",)


def kernel_parameters(pod: PodRecord, *, apparmor: bool = False) -> tuple[str, ...]:
    """For a guest with the containers that `pod` has now. `apparmor`: each is to have that."""
    processes = [container.config.process for container in pod.containers]
    for_net = any("CAP_NET_ADMIN" in process.capabilities.bounding for process in processes)
    said = [pod.kube.annotations if pod.kube else {}, *(c.bundle.annotations for c in pod.containers if c.bundle)]
    confined = any(process.apparmor for process in processes) or any(map(kubernetes.confines, said))
    return (*(() if for_net else FOR_NET_ADMIN), *(WITH_APPARMOR if apparmor or confined else ()))


def hostname(pod: PodRecord) -> str:
    """As asked for; else as docker has it, the beginning of the container's id, or the pod's name."""
    return pod.spec.hostname or (pod.containers[0].id[:12] if pod.implicit and pod.containers else pod.name)


def full_name(pod: PodRecord) -> str:
    """With its domain, as /etc/hosts has it."""
    return f"{hostname(pod)}.{pod.spec.domainname}" if pod.spec.domainname else hostname(pod)


def pod_setup(pod: PodRecord, hosts: list[list[str]], *, share: bool, hardware: str = SNAPSHOT_MAC) -> m.PodSetup:
    """Names, addresses, clock, entropy; `asking` adds whom to ask for names. `hosts`: rows of /etc/hosts; `hardware`:
    the address that the interface has, if the machine started with one."""
    first = [nic for nic in pod.nics if nic.number not in HOT_NICS]
    return m.PodSetup(
        hostname=hostname(pod),
        # the last one first: none is to have a name that the guest's kernel has given to one that still has it
        interfaces=[_interface(nic, hardware if [nic] == first else "") for nic in reversed(pod.nics)],
        routes=[_route(route) for route in routes(pod.nics)],
        rules=[_rule(rule) for rule in _rules_of(pod.nics)],
        hosts=hosts,
        time_ns=time.time_ns(),
        entropy=os.urandom(ENTROPY),
        sysctls=defaults.SYSCTLS | ({"kernel.domainname": pod.spec.domainname} if pod.spec.domainname else {}),
        share_pid=pod.spec.share_pid,
        share=SHARE_TAG if share else "",
        users=_users(pod.kube.users) if pod.kube and pod.kube.users else None,
    )


def asking(setup: m.PodSetup, dns: Dns, nameserver: Place | None) -> m.PodSetup:
    """`setup`, and whom its containers ask for names."""
    return msgspec.structs.replace(
        setup,
        dns=m.Resolver(nameservers=dns.nameservers, search=dns.search, options=dns.options),
        nameserver=m.Nameserver(address=nameserver.address, port=nameserver.port) if nameserver else None,
    )


def routes(nics: Sequence[NicRecord]) -> list[RouteRecord]:
    """What a guest with these interfaces is told: of routes to the same, that of the first."""
    found: dict[tuple[object, ...], RouteRecord] = {}
    for route in [route for nic in nics for route in nic.routes]:
        found.setdefault(_end(route), route)
    return list(found.values())


def _end(route: RouteRecord) -> tuple[object, ...]:
    """What a kernel has one route to."""
    return route.dst, _family(route), route.table, route.metric


def _rules_of(nics: Sequence[NicRecord]) -> list[RuleRecord]:
    return [rule for nic in nics for rule in nic.rules]


def interfaces_changed(old: Sequence[NicRecord], new: Sequence[NicRecord], hosts: list[list[str]]) -> m.PodSetup:
    """For a guest with the interfaces `old`, which gets or loses some. With one that goes the routes through it go."""
    before = routes(old)
    return m.PodSetup(
        removed=[nic.mac for nic in old if nic not in new],
        interfaces=[_interface(nic, "") for nic in new if nic not in old],
        routes=[_route(route) for route in routes(new) if route not in before],
        rules=_changed_rules(old, new),
        hosts=hosts,
    )


def interface_changed(
    old: NicRecord,
    new: NicRecord,
    before: Sequence[NicRecord],
    after: Sequence[NicRecord],
    hosts: list[list[str]],
    *,
    exact: bool,
) -> m.PodSetup:
    """For a guest whose interface `old` is `new` from now on, among `before` and `after`. One that is not `exact` can
    only add routes, and loses those of an interface that is down: it goes down for a moment where one has no
    successor."""
    was, are = routes(before), routes(after)
    ends = {_end(route) for route in are}
    ended = [route for route in was if _end(route) not in ends]
    down = bool(ended) and not exact
    interface = _interface(new, "")
    if old.neighbours != new.neighbours:
        interface = msgspec.structs.replace(interface, neighbours=_neighbours(new))
    return m.PodSetup(
        interfaces=[msgspec.structs.replace(interface, down=True), interface] if down else [interface],
        routes=[
            *(_route(route, gone=True) for route in ended if exact),
            *(_route(route) for route in are if down or route not in was or new.addresses != old.addresses),
        ],
        rules=_changed_rules(before, after),
        hosts=hosts,
    )


def _changed_rules(before: Sequence[NicRecord], after: Sequence[NicRecord]) -> list[m.Rule]:
    was, are = _rules_of(before), _rules_of(after)
    gone = [_rule(rule, gone=True) for rule in was if rule not in are]
    return [*gone, *(_rule(rule) for rule in are if rule not in was)]


def _interface(nic: NicRecord, hardware: str) -> m.Interface:
    return m.Interface(
        mac=nic.mac,
        hardware=hardware,
        name=nic.name,
        mtu=nic.mtu,
        addresses=nic.addresses,
        neighbours=_neighbours(nic) or None,
    )


def _neighbours(nic: NicRecord) -> list[m.Neighbour]:
    return [m.Neighbour(address=each.address, mac=each.mac) for each in nic.neighbours]


def _route(route: RouteRecord, *, gone: bool = False) -> m.Route:
    return m.Route(
        dst=route.dst,
        gateway=route.gateway,
        family=_family(route),
        device=route.device,
        kind=route.kind,
        table=route.table,
        metric=route.metric,
        source=route.source,
        metrics=route.metrics,
        onlink=route.onlink,
        hops=[m.Hop(gateway=hop.gateway, device=hop.device, weight=hop.weight) for hop in route.hops],
        gone=gone,
    )


def _rule(rule: RuleRecord, *, gone: bool = False) -> m.Rule:
    return m.Rule(
        priority=rule.priority, family=rule.family, table=rule.table, source=rule.source, dst=rule.dst, gone=gone
    )


def _family(route: RouteRecord) -> Literal[4, 6]:
    return 6 if ":" in route.dst + route.gateway + "".join(hop.gateway for hop in route.hops) else 4


def container_create(
    container: ContainerRecord, memory_mib: int = 0, further: Container[str] = ()
) -> m.ContainerCreate:
    """For a container that is in a pod. `memory_mib`: as `container_update` takes it. `further`: where something that
    may be written is mounted below what is read-only."""
    config, root = container.config, rootfs.of(container.rootfs)
    return m.ContainerCreate(
        id=container.id,
        rootfs=root.request(),
        read_only=config.read_only or root.read_only,
        all_mounts=_mounts(container, further),
        devices=[
            m.Device(path=d.path, type=d.type, major=d.major, minor=d.minor, mode=d.file_mode, uid=d.uid, gid=d.gid)
            for d in config.devices
        ]
        + [_block(block) for block in container.blocks],
        files=[
            m.File(path=f.path, mode=f.mode, uid=f.uid, gid=f.gid, content=base64.b64decode(f.content, validate=True))
            for f in container.spec.files
        ],
        hostname=config.hostname,
        cgroup=_cgroup(config.resources, memory_mib),
        sysctls=config.sysctl,
        masked_paths=config.masked_paths,
        readonly_paths=config.readonly_paths,
        privileged=config.all_devices,
        pid_of=config.pid_of,
        ipc_of=config.ipc_of,
        own_ipc=config.own_ipc,
        time_offsets=m.TimeOffsets(**msgspec.structs.asdict(config.time_offsets)) if config.time_offsets else None,
        device_rules=_rules(config.device_rules),
        propagation=config.propagation,
        users=_users(config.users) if config.users else None,
    )


def _block(block: BlockRecord) -> m.Device:
    """Its numbers are the guest's to know."""
    return m.Device(
        path=block.path,
        type="b",
        major=0,
        minor=0,
        mode=block.mode,
        uid=block.uid,
        gid=block.gid,
        target=block.disk.target,
    )


def _rules(rules: Sequence[DeviceRule] | None) -> list[m.DeviceRule] | None:
    return None if rules is None else [m.DeviceRule(**msgspec.structs.asdict(rule)) for rule in rules]


def _users(found: Users) -> m.Users:
    uids, gids = ([m.IdRange(**msgspec.structs.asdict(each)) for each in ids] for ids in (found.uids, found.gids))
    return m.Users(uids=uids, gids=gids)


def _mounts(container: ContainerRecord, further: Container[str]) -> list[m.Mount]:
    """Images have their places among what a container has beside the usual, none hidden by what lies above."""
    shared = {mount.target: mount for mount in container.mounts}
    listed = [_mount(mount, shared, further) for mount in container.config.mounts]
    if not container.images:
        return listed
    usual = len(listed) - len(container.mounts)
    own = [*listed[usual:], *map(_image, container.images)]
    return [*listed[:usual], *sorted(own, key=lambda mount: mount.target.count("/"))]


def _image(volume: ImageVolumeRecord) -> m.Mount:
    source = f"{volume.disk.target}/{volume.subpath}" if volume.subpath else str(volume.disk.target)
    return m.Mount(type="disk", target=volume.target, source=source, options=["nosuid", "nodev", "ro"])


def _mount(mount: Mount, shared: Mapping[str, MountRecord], further: Container[str]) -> m.Mount:
    if mount.type != "bind":
        return m.Mount.of(mount)
    record = shared[mount.destination]
    if record.socket:
        uid, gid = users.owner(record.ids, record.socket.uid, record.socket.gid)
        owner = m.SocketOwner(uid=uid, gid=gid, mode=record.socket.mode)
        return m.Mount(type="socket", target=mount.destination, options=mount.options, owner=owner)
    if record.target in further:  # what the guest finds there it would mount read-only, too: this host refuses writes
        mount = msgspec.structs.replace(mount, options=[option for option in mount.options if option != "ro"])
    return m.Mount.of(mount, record.share_path, populate=record.populate)


def container_update(container: ContainerRecord, memory_mib: int) -> m.ContainerUpdate:
    """Its limits anew, and `memory_mib` where it has no limit of memory of its own; 0 = none."""
    return m.ContainerUpdate(id=container.id, cgroup=_cgroup(container.config.resources, memory_mib))


def _cgroup(resources: Resources, memory_mib: int) -> m.Cgroup:
    return m.Cgroup(
        memory_bytes=resources.memory_bytes or memory_mib << 20,
        cpu_quota_us=resources.cpu_quota_us,
        cpu_period_us=resources.cpu_period_us,
        cpu_shares=resources.cpu_shares,
        pids=resources.pids,
        unified=resources.unified,
    )


def first_process(
    container: ContainerRecord, streams: Streams, linked: Sequence[str], *, hold: bool = False
) -> m.ProcessStart:
    """The container's own process, with `linked` in its environment."""
    config, spec = container.config, container.spec
    process = msgspec.structs.replace(config.process, env=[*linked, *config.process.env])
    start = _process(
        container.id,
        container.id,
        process,
        streams,
        first=True,
        hold=hold,
        init=config.init,
        rows=spec.rows,
        columns=spec.columns,
    )
    if not container.bundle or not container.bundle.start_container:
        return start
    hooks = [
        m.Hook(path=hook.path, args=hook.args or [], env=hook.env or [], timeout_s=hook.timeout or 0)
        for hook in container.bundle.start_container
    ]
    return msgspec.structs.replace(start, hooks=hooks, state=_state(container.name, container.bundle))


def _state(id: str, bundle: BundleRecord) -> str:
    """What hooks read, but for the pid."""
    state = {
        "ociVersion": bundle.oci_version,
        "id": id,
        "status": "created",
        "bundle": bundle.path,
        "annotations": bundle.annotations,
    }
    return msgspec.json.encode(state).decode()


def exec_process(
    container: str, id: str, process: Process, streams: Streams, *, rows: int = 0, columns: int = 0
) -> m.ProcessStart:
    """One more process."""
    return _process(container, id, process, streams, rows=rows, columns=columns)


def _process(
    container: str,
    id: str,
    process: Process,
    streams: Streams,
    *,
    first: bool = False,
    hold: bool = False,
    init: bool = False,
    rows: int = 0,
    columns: int = 0,
) -> m.ProcessStart:
    granted = process.capabilities
    usual = granted == Capabilities.granted(granted.bounding)
    return m.ProcessStart(
        id=id,
        container=container,
        args=process.args,
        env=process.env,
        cwd=process.cwd,
        user=process.user,
        groups=process.groups,
        group_names=process.group_names,
        memberships=process.memberships,
        tty=process.terminal,
        rows=rows,
        columns=columns,
        init=init,
        first=first,
        hold=hold,
        capabilities=granted.bounding if usual else [],
        capability_sets=None if usual else _sets(granted),
        umask=process.umask,
        no_new_privs=process.no_new_privileges,
        rlimits=process.rlimits,
        seccomp=process.seccomp,
        apparmor=process.apparmor,
        oom_score_adj=process.oom_score_adj,
        scheduling=None if process.scheduling == Scheduling() else _scheduling(process.scheduling),
        streams=m.StreamSet(stdin=streams.stdin, stdout=streams.stdout, stderr=streams.stderr),
    )


def _scheduling(found: Scheduling) -> m.Scheduling:
    return m.Scheduling(**msgspec.structs.asdict(found))


def _sets(granted: Capabilities) -> m.CapabilitySets:
    return m.CapabilitySets(
        bounding=granted.bounding,
        effective=granted.effective,
        permitted=granted.permitted,
        inheritable=granted.inheritable,
        ambient=granted.ambient,
    )
