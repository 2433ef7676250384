"""Files in and out."""

import errno

from hypercontainer.errors import GuestError
from tests.unit.hyperd.docker.conftest import Server, message


async def test_files_for_what_is_no_folder(server: Server) -> None:
    server.engine.answers["containers.archive_put"] = GuestError("cannot write /made: Not a directory", errno.ENOTDIR)
    said = message(await server.ask("PUT", "/containers/web/archive?path=/made", data=b"x"))
    assert said == (400, "extraction point is not a directory")
