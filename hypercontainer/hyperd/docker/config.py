"""The body of a container's creation, as docker's clients send it. Every key may be missing or null."""

from typing import Any

from hypercontainer.hyperd.docker.call import Body

Set = dict[str, Any]  # of what Go has as map[string]struct{}


class PortBinding(Body, frozen=True, kw_only=True):
    host_ip: str = ""
    host_port: str = ""


class RestartPolicy(Body, frozen=True, kw_only=True):
    name: str = ""
    maximum_retry_count: int = 0


class LogConfig(Body, frozen=True, kw_only=True):
    type: str = ""
    config: dict[str, str] = {}


class Ulimit(Body, frozen=True, kw_only=True):
    name: str = ""
    soft: int = 0
    hard: int = 0


class BindOptions(Body, frozen=True, kw_only=True):
    propagation: str = ""
    non_recursive: bool = False
    create_mountpoint: bool = False
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False


class Driver(Body, frozen=True, kw_only=True):
    name: str = ""
    options: dict[str, str] = {}


class VolumeOptions(Body, frozen=True, kw_only=True):
    no_copy: bool = False
    labels: dict[str, str] = {}
    driver_config: Driver = Driver()
    subpath: str = ""


class TmpfsOptions(Body, frozen=True, kw_only=True):
    size_bytes: int = 0
    mode: int = 0
    options: list[list[str]] = []


class Mount(Body, frozen=True, kw_only=True):
    type: str = ""
    source: str = ""
    target: str = ""
    read_only: bool = False
    consistency: str = ""  # of Docker Desktop's; nothing anywhere else
    bind_options: BindOptions = BindOptions()
    volume_options: VolumeOptions = VolumeOptions()
    tmpfs_options: TmpfsOptions = TmpfsOptions()
    image_options: Set = {}
    cluster_options: Set = {}


class Device(Body, frozen=True, kw_only=True):
    path_on_host: str = ""
    path_in_container: str = ""
    cgroup_permissions: str = ""


class DeviceRequest(Body, frozen=True, kw_only=True):
    driver: str = ""
    capabilities: list[list[str]] = []


class Healthcheck(Body, frozen=True, kw_only=True):
    """In nanoseconds."""

    test: list[str] = []
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class Sizes(Body, frozen=True, kw_only=True):
    """What `update` changes, too."""

    cpu_shares: int = 0
    memory: int = 0  # bytes
    nano_cpus: int = 0
    cgroup_parent: str = ""
    blkio_weight: int = 0
    blkio_weight_device: list[Any] = []
    blkio_device_read_bps: list[Any] = []
    blkio_device_write_bps: list[Any] = []
    blkio_device_read_iops: list[Any] = []
    blkio_device_write_iops: list[Any] = []
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_realtime_period: int = 0
    cpu_realtime_runtime: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    devices: list[Device] = []
    device_cgroup_rules: list[str] = []
    device_requests: list[DeviceRequest] = []
    kernel_memory: int = 0
    kernel_memory_tcp: int = 0
    memory_reservation: int = 0
    memory_swap: int = 0
    memory_swappiness: int = -1
    oom_kill_disable: bool = False
    pids_limit: int | None = None
    ulimits: list[Ulimit] = []
    cpu_count: int = 0
    cpu_percent: int = 0
    io_maximum_iops: int = 0
    io_maximum_bandwidth: int = 0
    restart_policy: RestartPolicy | None = None


class HostConfig(Sizes, frozen=True, kw_only=True):
    binds: list[str] = []
    log_config: LogConfig = LogConfig()
    network_mode: str = ""
    port_bindings: dict[str, list[PortBinding] | None] = {}
    auto_remove: bool = False
    volume_driver: str = ""
    volumes_from: list[str] = []
    annotations: dict[str, str] = {}
    cap_add: list[str] = []
    cap_drop: list[str] = []
    cgroupns_mode: str = ""
    dns: list[str] = []
    dns_options: list[str] = []
    dns_search: list[str] = []
    extra_hosts: list[str] = []
    group_add: list[str | int] = []
    ipc_mode: str = ""
    cgroup: str = ""
    links: list[str] = []
    oom_score_adj: int = 0
    pid_mode: str = ""
    privileged: bool = False
    publish_all_ports: bool = False
    readonly_rootfs: bool = False
    security_opt: list[str] = []
    storage_opt: dict[str, str] = {}
    tmpfs: dict[str, str] = {}
    uts_mode: str = ""
    userns_mode: str = ""
    shm_size: int = 0
    sysctls: dict[str, str] = {}
    runtime: str = ""
    isolation: str = ""
    masked_paths: list[str] | None = None
    readonly_paths: list[str] | None = None
    mounts: list[Mount] = []
    init: bool = False
    console_size: list[int] = []  # rows, columns


class AddressConfig(Body, frozen=True, kw_only=True):
    ipv4_address: str = ""
    ipv6_address: str = ""
    link_local_ips: list[str] = []


class Endpoint(Body, frozen=True, kw_only=True):
    ipam_config: AddressConfig = AddressConfig()
    links: list[str] = []
    aliases: list[str] = []
    mac_address: str = ""
    driver_opts: dict[str, str] = {}
    gw_priority: int = 0


class NetworkingConfig(Body, frozen=True, kw_only=True):
    endpoints_config: dict[str, Endpoint] = {}


class ContainerConfig(Body, frozen=True, kw_only=True):
    """The whole of it. Attach… say what the client will do itself."""

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    exposed_ports: Set = {}
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: list[str] = []
    cmd: list[str] | str | None = None
    healthcheck: Healthcheck = Healthcheck()
    image: str = ""
    volumes: Set = {}
    working_dir: str = ""
    entrypoint: list[str] | str | None = None
    network_disabled: bool = False
    mac_address: str = ""
    on_build: list[str] = []
    labels: dict[str, str] = {}
    stop_signal: str = ""
    stop_timeout: int | None = None
    shell: list[str] = []
    host_config: HostConfig = HostConfig()
    networking_config: NetworkingConfig = NetworkingConfig()
