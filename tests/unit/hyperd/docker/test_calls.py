"""docker's API as its clients meet it: versions, statuses, texts, streams."""

import asyncio
import base64
import json
import os
import socket
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from msgspec.structs import replace

from hypercontainer.errors import (
    AlreadyExists,
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
from hypercontainer.hyperd.docker.streams import frame
from hypercontainer.model import documents as doc
from hypercontainer.model.api import Credentials
from hypercontainer.model.spec import Commit, EndpointSpec, NetworkSpec, SubnetSpec
from tests.unit.hyperd.docker.conftest import Server
from tests.unit.hyperd.docker.documents import CONTAINER, CREATED, ID, TERMINAL
from tests.unit.hyperd.fake import NETWORK, FakeSession, some


def message(answer: tuple[int, object]) -> tuple[int, str]:
    status, document = answer
    assert isinstance(document, dict) and set(document) == {"message"}
    return status, document["message"]


# versions


async def test_a_ping_says_what_is_spoken(server: Server) -> None:
    for method, target, body in ("GET", "/_ping", b"OK"), ("HEAD", "/_ping", b""), ("GET", "/v1.41/_ping", b"OK"):
        async with server.http.request(method, f"http://docker{target}") as response:
            assert (response.status, await response.read()) == (200, body)
            assert response.headers["Api-Version"] == "1.51"
            assert response.headers["Ostype"] == "linux"
            assert response.headers["Docker-Experimental"] == "false"
            assert response.headers["Server"].startswith("Docker/")
            assert response.headers["Builder-Version"] == "1"


async def test_every_answer_has_the_version(server: Server) -> None:
    async with server.http.get("http://docker/v1.24/nowhere") as response:
        assert (response.status, response.headers["Api-Version"]) == (404, "1.51")


@pytest.mark.parametrize("prefix", ["", "/v1.24", "/v1.41", "/v1.51"])
async def test_paths_with_and_without_a_version(server: Server, prefix: str) -> None:
    assert await server.ask("GET", f"{prefix}/containers/json") == (200, [])


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("1.52", "client version 1.52 is too new. Maximum supported API version is 1.51"),
        ("1.23", "client version 1.23 is too old. Minimum supported API version is 1.24"),
        ("2.0", "client version 2.0 is too new"),
    ],
)
async def test_others_are_refused(server: Server, version: str, words: str) -> None:
    status, text = message(await server.ask("GET", f"/v{version}/containers/json"))
    assert status == 400 and text.startswith(words)


@pytest.mark.parametrize(
    ("method", "target"), [("GET", "/"), ("POST", "/grpc"), ("POST", "/session"), ("PUT", "/info"), ("GET", "/v9/info")]
)
async def test_what_there_is_not(server: Server, method: str, target: str) -> None:
    assert message(await server.ask(method, target)) == (404, "page not found")


@pytest.mark.parametrize(
    ("method", "target"),
    [("POST", "/build?t=x"), ("GET", "/distribution/a/b:1/json"), ("GET", "/containers/web/attach/ws")],
)
async def test_what_there_is_not_yet_says_so(server: Server, method: str, target: str) -> None:
    status, text = message(await server.ask(method, target, data=b"x" * 100))
    assert (status, "docs/docker.md" in text) == (501, True)


async def test_no_swarm(server: Server) -> None:
    for target in "/swarm", "/nodes", "/services/x", "/secrets/create":
        status, text = message(await server.ask("GET", target))
        assert status == 503 and text.startswith("This node is not a swarm manager.")


# errors


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
        (Denied("not yours"), 403, "not yours"),
        (ValueError("secret"), 500, "internal error: ValueError"),
    ],
)
async def test_errors_of_a_removal(server: Server, error: Exception, status: int, words: str) -> None:
    server.engine.answers["containers.remove"] = error
    found, text = message(await server.ask("DELETE", "/containers/web"))
    assert found == status and text.startswith(words)


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


async def test_a_command_that_is_not_there(server: Server) -> None:
    server.engine.answers["containers.inspect"] = CREATED
    server.engine.answers["containers.start"] = GuestError("cannot run x: No such file or directory", 2, exec=True)
    status, text = message(await server.ask("POST", "/containers/web/start"))
    assert (status, "executable file not found in $PATH" in text) == (400, True)


@pytest.mark.parametrize("target", ["/containers/a/b:1/json", "/containers/..%2fx/json", "/containers/a:1/json"])
async def test_what_can_be_no_container_is_not_there(server: Server, target: str) -> None:
    status, text = message(await server.ask("GET", target))
    assert status == 404 and text.startswith("No such container")


async def test_names_may_begin_with_a_slash(server: Server) -> None:
    server.engine.answers["containers.restart"] = None
    assert await server.ask("POST", "/containers//web/restart") == (204, None)
    assert server.engine.calls[-1][1] == ("web", None, None)


# containers


async def create(server: Server, target: str = "/containers/create?name=web", **body: Any) -> tuple[int, object]:
    return await server.ask("POST", target, json={"Image": "busybox", **body})


async def test_a_creation(server: Server) -> None:
    assert await create(server, Cmd=["true"], HostConfig={"MemorySwap": -1}) == (
        201,
        {"Id": "c1", "Warnings": ["MemorySwap changes nothing: virtual machines have no swap"]},
    )
    [spec], named = next((args, named) for call, args, named in server.engine.calls if call == "containers.create")
    assert (spec.name, spec.containers[0].command, named["by"].uid) == ("web", ["true"], os.getuid())


async def test_without_an_image_it_is_404_and_clients_pull(server: Server) -> None:
    server.engine.answers["images.inspect"] = NotFound("image", "busybox")
    assert message(await create(server)) == (404, "No such image: busybox")


async def test_an_image_for_another_platform(server: Server) -> None:
    status, text = message(await create(server, "/containers/create?platform=linux/arm64"))
    assert (status, "was found but does not match the specified platform" in text) == (404, True)


async def test_a_name_that_is_taken(server: Server) -> None:
    server.engine.answers["containers.create"] = AlreadyExists("taken", "container", "web", ID)
    status, text = message(await create(server))
    assert status == 409
    assert text.startswith(f'Conflict. The container name "/web" is already in use by container "{ID}". You have to')


@pytest.mark.parametrize("name", ["a", "-a", "a%2fb"])
async def test_a_name_that_none_may_have(server: Server, name: str) -> None:
    status, text = message(await create(server, f"/containers/create?name={name}"))
    assert (status, text.startswith("Invalid container name")) == (400, True)


async def test_what_else_is_not_there_is_400_or_clients_would_pull(server: Server) -> None:
    server.engine.answers["containers.create"] = NotFound("network", "x")
    assert message(await create(server)) == (400, "network x not found")
    status, text = message(await create(server, HostConfig={"LogConfig": {"Type": "syslog"}}))
    assert (status, text.startswith("error looking up logging plugin syslog")) == (400, True)


async def test_a_volume_s_labels_stand_in_its_mount(server: Server) -> None:
    options = {"type": "none", "o": "bind", "device": "/srv"}
    said = {"Labels": {"a": "b"}, "DriverConfig": {"Name": "local", "Options": options}}
    mount = {"Type": "volume", "Source": "v", "Target": "/v", "VolumeOptions": said}
    assert (await create(server, HostConfig={"Mounts": [mount]}))[0] == 201
    [(args, named)] = [(args, named) for call, args, named in server.engine.calls if call == "volumes.create"]
    assert (args, named["options"]) == (("v", {"a": "b"}), options)


async def test_a_kill_returns_once_it_has_ended(server: Server) -> None:
    server.engine.answers["containers.kill"] = None
    assert await server.ask("POST", "/containers/web/kill") == (204, None)
    assert [call for call, _, _ in server.engine.calls[-2:]] == ["containers.kill", "containers.wait"]
    assert await server.ask("POST", "/containers/web/kill?signal=HUP") == (204, None)
    assert server.engine.calls[-1][0] == "containers.kill"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"Image":1}', b"[" * 100_000, b'{"Image":"x","Env":"y"}', b"\xff"]
)
async def test_a_body_that_is_none(server: Server, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    status, _ = message(await server.ask("POST", "/containers/create", data=body, headers=headers))
    assert status == 400


async def test_starts_and_stops_that_change_nothing(server: Server) -> None:
    assert await server.ask("POST", "/containers/web/start") == (304, None)
    server.engine.answers["containers.inspect"] = CREATED
    assert await server.ask("POST", "/containers/web/stop") == (304, None)
    assert await server.ask("POST", "/containers/web/start", data=b"{}") == (204, None)
    status, text = message(await server.ask("POST", "/containers/web/start", data=b'{"Binds":[]}'))
    assert (status, "non-empty request body" in text) == (400, True)


async def test_a_stop_with_a_signal_and_a_time_of_its_own(server: Server) -> None:
    for query, expected in (
        ("t=5&signal=INT", (5, 2)),
        ("t=-1", (float("inf"), None)),
        ("", (None, None)),
        ("t=0", (0, None)),
    ):
        assert await server.ask("POST", f"/containers/web/stop?{query}") == (204, None)
        assert server.engine.calls[-1][1] == (ID, *expected)


async def test_the_head_of_a_wait_comes_before_its_end(server: Server) -> None:
    ended = asyncio.Event()

    async def wait(*_: object) -> doc.WaitResult:
        await ended.wait()
        return doc.WaitResult(status_code=7)

    server.engine.answers["containers.wait"] = wait
    async with server.http.post("http://docker/containers/web/wait?condition=next-exit") as response:
        assert response.status == 200
        ended.set()
        assert await response.json() == {"StatusCode": 7, "Error": None}
    assert server.engine.calls[-1][1] == (ID, "next-exit")
    assert message(await server.ask("POST", "/containers/web/wait?condition=x"))[0] == 400


async def test_a_wait_for_what_never_ran(server: Server) -> None:
    server.engine.answers["containers.wait"] = NotFound("container", "web")
    _, document = await server.ask("POST", "/containers/web/wait?condition=next-exit")
    assert document == {"StatusCode": 0, "Error": {"Message": "No such container: web"}}


@pytest.mark.parametrize(
    "filters", ['{"label":{"a=b":true,"c":false}}', '{"label":["a=b"]}', '{"label":["a=b"],"name":[]}']
)
async def test_filters_of_go_and_of_python(server: Server, filters: str) -> None:
    await server.ask("GET", "/containers/json", params={"filters": filters, "all": "True", "limit": "-1", "wat": "1"})
    assert server.engine.calls[-1][2] == {"all": True, "filters": {"label": ["a=b"]}, "size": False}


@pytest.mark.parametrize("filters", ["{", "[]", '{"label":1}', '{"label":{"a":1}}', "[" * 10_000, '{"label":[[]]}'])
async def test_filters_that_are_none(server: Server, filters: str) -> None:
    status, _ = message(await server.ask("GET", "/containers/json", params={"filters": filters}))
    assert status == 400


@pytest.mark.parametrize(("word", "value"), [("1", True), ("True", True), ("0", False), ("", False), ("false", False)])
async def test_booleans(server: Server, word: str, value: bool) -> None:
    await server.ask("DELETE", f"/containers/web?force={word}")
    assert server.engine.calls[-1][2] == {"force": value, "volumes": False}


# streams


async def test_an_attached_client(server: Server) -> None:
    reader, writer, head = await server.hijack("/v1.51/containers/web/attach?stream=1&stdin=1&stdout=1&stderr=1")
    assert head.startswith("HTTP/1.1 101 UPGRADED") and "docker.multiplexed-stream" in head
    session = server.engine.session
    assert session
    writer.write(b"all of it")
    writer.write_eof()
    await session.stdin_closed.wait()
    assert session.stdin == b"all of it"
    await session.say(b"answer", 2)
    await session.end(3)
    assert await reader.read() == frame(2, b"answer")
    writer.close()


async def test_a_client_without_an_upgrade_has_the_stream_all_the_same(server: Server) -> None:
    reader, writer, head = await server.hijack("/containers/web/attach?stream=1&stdout=1", b"{}", upgrade=False)
    assert head.startswith("HTTP/1.1 200 OK")
    session = server.engine.session
    assert session
    writer.write_eof()
    await session.say(b"out")
    await session.end()
    assert await reader.read() == frame(1, b"out")
    assert not session.stdin
    writer.close()


async def test_a_terminal_outlives_its_client_s_input(server: Server) -> None:
    server.engine.answers["containers.inspect"] = TERMINAL
    reader, writer, head = await server.hijack("/containers/web/attach?stream=1&stdin=1&stdout=1")
    assert "docker.raw-stream" in head
    session = server.engine.session
    assert session
    writer.write(b"ls\n\x10\x11")
    assert await reader.read() == b""
    await session.detached.wait()
    assert (bytes(session.stdin), session.stdin_closed.is_set()) == (b"ls\n", False)
    writer.close()


async def test_stdin_ends_with_the_client_that_it_is_for(server: Server) -> None:
    _, writer, _ = await server.hijack("/containers/web/attach?stream=1&stdin=1&stdout=1")
    session = server.engine.session
    assert session
    writer.close()
    await session.stdin_closed.wait()


async def test_what_was_written_and_no_more(server: Server) -> None:
    reader, writer, _ = await server.hijack("/containers/web/attach?logs=1&stdout=1&stderr=1")
    assert await reader.read() == frame(1, b"hello\n") + frame(2, b"\xff")
    writer.close()
    assert server.engine.session is None


async def test_an_exec_is_two_calls(server: Server) -> None:
    server.engine.answers["execs.inspect"] = doc.Exec(
        id="e1", container_id="c1", running=False, exit_code=None, pid=0, tty=False, open_stdin=False, command=["sh"]
    )
    body = {"Cmd": ["sh"], "AttachStdout": True, "User": "", "Env": None, "ConsoleSize": None}
    assert await server.ask("POST", "/containers/web/exec", json=body) == (201, {"Id": "e1"})
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
    server.engine.answers["execs.start"] = GuestError("cannot run x", 2, exec=True)
    reader, writer, head = await server.hijack("/exec/e1/start", b"{}")
    assert head.startswith("HTTP/1.1 101")
    assert b"executable file not found in $PATH\r\n" in await reader.read()
    writer.close()


@pytest.mark.parametrize("body", [{}, {"Cmd": []}, {"Cmd": [""]}])
async def test_an_exec_of_nothing(server: Server, body: dict[str, Any]) -> None:
    assert message(await server.ask("POST", "/containers/web/exec", json=body)) == (400, "No exec command specified")


async def test_logs_come_in_frames(server: Server) -> None:
    async with server.http.get("http://docker/containers/web/logs?stdout=1&stderr=1&until=0") as response:
        assert response.content_type == "application/vnd.docker.multiplexed-stream"
        assert await response.read() == frame(1, b"hello\n") + frame(2, b"\xff")
    assert server.engine.calls[-1][2]["until_ns"] is None
    assert message(await server.ask("GET", "/containers/web/logs"))[0] == 400


async def test_the_head_of_a_log_comes_before_its_first_line(server: Server) -> None:
    written = asyncio.Event()

    async def logs(*_: object, **__: object) -> AsyncGenerator[doc.LogEntry, None]:
        async def entries() -> AsyncGenerator[doc.LogEntry, None]:
            await written.wait()
            yield doc.LogEntry(stream=1, time_ns=1, data=b"late")

        return entries()

    server.engine.answers["containers.logs"] = logs
    async with server.http.get("http://docker/containers/web/logs?stdout=1&follow=1") as response:
        written.set()
        assert await response.read() == frame(1, b"late")


async def test_stats_of_one_that_does_not_run_are_zeros(server: Server) -> None:
    server.engine.answers["containers.stats"] = WrongState("measure", "web", "exited")
    status, document = await server.ask("GET", "/containers/web/stats?stream=0&one-shot=1")
    assert isinstance(document, dict)
    assert (status, document["read"], document["memory_stats"]) == (200, "0001-01-01T00:00:00Z", {})


async def test_events_of_docker_s_kinds(server: Server) -> None:
    async with server.http.get("http://docker/events?since=1&until=2") as response:
        lines = (await response.read()).splitlines()
    assert json.loads(lines[0])["Type"] == "container"
    assert server.engine.calls[-1][1] == (
        1_000_000_000,
        2_000_000_000,
        {"type": ["container", "image", "volume", "network"]},
    )


# images


async def test_a_pull(server: Server) -> None:
    auth = base64.urlsafe_b64encode(json.dumps({"username": "me", "password": "x"}).encode()).decode()
    target = "http://docker/images/create?fromImage=team/app&tag=1"
    async with server.http.post(target, headers={"X-Registry-Auth": auth}) as response:
        lines = (await response.read()).split(b"\r\n")
    assert json.loads(lines[0]) == {"status": "download", "progressDetail": {}, "id": "layer"}
    assert json.loads(lines[-2])["status"] == "Status: Image is up to date for team/app:1"
    _, args, named = server.engine.calls[-1]
    assert (args, named["credentials"]) == (("team/app:1",), Credentials(username="me", password="x"))


@pytest.mark.parametrize("header", ["", "e30=", "!!!", "bnVsbA==", "W10="])
async def test_credentials_that_are_none(server: Server, header: str) -> None:
    async with server.http.post(
        "http://docker/images/create?fromImage=x:1", headers={"X-Registry-Auth": header}
    ) as response:
        assert response.status == 200
    assert server.engine.calls[-1][2]["credentials"] is None


async def test_a_pull_that_fails_at_once_has_a_status(server: Server) -> None:
    async def pull(*_: object, **__: object) -> AsyncGenerator[object, None]:
        async def run() -> AsyncGenerator[object, None]:
            raise NotFound("image", "x:1")
            yield

        return run()

    server.engine.answers["images.pull"] = pull
    assert message(await server.ask("POST", "/images/create?fromImage=x&tag=1")) == (404, "No such image: x:1")


async def test_a_pull_that_fails_later_says_so_in_its_last_line(server: Server) -> None:
    async def pull(*_: object, **__: object) -> AsyncGenerator[object, None]:
        async def run() -> AsyncGenerator[object, None]:
            yield doc.Progress(id="a", action="Downloading", current=1, total=2)
            raise Unavailable("cut")

        return run()

    server.engine.answers["images.pull"] = pull
    async with server.http.post("http://docker/images/create?fromImage=x&tag=1") as response:
        *_, last, _ = (await response.read()).split(b"\r\n")
    assert json.loads(last) == {"errorDetail": {"message": "cut"}, "error": "cut"}


async def test_a_push(server: Server) -> None:
    async with server.http.post("http://docker/images/host:5000/a/b/push?tag=1") as response:
        *_, last, _ = (await response.read()).split(b"\r\n")
    assert json.loads(last)["aux"] == {"Tag": "1", "Digest": "sha256:1", "Size": 2}
    _, args, named = server.engine.calls[-1]
    assert (args, named) == (("host:5000/a/b:1",), {"all_tags": False, "credentials": None})
    async with server.http.post("http://docker/images/host:5000/a/b/push") as response:
        assert response.status == 200
    assert server.engine.calls[-1][1:] == (("host:5000/a/b",), {"all_tags": True, "credentials": None})
    server.engine.answers["images.inspect"] = NotFound("image", "x:1")
    assert message(await server.ask("POST", "/images/x/push?tag=1")) == (404, "No such image: x:1")


async def test_all_tags_are_refused(server: Server) -> None:
    assert message(await server.ask("POST", "/images/create?fromImage=x"))[0] == 400


async def test_names_with_slashes_stand_in_paths(server: Server) -> None:
    for name in "busybox", "127.0.0.1:5001/a/b:1", "a@sha256:" + "d" * 64:
        status, _ = await server.ask("GET", f"/images/{name}/json")
        assert (status, server.engine.calls[-1][1]) == (200, (name,))


async def test_a_load_says_what_came(server: Server) -> None:
    async with server.http.post("http://docker/images/load", data=b"tar") as response:
        assert json.loads(await response.read()) == {"stream": "Loaded image: busybox:latest\n"}


async def test_a_removal_of_an_image(server: Server) -> None:
    assert await server.ask("DELETE", "/images/a/b:1") == (
        200,
        [{"Untagged": "busybox:latest"}, {"Deleted": "sha256:1"}],
    )
    server.engine.answers["images.tag"] = None
    assert await server.ask("POST", "/images/a/b/tag?repo=c/d&tag=2") == (201, None)
    assert server.engine.calls[-1][1] == ("a/b", "c/d:2")


# the rest


async def test_volumes(server: Server) -> None:
    volume = {
        "Name": "data",
        "Driver": "local",
        "Mountpoint": "/v/data",
        "CreatedAt": "2026-01-01T00:00:00Z",
        "Labels": None,
        "Options": None,
        "Scope": "local",
    }
    assert await server.ask("GET", "/volumes") == (200, {"Volumes": [volume], "Warnings": None})
    assert await server.ask("POST", "/volumes/create") == (201, volume)
    assert message(await server.ask("POST", "/volumes/create", json={"Driver": "nfs"}))[0] == 404
    server.engine.answers["volumes.inspect"] = NotFound("volume", "x")
    assert message(await server.ask("GET", "/volumes/x")) == (404, "get x: no such volume")
    for version, everything in ("1.41", True), ("1.42", False):
        assert (await server.ask("POST", f"/v{version}/volumes/prune"))[0] == 200
        assert server.engine.calls[-1][2]["all"] is everything


async def test_networks(server: Server) -> None:
    body = {
        "Name": "net",
        "Driver": "",
        "CheckDuplicate": True,
        "EnableIPv6": False,
        "IPAM": {"Driver": "default", "Config": [{"Subnet": "10.1.0.0/24", "IPRange": "10.1.0.128/25"}]},
        "Labels": {"a": "b"},
        "Options": None,
    }
    assert await server.ask("POST", "/networks/create", json=body) == (201, {"Id": NETWORK.id, "Warning": ""})
    [asked], _ = next((args, named) for call, args, named in server.engine.calls if call == "networks.create")
    subnet = SubnetSpec(subnet="10.1.0.0/24", ip_range="10.1.0.128/25")
    assert asked == NetworkSpec(name="net", subnets=[subnet], labels={"a": "b"})
    _, found = await server.ask("GET", "/networks")
    assert isinstance(found, list) and found[0]["ConfigFrom"] == {"Network": ""}
    server.engine.answers["networks.create"] = AlreadyExists("taken", "network", "net")
    assert message(await server.ask("POST", "/networks/create", json=body)) == (
        409,
        "network with name net already exists",
    )
    server.engine.answers["networks.inspect"] = NotFound("network", "x")
    assert message(await server.ask("GET", "/networks/x")) == (404, "network x not found")


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"Name": "bridge"}, 403, "predefined"),
        ({"Name": "x", "Driver": "overlay"}, 404, 'plugin "overlay" not found'),
        ({"Name": "x", "Scope": "swarm"}, 400, "cannot set Scope"),
        ({"Name": "x", "Ingress": True}, 400, "cannot set Ingress"),
        ({"Name": "x", "EnableIPv4": False}, 400, "cannot set EnableIPv4"),
        ({"Name": "x", "ConfigFrom": {"Network": "y"}}, 400, "cannot set ConfigFrom"),
        ({"Name": "x", "IPAM": {"Driver": "dhcp"}}, 400, "cannot set IPAM's Driver"),
        ({"Name": "x", "IPAM": {"Config": [{"AuxiliaryAddresses": {"a": "b"}}]}}, 400, "cannot set Auxiliary"),
    ],
)
async def test_networks_that_are_none(server: Server, body: dict[str, Any], status: int, words: str) -> None:
    found, text = message(await server.ask("POST", "/networks/create", json=body))
    assert (found, words in text) == (status, True), text


async def test_joining_and_leaving_a_network(server: Server) -> None:
    body = {"Container": "web", "EndpointConfig": {"Aliases": ["a"], "IPAMConfig": {"IPv4Address": "10.0.0.9"}}}
    assert await server.ask("POST", "/networks/net/connect", json=body) == (200, None)
    _, args, _ = server.engine.calls[-1]
    assert args == (NETWORK.id, "web", EndpointSpec(network=NETWORK.name, address="10.0.0.9", aliases=["a"]))
    server.engine.answers["networks.connect"] = AlreadyExists("it is in it", "endpoint", "net")
    status, text = message(await server.ask("POST", "/networks/net/connect", json={"Container": "web"}))
    assert (status, text) == (403, f"endpoint with name web already exists in network {NETWORK.name}")
    server.engine.answers["networks.disconnect"] = NotFound("endpoint", "web in network net")
    status, text = message(await server.ask("POST", "/networks/net/disconnect", json={"Container": "web"}))
    assert (status, text) == (403, "container web is not connected to network net")
    server.engine.answers["networks.remove"] = InUse("in use", "network", "net", ["container web"])
    status, text = message(await server.ask("DELETE", "/networks/net"))
    assert (status, text.endswith("has active endpoints: container web")) == (403, True)


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


async def test_what_is_not_understood_never_is_500(server: Server) -> None:
    for error in InvalidInput("no"), HyperError("broken"):
        server.engine.answers["containers.top"] = error
        status, _ = message(await server.ask("GET", "/containers/web/top?ps_args=x"))
        assert status == (400 if isinstance(error, InvalidInput) else 500)
    for target in "/containers/web/resize?h=x&w=1", "/containers/web/resize", "/containers/web/stop?t=x":
        assert message(await server.ask("POST", target))[0] == 400
    assert message(await server.ask("POST", "/containers/web/kill?signal=BOGUS")) == (400, "invalid signal: BOGUS")


async def test_a_suspended_container_is_a_paused_one(server: Server) -> None:
    suspended = replace(CONTAINER, state=replace(CONTAINER.state, status="suspended", running=False))
    server.engine.answers["containers.inspect"] = suspended
    _, document = await server.ask("GET", "/containers/web/json")
    assert isinstance(document, dict)
    assert (document["State"]["Status"], document["State"]["Paused"]) == ("paused", True)
    assert document["HostConfig"]["LogConfig"] == {"Type": "json-file", "Config": {}}
    assert document["HostConfig"]["NetworkMode"] == "bridge"
    assert "Health" not in document["State"]


async def test_nothing_follows_the_head_before_it_is_read(server: Server) -> None:
    """docker-py reads the head with a buffer, which it throws away with whatever else is in it."""
    session = server.engine.session = FakeSession()
    await session.say(b"at once")
    await session.end()
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        await loop.sock_connect(client, str(server.path))
        request = b"POST /containers/web/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\n"
        await loop.sock_sendall(client, request + b"Upgrade: tcp\r\n\r\n")
        for _ in range(1000):
            await asyncio.sleep(0)
        assert (await loop.sock_recv(client, 65536)).endswith(b"\r\n\r\n")
        assert await loop.sock_recv(client, 65536) == frame(1, b"at once")
