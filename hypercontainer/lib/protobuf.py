"""Protocol Buffers on the wire, as containerd's ttrpc services need them: a message is a dataclass whose fields say
their numbers. Proto3: a field that has its default is not written, one that nobody here knows is passed over.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, TypeVar

from hypercontainer.errors import InvalidInput

Kind = Literal["string", "bytes", "bool", "uint32", "uint64", "int32", "int64", "enum", "message"]
DEPTH = 16  # of messages in messages
M = TypeVar("M")

_BYTES = ("string", "bytes", "message")
_WIDTHS = {1: 8, 5: 4}  # of fixed numbers, by wire type: none of ours has them
_NUMBER, _LENGTH = 0, 2
_fields: dict[type[Any], dict[int, "tuple[str, Field]"]] = {}


class Field(NamedTuple):
    """What a dataclass' field is on the wire. `of`: the class of a message."""

    number: int
    kind: Kind
    of: type[Any] | None = None
    repeated: bool = False


def field(number: int, kind: Kind) -> Any:
    default = {"string": "", "bytes": b"", "bool": False}.get(kind, 0)
    return dataclasses.field(default=default, metadata={"field": Field(number, kind)})


def message(number: int, of: type[Any]) -> Any:
    """None where there is none."""
    return dataclasses.field(default=None, metadata={"field": Field(number, "message", of)})


def repeated(number: int, kind: Kind, of: type[Any] | None = None) -> Any:
    """Of text, bytes or messages: numbers would be packed."""
    return dataclasses.field(default_factory=list, metadata={"field": Field(number, kind, of, repeated=True)})


def fields(of: type[Any]) -> dict[int, tuple[str, Field]]:
    """Names and fields of a message, by their numbers."""
    if of not in _fields:
        found = [(each.name, each.metadata["field"]) for each in dataclasses.fields(of)]
        _fields[of] = {field.number: (name, field) for name, field in found}
    return _fields[of]


def encode(found: Any) -> bytes:
    out = bytearray()
    for name, field in fields(type(found)).values():
        value = getattr(found, name)
        for each in value if field.repeated else [value]:
            if each is None or (not each and not field.repeated):
                continue
            data = encode(each) if field.kind == "message" else each.encode() if field.kind == "string" else each
            if field.kind in _BYTES:
                out += _varint(field.number << 3 | _LENGTH) + _varint(len(data)) + data
            else:
                out += _varint(field.number << 3 | _NUMBER) + _varint(int(data) & (1 << 64) - 1)
    return bytes(out)


def decode(data: bytes, of: type[M], depth: int = DEPTH) -> M:
    """InvalidInput for what is no message, or has too many in each other."""
    if not depth:
        raise InvalidInput(f"cannot read a message: more than {DEPTH} in each other")
    known = fields(of)
    found: dict[str, Any] = {}
    for number, value in _read(data):
        if number not in known:
            continue
        name, field = known[number]
        if isinstance(value, bytes) != (field.kind in _BYTES):
            raise InvalidInput(f"cannot read {of.__name__}.{name}: it is no {field.kind}")
        read = _value(value, field, depth)
        if field.repeated:
            found.setdefault(name, []).append(read)
        else:
            found[name] = read
    return of(**found)


def _value(value: Any, field: Field, depth: int) -> Any:
    match field.kind:
        case "message":
            assert field.of  # noqa: S101  message() and repeated() are given it
            return decode(value, field.of, depth - 1)
        case "string":
            try:
                return value.decode()
            except UnicodeDecodeError as e:
                raise InvalidInput("cannot read a message: a string is no UTF-8") from e
        case "bytes":
            return value
        case "bool":
            return value != 0
        case "uint64":
            return value
        case "uint32":
            return value & (1 << 32) - 1
    bits = 64 if field.kind == "int64" else 32
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> bits - 1 else value


def _read(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers of fields, with a number or bytes each."""
    at = 0
    while at < len(data):
        tag, at = _number(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == _NUMBER:
            value, at = _number(data, at)
            yield number, value
            continue
        if wire == _LENGTH:
            length, at = _number(data, at)
        elif wire in _WIDTHS:
            length = _WIDTHS[wire]
        else:
            raise InvalidInput(f"cannot read a message: it has a field of wire type {wire}")
        if length > len(data) - at:
            raise InvalidInput("cannot read a message: it is cut short")
        if wire == _LENGTH:
            yield number, data[at : at + length]
        at += length


def _number(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise InvalidInput("cannot read a message: it is cut short")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (1 << 64) - 1, at
    raise InvalidInput("cannot read a message: a number has more than 10 bytes")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
