"""/build: what clients send becomes what is wanted, and what is printed becomes docker's lines."""

import base64
import json

import pytest

from hypercontainer.errors import BuildFailed, InvalidInput
from hypercontainer.hyperd.docker.errors import last_line
from hypercontainer.model.api import Credentials
from hypercontainer.model.spec import Build, Ulimit
from tests.unit.hyperd.docker.conftest import Server

# As docker's CLI 20.10 sends it.
USUAL = (
    "cachefrom=%5B%5D&cgroupparent=&cpuperiod=0&cpuquota=0&cpusetcpus=&cpusetmems=&cpushares=0&memory=0&memswap=0&"
    "networkmode=default&rm=1&shmsize=0&ulimits=null&version=1&buildargs=%7B%7D&labels=%7B%7D&dockerfile=Dockerfile"
)


async def test_what_a_client_asks_for(server: Server) -> None:
    query = (
        "t=a:1&t=b&dockerfile=x/Own&buildargs=%7B%22A%22%3A%22b%22%2C%22N%22%3Anull%7D&labels=%7B%22l%22%3A%221%22%7D&"
        "nocache=1&pull=1&target=last&networkmode=none&memory=1048577&ulimits=%5B%7B%22Name%22%3A%22nofile%22%2C"
        "%22Soft%22%3A1%2C%22Hard%22%3A2%7D%5D&extrahosts=a:1.2.3.4&extrahosts=b:fd00::1"
    )
    config = base64.urlsafe_b64encode(json.dumps({"h:1": {"username": "me", "password": "p"}}).encode()).decode()
    usual = USUAL.partition("&memory=")[0].replace("cachefrom=%5B%5D", "cachefrom=%5B%22c%3A1%22%5D")
    address = f"http://docker/v1.41/build?{usual}&{query}"
    async with server.http.post(address, data=b"tar", headers={"X-Registry-Config": config}) as response:
        lines = [json.loads(line) for line in (await response.read()).splitlines()]
    assert lines == [{"stream": "Step 1/1 : FROM x\n"}, {"aux": {"ID": "sha256:1"}}]
    assert server.engine.received == b"tar"
    [(call, (wanted,), named)] = server.engine.calls
    assert (call, named["credentials"]) == ("builds.run", {"h:1": Credentials(username="me", password="p")})
    assert wanted == Build(
        dockerfile="x/Own",
        names=["a:1", "b"],
        args={"A": "b"},
        labels={"l": "1"},
        target="last",
        no_cache=True,
        cache_from=["c:1"],
        pull=True,
        network="none",
        extra_hosts={"a": "1.2.3.4", "b": "fd00::1"},
        memory_mib=2,
        ulimits=[Ulimit(name="nofile", soft=1, hard=2)],
    )


async def test_what_is_usual_is_as_not_said(server: Server) -> None:
    async with server.http.post(f"http://docker/build?{USUAL}&q=1", data=b"") as response:
        assert (response.status, json.loads(await response.read())) == (200, {"stream": "sha256:1\n"})
    assert server.engine.calls[0][1] == (Build(),)


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("remote=https://h/x.git", "contexts are not fetched"),
        ("squash=1", "layers are not squashed"),
        ("version=2", "BuildKit"),
        ("cpuquota=5", "cannot build with cpuquota"),
        ("isolation=hyperv", "cannot build with isolation"),
        ("buildargs=[]", "no object of strings"),
        ("labels={", "cannot read labels"),
        ("extrahosts=a", "they are NAME:ADDRESS"),
    ],
)
async def test_what_cannot_be_had_is_refused_by_its_name(server: Server, query: str, why: str) -> None:
    async with server.http.post(f"http://docker/build?{query}", data=b"") as response:
        assert (response.status, why in (await response.json())["message"]) == (400, True)


async def test_what_changes_nothing_is_said(server: Server) -> None:
    async with server.http.post(f"http://docker/build?{USUAL}", data=b"") as response:
        assert b"Warning" not in await response.read()
    changed = USUAL.replace("cpushares=0", "cpushares=5").replace("memswap=0", "memswap=-1")
    async with server.http.post(f"http://docker/build?{changed}", data=b"") as response:
        lines = [json.loads(line)["stream"] for line in (await response.read()).splitlines()[:2]]
    assert lines == [
        "[Warning] cpushares changes nothing: a machine has processors of its own\n",
        "[Warning] memswap changes nothing: virtual machines have no swap\n",
    ]


async def test_what_goes_wrong_at_once_has_a_status_and_a_command_its_code(server: Server) -> None:
    server.engine.answers["builds.run"] = InvalidInput("dockerfile parse error line 1: unknown instruction: FOO")
    status, document = await server.ask("POST", "/build", data=b"")
    assert (status, document) == (400, {"message": "dockerfile parse error line 1: unknown instruction: FOO"})


def test_the_code_is_in_the_last_line() -> None:
    assert last_line(BuildFailed("no", 7)) == {"errorDetail": {"code": 7, "message": "no"}, "error": "no"}
