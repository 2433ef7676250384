"""What an engine is told that we can do with bundles, in the words of OCI's features structure."""

from __future__ import annotations

from typing import Any

from hypercontainer.lib import libseccomp
from hypercontainer.model import capabilities

# What a machine takes of the host beside its guest's memory, MiB, emulated: `python -m bench`, bench/targets.md
OVERHEAD_MIB = 40
MOUNT_OPTIONS = (
    "atime bind dev diratime exec noatime nodev nodiratime noexec nosuid nosymfollow private rbind relatime rnoatime "
    "rnodev rnodiratime rnoexec rnosuid ro rprivate rro rslave rw slave strictatime suid symfollow"
)


def features() -> dict[str, Any]:
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.3.0",
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": MOUNT_OPTIONS.split(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": list(capabilities.ALL),
            "cgroup": {"v1": True, "v2": True, "systemd": True, "systemdUser": False, "rdma": False},
            "seccomp": {
                "enabled": True,
                "actions": list(libseccomp.ACTIONS),
                "operators": list(libseccomp.COMPARISONS),
            },
            "apparmor": {"enabled": True},
            "selinux": {"enabled": False},
            "intelRdt": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": True}},
        },
        "annotations": {
            "org.opencontainers.runc.checkpoint.enabled": "true",
            "hypercontainer.machine.overhead_mib": str(OVERHEAD_MIB),
        },
    }
