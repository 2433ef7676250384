"""Ethernet frames, true and forged, as bytes."""

import socket
import struct


def ethernet(payload: bytes, *, source: str, target: str, kind: int = 0x0800) -> bytes:
    return bytes.fromhex(target.replace(":", "") + source.replace(":", "")) + struct.pack("!H", kind) + payload


def udp4(source: str, target: str, number: int, data: bytes, *, source_port: int = 9) -> bytes:
    addresses = socket.inet_aton(source) + socket.inet_aton(target)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 28 + len(data), 0, 0, 64, socket.IPPROTO_UDP, 0) + addresses
    total = sum(struct.unpack("!10H", head))
    check = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return (
        head[:10]
        + struct.pack("!H", check)
        + head[12:]
        + struct.pack("!HHHH", source_port, number, 8 + len(data), 0)
        + data
    )


def arp(kind: int, mac: str, address: str, *, hardware: int = 1, length: int = 6) -> bytes:
    head = struct.pack("!HHBBH", hardware, 0x0800, length, 4, kind)
    return head + packed(mac) + socket.inet_aton(address) + bytes(6) + socket.inet_aton("10.99.0.3")


def packed(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def ip6(source: str, target: str, payload: bytes, *, following: int = socket.IPPROTO_ICMPV6) -> bytes:
    addresses = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, target)
    return struct.pack("!IHBB", 6 << 28, len(payload), following, 255) + addresses + payload


def icmp6(source: str, target: str, payload: bytes, extensions: tuple[int, ...] = ()) -> bytes:
    """With a checksum, behind headers of these kinds: 0 hop-by-hop, 44 a fragment that is the whole, 60 options."""
    addresses = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, target)
    pseudo = addresses + struct.pack("!II", len(payload), socket.IPPROTO_ICMPV6) + payload
    total = sum(struct.unpack(f"!{len(pseudo) // 2}H", pseudo))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    packet, following = payload[:2] + struct.pack("!H", ~total & 0xFFFF) + payload[4:], socket.IPPROTO_ICMPV6
    for kind in reversed(extensions):
        packet = struct.pack("!BB", following, 0) + (bytes(6) if kind == 44 else b"\1\4" + bytes(4)) + packet
        following = kind
    return ip6(source, target, packet, following=following)


def advert(address: str, mac: str) -> bytes:
    """Of a neighbour."""
    target = socket.inet_pton(socket.AF_INET6, address)
    return struct.pack("!BBHI", 136, 0, 0, 0x20000000) + target + b"\x02\x01" + packed(mac)


def solicit(address: str) -> bytes:
    return struct.pack("!BBHI", 135, 0, 0, 0) + socket.inet_pton(socket.AF_INET6, address)


ROUTER = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)


def udp6(source: str, target: str, ports: tuple[int, int]) -> bytes:
    return ip6(source, target, struct.pack("!HHHH", *ports, 8, 0), following=socket.IPPROTO_UDP)
