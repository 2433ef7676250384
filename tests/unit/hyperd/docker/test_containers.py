"""Containers: made, started, stopped, waited for."""

import asyncio
import errno
import os
from typing import Any

import pytest

from hypercontainer.errors import AlreadyExists, GuestError, NotFound
from hypercontainer.model import documents as doc
from tests.unit.hyperd.docker.conftest import Server, message
from tests.unit.hyperd.docker.documents import CREATED, ID


async def create(server: Server, target: str = "/containers/create?name=web", **body: Any) -> tuple[int, object]:
    return await server.ask("POST", target, json={"Image": "busybox", **body})


async def test_a_creation(server: Server) -> None:
    assert await create(server, Cmd=["true"], HostConfig={"MemorySwap": -1}) == (
        201,
        {"Id": "c1", "Warnings": ["MemorySwap changes nothing: virtual machines have no swap"]},
    )
    [spec], named = next((args, named) for call, args, named in server.engine.calls if call == "containers.create")
    assert (spec.name, spec.containers[0].command, named["by"].uid) == ("web", ["true"], os.getuid())


@pytest.mark.parametrize(
    ("version", "said", "ipc"),
    [("v1.39/", "", "shareable"), ("v1.39/", "private", "private"), ("v1.40/", "", ""), ("", "", "")],
)
async def test_clients_of_before_1_40_expect_memory_that_others_may_have(
    server: Server, version: str, said: str, ipc: str
) -> None:
    assert (await create(server, f"/{version}containers/create", HostConfig={"IpcMode": said}))[0] == 201
    [spec] = next(args for call, args, _ in server.engine.calls if call == "containers.create")
    assert spec.containers[0].ipc == ipc


async def test_without_an_image_it_is_404_and_clients_pull(server: Server) -> None:
    server.engine.answers["images.inspect"] = NotFound("image", "busybox")
    assert message(await create(server)) == (404, "No such image: busybox:latest")


@pytest.mark.parametrize("body", [b"null", b"{}"])
async def test_a_container_of_nothing(server: Server, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    said = message(await server.ask("POST", "/containers/create", data=body, headers=headers))
    assert said == (400, "Config cannot be empty in order to create a container")


async def test_an_image_for_another_platform(server: Server) -> None:
    assert message(await create(server, "/containers/create?platform=linux/arm64")) == (
        404,
        "image with reference busybox was found but does not match the specified platform: wanted linux/arm64, "
        "actual: linux/amd64",
    )
    assert message(await create(server, "/containers/create?platform=x/y/z/w")) == (
        400,
        '"x/y/z/w": cannot parse platform specifier: invalid argument',
    )


async def test_a_name_that_is_taken(server: Server) -> None:
    server.engine.answers["containers.create"] = AlreadyExists("taken", "container", "web", ID)
    status, text = message(await create(server))
    assert status == 409
    assert text.startswith(f'Conflict. The container name "/web" is already in use by container "{ID}". You have to')


@pytest.mark.parametrize("name", ["a", "-a", "a%2fb", "a" * 256])
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


async def test_a_kill_of_none_says_what_was_to_be_done(server: Server) -> None:
    server.engine.answers["containers.inspect"] = NotFound("container", "web")
    said = message(await server.ask("POST", "/containers/web/kill"))
    assert said == (404, "Cannot kill container: web: No such container: web")


async def test_a_rename_to_a_name_that_is_taken(server: Server) -> None:
    server.engine.answers["containers.rename"] = AlreadyExists("taken", "container", "other", ID)
    status, text = message(await server.ask("POST", "/containers/web/rename?name=other"))
    assert status == 409
    assert text.startswith('Error when allocating new name: Conflict. The container name "/other" is already in use by')


async def test_a_resize_of_what_has_no_terminal_is_nothing(server: Server) -> None:
    server.engine.answers["containers.resize"] = GuestError("cannot resize process: Not a tty", errno.ENOTTY)
    assert await server.ask("POST", "/containers/web/resize?h=1&w=1") == (200, None)
    server.engine.answers["containers.resize"] = GuestError("cannot resize process: gone", errno.ESRCH)
    assert message(await server.ask("POST", "/containers/web/resize?h=1&w=1"))[0] == 400


async def test_an_update_without_warnings_has_none(server: Server) -> None:
    server.engine.answers["containers.update"] = doc.Updated(warnings=[])
    assert await server.ask("POST", "/containers/web/update", json={}) == (200, {"Warnings": None})


async def test_a_link_is_removed_by_its_name(server: Server) -> None:
    assert await server.ask("DELETE", "/containers/web/store?link=1") == (204, None)
    assert server.engine.calls[-1][:2] == ("containers.unlink", ("web", "store"))
    for name, status in (("web", 400), ("web/a/b", 404), ("web/%20", 404)):
        assert message(await server.ask("DELETE", f"/containers/{name}?link=1"))[0] == status
    assert server.engine.calls[-1][0] == "containers.unlink"
