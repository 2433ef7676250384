"""Options of a network in docker's words, each of which is done, true anyway, or refused. Pure."""

from collections.abc import Mapping

from hypercontainer.errors import InvalidInput

BRIDGE, MTU = "com.docker.network.bridge.name", "com.docker.network.driver.mtu"
MIN_MTU, MAX_MTU = 1280, 65535  # IPv6 asks for that much
TRUE = ("true", "1")

# What is so in any case: the value that says it, and why there is no other.
FIXED = {
    "com.docker.network.bridge.enable_icc": (TRUE, "pods of one network reach each other"),
    "com.docker.network.bridge.enable_ip_masquerade": (TRUE, "pods reach the world by the host's address"),
    "com.docker.network.bridge.host_binding_ipv4": (("0.0.0.0", ""), "say at which address with each port"),
}


def check(options: Mapping[str, str]) -> None:
    """InvalidInput names the one that cannot be done."""
    for key, value in options.items():
        if key in FIXED:
            usual, why = FIXED[key]
            if value not in usual:
                raise InvalidInput(f"cannot use option {key}={value[:100]}: {why}")
        elif key not in (BRIDGE, MTU):
            raise InvalidInput(f"cannot use option {key[:100]}: use one of {', '.join((BRIDGE, MTU))}")
    mtu(options)


def mtu(options: Mapping[str, str]) -> int:
    """Of its interfaces; 0 when nobody said."""
    text = options.get(MTU, "0")
    value = int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else -1
    if value and not MIN_MTU <= value <= MAX_MTU:
        raise InvalidInput(f"invalid {MTU}={text[:40]}: {MIN_MTU} to {MAX_MTU}")
    return value
