"""One more process in a container, by two calls."""

from typing import Any

import pytest
from msgspec.structs import replace

from hypercontainer.errors import GuestError
from hypercontainer.hyperd.docker.streams import frame
from hypercontainer.model import documents as doc
from hypercontainer.model.spec import ExecSpec
from tests.unit.hyperd.docker.conftest import Server, message
from tests.unit.hyperd.fake import FakeSession

EXEC = doc.Exec(
    id="e1", container_id="c1", running=False, exit_code=None, pid=0, tty=False, open_stdin=False, command=["sh"]
)


async def test_an_exec_is_two_calls(server: Server) -> None:
    server.engine.answers["execs.inspect"] = EXEC
    body = {"Cmd": ["sh"], "AttachStdout": True, "User": "", "Env": None, "ConsoleSize": None}
    assert await server.ask("POST", "/containers/web/exec", json=body) == (201, {"Id": "e1"})
    assert server.engine.calls[-1][1] == ("web", ExecSpec(command=["sh"], stderr=False))
    session = server.engine.session = FakeSession()
    reader, writer, head = await server.hijack("/exec/e1/start", b'{"Detach":false,"Tty":false}')
    assert head.startswith("HTTP/1.1 101")
    await session.say(b"out")
    await session.end()
    assert await reader.read() == frame(1, b"out")
    writer.close()
    assert await server.ask("POST", "/exec/e1/start", json={"Detach": True}) == (200, None)
    _, document = await server.ask("GET", "/exec/e1/json")
    assert isinstance(document, dict)
    assert (document["ExitCode"], document["ProcessConfig"]["entrypoint"]) == (None, "sh")


@pytest.mark.parametrize(("start", "output"), [(b"{}", frame(1, b"out")), (b'{"Tty":true}', b"out")])
async def test_the_start_of_an_exec_says_whether_there_are_frames(server: Server, start: bytes, output: bytes) -> None:
    server.engine.answers["execs.inspect"] = doc.Exec(
        id="e1", container_id="c1", running=False, exit_code=None, pid=0, tty=True, open_stdin=False, command=["sh"]
    )
    await server.ask("POST", "/containers/web/exec", json={"Cmd": ["sh"], "Tty": True})
    session = server.engine.session = FakeSession()
    reader, writer, _ = await server.hijack("/exec/e1/start", start)
    await session.say(b"out")
    await session.end()
    assert await reader.read() == output
    writer.close()


async def test_why_an_exec_does_not_run_is_said_in_its_stream(server: Server) -> None:
    server.engine.answers["execs.inspect"] = doc.Exec(
        id="e1", container_id="c1", running=False, exit_code=None, pid=0, tty=False, open_stdin=False, command=["x"]
    )
    await server.ask("POST", "/containers/web/exec", json={"Cmd": ["x"]})
    server.engine.answers["execs.start"] = GuestError("cannot run x: No such file or directory", 2, exec=True)
    reader, writer, head = await server.hijack("/exec/e1/start", b"{}")
    assert head.startswith("HTTP/1.1 101")
    assert b"executable file not found in $PATH\r\n" in await reader.read()
    writer.close()


@pytest.mark.parametrize("body", [{}, {"Cmd": []}, {"Cmd": [""]}])
async def test_an_exec_of_nothing(server: Server, body: dict[str, Any]) -> None:
    assert message(await server.ask("POST", "/containers/web/exec", json=body)) == (400, "No exec command specified")


async def test_what_fails_before_its_command_is_not_called_a_missing_one(server: Server) -> None:
    server.engine.answers["execs.inspect"] = EXEC
    server.engine.answers["execs.start"] = GuestError("cannot enter /nosuch: No such file or directory", 2)
    await server.ask("POST", "/containers/web/exec", json={"Cmd": ["sh"]})
    reader, writer, _ = await server.hijack("/exec/e1/start", b"{}")
    said = await reader.read()
    writer.close()
    assert said[8:] == b"OCI runtime exec failed: cannot enter /nosuch: No such file or directory\r\n"


async def test_an_exec_starts_once(server: Server) -> None:
    server.engine.answers["execs.inspect"] = replace(EXEC, exit_code=0)
    said = message(await server.ask("POST", "/exec/e1/start", json={}))
    assert said == (409, "Error: Exec command e1 has already run")
