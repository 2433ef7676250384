"""/commit, /containers/{c}/changes and export: what a container has made of its image."""

import msgspec

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.docker.call import Nothing, Query, container
from hypercontainer.hyperd.docker.inspect import Document
from hypercontainer.hyperd.http.call import Bytes, Call
from hypercontainer.lib import foreign
from hypercontainer.model.spec import Commit

MAX_BODY = 1 << 20
# The keys of docker's body that are an image's; others, which clients send too, have no place in one.
OF_AN_IMAGE = (
    "cmd", "entrypoint", "env", "exposedports", "healthcheck", "labels", "onbuild", "shell", "stopsignal", "user",
    "volumes", "workingdir",
)  # fmt: skip


class CommitQuery(Query, frozen=True, kw_only=True):
    container: str = ""
    repo: str = ""
    tag: str = ""
    comment: str = ""
    author: str = ""
    changes: list[str] = []
    pause: str = "1"


async def commit(call: Call[CommitQuery, bytes]) -> Document:
    q = call.query
    check(call.body)
    if not q.container:
        raise InvalidInput('invalid name or ID supplied: ""')
    found = await call.engine.containers.inspect(q.container.lstrip("/"))
    wanted = Commit(
        name=(f"{q.repo}:{q.tag}" if q.tag else q.repo) if q.repo else "",
        changes=[line for each in q.changes for line in each.splitlines()],
        author=q.author,
        message=q.comment,
        pause=q.pause.lower() not in ("0", "false", "no"),
    )
    made = await call.engine.containers.commit(found.id, wanted)
    return {"Id": made.id}


def check(data: bytes) -> None:
    """Of a body: null, {}, or what is not about an image. InvalidInput for a configuration to be laid over ours."""
    said = foreign.loose(data, "the body", MAX_BODY) if data else None
    if not (said is None or isinstance(said, dict)):
        raise InvalidInput("cannot read the body: it is no object")
    for key, value in (said or {}).items():
        if key.lower() in OF_AN_IMAGE and value:
            raise InvalidInput(f"cannot commit with {key[:60]} in the body: say it in `changes`, as a Dockerfile does")


async def changes(call: Call[Nothing, None]) -> list[Document] | msgspec.Raw:
    """null where there are none, as docker has it."""
    found = await call.engine.containers.changes(container(call))
    return [msgspec.to_builtins(each) for each in found] or msgspec.Raw(b"null")


async def export(call: Call[Nothing, None]) -> Bytes:
    return Bytes(source=await call.engine.containers.export(container(call)), media_type="application/octet-stream")
