"""What a pod asks of its network, in Kubernetes' words, and how plugins of CNI are told."""

import re
from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Any

from hypercontainer.errors import InvalidInput
from hypercontainer.model.pod_network import Asked

BURST = (1 << 32) - 1  # bits, as containerd has it: only the rate limits
LEAST, MOST = 1000, 10**15  # bits a second, as the kubelet has it
QUANTITY = re.compile(r"([0-9]{1,18}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})(?:([KMGTPE]i|[munkMGTPE])|[eE]([+-]?[0-9]{1,2}))?")
SUFFIXES = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}


def arguments(asked: Asked) -> dict[str, str]:
    """CNI_ARGS, as the kubelet's runtimes give them. InvalidInput for what would be another argument."""
    said = {
        "IgnoreUnknown": "1",
        "K8S_POD_NAMESPACE": asked.namespace,
        "K8S_POD_NAME": asked.name,
        "K8S_POD_INFRA_CONTAINER_ID": asked.id,
        "K8S_POD_UID": asked.uid,
    }
    for name, value in said.items():
        if ";" in value or "\0" in value:
            raise InvalidInput(f"cannot tell CNI plugins {name}: {value[:60]!r} has a semicolon in it")
    return said


def capabilities(asked: Asked) -> dict[str, Any]:
    """What a plugin gets that asks for it; see CNI's conventions. InvalidInput for a bandwidth that is none."""
    ports = [
        {
            "hostPort": port.host_port,
            "containerPort": port.container_port,
            "protocol": port.protocol.lower(),
            "hostIP": port.host_ip,
        }
        for port in asked.ports
        if port.host_port > 0
    ]
    dns = {"servers": asked.dns.nameservers, "searches": asked.dns.search, "options": asked.dns.options}
    said = {
        "portMappings": ports,
        "bandwidth": bandwidth(asked.annotations),
        "dns": dns if any(dns.values()) else None,
        "ips": asked.ips,
        "mac": asked.mac,
        "io.kubernetes.cri.pod-annotations": asked.annotations,
    }
    return {name: value for name, value in said.items() if value}


def bandwidth(annotations: Mapping[str, str]) -> dict[str, int]:
    """Of kubernetes.io/ingress-bandwidth and egress-bandwidth."""
    found: dict[str, int] = {}
    for way in ("ingress", "egress"):
        if text := annotations.get(name := f"kubernetes.io/{way}-bandwidth"):
            rate = bits(text)
            if rate is None or not LEAST <= rate <= MOST:
                raise InvalidInput(f"invalid annotation {name}: {text[:40]!r} is not between 1k and 1P bits a second")
            found |= {f"{way}Rate": rate, f"{way}Burst": BURST}
    return found


def bits(text: str) -> int | None:
    """A quantity as Kubernetes writes it, "10M", rounded up; None: it is none."""
    match = QUANTITY.fullmatch(text)
    if not match:
        return None
    number, suffix, exponent = match.groups()
    if suffix and suffix.endswith("i"):
        value = Decimal(number) * (1 << 10 * (1 + "KMGTPE".index(suffix[0])))
    else:
        value = Decimal(number).scaleb(int(exponent) if exponent else SUFFIXES[suffix or ""])
    return int(value.to_integral_value(ROUND_CEILING))
