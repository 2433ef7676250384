"""/v1/build: an image of a Dockerfile. The context is the body."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Annotated, Any

import msgspec

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.http.call import Call
from hypercontainer.hyperd.rest.call import FilterList, Query
from hypercontainer.model.spec import Build

Text = Annotated[str, msgspec.Meta(max_length=4096)]


class BuildQuery(Query, frozen=True, kw_only=True):
    dockerfile: Text = "Dockerfile"
    name: FilterList = msgspec.field(default_factory=list)
    arg: FilterList = msgspec.field(default_factory=list)  # NAME=VALUE, as labels
    label: FilterList = msgspec.field(default_factory=list)
    target: Text = ""
    no_cache: bool = False
    cache_from: FilterList = msgspec.field(default_factory=list)
    pull: bool = False
    platform: Text = ""
    network: Text = "bridge"
    memory_mib: Annotated[int, msgspec.Meta(ge=0)] = 0


async def run(call: Call[BuildQuery, AsyncIterator[bytes]]) -> AsyncGenerator[Any, None]:
    q = call.query
    wanted = Build(
        dockerfile=q.dockerfile,
        names=q.name,
        args=_pairs(q.arg, "arg"),
        labels=_pairs(q.label, "label"),
        target=q.target,
        no_cache=q.no_cache,
        cache_from=q.cache_from,
        pull=q.pull,
        platform=q.platform,
        network=q.network,
        memory_mib=q.memory_mib,
    )
    return await call.engine.builds.run(call.body, wanted, credentials={}, by=call.principal)


def _pairs(items: Sequence[str], what: str) -> dict[str, str]:
    found = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not name or not equals:
            raise InvalidInput(f"invalid {what} {item[:100]!r}: write NAME=VALUE")
        found[name] = value
    return found
