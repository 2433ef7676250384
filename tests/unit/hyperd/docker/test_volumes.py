"""Volumes."""

from hypercontainer.errors import NotFound
from tests.unit.hyperd.docker.conftest import Server, message


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
    status, text = message(await server.ask("POST", "/volumes/create", json={"ClusterVolumeSpec": {"Group": "a"}}))
    assert (status, text.startswith("cannot set ClusterVolumeSpec")) == (400, True)
    server.engine.answers["volumes.inspect"] = NotFound("volume", "x")
    assert message(await server.ask("GET", "/volumes/x")) == (404, "get x: no such volume")
    for version, everything in ("1.41", True), ("1.42", False):
        assert (await server.ask("POST", f"/v{version}/volumes/prune"))[0] == 200
        assert server.engine.calls[-1][2]["all"] is everything


async def test_a_name_of_one_letter(server: Server) -> None:
    said = message(await server.ask("POST", "/volumes/create", json={"Name": "a"}))
    assert said == (400, "create a: volume name is too short, names should be at least two alphanumeric characters")
