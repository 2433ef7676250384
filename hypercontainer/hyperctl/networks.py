"""hyperctl network create, ls, connect, disconnect, rm, prune."""

from __future__ import annotations

from hypercontainer.client.http import segment
from hypercontainer.hyperctl import environment, flags, table
from hypercontainer.hyperctl.containers import confirmed
from hypercontainer.hyperctl.context import each
from hypercontainer.hyperctl.flags import Args, Command, Flag, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hypercontainer.hyperctl.context import Context

COLUMNS = (("NETWORK ID", "ID"), ("NAME", "Name"), ("DRIVER", "Driver"), ("SCOPE", "Scope"))


def create(context: Context, args: Args) -> int:
    body = {
        "name": args.operands[0],
        "driver": args.driver,
        "subnets": subnets(args.subnet, args.gateway, args.ip_range, args.aux_address),
        "ipv6": args.ipv6,
        "internal": args.internal,
        "labels": environment.labels((), args.label),
        "options": dict(args.opt),
    }
    print(context.client.post("/v1/networks", {key: value for key, value in body.items() if value})["Id"])
    return 0


def subnets(
    given: list[str], gateways: list[str], ranges: list[str], reserved: list[tuple[str, str]]
) -> list[dict[str, Any]]:
    """Each gateway, range and reserved address with the subnet that it is in, as docker has it."""
    import ipaddress

    try:
        found: dict[Any, dict[str, Any]] = {ipaddress.ip_network(subnet): {"subnet": subnet} for subnet in given}

        def of(word: str) -> dict[str, Any]:
            first = ipaddress.ip_network(word)[0]
            own = next((each for subnet, each in found.items() if first in subnet), None)
            if own is None:
                raise UsageError(f"{word} is in no --subnet that was given")
            return own

        for key, words in (("gateway", gateways), ("ip_range", ranges)):
            for word in words:
                if key in (own := of(word)):
                    raise UsageError(f"subnet {own['subnet']} is given a {key.replace('_', '-')} twice")
                own[key] = word
        for name, address in reserved:
            of(address).setdefault("reserved", {})[name] = address
    except ValueError as e:
        raise UsageError(str(e)) from e
    return list(found.values())


def ls(context: Context, args: Args) -> int:
    rows = [row(network, full=args.no_trunc) for network in context.client.get("/v1/networks", filter=args.filter)]
    return table.show(args, COLUMNS, rows, key="ID")


def row(network: dict[str, Any], *, full: bool) -> dict[str, Any]:
    return {
        "ID": network["Id"] if full else network["Id"][:12],
        "Name": network["Name"],
        "Driver": network["Driver"],
        "Scope": network["Scope"],
        "IPv6": str(network["EnableIPv6"]).lower(),
        "Internal": str(network["Internal"]).lower(),
        "Labels": ",".join(f"{key}={value}" for key, value in network["Labels"].items()),
        "CreatedAt": network["Created"],
    }


def connect(context: Context, args: Args) -> int:
    network, container = args.operands
    body = {
        "container": container,
        "address": args.ip,
        "address6": args.ip6,
        "mac": args.mac_address,
        "aliases": args.alias,
        "links": args.link,
    }
    context.client.post(
        f"/v1/networks/{segment(network)}/connect", {key: value for key, value in body.items() if value}
    )
    return 0


def disconnect(context: Context, args: Args) -> int:
    network, container = args.operands
    body = {"container": container, **({"force": True} if args.force else {})}
    context.client.post(f"/v1/networks/{segment(network)}/disconnect", body)
    return 0


def remove(context: Context, args: Args) -> int:
    from hypercontainer.errors import NotFound

    def one(name: str) -> None:
        try:
            context.client.delete(f"/v1/networks/{segment(name)}")
        except NotFound:
            if not args.force:
                raise

    return each(args.operands, one)


def prune(context: Context, args: Args) -> int:
    if not args.force and not confirmed(f"This removes all networks that no container is in{table.matching(args)}."):
        return 1
    for name in context.client.post("/v1/networks/prune", filter=args.filter)["Deleted"]:
        print(f"Deleted: {name}")
    return 0


def option(word: str) -> tuple[str, str]:
    name, found, value = word.partition("=")
    if not (name and found):
        raise ValueError("use NAME=VALUE")
    return name, value


COMMANDS = {
    "network create": Command(
        create, "[OPTIONS] NETWORK", "hyperctl network create --subnet 10.1.2.0/24 db",
        Flag("driver", "What makes it", short="d", metavar="name", default="bridge", words=("bridge",)),
        flags.many("subnet", "Addresses of it, one of IPv4 and one of IPv6", metavar="subnet", usual="a free one"),
        flags.many("gateway", "The host's address in a subnet", metavar="address", usual="the first"),
        flags.many("ip-range", "Choose addresses from this part of a subnet", metavar="subnet", usual="all of it"),
        flags.many("aux-address", "NAME=ADDRESS that no pod gets", parse=option),
        flags.switch("internal", "Nothing leads out of it"),
        flags.switch("ipv6", "Give it IPv6, also without a --subnet of that"),
        flags.many("label", "NAME=VALUE"),
        flags.many("opt", "NAME=VALUE: com.docker.network.bridge.name, com.docker.network.driver.mtu", "o",
                   parse=option),
        least=1, most=1,
        refused={
            "attachable": "every network can be joined",
            "config-from": "there is no swarm",
            "config-only": "there is no swarm",
            "ingress": "there is no swarm",
            "ipam-driver": "hyperd gives the addresses",
            "ipam-opt": "hyperd gives the addresses",
            "scope": "there is no swarm",
        },
    ),
    "network ls": Command(ls, "[OPTIONS]", "hyperctl network ls -q", *table.list_flags()),
    "network connect": Command(
        connect, "[OPTIONS] NETWORK CONTAINER", "hyperctl network connect --alias store db web",
        Flag("ip", "Its address there", metavar="address", usual="a free one"),
        Flag("ip6", "The same, of IPv6", metavar="address", usual="a free one"),
        Flag("mac-address", "That of its interface there", metavar="address"),
        flags.many("alias", "Another name that it has there", metavar="name"),
        flags.many("link", "CONTAINER:ALIAS: another name of that one, for it alone", metavar="link"),
        least=2, most=2, objects="networks",
        refused={
            "driver-opt": "there are no options of an interface",
            "gw-priority": "the first network that leads out gives the default route",
            "link-local-ip": "the guest's kernel makes it",
        },
    ),
    "network disconnect": Command(
        disconnect, "[OPTIONS] NETWORK CONTAINER", "hyperctl network disconnect db web",
        flags.switch("force", "One that is not in it is no error", "f"), least=2, most=2, objects="networks",
    ),
    "network rm": Command(
        remove, "[OPTIONS] NETWORK [NETWORK...]", "hyperctl network rm db",
        flags.switch("force", "One that does not exist is no error", "f"), least=1, most=None, objects="networks",
    ),
    "network prune": Command(
        prune, "[OPTIONS]", "hyperctl network prune -f", flags.switch("force", "Do not ask", "f"),
        table.filter_flag("Remove only what matches: label=…, label!=…, until=…", ""),
    ),
}  # fmt: skip
