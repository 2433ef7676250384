"""Ports of the host: whether one is free, and keeping it ours while a pod publishes it."""

import errno
import ipaddress
import os
import socket
from collections.abc import Iterator, Mapping, Sequence

from hypercontainer.errors import Exhausted, HyperError, InUse, InvalidInput
from hypercontainer.model.record import NicRecord, PortRecord
from hypercontainer.model.spec import PortMapping
from hypercontainer.network.rules import families

MAX_PORTS = 2048  # of one pod: each takes a rule and one or two descriptors
CHOSEN = range(32768, 61000)  # where "any free port" is looked for, as docker does


Key = tuple[str, int, str]


def _key(port: PortRecord) -> Key:
    return port.host_ip, port.host_port, port.protocol


class PortGuard:
    """Holds a bound socket for each published port: no other process can take it, and we see at once if one has.

    The sockets answer nothing: what arrives is led to the pod by nftables before it could reach them. They are lost
    with this process and taken again by `hold` when it comes back.
    """

    def __init__(self) -> None:
        self._held: dict[str, dict[Key, list[socket.socket]]] = {}

    def hold(self, tap: str, ports: Sequence[PortRecord]) -> None:
        """Bind the `ports` of pod `tap`, all or none; one that is held already is fine.

        Raises InUse naming the port and who has it."""
        held, new = self._held.get(tap, {}), dict[Key, list[socket.socket]]()
        try:
            for port in ports:
                if _key(port) not in held and _key(port) not in new:
                    new[_key(port)] = bind(port)
        except BaseException:
            _close(*new.values())
            raise
        self._held[tap] = held | new

    def release(self, tap: str, ports: Sequence[PortRecord] | None = None) -> None:
        """Let go of `ports`, or of all that pod `tap` has."""
        held = self._held.get(tap, {})
        for key in list(held) if ports is None else map(_key, ports):
            _close(held.pop(key, []))
        if not held:
            self._held.pop(tap, None)

    def close(self) -> None:
        for tap in list(self._held):
            self.release(tap)


def assign(
    ports: Sequence[PortMapping],
    used: Sequence[NicRecord],
    owners: Mapping[str, str] | None = None,
    led: Sequence[tuple[PortRecord, str]] = (),
) -> list[PortRecord]:
    """Decide on the host port of each mapping. Every one is free: by `used`, by what is `led` somewhere else, and by
    binding it. `owners`: whose a tap is, in words; `led`: ports, and where each leads.

    Raises InUse that names the port and, where it can be found, who has it; InvalidInput; Exhausted.
    """
    if len(ports) > MAX_PORTS:
        raise InvalidInput(f"cannot publish {len(ports)} ports: {MAX_PORTS} are the most that a pod may have")
    taken = [(port, (owners or {}).get(nic.tap, f"interface {nic.tap}")) for nic in used for port in nic.ports]
    taken += led
    sockets: list[socket.socket] = []
    records: list[PortRecord] = []
    try:
        for mapping in sorted(ports, key=_choice):
            record, bound = _assign(mapping, taken)
            sockets += bound
            taken.append((record, ""))
            records.append(record)
    finally:
        _close(sockets)
    return records


def _choice(mapping: PortMapping) -> int:
    """Those that have the least to choose from come first: given ports, then ranges."""
    return 2 if not mapping.host_port else int(mapping.host_port_last > 0)


Taken = list[tuple[PortRecord, str]]


def _assign(mapping: PortMapping, taken: Taken) -> tuple[PortRecord, list[socket.socket]]:
    _check(mapping)
    if mapping.host_port and not mapping.host_port_last:
        record = _record(mapping, mapping.host_port)
        for other, owner in taken:
            if _overlap(record, other):
                who = f"{owner} publishes it" if owner else "it is asked for twice"
                raise InUse(
                    f"cannot publish port {name(record)}: {who}", "port", name(record), [owner] if owner else []
                )
        return record, bind(record)
    for number in range(mapping.host_port, mapping.host_port_last + 1) if mapping.host_port else CHOSEN:
        record = _record(mapping, number)
        if not any(_overlap(record, other) for other, _ in taken):
            try:
                return record, bind(record, look=False)
            except InUse:
                continue
    where = f"none of {mapping.host_port} to {mapping.host_port_last}" if mapping.host_port else "no port of this host"
    raise Exhausted(f"cannot publish port {mapping.container_port}/{mapping.protocol}: {where} is free")


def _record(mapping: PortMapping, host_port: int) -> PortRecord:
    return PortRecord(
        host_ip=mapping.host_ip,
        host_port=host_port,
        container_port=mapping.container_port,
        protocol=mapping.protocol,
    )


def _check(mapping: PortMapping) -> None:
    if not 1 <= mapping.container_port <= 65535 or not 0 <= mapping.host_port <= 65535:
        raise InvalidInput(f"cannot publish {mapping.host_port}:{mapping.container_port}: ports are 1 to 65535")
    if mapping.host_port_last and not 1 <= mapping.host_port <= mapping.host_port_last <= 65535:
        span = f"{mapping.host_port}-{mapping.host_port_last}"
        raise InvalidInput(f"cannot publish {span}:{mapping.container_port}: it is no range of ports")
    try:
        if mapping.host_ip and ipaddress.ip_address(mapping.host_ip).is_multicast:
            raise ValueError("a multicast address")
    except ValueError as e:
        raise InvalidInput(f"cannot publish a port at {mapping.host_ip!r}: it is no address of a host") from e


def _overlap(a: PortRecord, b: PortRecord) -> bool:
    if (a.protocol, a.host_port) != (b.protocol, b.host_port) or not set(families(a.host_ip)) & set(
        families(b.host_ip)
    ):
        return False
    one, other = (ipaddress.ip_address(x.host_ip or "0.0.0.0") for x in (a, b))
    return one == other or one.is_unspecified or other.is_unspecified


def name(port: PortRecord) -> str:
    host = f"[{port.host_ip}]" if ":" in port.host_ip else port.host_ip
    return f"{host}:{port.host_port}/{port.protocol}".lstrip(":")


def bind(port: PortRecord, *, look: bool = True) -> list[socket.socket]:
    """Sockets that hold `port`, one a family. `look` for who has it when it is not free; that takes a while."""
    sockets: list[socket.socket] = []
    try:
        for family in families(port.host_ip):
            sockets += _bind(port, socket.AF_INET if family == "4" else socket.AF_INET6)
    except OSError as e:
        _close(sockets)
        raise _refused(port, e, look) from e
    return sockets


def _bind(port: PortRecord, family: socket.AddressFamily) -> list[socket.socket]:
    kind = socket.SOCK_STREAM if port.protocol == "tcp" else socket.SOCK_DGRAM
    address = (port.host_ip or ("0.0.0.0" if family == socket.AF_INET else "::"), port.host_port)
    try:
        s = socket.socket(family, kind | socket.SOCK_CLOEXEC)
    except OSError as e:
        if e.errno == errno.EAFNOSUPPORT and not port.host_ip:
            return []  # a host without IPv6
        raise
    try:
        if family == socket.AF_INET6:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            s.bind(address)
        except OSError as e:
            if e.errno == errno.EADDRNOTAVAIL and family == socket.AF_INET6 and not port.host_ip:
                s.close()
                return []  # IPv6 is switched off
            if e.errno != errno.EADDRINUSE or kind != socket.SOCK_STREAM:
                raise
            _bind_over_ended(s, address)
    except BaseException:
        s.close()
        raise
    return [s]


def _bind_over_ended(s: socket.socket, address: tuple[str, int]) -> None:
    """Bind a port where only connections that have ended (TIME_WAIT) linger: with SO_REUSEADDR that is allowed, but
    so is much else. Listening for a moment is what tells; afterwards nobody else may listen, and nothing is accepted.
    """
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(address)
    s.listen(1)
    s.shutdown(socket.SHUT_RDWR)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)


def _refused(port: PortRecord, e: OSError, look: bool) -> HyperError:
    if e.errno == errno.EADDRINUSE:
        who = (holder(port) if look else "") or "another process has it"
        return InUse(f"cannot publish port {name(port)}: {who}", "port", name(port))
    if e.errno == errno.EADDRNOTAVAIL:
        return InvalidInput(f"cannot publish port {name(port)}: this host has no address {port.host_ip}")
    return HyperError(f"cannot publish port {name(port)}: {e.strerror}")


def holder(port: PortRecord) -> str:
    """Who has the port, in words, "" if that is hidden from us: nginx (process 4711) has it."""
    inodes = {f"socket:[{inode}]" for inode in _inodes(port)}
    for pid in filter(str.isdigit, os.listdir("/proc") if inodes else []):
        try:
            with os.scandir(f"/proc/{pid}/fd") as fds:
                if any(os.readlink(fd.path) in inodes for fd in fds):
                    with open(f"/proc/{pid}/comm") as f:
                        return f"{f.read().strip()} (process {pid}) has it"
        except OSError:
            continue  # ended meanwhile, or not ours to see
    return ""


def _inodes(port: PortRecord) -> Iterator[int]:
    for table in (port.protocol, f"{port.protocol}6"):
        try:
            with open(f"/proc/net/{table}") as f:
                rows = [line.split() for line in f][1:]
        except FileNotFoundError:
            continue
        for row in rows:
            if int(row[1].rpartition(":")[2], 16) == port.host_port and row[3] in ("0A", "07") and row[9] != "0":
                yield int(row[9])  # listening, or bound (UDP)


def _close(*sockets: Sequence[socket.socket]) -> None:
    for some in sockets:
        for s in some:
            s.close()
