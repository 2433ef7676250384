"""Images, and what registries say of them."""

import base64
import json
import urllib.parse
from collections.abc import AsyncGenerator

import pytest
from msgspec.structs import replace

from hypercontainer.errors import Denied, NotFound, OtherPlatform, Unavailable
from hypercontainer.model import documents as doc
from hypercontainer.model.api import Credentials
from tests.unit.hyperd.docker.conftest import Server, message
from tests.unit.hyperd.docker.documents import IMAGE


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
    assert (args, named) == (("host:5000/a/b:1",), {"all_tags": False, "platform": "", "credentials": None})
    async with server.http.post("http://docker/images/host:5000/a/b/push") as response:
        assert response.status == 200
    assert server.engine.calls[-1][1:] == (("host:5000/a/b",), {"all_tags": True, "platform": "", "credentials": None})
    server.engine.answers["images.inspect"] = NotFound("image", "x:1")
    assert message(await server.ask("POST", "/images/x/push?tag=1")) == (404, "No such image: x:1")


@pytest.mark.parametrize(
    ("query", "name", "all_tags"),
    [
        ("fromImage=h:5000/x", "h:5000/x", True),
        ("fromImage=x&tag=1", "x:1", False),
        ("fromImage=x:1", "x:1", False),
        ("fromImage=x&tag=sha256:1", "x@sha256:1", False),
    ],
)
async def test_a_repository_alone_is_all_of_its_tags(server: Server, query: str, name: str, all_tags: bool) -> None:
    async with server.http.post(f"http://docker/images/create?{query}") as response:
        assert response.status == 200
    _, args, named = server.engine.calls[-1]
    assert (args, named["all_tags"]) == ((name,), all_tags)


async def test_what_a_registry_has(server: Server) -> None:
    found = doc.Descriptor(media_type="application/vnd.oci.image.index.v1+json", digest="sha256:1", size=9)
    platform = doc.Platform(os="linux", architecture="arm", variant="v7")
    server.engine.answers["images.distribution"] = doc.Distribution(descriptor=found, platforms=[platform])
    header = base64.urlsafe_b64encode(b'{"username":"me","password":"x"}').decode()
    assert await server.ask("GET", "/v1.41/distribution/h:5000/a/b:1/json", headers={"X-Registry-Auth": header}) == (
        200,
        {
            "Descriptor": {
                "mediaType": "application/vnd.oci.image.index.v1+json",
                "digest": "sha256:1",
                "size": 9,
            },
            "Platforms": [{"os": "linux", "architecture": "arm", "variant": "v7"}],
        },
    )
    _, args, named = server.engine.calls[-1]
    assert (args, named) == (("h:5000/a/b:1",), {"credentials": Credentials(username="me", password="x")})
    server.engine.answers["images.distribution"] = Denied("h:5000 wants credentials")
    assert message(await server.ask("GET", "/distribution/h:5000/a/json")) == (403, "h:5000 wants credentials")


async def test_registries_cannot_be_searched(server: Server) -> None:
    status, words = message(await server.ask("GET", "/images/search?term=x&limit=25"))
    assert (status, words.startswith("cannot search: ")) == (501, True)


async def test_of_which_container_an_image_was_committed_is_told_to_old_clients(server: Server) -> None:
    server.engine.answers["images.inspect"] = replace(IMAGE, container="c1", container_config={"Image": "x"})
    _, document = await server.ask("GET", "/v1.41/images/x/json")
    assert isinstance(document, dict)
    assert (document["Container"], document["ContainerConfig"]) == ("c1", {"Image": "x"})
    _, document = await server.ask("GET", "/v1.45/images/x/json")
    assert isinstance(document, dict) and "Container" not in document


async def test_names_with_slashes_stand_in_paths(server: Server) -> None:
    for name in "busybox", "127.0.0.1:5001/a/b:1", "a@sha256:" + "d" * 64:
        status, _ = await server.ask("GET", f"/images/{name}/json")
        assert (status, server.engine.calls[-1][1]) == (200, (name,))


OTHER = urllib.parse.quote('{"os":"linux","architecture":"arm64","variant":"v8"}')
MINE = urllib.parse.quote('{"os":"linux","architecture":"amd64"}')


@pytest.mark.parametrize(
    ("method", "target", "verb"),
    [
        ("GET", "/images/busybox/json?platform=", ""),
        ("GET", "/images/busybox/history?platform=", "images.history"),
        ("GET", "/images/busybox/get?platform=", "images.save"),
        ("GET", "/images/get?names=busybox&platform=", "images.save"),
        ("POST", "/images/busybox/push?tag=latest&platform=", "images.push"),
        ("DELETE", "/images/busybox?platforms=", "images.remove"),
    ],
)
async def test_an_image_for_another_platform_is_not_there(server: Server, method: str, target: str, verb: str) -> None:
    status, words = message(await server.ask(method, f"/v1.50{target}{OTHER}"))
    assert (status, "was found but does not match the specified platform: wanted linux/arm64/v8" in words) == (
        404,
        True,
    )
    assert [name for name, *_ in server.engine.calls] == ["images.inspect"]
    async with server.http.request(method, f"http://docker/v1.50{target}{MINE}") as response:
        assert response.status == 200
    assert verb in ["", *(name for name, *_ in server.engine.calls)]
    for nonsense in "{", '{"os":7}', "a/b/c/d":
        assert message(await server.ask(method, f"/v1.50{target}{urllib.parse.quote(nonsense)}"))[0] == 400


@pytest.mark.parametrize(
    ("method", "target", "args", "named"),
    [
        ("GET", "/images/busybox/json?platform=", ("busybox", "linux/amd64"), {}),
        ("GET", "/images/busybox/history?platform=", ("busybox", "linux/amd64"), {}),
        ("GET", "/images/busybox/get?platform=", (["busybox"], "docker", ["linux/amd64"]), {}),
        (
            "POST",
            "/images/busybox/push?tag=1&platform=",
            ("busybox:1",),
            {"all_tags": False, "platform": "linux/amd64", "credentials": None},
        ),
        ("POST", "/images/busybox/push?platform=", ("busybox",), None),
        (
            "DELETE",
            "/images/busybox?platforms=",
            ("busybox",),
            {"force": False, "parents": True, "platforms": ["linux/amd64"]},
        ),
        ("POST", "/images/load?platform=", (["linux/amd64"],), {}),
    ],
)
async def test_an_image_is_chosen_by_platform(
    server: Server, method: str, target: str, args: tuple[object, ...], named: dict[str, object] | None
) -> None:
    data = b"tar" if "load" in target else None
    async with server.http.request(method, f"http://docker/v1.50{target}{MINE}", data=data) as response:
        assert response.status == 200
    _, said, words = server.engine.calls[-1]
    assert said == args and (words == named if named is not None else words["platform"] == "linux/amd64")


async def test_one_that_is_not_here_names_those_that_are(server: Server) -> None:
    engine = server.engine

    async def inspect(name: str, platform: str = "") -> doc.Image:
        if platform:
            raise OtherPlatform(name, platform, ["linux/amd64", "linux/arm64"])
        return IMAGE

    engine.answers["images.inspect"] = inspect
    assert message(await server.ask("GET", "/images/busybox/json?platform=linux/s390x")) == (
        404,
        "image with reference busybox was found but does not match the specified platform: wanted linux/s390x, "
        "actual: linux/amd64, linux/arm64",
    )


async def test_a_load_says_what_came(server: Server) -> None:
    async with server.http.post("http://docker/images/load", data=b"tar") as response:
        assert json.loads(await response.read()) == {"stream": "Loaded image: busybox:latest\n"}


async def test_a_removal_of_an_image(server: Server) -> None:
    assert await server.ask("DELETE", "/images/a/b:1") == (
        200,
        [{"Untagged": "busybox:latest"}, {"Deleted": "sha256:1"}],
    )
    assert server.engine.calls[-1][2] == {"force": False, "parents": True, "platforms": []}
    await server.ask("DELETE", "/images/a?noprune=1&force=1")
    assert server.engine.calls[-1][2] == {"force": True, "parents": False, "platforms": []}
    server.engine.answers["images.tag"] = None
    assert await server.ask("POST", "/images/a/b/tag?repo=c/d&tag=2") == (201, None)
    assert server.engine.calls[-1][1] == ("a/b", "c/d:2")


async def test_an_import_has_its_tag_in_either_place(server: Server) -> None:
    for query in "repo=made:1", "repo=made&tag=1":
        assert (await server.ask("POST", f"/images/create?fromSrc=-&{query}", data=b""))[0] == 200
        assert server.engine.calls[-1][2]["name"] == "made:1"


async def test_an_import_may_be_for_another_platform(server: Server) -> None:
    assert (await server.ask("POST", "/images/create?fromSrc=-&platform=linux/arm64", data=b""))[0] == 200
    assert server.engine.calls[-1][2]["platform"] == "linux/arm64"


async def test_images_have_nothing_in_common(server: Server) -> None:
    """Each has a disk of its own; -1 says that nobody looked."""
    image = doc.ImageEntry(
        id="sha256:1", repo_tags=["x:1"], repo_digests=[], created=1, size=5, labels={}, containers=1
    )
    server.engine.answers["images.list"] = [image]
    for query, size in ("", -1), ("?shared-size=1", 0):
        _, document = await server.ask("GET", f"/images/json{query}")
        assert isinstance(document, list) and document[0]["SharedSize"] == size
