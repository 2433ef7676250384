"""/networks: those that every daemon has."""

from typing import Any

from hypercontainer.errors import InvalidInput, NotFound
from hypercontainer.hyperd.docker import filters
from hypercontainer.hyperd.docker.call import Nothing
from hypercontainer.hyperd.docker.errors import absent
from hypercontainer.hyperd.docker.inspect import Document
from hypercontainer.hyperd.http.call import Call

DRIVERS = {"bridge": "bridge", "none": "null"}


def network(name: str) -> Document:
    return {
        "Name": name,
        "Id": name,
        "Created": "0001-01-01T00:00:00Z",
        "Scope": "local",
        "Driver": DRIVERS[name],
        "EnableIPv4": True,
        "EnableIPv6": False,
        "IPAM": {"Driver": "default", "Options": None, "Config": []},
        "Internal": False,
        "Attachable": False,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {},
        "Options": {},
        "Labels": {},
    }


async def entries(call: Call[filters.Filtered, None]) -> list[Document]:
    wanted = filters.read(call.query.filters)
    for key in wanted:
        if key not in ("name", "id", "driver", "type", "scope", "label", "dangling"):
            raise InvalidInput(f"invalid filter '{key[:60]}'")
    return [network(name) for name in DRIVERS if _matches(name, wanted)]


def _matches(name: str, wanted: dict[str, list[str]]) -> bool:
    of = {"driver": [DRIVERS[name]], "type": ["builtin"], "scope": ["local"], "label": [], "dangling": ["false"]}
    return all(
        any(value in name for value in values) if key in ("name", "id") else bool(set(values) & set(of[key]))
        for key, values in wanted.items()
    )


async def show(call: Call[Nothing, None]) -> Document:
    name = call.names["n"]
    if name not in DRIVERS:
        raise NotFound("network", name[:140])
    return network(name)


async def prune(call: Call[filters.Filtered, bytes]) -> Document:
    filters.read(call.query.filters)
    return {"NetworksDeleted": None}


async def missing(call: Call[Any, bytes]) -> None:
    raise absent("a network of one's own")
