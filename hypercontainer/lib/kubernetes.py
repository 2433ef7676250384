"""What engines of Kubernetes say of a container's pod, in its annotations: containerd's CRI plugin, and CRI-O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from hypercontainer.errors import InvalidInput

CONTAINERD = "io.kubernetes.cri."
CRI_O = "io.kubernetes.cri-o."
APPARMOR, LOCALHOST = "container.apparmor.security.beta.kubernetes.io/", "localhost/"
MOST = 1 << 62


class Limits(NamedTuple):
    """What all containers of a pod may use together; 0: nothing is said of it."""

    memory_bytes: int
    cpu_quota_us: int
    cpu_period_us: int


def sandbox(annotations: Mapping[str, str]) -> str:
    """The container that containerd has made first in its pod; "": none, or it is that. CRI-O need not make one."""
    if annotations.get(f"{CONTAINERD}container-type") != "container":
        return ""
    return annotations.get(f"{CONTAINERD}sandbox-id", "")


def is_sandbox(annotations: Mapping[str, str]) -> bool:
    """It is its pod's first container, which only waits."""
    kinds = (f"{CONTAINERD}container-type", f"{CRI_O}ContainerType")
    return any(annotations.get(name) == "sandbox" for name in kinds)


def is_pods(annotations: Mapping[str, str]) -> bool:
    """Whether an engine of Kubernetes made it."""
    return f"{CONTAINERD}container-type" in annotations or is_pinned(annotations)


def is_pinned(annotations: Mapping[str, str]) -> bool:
    """Namespaces of its pod have places of their own on the host, whoever is in them."""
    return f"{CRI_O}SandboxID" in annotations


def confines(annotations: Mapping[str, str]) -> bool:
    """Whether a pod says before there is any container of it that one is to have a profile of AppArmor."""
    return any(name.startswith(APPARMOR) and value.startswith(LOCALHOST) for name, value in annotations.items())


def limits(annotations: Mapping[str, str]) -> Limits:
    """InvalidInput names the annotation that is no number."""
    names = ("memory", "cpu-quota", "cpu-period")
    return Limits(*(_number(annotations, f"{CONTAINERD}sandbox-{name}") for name in names))


def _number(annotations: Mapping[str, str], name: str) -> int:
    text = annotations.get(name, "0")
    try:
        number = int(text[:20])
    except ValueError:
        number = MOST + 1
    if number > MOST:
        raise InvalidInput(f"invalid annotation {name}: {text[:40]!r} is no number of that kind")
    return max(0, number)
