"""nftables itself: one exec changes much at once, or tells what is there."""

import json
from typing import Any, NamedTuple

from hypercontainer.lib import proc
from hypercontainer.network.ipam import TAP, Plan
from hypercontainer.network.rules import FAMILIES, Element, mark

TIMEOUT_S = 30.0


class Tables(NamedTuple):
    """What pods have in our two tables."""

    elements: frozenset[Element]  # published ports
    chains: frozenset[str]  # taps that have a chain
    taps: frozenset[str]  # taps that are led into it


async def apply(lines: list[str]) -> None:
    """One transaction: all of it or, raising CommandFailed, nothing."""
    if lines:
        await proc.run(["nft", "-f", "-"], stdin="\n".join([*lines, ""]).encode(), timeout_s=TIMEOUT_S)


async def has_base(net: Plan) -> bool:
    """Whether both tables are there, as `rules.base` would make them."""
    name = mark(net)
    chains = [item["chain"] for item in await _list("chains") if "chain" in item]
    return {(c["family"], c["table"]) for c in chains if c["name"] == name} >= {(f, net.bridge) for f in FAMILIES}


async def tables(net: Plan) -> Tables:
    """What is there now; nothing if the tables are not."""
    inet, bridge = [await _list("table", family, net.bridge) for family in FAMILIES]
    chains = {item["chain"]["name"] for item in bridge if "chain" in item}
    taps = {str(key) for item in bridge if "map" in item for key, _ in item["map"].get("elem", [])}
    published = {
        Element(item["map"]["name"], _concat(key), _concat(value))
        for item in inet
        if "map" in item
        for key, value in item["map"].get("elem", [])
    }
    return Tables(frozenset(published), frozenset(filter(TAP.fullmatch, chains)), frozenset(taps))


def _concat(value: dict[str, list[object]]) -> tuple[str, ...]:
    return tuple(str(part) for part in value["concat"])


async def _list(*what: str) -> list[dict[str, Any]]:
    result = await proc.run(["nft", "-j", "list", *what], timeout_s=TIMEOUT_S, check=False)
    if result.status and b"No such file or directory" not in result.stderr:
        raise proc.CommandFailed(["nft", "-j", "list", *what], result.status, result.stderr.decode(errors="replace"))
    found: list[dict[str, Any]] = json.loads(result.stdout)["nftables"] if result.stdout and not result.status else []
    return found
