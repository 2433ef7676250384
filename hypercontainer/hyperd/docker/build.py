"""/build: the classic builder's. The context is the body; what is printed is the answer."""

import base64
import binascii
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.docker import auth, mounts, progress
from hypercontainer.hyperd.docker.call import MAX_BODY, Query
from hypercontainer.hyperd.docker.config import Ulimit
from hypercontainer.hyperd.docker.inspect import Document
from hypercontainer.hyperd.http.call import Call
from hypercontainer.lib import foreign
from hypercontainer.model import documents as doc
from hypercontainer.model import spec
from hypercontainer.model.api import Credentials
from hypercontainer.model.spec import Build

# Parameters that have to be as good as not said, and why.
REFUSED: Mapping[str, str] = {
    "remote": "contexts are not fetched from git or a URL: clone it, and send the folder",
    "squash": "layers are not squashed: use several stages, and COPY --from",
    "outputs": "it is of BuildKit",
    "session": "it is of BuildKit: use DOCKER_BUILDKIT=0",
    "cpuquota": "a machine has processors of its own",
    "cpuperiod": "a machine has processors of its own",
    "isolation": "every stage runs in a virtual machine",
    "securityopt": "every stage runs in a virtual machine",
}
# Those that change nothing, and why: the build says so.
VOID: Mapping[str, str] = {
    "cpusetcpus": "a machine has processors of its own",
    "cpusetmems": "a machine has memory of its own",
    "cpushares": "a machine has processors of its own",
    "memswap": "virtual machines have no swap",
    "cgroupparent": "a machine has cgroups of its own",
}


UNSAID = ("", "0", "default", False, "[]", "null")


class BuildQuery(Query, frozen=True, kw_only=True):
    t: list[str] = []
    dockerfile: str = "Dockerfile"
    buildargs: str = ""
    labels: str = ""
    nocache: bool = False
    cachefrom: str = ""
    pull: bool = False
    target: str = ""
    q: bool = False
    platform: str = ""
    networkmode: str = ""
    extrahosts: list[str] = []
    shmsize: int = 0
    memory: int = 0
    ulimits: str = ""
    version: str = ""
    remote: str = ""
    squash: bool = False
    outputs: str = ""
    session: str = ""
    cpusetcpus: str = ""
    cpusetmems: str = ""
    cpushares: str = ""
    cpuquota: str = ""
    cpuperiod: str = ""
    memswap: str = ""
    cgroupparent: str = ""
    isolation: str = ""
    securityopt: str = ""


async def build(call: Call[BuildQuery, AsyncIterator[bytes]]) -> AsyncGenerator[Document, None]:
    q = call.query
    if q.version == "2":
        raise InvalidInput("BuildKit is not here: use DOCKER_BUILDKIT=0")
    for field, why in REFUSED.items():
        if _said(q, field):
            raise InvalidInput(f"cannot build with {field}: {why}")
    wanted = Build(
        dockerfile=q.dockerfile,
        names=q.t,
        args=texts(q.buildargs, "buildargs"),
        labels=texts(q.labels, "labels"),
        target=q.target,
        no_cache=q.nocache,
        cache_from=foreign.read(q.cachefrom.encode() or b"[]", list[str], "cachefrom", MAX_BODY),
        pull=q.pull,
        platform=q.platform,
        network=spec.DEFAULT if q.networkmode in ("", "default") else q.networkmode,
        extra_hosts=_hosts(q.extrahosts),
        memory_mib=mounts.mib(q.memory),
        shm_mib=mounts.mib(q.shmsize) or 64,
        ulimits=ulimits(q.ulimits),
    )
    given = credentials(call.headers.get("X-Registry-Config", ""))
    source = await call.engine.builds.run(call.body, wanted, credentials=given, by=call.principal)
    void = [f"[Warning] {field} changes nothing: {why}\n" for field, why in VOID.items() if _said(q, field)]
    return await progress.begun(_lines(source, void, quiet=q.q))


def _said(query: BuildQuery, field: str) -> bool:
    return getattr(query, field) not in UNSAID


async def _lines(
    source: AsyncGenerator[Any, None], warnings: Sequence[str], *, quiet: bool
) -> AsyncGenerator[Document, None]:
    """`quiet`: the id of the image alone."""
    id = ""
    async with aclosing(source):
        for words in warnings if not quiet else ():
            yield {"stream": words}
        async for item in source:
            if isinstance(item, doc.BuildStage):
                id = item.stage
                if not quiet:
                    yield {"aux": {"ID": id}}
            elif not quiet:
                yield progress.line(item) if isinstance(item, doc.Progress) else {"stream": item.stream}
    if quiet:
        yield {"stream": f"{id}\n"}


def texts(text: str, what: str) -> dict[str, str]:
    """An object of strings; null is not said."""
    value = foreign.loose(text.encode(), what, MAX_BODY) if text else {}
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(each, str | None) for each in value.values()):
        raise InvalidInput(f"cannot read {what}: it is no object of strings")
    return {name: each for name, each in value.items() if each is not None}


def _hosts(entries: list[str]) -> dict[str, str]:
    """ "name:address", whose address may have colons too."""
    pairs = [entry.partition(":") for entry in entries]
    if any(not (name and address) for name, _, address in pairs):
        raise InvalidInput("cannot read extrahosts: they are NAME:ADDRESS")
    return {name: address for name, _, address in pairs}


def ulimits(text: str) -> list[spec.Ulimit]:
    found = foreign.read(text.encode() or b"[]", list[Ulimit], "ulimits", MAX_BODY)
    return [spec.Ulimit(name=each.name, soft=each.soft, hard=each.hard) for each in found]


def credentials(header: str) -> dict[str, Credentials]:
    """By registry. What nobody can read is passed over, as dockerd does."""
    try:
        data = base64.b64decode(header + "=" * (-len(header) % 4), altchars=b"-_")
        said = foreign.read(data or b"{}", dict[str, auth.RegistryAuth], "X-Registry-Config", MAX_BODY)
    except (binascii.Error, ValueError, InvalidInput):
        return {}
    return {
        registry: Credentials(username=each.username, password=each.password, identity_token=each.identitytoken)
        for registry, each in said.items()
        if each.username or each.identitytoken
    }
