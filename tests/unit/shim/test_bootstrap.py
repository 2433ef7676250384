"""What a containerd of today says to a shim that it starts, and is answered; and the address alone for those before."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from hypercontainer.lib import protobuf
from hypercontainer.lib.protobuf import field, message, repeated
from hypercontainer.shim import bootstrap, info


@dataclass(frozen=True, kw_only=True)
class Params:
    """containerd.runtime.bootstrap.v1.BootstrapParams, a part of it."""

    instance_id: str = field(1, "string")
    namespace: str = field(2, "string")
    log_level: int = field(3, "enum")
    containerd_version: str = field(4, "string")
    extensions: bytes = field(8, "bytes")
    socket_dir: str = field(9, "string")


@dataclass(frozen=True, kw_only=True)
class Result:
    version: int = field(1, "int32")
    address: str = field(2, "string")
    protocol: str = field(3, "string")


@dataclass(frozen=True, kw_only=True)
class Any:
    type_url: str = field(1, "string")
    value: bytes = field(2, "bytes")


@dataclass(frozen=True, kw_only=True)
class Version:
    version: str = field(1, "string")


@dataclass(frozen=True, kw_only=True)
class Annotation:
    key: str = field(1, "string")
    value: str = field(2, "string")


@dataclass(frozen=True, kw_only=True)
class Info:
    """containerd.types.RuntimeInfo, a part of it."""

    name: str = field(1, "string")
    version: Version | None = message(2, Version)
    features: Any | None = message(4, Any)
    annotations: list[Annotation] = repeated(5, "message", Annotation)


def test_what_a_containerd_of_today_says() -> None:
    said = Params(instance_id="one", namespace="k8s.io", log_level=-4, extensions=b"x", socket_dir="/run/elsewhere")
    found = bootstrap.asked(protobuf.encode(said), "one", "k8s.io")
    assert found is not None and bootstrap.sockets(found) == "/run/elsewhere"
    answer = protobuf.decode(bootstrap.answer("unix:///run/s"), Result)
    assert answer == Result(version=3, address="unix:///run/s", protocol="ttrpc")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        protobuf.encode(Any(type_url="containerd.runc.v1.Options", value=b"k8s.io")),  # as 1.6 has them there
        protobuf.encode(Params(instance_id="two", namespace="k8s.io")),
        protobuf.encode(Params(instance_id="one", namespace="k8s.io"))[:-1],
        b"\xff" * 30,
        b'{"version": 3}',
    ],
)
def test_one_before_it(data: bytes) -> None:
    assert bootstrap.asked(data, "one", "k8s.io") is None


def test_stdin_without_an_end(tmp_path: Path) -> None:
    with open("/dev/zero", "rb") as endless, pytest.raises(OSError, match="more than"):
        bootstrap.read(endless.fileno())
    assert bootstrap.read(os.open(os.devnull, os.O_RDONLY)) == b""


def test_what_it_can_do() -> None:
    found = protobuf.decode(info.info(), Info)
    assert found.name == "io.containerd.hyper.v2" and found.version and found.version.version
    assert found.features and found.features.type_url == info.FEATURES
    features = json.loads(found.features.value)
    assert features["linux"]["mountExtensions"] == {"idmap": {"enabled": True}}
    assert "createContainer" not in features["hooks"]
    [mounts] = found.annotations
    assert (mounts.key, mounts.value) == ("containerd.io/runtime-allow-mounts", "erofs,format/*,mkdir/*")
