"""The requests that the guest's own tests accept are those that our structs say: no key is unknown to the other."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hypercontainer.agent import messages as m

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/control.json").read_text())["requests"]
STRUCTS: dict[str, type[msgspec.Struct]] = {
    "pod.setup": m.PodSetup,
    "container.create": m.ContainerCreate,
    "container.update": m.ContainerUpdate,
    "stage": m.Stage,
    "disk.stage": m.DiskStage,
    "process.start": m.ProcessStart,
    "process.archive": m.ProcessArchive,
    "socket.accept": m.SocketAccept,
    "socket.connect": m.SocketConnect,
    "socket.close": m.SocketClose,
    "apparmor.load": m.AppArmorLoad,
}


@pytest.mark.parametrize("vector", [v for v in VECTORS if v["op"] in STRUCTS], ids=lambda v: v["op"])
def test_every_key_that_we_send_is_one_that_the_guest_knows(vector: dict[str, Any]) -> None:
    said = msgspec.convert(vector["args"], STRUCTS[vector["op"]])
    ours = json.loads(msgspec.json.encode(said))
    assert unknown(ours, vector["args"]) == []


def unknown(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """Keys that we say at places where the vector, which has them all, does not."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        here = [f"{path}.{key}" for key in ours if key not in theirs]
        return here + [
            word for key in ours if key in theirs for word in unknown(ours[key], theirs[key], f"{path}.{key}")
        ]
    if isinstance(ours, list) and isinstance(theirs, list):
        return [word for a, b in zip(ours, theirs, strict=True) for word in unknown(a, b, f"{path}[]")]
    return []
