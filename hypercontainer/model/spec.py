"""What was asked for: pods, containers, mounts, ports. Frozen values; unknown keys are refused."""

from typing import Any, Literal

import msgspec

Protocol = Literal["tcp", "udp"]


class Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The ground of every document that callers hand us."""


class PortMapping(Value, frozen=True, kw_only=True):
    """A port of the host that leads to one of the pod. `host_port` 0: the engine picks a free one; with
    `host_port_last`, a free one from `host_port` to that."""

    container_port: int
    host_port: int = 0
    host_port_last: int = 0
    host_ip: str = ""  # "" = every address
    protocol: Protocol = "tcp"


class Mount(Value, frozen=True, kw_only=True):
    """A folder, file or tmpfs inside a container.

    bind: `source` is an absolute host path. volume: `source` is a volume's name ("" = a new anonymous one).
    tmpfs: `size_mib` bounds it (0 = half the guest's memory); `options` as those of docker's --tmpfs.
    """

    type: Literal["bind", "volume", "tmpfs"]
    target: str
    source: str = ""
    read_only: bool = False
    create: bool = False  # bind: make a folder where `source` is missing, as docker's -v does
    no_copy: bool = False  # volume: a new one stays empty, whatever the image has at its place
    subpath: str = ""  # volume: what of it is mounted, a folder or file; "" = all of it
    size_mib: int = 0
    mode: int = 0o1777
    options: list[str] = []


class Ulimit(Value, frozen=True, kw_only=True):
    name: str  # as docker names them: nofile, nproc …
    soft: int
    hard: int


class Device(Value, frozen=True, kw_only=True):
    """A device that every guest has by itself, engine/devices.py."""

    path: str
    target: str = ""  # where the container has it; "" = there


class RestartPolicy(Value, frozen=True, kw_only=True):
    name: Literal["no", "always", "on-failure", "unless-stopped"] = "no"
    max_retries: int = 0  # on-failure only; 0 = without end


class Healthcheck(Value, frozen=True, kw_only=True):
    """How a container is asked whether it is well. `test` is ["CMD", ARG…], ["CMD-SHELL", LINE] or ["NONE"]; [], and
    0 = as the image says, or as docker does: 30 s, 30 s, 0, 5 s, 3."""

    test: list[str] = []
    interval_s: float = 0.0  # from the end of a probe to the next
    timeout_s: float = 0.0  # of a probe
    start_period_s: float = 0.0  # from the start on, in which no failure counts until a probe has succeeded
    start_interval_s: float = 0.0  # in that period, instead of `interval_s`
    retries: int = 0  # failures in a row that make it unhealthy


class InlineFile(Value, frozen=True, kw_only=True):
    """A file put into a container before it starts. `content` is base64."""

    path: str
    content: str
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


class ContainerSpec(Value, frozen=True, kw_only=True):
    """A container, in docker's terms. None = as the image says."""

    image: str
    # OS/ARCHITECTURE[/VARIANT] of the image, of which there may be several; "" = this host's, or else the one there is
    platform: str = ""
    name: str = ""  # "" = the engine invents one
    command: list[str] | None = None
    entrypoint: list[str] | None = None
    env: list[str] = []  # "K=v"; "K" takes the image's away
    working_dir: str | None = None
    user: str | None = None
    groups: list[int | str] = []  # that its processes are in, beside those of their user; names by the image's files
    hostname: str = ""  # "" = the pod's
    tty: bool = False
    rows: int = 0  # of that, when it starts
    columns: int = 0
    open_stdin: bool = False
    stdin_once: bool = False  # its stdin ends with the first client that is attached to it, docker's StdinOnce
    expose: list[str] = []  # "80/tcp": what it listens on, beside what the image says
    read_only: bool = False
    init: bool = False
    mounts: list[Mount] = []
    volumes_from: list[str] = []  # "NAME[:ro]": a container whose volumes and binds it has too, where `mounts` has none
    files: list[InlineFile] = []
    cap_add: list[str] = []
    cap_drop: list[str] = []
    privileged: bool = False
    no_new_privileges: bool = False
    seccomp: Literal["default", "unconfined"] = "default"
    apparmor: str = ""  # name of a profile of this host that confines its processes, too; "": none
    masked_paths: list[str] | None = (
        None  # what nobody in it reads; None = as docker, or nothing where it is privileged
    )
    readonly_paths: list[str] | None = None  # what nobody in it writes; the same
    devices: list[Device] = []
    ulimits: list[Ulimit] = []
    sysctls: dict[str, str] = {}
    cpus: float = 0.0  # a limit inside the guest; 0 = none
    memory_mib: int = 0  # the same
    pids: int = 0
    cpu_shares: int = 0  # its weight beside others of its pod, 1024 being usual; 0 = that
    oom_score_adj: int = 0  # which processes of its machine go first when memory is short, as in Linux
    shm_mib: int = 64
    # Whose processes it sees, and whose memory and queues it has, as docker's modes: "container:NAME" is one in whose
    # virtual machine it is. `ipc` also: "shareable", what others may have so; "private"; "none", without /dev/shm.
    pid: str = ""  # "" = its own
    ipc: str = ""  # "" = private
    scratch_mib: int = 0  # size of the writable layer; 0 = the engine's default
    stop_signal: str | None = None
    stop_timeout_s: int = 10
    healthcheck: Healthcheck | None = None
    shell: list[str] = []  # that reads a probe's CMD-SHELL; [] = as the image says, or /bin/sh -c
    restart: RestartPolicy = RestartPolicy()
    labels: dict[str, str] = {}
    auto_remove: bool = False
    log: Literal["file", "none"] = "file"  # none: what it says reaches those who are attached, and is not kept
    log_max_bytes: int = 0  # of a file of it; 0 = as the settings say
    log_files: int = 0  # the same
    log_options: dict[str, str] = {}  # docker's: what each line says of its container, engine/logoptions.py
    # What a client of docker's asked for, by HostConfig's keys, and is not kept by any field: `inspect` tells it again.
    as_asked: dict[str, Any] = {}


class ContainerUpdate(Value, frozen=True, kw_only=True):
    """What shall be another for a container that exists; None = as it is, 0 = no limit, or the engine's default."""

    cpus: float | None = None
    memory_mib: int | None = None
    cpu_shares: int | None = None
    pids: int | None = None
    restart: RestartPolicy | None = None
    as_asked: dict[str, Any] = {}  # beside what the container has of it


class Commit(Value, frozen=True, kw_only=True):
    """The image that is to be made of a container and what has become of its files."""

    name: str = ""  # "" = none
    config: dict[str, Any] | None = None  # OCI's, of an image: how it starts; None = as the container does
    changes: list[str] = []  # lines of a Dockerfile that change that: CMD, ENV …
    author: str = ""
    message: str = ""
    created_by: str | None = None  # the history's word for it; None = the container's command
    pause: bool = True  # it stands still meanwhile, if it runs


class Build(Value, frozen=True, kw_only=True):
    """The image that is to be made of a Dockerfile and the files of its context."""

    dockerfile: str = "Dockerfile"  # its path in the context
    names: list[str] = []
    args: dict[str, str] = {}
    labels: dict[str, str] = {}
    target: str = ""  # the last stage that is wanted, by name or number; "" = the last one there is
    no_cache: bool = False
    cache_from: list[str] = []  # the images that steps may be found again in, and those they were made of; [] = all
    pull: bool = False  # ask the registries even for images that are here
    platform: str = ""
    network: str = "bridge"  # of the commands that are run
    extra_hosts: dict[str, str] = {}
    memory_mib: int = 0  # of the virtual machines
    shm_mib: int = 64
    ulimits: list[Ulimit] = []


class Dns(Value, frozen=True, kw_only=True):
    nameservers: list[str] = []  # empty = the host's
    search: list[str] = []
    options: list[str] = []


ALWAYS = DEFAULT, NONE = "bridge", "none"  # docker's names of networks that are always there
CONTAINER = "container:"  # before the one whose network, processes or memory is shared


class EndpointSpec(Value, frozen=True, kw_only=True):
    """A pod's place in a network."""

    network: str = DEFAULT  # its name or id; "bridge" is the one of the settings, "none" has no interface
    address: str = ""  # of IPv4 there; "" = one that is free
    address6: str = ""
    mac: str = ""  # of its interface there; "" = one that follows from the address
    aliases: list[str] = []  # other names that the pod has there
    links: list[str] = []  # "CONTAINER:ALIAS": names that it alone has for others there, see engine/links.py
    options: dict[str, str] = {}  # docker's, for the driver, which knows none


ANY = EndpointSpec()  # nothing in particular


class SubnetSpec(Value, frozen=True, kw_only=True):
    """Addresses of a network, of one family."""

    subnet: str  # "10.1.2.0/24"
    gateway: str = ""  # the host's own address in it; "" = the first one
    ip_range: str = ""  # where addresses are chosen from; "" = all of it
    reserved: dict[str, str] = {}  # addresses that no pod gets, by who has them


class NetworkSpec(Value, frozen=True, kw_only=True):
    """A network that is to be made. Where `subnets` leaves out a family it has a free one of the address pools."""

    name: str
    driver: str = "bridge"
    subnets: list[SubnetSpec] = []
    ipv6: bool = False  # with IPv6, also where `subnets` has none of it
    internal: bool = False  # nothing leads out of it
    labels: dict[str, str] = {}
    options: dict[str, str] = {}  # docker's: network/options.py


class PodSpec(Value, frozen=True, kw_only=True):
    """A virtual machine and the containers in it."""

    name: str = ""
    hostname: str = ""
    domainname: str = ""  # behind the hostname, and what the kernel is told
    tenant: str = ""  # whose it is: pods of one may share memory pages (settings: template_scope); "" = nobody's
    factory: Literal["", "cache", "template", "direct"] = ""  # where its VM comes from; "" = as the settings say
    locks: Literal["", "guest", "host"] = ""  # whose locks on shared files are; "" = as the settings say (share_locks)
    vcpus: int = 0  # 0 = the engine's default
    memory_mib: int = 0  # of the virtual machine; 0 = the engine's default
    # an interface in each; the first that leads out gives the default route, and has the ports
    networks: list[EndpointSpec] = msgspec.field(default_factory=lambda: [ANY])
    ports: list[PortMapping] = []
    publish_exposed: bool = False  # each port that a container of it exposes, on one that is free, beside `ports`
    dns: Dns = Dns()
    extra_hosts: dict[str, str] = {}  # name -> address
    share_pid: bool = False
    labels: dict[str, str] = {}
    containers: list[ContainerSpec] = []


class ExecSpec(Value, frozen=True, kw_only=True):
    """One more process in a running container."""

    command: list[str]
    env: list[str] = []
    working_dir: str | None = None
    user: str | None = None
    tty: bool = False
    open_stdin: bool = False
    stdout: bool = True  # its caller hears it
    stderr: bool = True
    privileged: bool = False
    detach: bool = False
    detach_keys: str = ""  # what its client types to leave, for the door that looks for it
    rows: int = 0
    columns: int = 0
