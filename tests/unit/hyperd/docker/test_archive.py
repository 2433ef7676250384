"""Files in and out."""

import errno

import pytest

from hypercontainer.errors import GuestError
from tests.unit.hyperd.docker.conftest import Server, message


async def test_files_for_what_is_no_folder(server: Server) -> None:
    server.engine.answers["containers.archive_put"] = GuestError("cannot write /made: Not a directory", errno.ENOTDIR)
    said = message(await server.ask("PUT", "/containers/web/archive?path=/made", data=b"x"))
    assert said == (400, "extraction point is not a directory")


@pytest.mark.parametrize(("query", "as_user"), [("", False), ("&copyUIDGID=1", True), ("&copyUIDGID=false", False)])
async def test_what_is_copied_in_may_be_the_user_s(server: Server, query: str, as_user: bool) -> None:
    target = f"/containers/web/archive?path=tmp&noOverwriteDirNonDir=true{query}"
    assert await server.ask("PUT", target, data=b"tar") == (200, None)
    assert server.engine.calls[-1] == ("containers.archive_put", ("web", "/tmp"), {"as_user": as_user})
