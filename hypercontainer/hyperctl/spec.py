"""The flags of run and create, and the PodSpec (model/spec.py) that they describe, as a plain dict."""

from __future__ import annotations

from hypercontainer.hyperctl import environment, flags, moot, mounts, ports, text, times
from hypercontainer.hyperctl.flags import Args, Flag, UsageError, many, switch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Document = dict[str, Any]

IPC = ("private", "shareable", "none")
RESTART = ("no", "always", "on-failure", "unless-stopped")


def cpus(word: str) -> float:
    try:
        n = float(word)
    except ValueError:
        n = -1.0
    if not 0 < n <= 4096:
        raise ValueError("use a number of processors, such as 1.5")
    return n


def pair(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not (name and equals):
        raise ValueError("use NAME=VALUE")
    return name, value


def ulimit(word: str) -> Document:
    """nofile=1024:2048"""
    name, value = pair(word)
    soft, colon, hard = value.partition(":")
    low = flags.number(soft)
    return {"name": name, "soft": low, "hard": flags.number(hard) if colon else low}


def duration(word: str) -> float:
    """1m30s, in seconds."""
    try:
        return times.duration_s(word)
    except ValueError:
        raise ValueError("use a duration such as 30s, 1m30s or 500ms") from None


def restart(word: str) -> Document:
    """on-failure:3"""
    name, colon, retries = word.partition(":")
    if name not in RESTART or (colon and name != "on-failure"):
        raise ValueError(f"use one of {', '.join(RESTART)}, or on-failure:RETRIES")
    return {"name": name, **({"max_retries": flags.count(retries)} if colon else {})}


def group(word: str) -> int | str:
    return int(word) if word.isdecimal() and len(word) < 11 else word


def oom_score(word: str) -> int:
    value = flags.number(word)
    if not -1000 <= value <= 1000:
        raise ValueError("use a number from -1000 to 1000")
    return value


def pid_mode(word: str) -> str:
    if not (word.startswith("container:") and word[10:]):
        raise ValueError("use container:NAME; the host's processes are in no VM")
    return word


def ipc_mode(word: str) -> str:
    if word not in IPC and not (word.startswith("container:") and word[10:]):
        raise ValueError(f"use {', '.join(IPC)} or container:NAME; the host's memory is in no VM")
    return word


def storage(word: str) -> int:
    name, value = pair(word)
    if name != "size":
        raise ValueError("use size=BYTES, such as size=20g")
    return text.parse_mib(value)


def device(word: str) -> Document:
    """PATH[:TARGET][:rwm]"""
    path, *more = word.split(":")
    access = more.pop() if more and more[-1] and not more[-1].strip("rwm") else "rwm"
    if set(access) != set("rwm"):
        raise ValueError("whoever has a device may do all with it: use rwm")
    if len(more) > 1 or not path.startswith("/") or not all(target.startswith("/") for target in more):
        raise ValueError("use PATH[:TARGET]")
    return {"path": path, **({"target": more[0]} if more and more[0] != path else {})}


def log_option(word: str) -> Document:
    """The field of the ContainerSpec that it is, or one of the options that hyperd knows."""
    name, value = pair(word)
    if name == "max-size":
        return {"log_max_bytes": text.parse_bytes(value)}
    if name == "max-file":
        return {"log_files": flags.count(value)}
    return {"log_options": {name: value}}


def log_options(said: list[Document]) -> Document:
    """All of them; the last of one name counts."""
    document: Document = {}
    for option in said:
        options = document.get("log_options", {}) | option.get("log_options", {})
        document |= {**option, "log_options": options}
    return document


def processors(args: Args) -> float:
    """Of --cpus, or of --cpu-quota and --cpu-period; 0 when nobody asked."""
    quota = args.cpu_quota or 0
    if args.cpus and (quota or args.cpu_period):
        raise UsageError("--cpus and --cpu-quota say the same: give one of them")
    return args.cpus or (cpus(str(round(quota / (args.cpu_period or 100_000), 3))) if quota > 0 else 0.0)


def host(word: str) -> tuple[str, str]:
    """NAME:ADDRESS, NAME=ADDRESS, an IPv6 address with or without brackets."""
    sign = "=" if "=" in word else ":"
    name, found, address = word.partition(sign)
    if not (name and found and address):
        raise ValueError("use NAME:ADDRESS")
    return name, address.removeprefix("[").removesuffix("]")


def network(word: str) -> Document:
    """The EndpointSpec of NAME, or of name=NAME,ip=ADDRESS,ip6=ADDRESS,mac-address=ADDRESS,alias=NAME,…"""
    if "=" not in word:
        return {"network": "bridge" if word == "default" else word}
    document: Document = {}
    for key, found, value in (part.partition("=") for part in word.split(",")):
        if not (found and value) or key not in ENDPOINT:
            raise ValueError(f"{key!r} is not supported: use name=…, and ip=…, ip6=…, mac-address=…, alias=…")
        if key == "alias":
            document.setdefault("aliases", []).append(value)
        elif ENDPOINT[key] in document:
            raise ValueError(f"{key} is there twice")
        else:
            document[ENDPOINT[key]] = value
    if "network" not in document:
        raise ValueError("use name=…")
    return document


ENDPOINT = {"name": "network", "ip": "address", "ip6": "address6", "mac-address": "mac", "alias": "aliases"}


def endpoints(args: Args) -> list[Document]:
    """The networks that were named; what belongs to one of them, by itself, to the first."""
    own = {
        "address": args.ip,
        "address6": args.ip6,
        "mac": args.mac_address,
        "aliases": args.network_alias,
        "links": args.link,
    }
    own = {key: value for key, value in own.items() if value}
    named: list[Document] = [*args.network, *args.net]
    if not own:
        return named
    first, *others = named or [{"network": "bridge"}]
    if own.keys() & first.keys():
        raise UsageError(f"network {first['network']} is given an address or alias twice")
    return [{**first, **own}, *others]


def security(word: str) -> tuple[str, Any]:
    name, _, value = word.replace(":", "=", 1).partition("=")
    if name == "no-new-privileges":
        return "no_new_privileges", flags.boolean(value) if value else True
    if name == "seccomp" and value in ("unconfined", "default"):
        return "seccomp", value
    if name == "seccomp":
        raise ValueError("only the default profile and seccomp=unconfined are supported")
    if name == "apparmor" and value:
        return ("unconfined", word) if value == "unconfined" else (name, value)
    if name == "label" and value:
        return name, word
    raise ValueError(f"{name!r} is not supported: use no-new-privileges, seccomp=unconfined or apparmor=PROFILE")


FACTORIES = ("cache", "template", "direct")


LOCKS = ("guest", "host")


def locks(word: str) -> str:
    if word not in LOCKS:
        raise ValueError("use guest or host")
    return word


def factory(word: str) -> str:
    if word not in FACTORIES:
        raise ValueError(f"use one of {', '.join(FACTORIES)}")
    return word


LOG_DRIVERS = {"json-file": "file", "local": "file", "none": "none"}


def log_driver(word: str) -> str:
    if word not in LOG_DRIVERS:
        raise ValueError("use json-file or none: there are no other drivers")
    return LOG_DRIVERS[word]


POD_FLAGS = (
    many("publish", "Publish ports: [[HOST_IP:]HOST_PORT:]PORT[/udp], also ranges", "p", parse=ports.parse),
    switch("publish-all", "Publish all ports that the image exposes", "P"),
    many("expose", "It listens there: PORT[/udp]", metavar="port"),
    Flag("tenant", "Whose it is: VMs of one tenant may share memory pages", metavar="name"),
    Flag("factory", "Where its VM comes from: cache, template, direct", usual="cache", parse=factory, words=FACTORIES),
    Flag("locks", "Locks on shared files: guest, host (with others)", usual="guest", parse=locks, words=LOCKS),
    many(
        "network",
        "Join this network, none, or that of container:NAME; may be given again",
        metavar="name",
        usual="bridge",
        parse=network,
        words="networks",
    ),
    many("net", "The same as --network", metavar="name", parse=network, words="networks"),
    Flag("ip", "Its address in the first network", metavar="address", usual="a free one"),
    Flag("ip6", "The same, of IPv6", metavar="address", usual="a free one"),
    Flag("mac-address", "That of its interface there", metavar="address", usual="one that follows from the address"),
    many("network-alias", "Another name that it has in the first network", metavar="name"),
    many("link", "CONTAINER:ALIAS: another name of that one, for this container alone", metavar="link"),
    many("dns", "Name server", metavar="address", usual="the host's"),
    many("dns-search", "Domain to search", metavar="domain", usual="the host's"),
    many("dns-option", "Option of the resolver", metavar="option", usual="the host's"),
    many("add-host", "NAME:ADDRESS in /etc/hosts; the address host-gateway is the host's", parse=host),
)
FLAGS = (
    Flag("name", "Name of the container, and of its pod", usual="one is invented"),
    *environment.FLAGS,
    Flag("workdir", "Working directory inside the container", short="w", metavar="path", usual="the image's, or /"),
    Flag("user", "Name or uid, and group: NAME|UID[:GROUP|GID]", short="u", usual="the image's, or root"),
    many("group-add", "Name or number of another group that it is in", metavar="group", parse=group),
    Flag("entrypoint", "Instead of the image's; '' for none", metavar="command"),
    many("volume", "Mount [SOURCE:]TARGET[:ro], SOURCE a host path or a volume", "v", parse=mounts.volume),
    many("volumes-from", "Mount what this container does: NAME[:ro]", metavar="name", words="containers"),
    many("mount", "Mount type=bind|volume|tmpfs,source=…,target=…[,readonly]", parse=mounts.long),
    many("tmpfs", "Mount a tmpfs: TARGET[:size=64m,mode=1777]", parse=mounts.tmpfs),
    *POD_FLAGS,
    Flag(
        "cpus",
        "Processors of the VM, rounded up; with --pod: a limit inside",
        metavar="number",
        usual="1; the host's, 8 at most, with KVM",
        parse=cpus,
    ),
    Flag(
        "memory",
        "Memory of the VM, such as 512m; with --pod: a limit inside",
        short="m",
        usual="2g, or a quarter of the host's",
        parse=text.parse_mib,
    ),
    Flag("hostname", "Name of the host inside", short="h", usual="the container's id"),
    Flag("domainname", "Domain behind the name of the host", usual="none", metavar="name"),
    switch("read-only", "The root file system cannot be written"),
    many("label", "NAME=VALUE", "l"),
    many("label-file", "Read labels from a file, one a line", metavar="path"),
    many("cap-add", "Add a capability inside the VM", metavar="name"),
    many("cap-drop", "Drop a capability inside the VM", metavar="name"),
    many("device", "PATH[:TARGET] of one that every VM has: /dev/fuse, /dev/kmsg", metavar="path", parse=device),
    switch("privileged", "All capabilities inside the VM; none outside"),
    many("ulimit", "NAME=SOFT[:HARD]", parse=ulimit),
    many("sysctl", "NAME=VALUE, of the VM's kernel", parse=pair),
    switch("init", "Run a process as PID 1 that reaps children and hands on signals"),
    Flag("stop-signal", "Signal that stop sends", metavar="signal", usual="the image's, or SIGTERM"),
    Flag("stop-timeout", "Seconds that stop waits before it kills", metavar="int", usual="10", parse=flags.count),
    Flag("health-cmd", "Command that tells whether it is well", metavar="string", usual="the image's"),
    Flag("health-interval", "Time between two probes", metavar="duration", usual="30s", parse=duration),
    Flag("health-timeout", "Time that a probe may take", metavar="duration", usual="30s", parse=duration),
    Flag("health-retries", "Failures in a row that make it unhealthy", metavar="int", usual="3", parse=flags.count),
    Flag(
        "health-start-period",
        "Time from its start in which no failure counts",
        metavar="duration",
        usual="0s",
        parse=duration,
    ),
    Flag("health-start-interval", "Time between two probes in that", metavar="duration", usual="5s", parse=duration),
    switch("no-healthcheck", "Do not ask what the image says"),
    Flag(
        "restart",
        "no, always, on-failure[:N], unless-stopped",
        metavar="policy",
        usual="no",
        parse=restart,
        words=RESTART,
    ),
    Flag(
        "pid",
        "container:NAME: be among the processes of that one, in its VM",
        metavar="mode",
        usual="its own",
        parse=pid_mode,
    ),
    Flag(
        "ipc",
        "Whose memory and queues it has: private, shareable, none, or those of container:NAME",
        metavar="mode",
        usual="private",
        parse=ipc_mode,
        words=IPC,
    ),
    Flag("shm-size", "Size of /dev/shm", metavar="bytes", usual="64m", parse=text.parse_mib),
    many("security-opt", "no-new-privileges, seccomp=unconfined, apparmor=PROFILE", parse=security),
    Flag("pids-limit", "Most processes inside", metavar="int", usual="no limit", parse=flags.number),
    Flag(
        "cpu-shares",
        "Its weight among the containers of a pod",
        short="c",
        metavar="int",
        usual="1024",
        parse=flags.count,
    ),
    Flag(
        "cpu-quota",
        "Microseconds in each --cpu-period: another way to say --cpus",
        metavar="int",
        usual="no limit",
        parse=flags.number,
    ),
    Flag("cpu-period", "Microseconds", metavar="int", usual="100000", parse=flags.count),
    Flag(
        "oom-score-adj",
        "Rather spare it, or kill it, for want of memory: -1000 to 1000",
        metavar="int",
        usual="0",
        parse=oom_score,
    ),
    many("storage-opt", "size=20g: the same as --storage-size", metavar="option", parse=storage),
    Flag("storage-size", "Size of the writable layer, such as 20g", metavar="bytes", usual="10g", parse=text.parse_mib),
    Flag(
        "log-driver",
        "json-file, or none: its output is not kept",
        metavar="driver",
        usual="json-file",
        parse=log_driver,
        words=tuple(LOG_DRIVERS),
    ),
    many(
        "log-opt",
        "max-size=10m, max-file=3; labels=, env=, tag= (logs --details)",
        metavar="option",
        parse=log_option,
    ),
    Flag("pod", "Put it into this pod instead of a VM of its own", metavar="pod", words="pods"),
    switch("interactive", "Keep stdin open", "i"),
    switch("tty", "Give it a terminal", "t"),
    *moot.FLAGS,
)

BLKIO = "disk traffic is not limited"
REFUSED = {
    "gpus": "a VM has no devices of the host",
    "uts": "containers of one pod share it",
    "runtime": "every container here runs in a VM",
    "cgroup-parent": "the VM has its own cgroups; use --cpus and --memory",
    "cpuset-cpus": "use --cpus",
    "cpuset-mems": "a VM's memory is one",
    "cpu-rt-period": "a VM has no realtime processors; use --cpus",
    "cpu-rt-runtime": "a VM has no realtime processors; use --cpus",
    "blkio-weight": BLKIO,
    "blkio-weight-device": BLKIO,
    "device-read-bps": BLKIO,
    "device-write-bps": BLKIO,
    "device-read-iops": BLKIO,
    "device-write-iops": BLKIO,
    "device-cgroup-rule": "a VM has no devices of the host",
    "kernel-memory": "the VM's kernel has no limit of its own; use --memory",
    "oom-kill-disable": "the guest's kernel decides",
    "volume-driver": "there is the driver local alone",
    "annotation": "nobody here reads them; use --label",
    "link-local-ip": "addresses are given by hyperd",
}


HEALTH = {
    "interval_s": "health_interval",
    "timeout_s": "health_timeout",
    "start_period_s": "health_start_period",
    "start_interval_s": "health_start_interval",
    "retries": "health_retries",
}


def healthcheck(args: Args) -> Document:
    """The Healthcheck; what was not given is left out."""
    document: Document = {name: args.values[flag] for name, flag in HEALTH.items() if args.values[flag]}
    if args.health_cmd:
        document["test"] = ["CMD-SHELL", args.health_cmd]
    if args.no_healthcheck:
        if document:
            raise UsageError("--no-healthcheck conflicts with --health-* options")
        document["test"] = ["NONE"]
    return document


def container(args: Args, environ: dict[str, str]) -> Document:
    """The ContainerSpec; what was not given is left out."""
    image, command = args.operands[0], args.operands[1:]
    document: Document = {
        "image": image,
        "platform": args.platform,
        "name": args.name,
        "env": environment.collect(args.env_file, args.env, environ),
        "working_dir": args.workdir,
        "user": args.user,
        "tty": args.tty,
        "open_stdin": args.interactive,
        "read_only": args.read_only,
        "init": args.init,
        "groups": args.group_add,
        "expose": args.expose,
        "mounts": [*args.volume, *args.mount, *args.tmpfs],
        "volumes_from": args.volumes_from,
        "devices": args.device,
        "cap_add": args.cap_add,
        "cap_drop": args.cap_drop,
        "privileged": args.privileged,
        **{name: value for name, value in args.security_opt if name not in moot.SECURITY},
        "ulimits": args.ulimit,
        "sysctls": dict(args.sysctl),
        "pids": max(0, args.pids_limit or 0),
        "shm_mib": args.shm_size,
        "pid": args.pid,
        "ipc": args.ipc,
        "cpu_shares": args.cpu_shares,
        "oom_score_adj": args.oom_score_adj,
        "scratch_mib": args.storage_size or (args.storage_opt[-1] if args.storage_opt else 0),
        **log_options(args.log_opt),
        "stop_signal": args.stop_signal,
        "healthcheck": healthcheck(args),
        "restart": args.restart,
        "labels": environment.labels(args.label_file, args.label),
        "log": args.log_driver,
        "auto_remove": args.rm if "rm" in args.values else False,
    }
    document = {key: value for key, value in document.items() if value}
    if command:
        document["command"] = command
    if "stop_timeout" in args.given:
        document["stop_timeout_s"] = args.stop_timeout
    if "entrypoint" in args.given:
        document["entrypoint"] = [args.entrypoint] if args.entrypoint else []
        document.setdefault("command", [])  # the image's was for the image's entrypoint
    if document.get("auto_remove") and document.get("restart", {}).get("name", "no") != "no":
        raise UsageError("--rm and --restart exclude each other")
    return document


def pod(args: Args, environ: dict[str, str]) -> Document:
    """The PodSpec of an implicit pod."""
    dns = {"nameservers": args.dns, "search": args.dns_search, "options": args.dns_option}
    document: Document = {
        "name": args.name,
        "hostname": args.hostname,
        "domainname": args.domainname,
        "tenant": args.tenant,
        "factory": args.factory,
        "locks": args.locks,
        "vcpus": -int(-processors(args) // 1),
        "memory_mib": args.memory,
        "networks": endpoints(args),
        "ports": [mapping for group in args.publish for mapping in group],
        "publish_exposed": args.publish_all,
        "dns": {key: value for key, value in dns.items() if value},
        "extra_hosts": dict(args.add_host),
    }
    if document["networks"] == [{"network": "none"}] and document["ports"]:
        raise UsageError("--network none publishes no ports: leave out -p")
    return {**{key: value for key, value in document.items() if value}, "containers": [container(args, environ)]}


def member(args: Args, environ: dict[str, str]) -> Document:
    """The ContainerSpec of a container in a pod that exists."""
    for flag in POD_FLAGS:
        if flag.name.replace("-", "_") in args.given:
            raise UsageError(f"--{flag.name} belongs to the whole pod: say it in the pod's file")
    limits = {"hostname": args.hostname, "cpus": processors(args), "memory_mib": args.memory}
    return {**container(args, environ), **{key: value for key, value in limits.items() if value}}
