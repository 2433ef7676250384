"""What older versions left on disk -> what this one reads: a step a version. Pure: JSON in, JSON out. See ADR 20.

A list for each kind of file, from version 1 on: its first step makes version 2. Whoever changes what a kind holds, or
what a default in it means, adds a step, and never changes one. Steps know nothing of our types, which are those of the
newest version.
"""

import base64
from collections.abc import Mapping
from typing import Any

from hypercontainer.lib.document import Step, Steps
from hypercontainer.model import arch, capabilities, seccomp


def within(key: str, step: Step) -> Step:
    """The step of a document that holds at `key` another one, with a version of its own, of which `step` is."""

    def outer(document: Mapping[str, Any]) -> Mapping[str, Any]:
        inner = document[key]
        return {**document, key: {**step(inner), "version": inner["version"] + 1}}

    return outer


def _called(names: Mapping[str, str]) -> Step:
    """The step of a document whose keys have other names from then on."""
    return lambda document: {names.get(key, key): value for key, value in document.items()}


# 2: an image may have a parent; none of those that are there has one.
def _images_2(images: Mapping[str, Any]) -> Mapping[str, Any]:
    return images


# 3: of a name there may be several images, each for another platform.
def _images_3(images: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**images, "names": {name: [image] for name, image in images.get("names", {}).items()}}


# 2: the words of snapshots. Mounts have their path on the host too: "" until hyperd has looked.
_pod_2 = _called({"held": "frozen", "making": "provisional"})


# 3: a pod has any number of interfaces, each with its addresses and routes.
def _pod_3(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    nic = pod["nic"]
    return {**{key: value for key, value in pod.items() if key != "nic"}, "nics": [_nic_3(nic)] if nic else []}


def _nic_3(nic: Mapping[str, Any]) -> Mapping[str, Any]:
    routes = [{"dst": "default", "gateway": gateway} for gateway in (nic["gateway"], nic["gateway6"]) if gateway]
    kept = {key: nic[key] for key in ("tap", "mac", "mtu", "ports") if key in nic}
    return {
        **kept,
        "addresses": [address for address in (nic["address"], nic["address6"]) if address],
        "routes": routes,
    }


def _checkpoint_2(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    return within("pod", _pod_2)(_called({"moment": "snapshot"})(checkpoint))


# 4: what runs in a container is resolved, where it was to be read out of docker's words.

_MASKED = "acpi asound cmdline interrupts kcore keys latency_stats sched_debug scsi timer_list timer_stats"
_MASKED_PATHS = [*(f"/proc/{name}" for name in _MASKED.split()), "/sys/devices/virtual/powercap", "/sys/firmware"]
_READONLY_PATHS = [f"/proc/{name}" for name in ("bus", "fs", "irq", "sys", "sysrq-trigger")]
_PLAIN = ["nosuid", "nodev", "noexec"]


def _pod_4(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**pod, "containers": [_with_config(container) for container in pod.get("containers", [])]}


def _with_config(container: Mapping[str, Any]) -> Mapping[str, Any]:
    spec, words = container["spec"], ("args", "env", "working_dir", "user")
    privileged = spec.get("privileged", False)
    granted = capabilities.resolve(spec.get("cap_add", []), spec.get("cap_drop", []), privileged=privileged)
    confined = spec.get("seccomp", "default") == "default" and not privileged
    process = {
        "args": container["args"],
        "env": container["env"],
        "cwd": container["working_dir"],
        "user": container["user"],
        "terminal": spec.get("tty", False),
        "capabilities": {"bounding": granted, "effective": granted, "permitted": granted},
        "rlimits": [_rlimit(limit) for limit in spec.get("ulimits", [])],
        "no_new_privileges": spec.get("no_new_privileges", False),
        "seccomp": base64.b64encode(seccomp.compile(granted, arch.host().name)).decode() if confined else "",
    }
    config = {
        "process": process,
        "init": spec.get("init", False),
        "hostname": spec.get("hostname", ""),
        "read_only": spec.get("read_only", False),
        "mounts": [*_usual_mounts(spec.get("shm_mib", 64) or 64, privileged), *map(_mount, container["mounts"])],
        "masked_paths": [] if privileged else _MASKED_PATHS,
        "readonly_paths": [] if privileged else _READONLY_PATHS,
        "all_devices": privileged,
        "sysctl": spec.get("sysctls", {}),
        "resources": {
            "memory_bytes": spec.get("memory_mib", 0) << 20,
            "cpu_quota_us": round(spec.get("cpus", 0) * 100_000),
            "pids": spec.get("pids", 0),
        },
    }
    return {**{key: value for key, value in container.items() if key not in words}, "config": config}


def _rlimit(limit: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"type": f"RLIMIT_{limit['name'].upper()}", "soft": limit["soft"], "hard": limit["hard"]}


def _usual_mounts(shm_mib: int, privileged: bool) -> list[Mapping[str, Any]]:
    kernels = _PLAIN if privileged else [*_PLAIN, "ro"]
    pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
    usual = [
        ("proc", "/proc", _PLAIN),
        ("dev", "/dev", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        ("devpts", "/dev/pts", pts),
        ("tmpfs", "/dev/shm", [*_PLAIN, "mode=1777", f"size={shm_mib << 20}"]),  # noqa: S108
        ("mqueue", "/dev/mqueue", _PLAIN),
        ("sysfs", "/sys", kernels),
        ("cgroup", "/sys/fs/cgroup", kernels),
    ]
    return [
        *({"type": kind, "destination": place, "options": options} for kind, place, options in usual),
        *({"type": "pod", "destination": f"/etc/{n}", "source": n} for n in ("resolv.conf", "hosts", "hostname")),
    ]


def _mount(mount: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where the source of a bind is on this host is filled in by whoever reads the record."""
    read_only = ["ro"] if mount["read_only"] else []
    if mount["type"] != "tmpfs":
        return {"type": "bind", "destination": mount["target"], "options": read_only}
    mib, mode = mount.get("size_mib", 0), mount.get("mode", 0o1777)
    size = [f"size={mib << 20}"] if mib else []
    options = [*_PLAIN, f"mode={mode:o}", *size, *mount.get("options", []), *read_only]
    return {"type": "tmpfs", "destination": mount["target"], "options": options}


# 5: root file systems are of kinds. There was one: an image, and what was changed on another disk.
def _pod_5(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**pod, "containers": [_with_rootfs(container) for container in pod.get("containers", [])]}


def _with_rootfs(container: Mapping[str, Any]) -> Mapping[str, Any]:
    kept = {key: value for key, value in container.items() if key not in ("lower", "upper")}
    return {**kept, "rootfs": {"kind": "disk", "disk": container["lower"], "scratch": container["upper"]}}


# 6: a pod is in any number of networks, and an interface says in which.
def _pod_6(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    spec = {key: value for key, value in pod["spec"].items() if key != "network"}
    name = pod["spec"].get("network", "bridge")
    nics = [{**nic, "network": "" if nic.get("netns") else "bridge"} for nic in pod.get("nics", [])]
    return {**pod, "spec": {**spec, "networks": [{"network": name}]}, "nics": nics}


# 7: where output goes is a choice. There was one sink, the log.
def _pod_7(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**pod, "containers": [{**c, "sinks": [{"kind": "log"}]} for c in pod.get("containers", [])]}


# 8: a container can be asked whether it is well. Nobody asked those of before, whatever their image says.
def _pod_8(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    return pod


# 9: network interfaces have the numbers that their guest has them by.
def _pod_9(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**pod, "nics": [{**nic, "number": n} for n, nic in enumerate(pod.get("nics", []))]}


# 10: a container may be in more groups, have a weight, and go first when memory is short. Those of before ask for none.
def _pod_10(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    return pod


# 11: whose volumes it has, whether it publishes what it exposes, how large its log is. Nobody said so before.
def _pod_11(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    return pod


# 12: a root file system may be a disk without a scratch disk, of another type than EROFS, or a folder.
def _pod_12(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    return pod


# 13: what docker's clients asked for and is kept for them alone; more that a place in a network may have.
def _pod_13(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    return pod


# 14: a bind may be a socket. Nobody could have one before.
def _pod_14(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    return pod


# 15: a container may have joined another one's pod, to share its network. None of those of before has.
def _pod_15(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    return pod


# 16: a mount may be a part of a volume. All of those of before are the whole of it.
def _pod_16(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    return pod


# 17: the lines of a log may say something of their container. None of before do.
def _pod_17(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    return pod


# 18: what is hidden in it, who reads its probes, how large its terminal is at first. Nobody said so before.
def _pod_18(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    return pod


# 19: a pod may have links to others in a network. None of those of before has.
def _pod_19(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    return pod


# 20: a container may have namespaces of another one's. Those of before have those that their machine gives; that others
# may have its own was told again, and nothing else.
def _pod_20(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**pod, "containers": [_with_ipc(c) for c in pod.get("containers", [])]}


def _with_ipc(container: Mapping[str, Any]) -> Mapping[str, Any]:
    spec = container["spec"]
    if spec.get("as_asked", {}).get("IpcMode") != "shareable":
        return container
    asked = {key: value for key, value in spec["as_asked"].items() if key != "IpcMode"}
    return {**container, "spec": {**spec, "as_asked": asked, "ipc": "shareable"}}


# 21: a pod may have a domain name, a container devices of its guest. None of before has.
def _pod_21(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    return pod


# 22: a pod may be another engine's, with its bundle and a process that stands for it. All of those of before are ours.
def _pod_22(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    return pod


# 23: a root file system may be of several disks.
def _pod_23(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    return pod


# 24: a pod may be a kubelet's. None of before is.
def _pod_24(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    return pod


# 25: an interface of somebody else's namespace may have a macvtap on it. None of before has.
def _pod_25(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    return pod


# 26: whose groups of the image's files count, who a process began as, which block devices and images a container has.
# Nobody said so before, and none had any.
def _pod_26(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    return pod


# 27: a kubelet's pod may have a user namespace. None of before has.
def _pod_27(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    return pod


# 28: what is mounted below a read-only mount may be written, and be followed. Of those of before it is as the mount is.
def _pod_28(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    return pod


# 29: a pod's machine is of an architecture. Those of before are of this host's.
def _pod_29(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    here = arch.host_name()
    return {**pod, "arch": here, "guest": pod.get("guest") and {**pod["guest"], "arch": here}}


# 30: a profile of AppArmor may confine a container. Nobody could have one before.
def _pod_30(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    return pod


_LATER_PODS = (
    _pod_3, _pod_4, _pod_5, _pod_6, _pod_7, _pod_8, _pod_9, _pod_10, _pod_11, _pod_12, _pod_13, _pod_14, _pod_15,
    _pod_16, _pod_17, _pod_18, _pod_19, _pod_20, _pod_21, _pod_22, _pod_23, _pod_24, _pod_25, _pod_26, _pod_27,
    _pod_28, _pod_29, _pod_30,
)  # fmt: skip


# 2: a volume may be a folder of the host that was named. Those of before are their own.
def _volume_2(volume: Mapping[str, Any]) -> Mapping[str, Any]:
    return volume


# 3: a volume may be a file system of its own.
def _volume_3(volume: Mapping[str, Any]) -> Mapping[str, Any]:
    return volume


# 2: some addresses of a network may be reserved. In those of before none are.
def _network_2(network: Mapping[str, Any]) -> Mapping[str, Any]:
    return network


POD: Steps = (_pod_2, *_LATER_PODS)  # pods/*/pod.json
EXEC: Steps = ()  # pods/*/*/execs/*.json
CHECKPOINT: Steps = (_checkpoint_2, *(within("pod", step) for step in _LATER_PODS))  # checkpoints/*/*/checkpoint.json
NETWORK: Steps = (_network_2,)  # networks/*.json
ATTACHMENT: Steps = ()  # cni/*.json
IMAGES: Steps = (_images_2, _images_3)  # images/index.json
VOLUME: Steps = (_volume_2, _volume_3)  # volumes/*/volume.json
KERNEL: Steps = ()  # kernels/*/bundle.json

# events.db, from version 0 on: that of a file that SQLite has just made.
EVENTS = ("CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, time_ns INTEGER, document TEXT)",)
