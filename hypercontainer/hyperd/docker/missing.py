"""What docker has and hyperd has not yet, or will not have: said in words, where clients ask for it."""

from typing import Any

from hypercontainer.errors import NotFound
from hypercontainer.hyperd.docker.errors import absent
from hypercontainer.hyperd.docker.inspect import Document
from hypercontainer.hyperd.http.call import Call


async def build(call: Call[Any, Any]) -> None:
    raise absent("docker builder")


async def no_cache(call: Call[Any, Any]) -> Document:
    """Of builds there is none, so that its prune is done: `docker system prune` asks for it."""
    return {"CachesDeleted": None, "SpaceReclaimed": 0}


async def checkpoint(call: Call[Any, Any]) -> None:
    raise absent("docker checkpoint", "hyperctl checkpoint does it")


async def page(call: Call[Any, Any]) -> None:
    """Of a path that docker does not have, and of /grpc and /session: so clients know that BuildKit is not here."""
    raise NotFound("page", "")
