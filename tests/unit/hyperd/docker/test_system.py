"""The daemon itself: whether it is there, what it speaks, that it is of no swarm."""

from pathlib import Path

import msgspec
import pytest

from hypercontainer.hyperd.docker import refused
from hypercontainer.model import documents as doc
from tests.unit.hyperd.docker.conftest import Server, message
from tests.unit.hyperd.fake import EMULATED

DOCS = Path(__file__).parents[4] / "docs/docker.md"
INFO = doc.Info(
    name="host",
    server_version="1",
    root="/root",
    run="/run",
    pods=0,
    containers=0,
    containers_running=0,
    containers_paused=0,
    containers_stopped=0,
    images=0,
    ncpu=1,
    mem_total=1,
    operating_system="Debian",
    kernel_version="6",
    architecture="x86_64",
    hypervisor=doc.Hypervisor(name="qemu", version="7"),
    guest_kernel="",
    isolation=EMULATED,
    warnings=["the disk is full"],
)


async def test_a_ping_says_what_is_spoken(server: Server) -> None:
    for method, target, body in ("GET", "/_ping", b"OK"), ("HEAD", "/_ping", b""), ("GET", "/v1.41/_ping", b"OK"):
        async with server.http.request(method, f"http://docker{target}") as response:
            assert (response.status, await response.read()) == (200, body)
            assert response.headers["Api-Version"] == "1.51"
            assert response.headers["Ostype"] == "linux"
            assert response.headers["Docker-Experimental"] == "false"
            assert response.headers["Server"].startswith("Docker/")
            assert response.headers["Builder-Version"] == "1"


@pytest.mark.parametrize("field", [*refused.VOID_SIZES, "cpu_realtime_period", "cpu_realtime_runtime"])
async def test_info_tells_what_a_container_cannot_be_held_to(server: Server, field: str) -> None:
    server.engine.answers["system.info"] = INFO
    _, document = await server.ask("GET", "/info")
    assert isinstance(document, dict)
    words = f"No {refused.LACKING[field]} support"
    assert f"WARNING: {words}" in document["Warnings"] and f"| `{words}` |" in DOCS.read_text()
    assert document["Warnings"][0] == "WARNING: the disk is full"
    said = (document["MemoryLimit"], document["SwapLimit"], document["CPUSet"], document["OomKillDisable"])
    assert said == (True, False, False, False)


async def test_info_tells_what_confines(server: Server) -> None:
    for info in (INFO, msgspec.structs.replace(INFO, apparmor=True)):
        server.engine.answers["system.info"] = info
        _, document = await server.ask("GET", "/info")
        assert isinstance(document, dict) and ("name=apparmor" in document["SecurityOptions"]) == info.apparmor


async def test_info_tells_mirrors_as_docker_does(server: Server) -> None:
    hub = doc.Registry(name="docker.io", mirrors=["https://mirror.example/"], insecure=False)
    own = doc.Registry(name="a.example", mirrors=["http://b.example/"], insecure=True)
    server.engine.answers["system.info"] = msgspec.structs.replace(INFO, registries=[own, hub])
    _, document = await server.ask("GET", "/info")
    assert isinstance(document, dict)
    said = document["RegistryConfig"]
    assert (said["Mirrors"], said["InsecureRegistryCIDRs"]) == (hub.mirrors, ["::1/128", "127.0.0.0/8"])
    assert said["IndexConfigs"] == {
        "a.example": {"Name": "a.example", "Mirrors": own.mirrors, "Secure": False, "Official": False},
        "docker.io": {"Name": "docker.io", "Mirrors": hub.mirrors, "Secure": True, "Official": True},
    }


async def test_no_swarm(server: Server) -> None:
    for target in "/swarm", "/nodes", "/services/x", "/secrets/create":
        status, text = message(await server.ask("GET", target))
        assert status == 503 and text.startswith("This node is not a swarm manager.")


async def test_anybody_may_ask_what_may_be_asked(server: Server) -> None:
    for path in "/info", "/v1.41/containers/json", "/nosuch":
        assert await server.ask("OPTIONS", path) == (200, None)


async def test_an_image_that_is_used_cannot_be_reclaimed(server: Server) -> None:
    """As the CLI counts: it takes a size that is not known for nothing."""
    image = doc.ImageEntry(
        id="sha256:1", repo_tags=["x:1"], repo_digests=[], created=1, size=5, labels={}, containers=1
    )
    server.engine.answers |= {"images.list": [image], "containers.list": [], "volumes.list": [], "networks.list": []}
    status, document = await server.ask("GET", "/system/df")
    assert status == 200 and isinstance(document, dict)
    [found] = document["Images"]
    assert (found["SharedSize"], found["Containers"], found["Size"]) == (0, 1, 5)


async def test_disks_of_what_is_asked_for(server: Server) -> None:
    server.engine.answers |= {"images.list": [], "containers.list": [], "volumes.list": [], "networks.list": []}
    kinds = ("Images", "Containers", "Volumes")
    for query, there in ("", kinds), ("?type=image&type=volume", ("Images", "Volumes")), ("?type=build-cache", ()):
        status, document = await server.ask("GET", f"/system/df{query}")
        assert status == 200 and isinstance(document, dict)
        assert [kind for kind in kinds if document[kind] is not None] == list(there)
    assert message(await server.ask("GET", "/system/df?type=x"))[0] == 400
