"""proto/cri.proto against what is compiled into programs of Kubernetes: names, numbers, types."""

import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from google.protobuf.message import DecodeError

from hypercontainer.hyperd.cri import cri_pb2
from tests.interop.clients import CLIENTS

pytestmark = [pytest.mark.interop, pytest.mark.docker]

PACKAGE = "runtime.v1"
GZIP = b"\x1f\x8b\x08"
PLACE = b"\x12\x0aruntime.v1"  # field 2, the package, which comes after the name
LONGEST = 1 << 20  # of a file's description
NAME, SYNTAX, MOST = 1, 12, 13  # fields of it: the first, the last, and how many there may be
# What was named otherwise in older ones, or is of a fork: (message, field).
OTHERWISE = {("KeyValue", "value"), ("ContainerEventResponse", "pod_sandbox_metadata")}
PREFIX = "SIGNAL_"  # of values, in newer ones

PROGRAMS = {
    "containerd": Path("/usr/bin/containerd"),
    "containerd-today": CLIENTS / "containerd2/containerd",
    "crictl": CLIENTS / "crictl/crictl",
}


def packed(data: bytes) -> Iterator[FileDescriptorProto]:
    """Those that are there as older compilers of Go left them: gzip streams."""
    at = -1
    while (at := data.find(GZIP, at + 1)) >= 0:
        try:
            yield FileDescriptorProto.FromString(zlib.decompressobj(31).decompress(data[at : at + LONGEST]))
        except (zlib.error, DecodeError):
            continue


def plain(data: bytes) -> Iterator[FileDescriptorProto]:
    """And as newer ones do: as they are, one behind the other."""
    at = -1
    while (at := data.find(PLACE, at + 1)) >= 0:
        for length in range(1, 120):
            begin = at - length - 2
            if data[begin : begin + 2] == bytes([NAME << 3 | 2, length]):
                yield FileDescriptorProto.FromString(data[begin : end_of(data, begin)])


def end_of(data: bytes, at: int) -> int:
    """Of the description that begins there: behind its syntax."""
    while True:
        tag, at = varint(data, at)
        length, at = varint(data, at)
        assert tag & 7 == 2 and tag >> 3 < MOST
        at += length
        if tag >> 3 == SYNTAX:
            return at


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 0x80:
            return value, at


def fields(messages: Iterator[DescriptorProto] | list[DescriptorProto], within: str = "") -> dict[tuple[str, str], str]:
    found = {}
    for message in messages:
        name = within + message.name
        for field in message.field:
            found[name, field.name] = f"{field.number} {field.type} {field.label} {field.type_name}"
        found.update(fields(list(message.nested_type), f"{name}."))
    return found


@pytest.mark.parametrize("program", PROGRAMS)
def test_each_method_message_field_and_value_is_as_there(program: str) -> None:
    if not PROGRAMS[program].exists():
        pytest.skip(f"there is no {PROGRAMS[program]}: run `make interop`")
    data = PROGRAMS[program].read_bytes()
    [theirs] = [each for each in (*packed(data), *plain(data)) if each.package == PACKAGE and each.message_type]
    ours = FileDescriptorProto()
    cri_pb2.DESCRIPTOR.CopyToProto(ours)
    have = fields(list(ours.message_type))
    wanted = fields(list(theirs.message_type))
    assert len(wanted) > 340
    assert {key: value for key, value in wanted.items() if have.get(key) != value}.keys() <= OTHERWISE
    assert {m.name for m in theirs.message_type} <= {m.name for m in ours.message_type}
    for enum in theirs.enum_type:
        [same] = [each for each in ours.enum_type if each.name == enum.name]
        known = {(v.name.removeprefix(PREFIX), v.number) for v in same.value}
        assert {(v.name.removeprefix(PREFIX), v.number) for v in enum.value} <= known
    for service in theirs.service:
        [own] = [each for each in ours.service if each.name == service.name]
        methods = {(m.name, m.input_type, m.output_type, m.server_streaming) for m in own.method}
        assert {(m.name, m.input_type, m.output_type, m.server_streaming) for m in service.method} <= methods
