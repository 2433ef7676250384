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
