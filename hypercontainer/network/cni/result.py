"""What plugins of CNI answer: interfaces, addresses, nameservers."""

from ipaddress import ip_interface
from typing import Any

import msgspec

from hypercontainer.errors import InvalidInput
from hypercontainer.lib import foreign
from hypercontainer.model.spec import Dns
from hypercontainer.network.cni.plugin import MOST_BYTES

MOST = 64  # addresses, or interfaces


class _Dns(msgspec.Struct, frozen=True, kw_only=True):
    nameservers: list[str] = []
    domain: str = ""
    search: list[str] = []
    options: list[str] = []


class Interface(msgspec.Struct, frozen=True, kw_only=True):
    name: str = ""


class Ip(msgspec.Struct, frozen=True, kw_only=True):
    address: str = ""  # with the length of its prefix
    interface: int | None = None  # place in the list of interfaces


class Result(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Of what there is more, others know."""

    cni_version: str = ""
    interfaces: list[Interface] = []
    ips: list[Ip] = []
    dns: _Dns = _Dns()

    def addresses(self, interface: str) -> list[str]:
        """Those of the pod, without prefixes, the first by which it is known. Of `interface` alone, where the result
        says whose they are: others are a plugin's own, on the host or further ones in the pod. InvalidInput."""
        found = [_address(ip.address) for ip in self.ips if self._is_of(ip, interface)]
        return list(dict.fromkeys(found))

    def resolver(self) -> Dns | None:
        """None: it says nothing of nameservers."""
        said = self.dns
        search = said.search or ([said.domain] if said.domain else [])
        if not (said.nameservers or search or said.options):
            return None
        return Dns(nameservers=said.nameservers, search=search, options=said.options)

    def _is_of(self, ip: Ip, interface: str) -> bool:
        if ip.interface is None:
            return True
        if not 0 <= ip.interface < len(self.interfaces):
            raise InvalidInput(f"it has no interface {ip.interface}")
        return self.interfaces[ip.interface].name == interface


def parse(data: bytes, what: str) -> tuple[dict[str, Any], Result]:
    """A result as it came, for those who are told it again, and what we read of it. InvalidInput with `what` in it."""
    raw = foreign.loose(data, what, MOST_BYTES)
    if not isinstance(raw, dict):
        raise InvalidInput(f"cannot read {what}: it is no object")
    result = foreign.read(data, Result, what, MOST_BYTES)
    if len(result.ips) > MOST or len(result.interfaces) > MOST:
        raise InvalidInput(f"cannot read {what}: it has more than {MOST} addresses or interfaces")
    return raw, result


def _address(text: str) -> str:
    try:
        return str(ip_interface(text[:64]).ip)
    except ValueError as e:
        raise InvalidInput(f"{text[:64]!r} is no address") from e
