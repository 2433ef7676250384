"""Errors as docker's clients read them: statuses and texts."""

import errno
from typing import Any

import pytest

from hypercontainer.errors import (
    Denied,
    GuestError,
    HyperError,
    InUse,
    InvalidInput,
    NoLog,
    NotFound,
    Unavailable,
    WrongState,
)
from tests.unit.hyperd.docker.conftest import Server, message
from tests.unit.hyperd.docker.documents import CREATED


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (NotFound("container", "x"), 404, "No such container: x"),
        (WrongState("remove", "web", "running"), 409, "You cannot remove a running container web. Stop"),
        (WrongState("remove", "web", "removing"), 409, "removal of container web is already in progress"),
        (Unavailable("gone"), 503, "gone"),
        (InUse("", "volume", "v", ["container web"]), 409, "remove v: volume is in use - [container web]"),
        (
            InUse("", "image", "i", ["container web"]),
            409,
            "conflict: unable to delete i (must be forced) - container web",
        ),
        (
            InUse("", "image", "i", []),
            409,
            "conflict: unable to delete i (must be forced) - image is referenced",
        ),
        (
            WrongState("remove", "web", "paused"),
            409,
            "You cannot remove a paused container web. Unpause and then",
        ),
        (NotFound("image", "x"), 404, "No such image: x:latest"),
        (NotFound("image", "a:5000/x"), 404, "No such image: a:5000/x:latest"),
        (NotFound("image", "x:1"), 404, "No such image: x:1"),
        (NotFound("image", "0123456789ab"), 404, "No such image: 0123456789ab"),
        (Denied("not yours"), 403, "not yours"),
        (ValueError("secret"), 500, "internal error: ValueError"),
    ],
)
async def test_errors_of_a_removal(server: Server, error: Exception, status: int, words: str) -> None:
    server.engine.answers["containers.remove"] = error
    found, text = message(await server.ask("DELETE", "/containers/web"))
    assert found == status and text.startswith(words)
    assert text.endswith(":latest") == words.endswith(":latest")


@pytest.mark.parametrize(
    ("verb", "state", "status", "words"),
    [
        ("kill", "exited", 409, "Cannot kill container: web: Container web is not running"),
        ("pause", "paused", 409, "Container web is already paused"),
        ("unpause", "running", 500, "Container web is not paused"),
    ],
)
async def test_wrong_states(server: Server, verb: Any, state: Any, status: int, words: str) -> None:
    server.engine.answers[f"containers.{verb}"] = WrongState(verb, "web", state)
    assert message(await server.ask("POST", f"/containers/web/{verb}")) == (status, words)


async def test_a_container_without_a_log(server: Server) -> None:
    """Compose attaches instead when it reads these words."""
    server.engine.answers["containers.inspect"] = CREATED
    server.engine.answers["containers.logs"] = NoLog("read the log of", "web")
    said = message(await server.ask("GET", "/containers/web/logs?stdout=1"))
    assert said == (501, "configured logging driver does not support reading")


@pytest.mark.parametrize(
    ("said", "number", "words"),
    [
        ("cannot run x: No such file or directory", errno.ENOENT, 'exec: "x": executable file not found in $PATH'),
        ("cannot run /x: No such file or directory", errno.ENOENT, 'exec: "/x": stat /x: no such file or directory'),
        ("cannot run ./a: b: Not a directory", errno.ENOTDIR, 'exec: "./a: b": stat ./a: b: no such file or directory'),
        ("cannot run /etc: Permission denied", errno.EACCES, 'exec: "/etc": permission denied'),
        ("cannot run /x: Exec format error", errno.ENOEXEC, 'exec: "/x": exec format error'),
        ("broken", 0, "broken"),
    ],
)
async def test_a_command_that_cannot_be_run(server: Server, said: str, number: int, words: str) -> None:
    """The CLI's statuses 126 and 127 are of these words."""
    server.engine.answers["containers.inspect"] = CREATED
    server.engine.answers["containers.start"] = GuestError(said, number, exec=True)
    answer = message(await server.ask("POST", "/containers/web/start"))
    assert answer == (400, f"OCI runtime create failed: {words}")


async def test_what_is_not_understood_never_is_500(server: Server) -> None:
    for error in InvalidInput("no"), HyperError("broken"):
        server.engine.answers["containers.top"] = error
        status, _ = message(await server.ask("GET", "/containers/web/top?ps_args=x"))
        assert status == (400 if isinstance(error, InvalidInput) else 500)
    for target in "/containers/web/resize?h=x&w=1", "/containers/web/resize", "/containers/web/stop?t=x":
        assert message(await server.ask("POST", target))[0] == 400
    assert message(await server.ask("POST", "/containers/web/kill?signal=BOGUS")) == (400, "invalid signal: BOGUS")
