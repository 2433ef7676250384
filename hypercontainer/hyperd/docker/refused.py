"""What docker's clients may ask for and is not given: refused by name, or a warning where a VM makes it void, and then
`inspect` tells it again. Pure."""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from hypercontainer.errors import InvalidInput, NotFound
from hypercontainer.hyperd.docker.config import ContainerConfig, HostConfig, Sizes

BLKIO = "nothing bounds the traffic of a virtual machine's disks"
WINDOWS = "it is Windows': use NanoCpus"
# Fields whose values, beside their defaults, are refused: why.
OF_SIZES = {
    "cpu_realtime_period": "a virtual machine has no realtime processors: use NanoCpus",
    "cpu_realtime_runtime": "a virtual machine has no realtime processors: use NanoCpus",
    "cpu_count": WINDOWS,
    "cpu_percent": WINDOWS,
    "io_maximum_iops": WINDOWS,
    "io_maximum_bandwidth": WINDOWS,
}
OF_HOST = {
    "cgroup": "a virtual machine has cgroups of its own",
}
OF_CONTAINER = {
    "on_build": "it is of images",
}
# Fields whose values, beside their defaults, change nothing, which is a warning: why.
VOID_SIZES = {
    "cgroup_parent": "a virtual machine has cgroups of its own",
    "blkio_weight": BLKIO,
    "blkio_weight_device": BLKIO,
    "blkio_device_read_bps": BLKIO,
    "blkio_device_write_bps": BLKIO,
    "blkio_device_read_iops": BLKIO,
    "blkio_device_write_iops": BLKIO,
    "cpuset_cpus": "a virtual machine has processors of its own, as many as NanoCpus says",
    "cpuset_mems": "a virtual machine has memory of its own",
    "device_cgroup_rules": "a virtual machine has no devices of the host to allow or forbid",
    "kernel_memory": "the kernel in the virtual machine has no limit beside Memory",
    "kernel_memory_tcp": "the kernel in the virtual machine has no limit beside Memory",
    "memory_reservation": "a virtual machine has all of its memory",
    "memory_swap": "virtual machines have no swap",
    "memory_swappiness": "virtual machines have no swap",
    "oom_kill_disable": "the kernel in the virtual machine decides",
}
# What `docker info` says of these, and of what is refused of their kind: in docker's words, where it has some.
LACKING = {
    "memory_swap": "swap limit",
    "memory_swappiness": "memory swappiness",
    "memory_reservation": "memory reservation",
    "kernel_memory": "kernel memory limit",
    "kernel_memory_tcp": "kernel memory TCP limit",
    "oom_kill_disable": "oom kill disable",
    "cpu_realtime_period": "cpu realtime period",
    "cpu_realtime_runtime": "cpu realtime runtime",
    "cpuset_cpus": "cpuset",
    "cpuset_mems": "cpuset",
    "blkio_weight": "blkio weight",
    "blkio_weight_device": "blkio weight_device",
    "blkio_device_read_bps": "blkio throttle.read_bps_device",
    "blkio_device_write_bps": "blkio throttle.write_bps_device",
    "blkio_device_read_iops": "blkio throttle.read_iops_device",
    "blkio_device_write_iops": "blkio throttle.write_iops_device",
    "cgroup_parent": "cgroup parent",
    "device_cgroup_rules": "device cgroup rule",
}
# Fields of namespaces: the word for the host's, which here are the virtual machine's.
VOID_HOST = {
    "cgroupns_mode": "a container has cgroups of its own in its virtual machine",
    "ipc_mode": "a container has memory and queues of its own in its virtual machine",
    "pid_mode": "a container sees its own processes, and those of the host are in no virtual machine",
    "uts_mode": "a virtual machine has a name of its own",
}
# Fields that say nothing which somebody here acts upon, and those that are kept in other words.
KEPT = (
    "devices",
    "volume_driver",
    "annotations",
    "binds",
    "mounts",
    "tmpfs",
    "security_opt",
    "storage_opt",
    "isolation",
    "userns_mode",
)
ONE_OF = {  # fields that take these words
    "cgroupns_mode": (("", "private", "host"), "use private or host"),
    "uts_mode": (("", "host"), "use host"),
    "userns_mode": (("", "host"), "the virtual machine keeps its users apart from the host's"),
    "isolation": (("", "default"), "every container here runs in a virtual machine"),
}
SPELT = {"uts": "UTS", "io": "IO", "iops": "IOps", "tcp": "TCP"}
SIZED = ("max-file", "max-size")  # options of a log that have fields of their own
LOCAL_OPTIONS = (*SIZED, "compress", "mode", "max-buffer-size")
JSON_OPTIONS = (*LOCAL_OPTIONS, "labels", "labels-regex", "env", "env-regex", "tag")
LOG_OPTIONS = {  # by the driver
    "": JSON_OPTIONS,
    "json-file": JSON_OPTIONS,
    "local": LOCAL_OPTIONS,
    "none": (),
}


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
    return [*_void(host, _of_the_host(host)), *check_sizes(host)]


def check_sizes(sizes: Sizes) -> list[str]:
    """The same of what `update` takes, too."""
    for request in sizes.device_requests:
        wanted = " ".join(f"[{' '.join(words[:8])[:80]}]" for words in request.capabilities[:8])
        raise InvalidInput(
            f'could not select device driver "{request.driver[:40]}" with capabilities: [{wanted}]: '
            "a virtual machine has no devices of the host"
        )
    _unset(sizes, OF_SIZES)
    return list(_void(sizes, VOID_SIZES))


def as_asked(body: Sizes) -> dict[str, Any]:
    """What `inspect` is to tell as it came: nothing else here remembers these words."""
    fields = [*VOID_SIZES, *((*_of_the_host(body), *KEPT) if isinstance(body, HostConfig) else ())]
    return {name(field): msgspec.to_builtins(getattr(body, field)) for field in _said(body, fields)}


def _of_the_host(host: HostConfig) -> dict[str, str]:
    """The namespaces that are to be the host's, and are the virtual machine's: why that changes nothing."""
    return {field: why for field, why in VOID_HOST.items() if getattr(host, field) == "host"}


def _said(body: Sizes, fields: Iterable[str]) -> Iterator[str]:
    """Those of `fields` that have another value than one that nobody gave."""
    nothing = type(body)()
    return (field for field in fields if getattr(body, field) != getattr(nothing, field))


def _unset(body: Sizes | ContainerConfig, fields: dict[str, str]) -> None:
    for field, why in fields.items():
        if getattr(body, field) not in (None, "", 0, False, [], {}):
            raise InvalidInput(f"cannot set {name(field)}: {why}")


def _void(body: Sizes, fields: dict[str, str]) -> Iterator[str]:
    return (f"{name(field)} changes nothing: {fields[field]}" for field in _said(body, fields))


def _check_log(host: HostConfig) -> None:
    log = host.log_config
    if log.type not in LOG_OPTIONS:
        words = f'error looking up logging plugin {log.type[:60]}: plugin "{log.type[:60]}" not found'
        raise NotFound("plugin", log.type[:60], words)
    for key in log.config:
        if key not in LOG_OPTIONS[log.type]:
            driver = f"log driver {log.type}" if log.type == "local" else f"{log.type or 'json-file'} log driver"
            raise InvalidInput(f"unknown log opt '{key[:60]}' for {driver}")
