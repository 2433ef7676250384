"""What docker's clients may ask for and is not given: refused by name, or a warning where a VM makes it void. Pure."""

from collections.abc import Iterator

from hypercontainer.errors import InvalidInput, NotFound
from hypercontainer.hyperd.docker.config import ContainerConfig, HostConfig, Sizes

BLKIO = "limits of disk traffic are not supported"
# Fields whose values, beside their defaults, are refused: why.
OF_SIZES = {
    "cgroup_parent": "a virtual machine has cgroups of its own: use NanoCpus and Memory",
    "blkio_weight": BLKIO,
    "blkio_weight_device": BLKIO,
    "blkio_device_read_bps": BLKIO,
    "blkio_device_write_bps": BLKIO,
    "blkio_device_read_iops": BLKIO,
    "blkio_device_write_iops": BLKIO,
    "cpu_realtime_period": "a virtual machine has no realtime processors: use NanoCpus",
    "cpu_realtime_runtime": "a virtual machine has no realtime processors: use NanoCpus",
    "cpuset_cpus": "a virtual machine has processors of its own: use NanoCpus",
    "cpuset_mems": "a virtual machine has memory of its own",
    "devices": "a virtual machine has no devices of the host",
    "device_cgroup_rules": "a virtual machine has no devices of the host",
    "kernel_memory": "the kernel in the virtual machine has no limit of its own: use Memory",
    "kernel_memory_tcp": "the kernel in the virtual machine has no limit of its own: use Memory",
    "oom_kill_disable": "the kernel in the virtual machine decides",
    "cpu_count": "it is Windows': use NanoCpus",
    "cpu_percent": "it is Windows': use NanoCpus",
    "io_maximum_iops": BLKIO,
    "io_maximum_bandwidth": BLKIO,
}
OF_HOST = {
    "annotations": "nobody here reads them: use Labels",
    "cgroup": "a virtual machine has cgroups of its own",
    "links": "put the containers on one network, or publish ports",
    "uts_mode": "a virtual machine has a name of its own",
    "masked_paths": "the usual paths are masked: use Privileged for none",
    "readonly_paths": "the usual paths are read-only: use Privileged for none",
}
OF_CONTAINER = {
    "domainname": "write the whole name into Hostname",
    "mac_address": "addresses are given by hyperd",
    "on_build": "it is of images",
}
VOID_SIZES = {
    "memory_reservation": "a virtual machine has all of its memory",
    "memory_swap": "virtual machines have no swap",
}
ONE_OF = {  # fields that take these words, the first of which mean what is true here
    "ipc_mode": (("", "private", "shareable", "none"), "containers of one pod share it"),
    "pid_mode": (("",), "processes are inside the virtual machine"),
    "cgroupns_mode": (("", "private", "host"), "use private or host"),
    "userns_mode": (("", "host"), "the virtual machine keeps its users apart from the host's"),
    "isolation": (("", "default"), "every container here runs in a virtual machine"),
    "volume_driver": (("", "local"), "there is the driver local alone"),
}
SPELT = {"uts": "UTS", "io": "IO", "iops": "IOps", "tcp": "TCP"}
LOG_OPTIONS = ("max-file", "max-size")
LOG_DRIVERS = ("", "json-file", "local", "none")


def name(field: str) -> str:
    """As docker spells it."""
    return "".join(SPELT.get(word, word.capitalize()) for word in field.split("_"))


def check(body: ContainerConfig) -> list[str]:
    """Warnings for what changes nothing. InvalidInput, NotFound: what cannot be had, by its name."""
    host = body.host_config
    _unset(body, OF_CONTAINER)
    _unset(host, OF_HOST)
    for field, (words, why) in ONE_OF.items():
        if getattr(host, field) not in words:
            raise InvalidInput(f"cannot set {name(field)} to {getattr(host, field)[:60]!r}: {why}")
    if host.runtime not in ("", "hyper"):
        raise InvalidInput(f"unknown or invalid runtime name: {host.runtime[:60]}: hyperd has its own alone")
    _check_log(host)
    return check_sizes(host)


def check_sizes(sizes: Sizes) -> list[str]:
    """The same of what `update` takes, too."""
    for request in sizes.device_requests:
        wanted = " ".join(f"[{' '.join(words[:8])[:80]}]" for words in request.capabilities[:8])
        raise InvalidInput(
            f'could not select device driver "{request.driver[:40]}" with capabilities: [{wanted}]: '
            "a virtual machine has no devices of the host"
        )
    _unset(sizes, OF_SIZES)
    swappy = ["MemorySwappiness changes nothing: virtual machines have no swap"] if sizes.memory_swappiness > -1 else []
    return [*_void(sizes, VOID_SIZES), *swappy]


def _unset(body: Sizes | ContainerConfig, fields: dict[str, str]) -> None:
    for field, why in fields.items():
        if getattr(body, field) not in (None, "", 0, False, [], {}):
            raise InvalidInput(f"cannot set {name(field)}: {why}")
        if field in ("masked_paths", "readonly_paths") and getattr(body, field) == []:
            raise InvalidInput(f"cannot set {name(field)} to none: {why}")


def _void(body: Sizes, fields: dict[str, str]) -> Iterator[str]:
    return (f"{name(field)} changes nothing: {why}" for field, why in fields.items() if getattr(body, field))


def _check_log(host: HostConfig) -> None:
    log = host.log_config
    if log.type not in LOG_DRIVERS:
        words = f'error looking up logging plugin {log.type[:60]}: plugin "{log.type[:60]}" not found'
        raise NotFound("plugin", log.type[:60], words)
    for key in log.config:
        if key not in LOG_OPTIONS:
            raise InvalidInput(f"unknown log opt {key[:60]!r}: there are {', '.join(LOG_OPTIONS)}")
