"""The daemon itself: whether it is there, what it speaks, that it is of no swarm."""

from tests.unit.hyperd.docker.conftest import Server, message


async def test_a_ping_says_what_is_spoken(server: Server) -> None:
    for method, target, body in ("GET", "/_ping", b"OK"), ("HEAD", "/_ping", b""), ("GET", "/v1.41/_ping", b"OK"):
        async with server.http.request(method, f"http://docker{target}") as response:
            assert (response.status, await response.read()) == (200, body)
            assert response.headers["Api-Version"] == "1.51"
            assert response.headers["Ostype"] == "linux"
            assert response.headers["Docker-Experimental"] == "false"
            assert response.headers["Server"].startswith("Docker/")
            assert response.headers["Builder-Version"] == "1"


async def test_no_swarm(server: Server) -> None:
    for target in "/swarm", "/nodes", "/services/x", "/secrets/create":
        status, text = message(await server.ask("GET", target))
        assert status == 503 and text.startswith("This node is not a swarm manager.")
