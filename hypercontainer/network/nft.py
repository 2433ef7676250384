"""nftables itself, by its own library: one call changes much at once, or tells what is there.

The library, not the program: a process costs 5 ms, and waits up to 20 at its end until the kernel has freed what it
removed; a call costs a quarter of one.
"""

import ctypes
import json
import threading
from contextlib import suppress
from typing import Any, NamedTuple

from hypercontainer.errors import HyperError, InUse, Unavailable
from hypercontainer.model.record import PortRecord
from hypercontainer.network.ipam import Plan
from hypercontainer.network.rules import FAMILIES, LAYOUT, Element, mark, port
from hypercontainer.network.tap import TAP

LIBRARY = "libnftables.so.1"  # of the package libnftables1, which the program nft needs too
JSON = 1 << 4  # NFT_CTX_OUTPUT_JSON, nftables/libnftables.h


class Refused(HyperError):
    """nftables did not do it, nor any part of it."""


class Tables(NamedTuple):
    """What pods have in our two tables."""

    elements: frozenset[Element]  # published ports
    chains: frozenset[str]  # taps that have a chain
    taps: frozenset[str]  # taps that are led into it


class Nft:
    """The tables of the network namespace that it is used in.

    Each call has a context of its own, which takes a hundredth of a millisecond. One that is kept holds all that it has
    read, half a MiB for each table of this host. Its end waits until the kernel has freed what was removed, some 13 ms:
    in a thread, so that this keeps no one from anything but nftables.
    """

    def __init__(self) -> None:
        self._library: ctypes.CDLL | None = None

    def apply(self, lines: list[str]) -> None:
        """One transaction: all of it or, raising Refused, nothing."""
        if lines:
            self._run("\n".join([*lines, ""]), flags=0)

    def has_base(self, net: Plan) -> bool:
        """Whether both tables are there, as `rules.base` would make them. InUse: one is there, and is no network's."""
        chains = [item["chain"] for item in self._list("chains") if "chain" in item]
        there = [{c["name"] for c in chains if (c["family"], c["table"]) == (f, net.bridge)} for f in FAMILIES]
        for family, names in zip(FAMILIES, there, strict=True):
            if names and not any(name.startswith(LAYOUT) for name in names):
                words = f"cannot use bridge {net.bridge}: nftables has a table {family} {net.bridge} of others"
                raise InUse(words, "bridge", net.bridge)
        return all(mark(net) in names for names in there)

    def tables(self, net: Plan) -> Tables:
        """What is there now; nothing if the tables are not."""
        made = {(table["family"], table["name"]) for item in self._list("tables") if (table := item.get("table"))}
        inet, bridge = [
            self._list("table", family, net.bridge) if (family, net.bridge) in made else [] for family in FAMILIES
        ]
        chains = {item["chain"]["name"] for item in bridge if "chain" in item}
        taps = {str(key) for item in bridge if "map" in item for key, _ in item["map"].get("elem", [])}
        return Tables(_elements(inet), frozenset(filter(TAP.fullmatch, chains)), frozenset(taps))

    def families(self, name: str) -> list[str]:
        """Those that have a table of that name."""
        tables = [item["table"] for item in self._list("tables") if "table" in item]
        return [table["family"] for table in tables if table["name"] == name]

    def led(self, net: Plan) -> list[tuple[PortRecord, str]]:
        """Ports that lead into other networks, of whatever hyperd, and which network that is, in words."""
        chains = [item["chain"] for item in self._list("chains") if "chain" in item]
        others = {c["table"] for c in chains if c["family"] == "inet" and c["name"].startswith(LAYOUT)} - {net.bridge}
        found = list[tuple[PortRecord, str]]()
        for name in sorted(others):
            with suppress(Refused):  # it goes just now
                elements = _elements(self._list("table", "inet", name))
                found += [(port(element), f"the network of bridge {name}") for element in elements]
        return found

    def _list(self, *what: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self._run(" ".join(("list", *what)), flags=JSON))["nftables"]
        return found

    def _run(self, commands: str, *, flags: int) -> bytes:
        library = self._loaded()
        _turn.acquire()
        context = library.nft_ctx_new(0)
        if not context:
            _turn.release()
            raise HyperError("cannot use nftables: its library gives no context")
        try:
            library.nft_ctx_buffer_output(context)
            library.nft_ctx_buffer_error(context)
            library.nft_ctx_output_set_flags(context, flags)
            status = library.nft_run_cmd_from_buffer(context, commands.encode())
            said: bytes = library.nft_ctx_get_output_buffer(context)
            complaint: bytes = library.nft_ctx_get_error_buffer(context)
        finally:
            _free_soon(library, context)
        if status:
            words = complaint.decode(errors="replace").strip()
            raise Refused(f"cannot change or list nftables: {words or 'it does not say why'}")
        return said

    def _loaded(self) -> ctypes.CDLL:
        if self._library is None:
            try:
                self._library = _loaded()
            except OSError as e:
                raise Unavailable("cannot use nftables: its library does not load; install the package nftables") from e
        return self._library


_turn = threading.Lock()  # the library keeps some of its state for all contexts


def _free_soon(library: ctypes.CDLL, context: int) -> None:
    """The next one's turn comes after it."""
    try:
        threading.Thread(target=_free, args=(library, context), name="nftables", daemon=True).start()
    except RuntimeError:  # this host lets us have no more threads
        _free(library, context)


def _free(library: ctypes.CDLL, context: int) -> None:
    try:
        library.nft_ctx_free(context)
    finally:
        _turn.release()


def _loaded() -> ctypes.CDLL:
    library = ctypes.CDLL(LIBRARY)
    context = ctypes.c_void_p
    library.nft_ctx_new.restype = context
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_ctx_output_set_flags.argtypes = [context, ctypes.c_uint]
    library.nft_run_cmd_from_buffer.argtypes = [context, ctypes.c_char_p]
    for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        getattr(library, name).restype = ctypes.c_char_p
    for name in ("get_output_buffer", "get_error_buffer", "buffer_output", "buffer_error", "free"):
        getattr(library, f"nft_ctx_{name}").argtypes = [context]
    return library


def _elements(items: list[dict[str, Any]]) -> frozenset[Element]:
    """Of the maps of an inet table of ours."""
    return frozenset(
        Element(item["map"]["name"], _concat(key), _concat(value))
        for item in items
        if "map" in item
        for key, value in item["map"].get("elem", [])
    )


def _concat(value: dict[str, list[object]]) -> tuple[str, ...]:
    return tuple(str(part) for part in value["concat"])
