"""Connections that the kernel remembers: datagrams go on along the way that the first of them took.

So when a UDP port begins or ends to lead to a pod, what is remembered of it must go, or a client that keeps sending
is led to where the port led before. (TCP clients connect anew, and are led anew.) Spoken over netlink, because the
`conntrack` command is rarely installed.
"""

import errno
import socket
import struct
from collections.abc import Iterator, Sequence

from hypercontainer.model.record import PortRecord

NETLINK_NETFILTER = 12
CT_GET, CT_DELETE = 0x0101, 0x0102  # NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_…
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLA_F_NESTED, NLA_TYPE_MASK = 0x8000, 0x3FFF
CTA_TUPLE_ORIG, CTA_FILTER = 1, 25
CTA_TUPLE_PROTO = 2
CTA_PROTO_NUM, CTA_PROTO_DST_PORT = 1, 3
CTA_FILTER_ORIG_FLAGS = 1
FILTER_PROTO_NUM = 1 << 3
TIMEOUT_S = 5.0
RECEIVE = 1 << 17

Attribute = tuple[int, bytes]


def forget(ports: Sequence[PortRecord]) -> None:
    """Forget every UDP flow to the host side of `ports`. Best effort: what stays ends by itself within minutes."""
    numbers = {port.host_port for port in ports if port.protocol == "udp"}
    if not numbers:
        return
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER) as s:
        s.settimeout(TIMEOUT_S)
        try:
            for family in (socket.AF_INET, socket.AF_INET6):
                for original in [t for t in _udp(s, family) if _destination_port(t) in numbers]:
                    _delete(s, family, original)
        except OSError as e:
            if e.errno not in (errno.EINVAL, errno.EOPNOTSUPP, None):  # a kernel without it; None: it took too long
                raise


def _udp(s: socket.socket, family: int) -> Iterator[bytes]:
    """The original direction of each UDP flow, as the kernel words it."""
    protocol = _nested(CTA_TUPLE_ORIG, _nested(CTA_TUPLE_PROTO, _attribute(CTA_PROTO_NUM, bytes([socket.IPPROTO_UDP]))))
    only = _nested(CTA_FILTER, _attribute(CTA_FILTER_ORIG_FLAGS, struct.pack("=I", FILTER_PROTO_NUM)))
    _send(s, CT_GET, NLM_F_DUMP, family, protocol + only)
    while True:
        for kind, body in _messages(s.recv(RECEIVE)):
            if kind == NLMSG_DONE:
                return
            if kind == NLMSG_ERROR:
                _raise(body)
            yield from (value for name, value in _attributes(body[4:]) if name == CTA_TUPLE_ORIG)


def _destination_port(original: bytes) -> int:
    """0 for what is not UDP: kernels before 5.8 do not filter."""
    protocol = dict(_attributes(dict(_attributes(original)).get(CTA_TUPLE_PROTO, b"")))
    if protocol.get(CTA_PROTO_NUM) != bytes([socket.IPPROTO_UDP]):
        return 0
    return int.from_bytes(protocol.get(CTA_PROTO_DST_PORT, b""), "big")


def _delete(s: socket.socket, family: int, original: bytes) -> None:
    _send(s, CT_DELETE, NLM_F_ACK, family, _nested(CTA_TUPLE_ORIG, original))
    for kind, body in _messages(s.recv(RECEIVE)):
        if kind == NLMSG_ERROR:
            try:
                _raise(body)
            except FileNotFoundError:
                pass  # it ended by itself


def _send(s: socket.socket, kind: int, flags: int, family: int, attributes: bytes) -> None:
    body = struct.pack("=BBH", family, 0, 0) + attributes
    s.send(struct.pack("=IHHII", 16 + len(body), kind, flags | NLM_F_REQUEST, 0, 0) + body)


def _messages(data: bytes) -> Iterator[Attribute]:
    while len(data) >= 16:
        length, kind = struct.unpack_from("=IH", data)
        yield kind, data[16:length]
        data = data[(max(length, 16) + 3) & ~3 :]


def _attributes(data: bytes) -> Iterator[Attribute]:
    while len(data) >= 4:
        length, name = struct.unpack_from("=HH", data)
        yield name & NLA_TYPE_MASK, data[4:length]
        data = data[(max(length, 4) + 3) & ~3 :]


def _attribute(name: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), name) + value + bytes(-len(value) % 4)


def _nested(name: int, value: bytes) -> bytes:
    return _attribute(name | NLA_F_NESTED, value)


def _raise(error: bytes) -> None:
    if number := -struct.unpack_from("=i", error)[0]:
        raise OSError(number, "conntrack")
