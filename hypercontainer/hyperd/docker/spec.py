"""docker's words for a container -> ours: the body of its creation becomes the spec of its pod. Pure."""

import math
import re
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.docker import mounts, refused
from hypercontainer.hyperd.docker.config import (
    ContainerConfig,
    Device,
    Endpoint,
    Healthcheck,
    PortBinding,
    RestartPolicy,
    Sizes,
    Ulimit,
)
from hypercontainer.lib import apparmor
from hypercontainer.model import spec
from hypercontainer.model.spec import ContainerSpec, ContainerUpdate, Dns, EndpointSpec, PodSpec, PortMapping

USUAL_CPU_PERIOD_US = 100_000
USUAL_NETWORKS = ("", "default", spec.DEFAULT)  # docker's words for the one that is always there
RESTARTS = ("no", "always", "on-failure", "unless-stopped")
PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?", re.ASCII)
MAX_CPUS = 4096
MIN_MEMORY = 6 << 20
VOID_OPTIONS = "DriverOpts of an endpoint change nothing: the driver bridge has none"


def pod(body: ContainerConfig, name: str) -> tuple[PodSpec, list[str]]:
    """The pod of one container, and warnings.

    InvalidInput, NotFound: what cannot be had, by its name."""
    warnings, host = refused.check(body), body.host_config
    networks = _networks(body)
    published = networks[0].network != spec.NONE
    warnings += [VOID_OPTIONS for each in networks if each.options]
    return PodSpec(
        name=name,
        hostname=body.hostname,
        domainname=body.domainname,
        vcpus=math.ceil(cpus(host)),
        memory_mib=memory_mib(host),
        networks=networks,
        ports=ports(host.port_bindings) if published else [],
        publish_exposed=host.publish_all_ports and published,
        dns=Dns(nameservers=host.dns, search=host.dns_search, options=host.dns_options),
        extra_hosts=dict(map(_extra_host, host.extra_hosts)),
        containers=[_container(body, name)],
    ), warnings


def _container(body: ContainerConfig, name: str) -> ContainerSpec:
    host, limit = body.host_config, cpus(body.host_config)
    log = host.log_config.config
    security = _security(host.security_opt)
    entrypoint, command = words(body.entrypoint), words(body.cmd)
    rows, columns = size(host.console_size)
    return ContainerSpec(
        image=body.image,
        name=name,
        command=[] if entrypoint and command is None else command,  # the image's was for the image's entrypoint
        entrypoint=entrypoint,
        env=body.env,
        working_dir=body.working_dir or None,
        user=body.user or None,
        groups=[_group(str(word)) for word in host.group_add],
        tty=body.tty,
        rows=rows,
        columns=columns,
        open_stdin=body.open_stdin,
        stdin_once=body.stdin_once,
        expose=[_with_protocol(port) for port in body.exposed_ports],
        read_only=host.readonly_rootfs,
        init=host.init,
        mounts=mounts.all_of(body),
        volumes_from=host.volumes_from,
        devices=[_device(each) for each in host.devices],
        cap_add=host.cap_add,
        cap_drop=host.cap_drop,
        privileged=host.privileged,
        no_new_privileges="no-new-privileges" in security,
        seccomp="unconfined" if "seccomp" in security else "default",
        apparmor=security.get("apparmor", ""),
        masked_paths=host.masked_paths,
        readonly_paths=host.readonly_paths,
        ulimits=[_ulimit(limit) for limit in host.ulimits],
        sysctls=host.sysctls,
        cpus=limit if limit % 1 else 0.0,  # of whole ones the machine has no more
        pids=pids(host),
        cpu_shares=host.cpu_shares,
        oom_score_adj=host.oom_score_adj,
        shm_mib=mounts.mib(host.shm_size) or 64,
        pid="" if host.pid_mode == "host" else host.pid_mode,
        ipc="" if host.ipc_mode == "host" else host.ipc_mode,
        scratch_mib=_scratch_mib(host.storage_opt),
        stop_signal=body.stop_signal or None,
        stop_timeout_s=10 if body.stop_timeout is None else body.stop_timeout,
        healthcheck=_healthcheck(body.healthcheck),
        shell=body.shell,
        restart=restart(host.restart_policy or RestartPolicy()),
        labels=body.labels,
        auto_remove=host.auto_remove,
        log="none" if host.log_config.type == "none" else "file",
        log_max_bytes=mounts.size(log["max-size"]) if "max-size" in log else 0,
        log_files=_count(log["max-file"]) if "max-file" in log else 0,
        log_options={key: value for key, value in log.items() if key not in refused.SIZED},
        as_asked=refused.as_asked(host),
    )


def update(sizes: Sizes) -> tuple[ContainerUpdate, list[str]]:
    """What is to be another: docker's zeros leave a thing as it is."""
    warnings = refused.check_sizes(sizes)
    for field, value in ("Ulimits", sizes.ulimits), ("Devices", sizes.devices):
        if value:
            raise InvalidInput(f"cannot update {field}: a container has those that it was created with")
    return ContainerUpdate(
        cpus=cpus(sizes) or None,
        memory_mib=memory_mib(sizes) or None,
        cpu_shares=sizes.cpu_shares or None,
        pids=None if sizes.pids_limit is None or sizes.pids_limit == 0 else pids(sizes),
        restart=restart(sizes.restart_policy) if sizes.restart_policy and sizes.restart_policy.name else None,
        as_asked=refused.as_asked(sizes),
    ), warnings


def _device(said: Device) -> spec.Device:
    if said.cgroup_permissions not in ("", "rwm"):
        raise InvalidInput(
            f"invalid permissions {said.cgroup_permissions[:10]!r} of device {said.path_on_host[:60]}: use rwm: "
            "whoever has one may do all of it"
        )
    inside = said.path_in_container if said.path_in_container != said.path_on_host else ""
    return spec.Device(path=said.path_on_host, target=inside)


def _healthcheck(said: Healthcheck) -> spec.Healthcheck | None:
    if said == Healthcheck():
        return None
    return spec.Healthcheck(
        test=said.test,
        interval_s=said.interval / 1e9,
        timeout_s=said.timeout / 1e9,
        start_period_s=said.start_period / 1e9,
        start_interval_s=said.start_interval / 1e9,
        retries=said.retries,
    )


def size(console: list[int]) -> tuple[int, int]:
    """Rows and columns of a ConsoleSize; 0 of each when nobody says."""
    if console and not (len(console) == 2 and all(0 <= n <= 65535 for n in console)):
        raise InvalidInput(f"invalid ConsoleSize {console[:4]}: use [ROWS, COLUMNS]")
    return (console[0], console[1]) if console else (0, 0)


def words(said: list[str] | str | None) -> list[str] | None:
    """A command line; old clients send a lone word. An empty one is as good as none, but for an entrypoint of [""],
    which takes the image's away."""
    if isinstance(said, str):
        return [said] if said else None
    return [] if said == [""] else said or None


def cpus(sizes: Sizes) -> float:
    """Of NanoCpus, or of CpuQuota and CpuPeriod; 0.0 when nobody asked."""
    if sizes.nano_cpus and (sizes.cpu_quota or sizes.cpu_period):
        other = "Period" if sizes.cpu_period else "Quota"
        raise InvalidInput(f"Conflicting options: Nano CPUs and CPU {other} cannot both be set")
    given = sizes.nano_cpus / 1e9
    if sizes.cpu_quota > 0:
        given = sizes.cpu_quota / (sizes.cpu_period or USUAL_CPU_PERIOD_US)
    if not 0 <= given <= MAX_CPUS:
        raise InvalidInput(f"invalid number of CPUs {given:g}: 0 to {MAX_CPUS}")
    return round(given, 3)


def memory_mib(sizes: Sizes) -> int:
    """0 when nobody asked."""
    if sizes.memory and sizes.memory < MIN_MEMORY:
        raise InvalidInput("Minimum memory limit allowed is 6MB")
    return mounts.mib(sizes.memory)


def pids(sizes: Sizes) -> int:
    """docker's 0 and -1 are no limit."""
    return max(0, sizes.pids_limit or 0)


def _networks(body: ContainerConfig) -> list[EndpointSpec]:
    """The network of NetworkMode, then the others of EndpointsConfig, which may call the first one `default`."""
    mode = spec.NONE if body.network_disabled else body.host_config.network_mode
    if mode == "host":
        raise InvalidInput("cannot set NetworkMode to host: a machine is not on the host's network; publish ports")
    if mode.startswith(spec.CONTAINER):
        return _shared(mode, body)
    first = mode if mode not in USUAL_NETWORKS else spec.DEFAULT
    found = {first: EndpointSpec(network=first)}
    if first != spec.NONE:
        for name, said in body.networking_config.endpoints_config.items():
            place = endpoint(first if name in USUAL_NETWORKS and mode in USUAL_NETWORKS else name, said)
            found[place.network] = place
    if first == spec.DEFAULT:  # elsewhere those of an endpoint are meant, which clients send as well
        found[first] = replace(found[first], links=[*body.host_config.links, *found[first].links])
    if body.mac_address:  # of before 1.44, when there was one network
        found[first] = replace(found[first], mac=body.mac_address.lower())
    return list(found.values())


def _shared(mode: str, body: ContainerConfig) -> list[EndpointSpec]:
    """The network of another container, and whatever is asked for beside that: the engine refuses it."""
    if body.host_config.links:
        raise InvalidInput("conflicting options: container type network can't be used with links")
    said = body.networking_config.endpoints_config
    others = [endpoint(name, place) for name, place in said.items() if (name, place) != (mode, Endpoint())]
    return [EndpointSpec(network=mode, mac=body.mac_address.lower()), *others]


def endpoint(network: str, said: Endpoint) -> EndpointSpec:
    """A container's place in `network`."""
    if said.gw_priority:
        words = f"cannot set GwPriority on network {network[:60]}"
        raise InvalidInput(f"{words}: the first network that leads out has the default route, name it first")
    address = said.ipam_config
    if address.link_local_ips:
        raise InvalidInput(f"cannot set LinkLocalIPs on network {network[:60]}: it is not supported by hyperd")
    return EndpointSpec(
        network=network,
        address=address.ipv4_address,
        address6=address.ipv6_address,
        mac=said.mac_address.lower(),
        aliases=said.aliases,
        links=said.links,
        options=said.driver_opts,
    )


def restart(policy: RestartPolicy) -> spec.RestartPolicy:
    name = policy.name or "no"
    if name not in RESTARTS:
        raise InvalidInput(f"invalid restart policy '{policy.name[:60]}'")
    if policy.maximum_retry_count and name != "on-failure":
        raise InvalidInput(f"maximum retry count cannot be used with restart policy '{name}'")
    return spec.RestartPolicy(name=name, max_retries=policy.maximum_retry_count)  # type: ignore[arg-type]  # one of them


def ports(bindings: Mapping[str, list[PortBinding] | None]) -> list[PortMapping]:
    """What is published."""
    return [_port(inside, one) for inside, outside in bindings.items() for one in outside or [PortBinding()]]


def _with_protocol(port: str) -> str:
    return port if "/" in port else f"{port}/tcp"


def _port(inside: str, binding: PortBinding) -> PortMapping:
    number, _, protocol = _with_protocol(inside).partition("/")
    if protocol not in ("tcp", "udp"):
        raise InvalidInput(f"cannot publish port {inside[:40]!r}: the protocols are tcp and udp")
    found, host = PORT.fullmatch(number), PORT.fullmatch(binding.host_port or "0")
    if not found or found[2] or not host:
        raise InvalidInput(f"invalid port specification: {binding.host_port[:40]!r} for {inside[:40]!r}")
    first, last = int(host[1]), int(host[2] or 0)
    if last and not first < last <= 65535:
        first, last = (first, 0) if first == last else (65536, 0)  # the engine says what is wrong with it
    return PortMapping(
        container_port=int(found[1]),
        host_port=first,
        host_port_last=last,
        host_ip=binding.host_ip.removeprefix("[").removesuffix("]"),
        protocol="udp" if protocol == "udp" else "tcp",
    )


def _extra_host(entry: str) -> tuple[str, str]:
    """ "NAME:ADDRESS", "NAME=ADDRESS"."""
    name, found, address = entry.partition("=" if "=" in entry else ":")
    if not (name and found and address):
        raise InvalidInput(f'bad format for add-host: "{entry[:100]}"')
    return name, address.removeprefix("[").removesuffix("]")


def _security(options: Sequence[str]) -> Mapping[str, str]:
    """What of it matters in a virtual machine."""
    found = {}
    for option in options:
        key, _, value = option.replace(":", "=", 1).partition("=")
        if (key == "no-new-privileges" and value in ("", "true")) or (key, value) == ("seccomp", "unconfined"):
            found[key] = value
        elif key == "apparmor" and value:
            found[key] = apparmor.meant(value)
        elif (key, value) not in (("seccomp", "builtin"), ("no-new-privileges", "false")) and (key != "label"):
            raise InvalidInput(
                f"cannot set SecurityOpt {option[:60]!r}: use no-new-privileges, seccomp=unconfined, apparmor=PROFILE; "
                "the virtual machine confines the container"
            )
    return found


def _group(word: str) -> int | str:
    return int(word) if word.isascii() and word.isdigit() and len(word) < 11 else word


def _ulimit(limit: Ulimit) -> spec.Ulimit:
    return spec.Ulimit(name=limit.name, soft=limit.soft, hard=limit.hard)


def _scratch_mib(options: Mapping[str, str]) -> int:
    for key in options:
        if key != "size":
            raise InvalidInput(f"cannot set StorageOpt's {key[:60]!r}: there is size")
    return mounts.mib(mounts.size(options["size"])) if "size" in options else 0


def _count(word: str) -> int:
    if not (word.isascii() and word.isdigit() and int(word[:9]) > 0):
        raise InvalidInput(f"invalid value for max-file: {word[:40]!r}")
    return int(word[:9])
