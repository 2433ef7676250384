"""Messages of the shim protocol, beside what containerd's own binary says of them; and the codec."""

import dataclasses
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.shim import cgroup_v1, cgroup_v2
from hypercontainer.hyperd.shim import messages as m
from hypercontainer.lib import protobuf, ttrpc
from hypercontainer.lib.protobuf import field, repeated

CONTAINERD = Path("/usr/bin/containerd")
PACKAGES = (
    "containerd.task.v2",
    "containerd.v1.types",
    "containerd.types",
    "containerd.events",
    "containerd.services.events.ttrpc.v1",
)
KINDS = {
    4: "uint64",
    3: "int64",
    5: "int32",
    8: "bool",
    9: "string",
    11: "message",
    12: "bytes",
    13: "uint32",
    14: "enum",
}


def messages(of: ModuleType) -> list[type[Any]]:
    return [each for each in vars(of).values() if isinstance(each, type) and dataclasses.is_dataclass(each)]


METRICS = [*messages(cgroup_v1), *messages(cgroup_v2)]
MESSAGES = [*messages(m), *METRICS]


@dataclass(frozen=True, kw_only=True)
class FieldDescriptor:
    name: str = field(1, "string")
    number: int = field(3, "int32")
    label: int = field(4, "enum")
    type: int = field(5, "enum")


@dataclass(frozen=True, kw_only=True)
class Descriptor:
    name: str = field(1, "string")
    fields: list[FieldDescriptor] = repeated(2, "message", FieldDescriptor)


@dataclass(frozen=True, kw_only=True)
class FileDescriptor:
    package: str = field(2, "string")
    messages: list[Descriptor] = repeated(4, "message", Descriptor)


def descriptors(*packages: str) -> dict[str, dict[str, tuple[int, str, bool]]]:
    """What containerd's binary has: by message, the number of each field, its kind, and whether it is repeated."""
    data, found = CONTAINERD.read_bytes(), {}
    for at in re.finditer(rb"\x1f\x8b\x08", data):
        try:
            file = protobuf.decode(zlib.decompressobj(31).decompress(data[at.start() :], 1 << 20), FileDescriptor)
        except (zlib.error, InvalidInput):
            continue
        if file.package in packages:
            for each in file.messages:
                fields = {f.name: (f.number, KINDS.get(f.type, "other"), f.label == 3) for f in each.fields}
                found[each.name] = fields
    return found


@pytest.mark.skipif(not CONTAINERD.exists(), reason="there is no containerd")
def test_numbers_and_kinds_are_containerds() -> None:
    theirs = descriptors(*PACKAGES)
    assert len(theirs) > 40
    ours = numbers([of for of in messages(m) if of not in (m.Any, m.Empty, m.Timestamp)])
    assert differing(ours, theirs) == {}
    passed_over = {name: theirs[name].keys() - ours[name].keys() for name in ours}
    assert {name: sorted(left) for name, left in passed_over.items() if left} == {
        "UpdateTaskRequest": ["annotations"],
    }


@pytest.mark.skipif(not CONTAINERD.exists(), reason="there is no containerd")
@pytest.mark.parametrize("of", [cgroup_v1, cgroup_v2])
def test_metrics_are_containerds(of: ModuleType) -> None:
    assert differing(numbers(messages(of)), descriptors(of.PACKAGE)) == {}


Numbers = dict[str, dict[str, tuple[int, str, bool]]]


def numbers(of: list[type[Any]]) -> Numbers:
    return {
        each.__name__: {name: (f.number, f.kind, f.repeated) for name, f in protobuf.fields(each).values()}
        for each in of
    }


def differing(ours: Numbers, theirs: Numbers) -> Numbers:
    return {name: fields for name, fields in ours.items() if not fields.items() <= theirs[name].items()}


def values(of: type[Any]) -> st.SearchStrategy[Any]:
    simple: dict[str, st.SearchStrategy[Any]] = {
        "string": st.text(max_size=20),
        "bytes": st.binary(max_size=300),
        "bool": st.booleans(),
        "uint32": st.integers(0, 2**32 - 1),
        "uint64": st.integers(0, 2**64 - 1),
        "int32": st.integers(-(2**31), 2**31 - 1),
        "int64": st.integers(-(2**63), 2**63 - 1),
        "enum": st.integers(0, 5),
    }
    fields = {}
    for name, found in protobuf.fields(of).values():
        one = values(found.of) if found.of else simple[found.kind]
        fields[name] = st.lists(one, max_size=3) if found.repeated else st.none() | one if found.of else one
    return st.builds(of, **fields)


@given(data=st.data())
def test_what_is_written_is_read(data: st.DataObject) -> None:
    of = data.draw(st.sampled_from(MESSAGES))
    found = data.draw(values(of))
    assert protobuf.decode(protobuf.encode(found), of) == found


@given(data=st.binary(max_size=200), of=st.sampled_from(MESSAGES))
def test_bytes_of_anybody_are_read_or_refused(data: bytes, of: type[Any]) -> None:
    try:
        protobuf.decode(data, of)
    except InvalidInput:
        pass


def test_what_is_not_known_is_passed_over() -> None:
    more = bytes.fromhex("7a036162638001ff018d0101020304890100000000000000ff")
    assert protobuf.decode(protobuf.encode(m.StartRequest(id="a")) + more, m.StartRequest) == m.StartRequest(id="a")


@pytest.mark.parametrize("data", ["0a05", "0aff", "0b", "08" + "ff" * 11, "0a02fffe", "1a00"])
def test_what_is_no_message_is_refused(data: str) -> None:
    @dataclass(frozen=True, kw_only=True)
    class One:
        text: str = field(1, "string")
        number: int = field(3, "uint32")

    with pytest.raises(InvalidInput, match="cannot read"):
        protobuf.decode(bytes.fromhex(data), One)


def test_messages_in_messages_have_an_end() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Nested:
        inner: list["Nested"] = repeated(1, "message")

    protobuf.fields(Nested)[1] = ("inner", protobuf.fields(Nested)[1][1]._replace(of=Nested))
    data = b""
    for _ in range(100):
        data = b"\x0a" + protobuf._varint(len(data)) + data
    with pytest.raises(InvalidInput, match="in each other"):
        protobuf.decode(data, Nested)


@given(st.integers(0, 2**32 - 1), st.integers(0, 255), st.integers(0, 255), st.binary(max_size=100))
def test_frames(stream: int, kind: int, flags: int, data: bytes) -> None:
    encoded = ttrpc.Frame(stream, kind, flags, data).encode()
    header = encoded[:10]
    assert ttrpc.length(header) == len(data)
    assert ttrpc.frame(header, encoded[10:]) == (stream, kind, flags, data)


def test_a_frame_is_no_longer_than_containerd_allows() -> None:
    ttrpc.length(ttrpc.HEADER.pack(4 << 20, 1, 1, 0))
    with pytest.raises(InvalidInput, match="4194304 at most"):
        ttrpc.length(ttrpc.HEADER.pack((4 << 20) + 1, 1, 1, 0))


def test_an_answer_says_how_it_went() -> None:
    good = protobuf.decode(ttrpc.response(3, b"p").message, ttrpc.Response)
    assert (good.payload, good.status) == (b"p", ttrpc.Status())
    bad = protobuf.decode(ttrpc.failure(3, ttrpc.NOT_FOUND, "no").message, ttrpc.Response)
    assert bad.status == ttrpc.Status(code=5, message="no")
