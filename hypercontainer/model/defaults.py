"""What containers have who ask for nothing else, as docker and runc have it."""

from hypercontainer.model.container import Mount

SHM, SHM_MIB = "/dev/shm", 64  # noqa: S108  a container's

# What would tell of, or reach, the kernel below.
MASKED_PATHS = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/cmdline",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
]
READONLY_PATHS = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]

# A user of a container is a user of its machine alone, where a low port is nobody's privilege and a ping no danger, as
# docker has it. The limits of inotify that a kernel chooses follow from its memory: these are a large host's.
SYSCTLS = {
    "net.ipv4.ip_unprivileged_port_start": "0",
    "net.ipv4.ping_group_range": "0 2147483647",
    "fs.inotify.max_user_instances": "1024",
    "fs.inotify.max_user_watches": "1048576",
}

POD_FILES = ("resolv.conf", "hosts", "hostname")  # in /etc, one for all containers of a pod
PLAIN = ["nosuid", "nodev", "noexec"]


def mounts(shm_bytes: int = SHM_MIB << 20, *, privileged: bool = False) -> list[Mount]:
    """The file systems of the kernel's, and the pod's files."""
    kernels = PLAIN if privileged else [*PLAIN, "ro"]
    return [
        Mount(type="proc", destination="/proc", options=PLAIN),
        Mount(type="dev", destination="/dev", options=["nosuid", "strictatime", "mode=755", "size=65536k"]),
        Mount(
            type="devpts",
            destination="/dev/pts",
            options=["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        Mount(type="tmpfs", destination=SHM, options=[*PLAIN, "mode=1777", f"size={shm_bytes}"]),
        Mount(type="mqueue", destination="/dev/mqueue", options=PLAIN),
        Mount(type="sysfs", destination="/sys", options=kernels),
        Mount(type="cgroup", destination="/sys/fs/cgroup", options=kernels),
        *(Mount(type="pod", destination=f"/etc/{name}", source=name) for name in POD_FILES),
    ]
