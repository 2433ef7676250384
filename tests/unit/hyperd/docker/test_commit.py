"""What a container has made of its image."""

from collections.abc import AsyncGenerator

from hypercontainer.model import documents as doc
from hypercontainer.model.spec import Commit
from tests.unit.hyperd.docker.conftest import Server, message
from tests.unit.hyperd.fake import some


async def test_a_commit(server: Server) -> None:
    server.engine.answers["containers.commit"] = doc.ImageRef(id="sha256:1", name="made:2")
    query = "container=web&repo=made&tag=2&comment=why&author=me&pause=0&changes=CMD+a%0AENV+b=c&changes=USER+x"
    assert await server.ask("POST", f"/commit?{query}", data=b"null") == (201, {"Id": "sha256:1"})
    [_, asked] = server.engine.calls[-1][1]
    changes = ["CMD a", "ENV b=c", "USER x"]
    assert asked == Commit(name="made:2", message="why", author="me", pause=False, changes=changes)
    status, text = message(await server.ask("POST", "/commit?container=web", data=b'{"Cmd":["x"]}'))
    assert (status, "cannot commit with Cmd" in text) == (400, True)


async def test_changes_and_exports(server: Server) -> None:
    server.engine.answers["containers.changes"] = []
    async with server.http.get("http://docker/containers/web/changes") as response:
        assert await response.read() == b"null"
    server.engine.answers["containers.changes"] = [doc.Change(path="/x", kind=1)]
    assert await server.ask("GET", "/containers/web/changes") == (200, [{"Path": "/x", "Kind": 1}])

    async def export(*_: object) -> AsyncGenerator[bytes, None]:
        return some(b"tar", b"ball")

    server.engine.answers["containers.export"] = export
    async with server.http.get("http://docker/containers/web/export") as response:
        assert (response.content_type, await response.read()) == ("application/octet-stream", b"tarball")


async def test_a_commit_of_nothing(server: Server) -> None:
    assert message(await server.ask("POST", "/commit")) == (400, 'invalid name or ID supplied: ""')
