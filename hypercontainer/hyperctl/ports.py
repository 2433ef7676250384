"""-p, --publish: [[HOST_IP:]HOST_PORT[-END]:]PORT[-END][/tcp|/udp]"""

from __future__ import annotations

MAX_RANGE = 4096

Mapping = dict[str, object]


def parse(word: str) -> list[Mapping]:
    """PortMappings of model/spec.py. A host port that is left out, or 0, is chosen by hyperd; so is one of a range that
    leads to a single port."""
    rest, slash, protocol = word.partition("/")
    if slash and protocol not in ("tcp", "udp"):
        raise ValueError(f"the protocol {protocol!r} is not tcp or udp")
    ip, host, inside = _split(rest)
    first, last = span(inside)
    host_first, host_last = span(host) if host else (0, 0)
    free = not host_first
    if not free and first and first == last and host_last > host_first:
        only: Mapping = {"container_port": first, "host_port": host_first, "host_port_last": host_last}
        return [_complete(only, ip, protocol)]
    if not first or (not free and host_last - host_first != last - first):
        raise ValueError("the ranges of ports differ in length")
    mappings: list[Mapping] = []
    for i in range(last - first + 1):
        mapping: Mapping = {"container_port": first + i}
        if not free:
            mapping["host_port"] = host_first + i
        mappings.append(_complete(mapping, ip, protocol))
    return mappings


def _complete(mapping: Mapping, ip: str, protocol: str) -> Mapping:
    if ip:
        mapping["host_ip"] = ip
    if protocol == "udp":
        mapping["protocol"] = protocol
    return mapping


def _split(text: str) -> tuple[str, str, str]:
    """(host address, host ports, container ports)"""
    ip = ""
    if text.startswith("["):
        ip, bracket, text = text[1:].partition("]:")
        if not bracket:
            raise ValueError("an IPv6 address is written [ADDRESS]:")
        if ":" not in text:
            raise ValueError("a host address needs a container port: [ADDRESS]:HOST_PORT:PORT")
    parts = text.split(":")
    if len(parts) == 1:
        return ip, "", parts[0]
    if len(parts) == 2:
        return ip, parts[0], parts[1]
    if len(parts) == 3 and not ip:
        return address(parts[0]), parts[1], parts[2]
    raise ValueError("use [[HOST_IP:]HOST_PORT:]PORT[/tcp|/udp]; an IPv6 address stands in brackets")


def address(text: str) -> str:
    """`text` if it is an IPv4 address."""
    numbers = text.split(".")
    if len(numbers) != 4 or not all(n.isdecimal() and n.isascii() and int(n[:4]) < 256 for n in numbers):
        raise ValueError(f"{text!r} is not an address")
    return text


def span(text: str) -> tuple[int, int]:
    """80 or 8000-8010"""
    begin, dash, end = text.partition("-")
    first = port(begin)
    last = port(end) if dash else first
    if last < first or last - first >= MAX_RANGE:
        raise ValueError(f"{text!r} is not a range of at most {MAX_RANGE} ports")
    return first, last


def port(text: str) -> int:
    if not (text.isdecimal() and text.isascii()) or len(text) > 5 or int(text) > 65535:
        raise ValueError(f"{text!r} is not a port")
    return int(text)
