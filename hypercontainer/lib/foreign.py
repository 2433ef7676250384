"""JSON that Go's programs wrote, read as Go's encoding/json reads it. The one place for documents of others.

null is the zero value, everywhere; keys are found whatever the case of their letters, the last of one name counts;
keys that nobody asked for are passed over; bytes that are no UTF-8 become U+FFFD. A value of another type is an error.
"""

from collections.abc import Hashable
from functools import cache
from typing import TypeVar, cast

import msgspec
from msgspec import inspect as kinds

from hypercontainer.errors import InvalidInput
from hypercontainer.lib.document import NOT_JSON

T = TypeVar("T")


def read(data: bytes, kind: type[T], what: str, limit: int) -> T:
    """`data` as a `kind`. Fields that may be missing need defaults. Costs in proportion to `data`.

    InvalidInput, with `what` in it, for more than `limit` bytes, for what is no JSON or nested absurdly, and for a
    value of another type."""
    value = loose(data, what, limit)
    try:
        return msgspec.convert(_fit(value, _info(cast(Hashable, kind))), kind)
    except NOT_JSON as e:
        raise InvalidInput(f"cannot read {what}: {str(e)[:300]}") from e


@cache  # to find out takes longer than all else here
def _info(kind: Hashable) -> kinds.Type:
    return kinds.type_info(kind)


def loose(data: bytes, what: str, limit: int) -> object:
    """`data` as whatever it is, for what is written again with all that we do not know. InvalidInput as from `read`."""
    if len(data) > limit:
        raise InvalidInput(f"cannot read {what}: it has more than {limit} bytes")
    try:
        return msgspec.json.decode(data.decode(errors="replace"))
    except NOT_JSON as e:
        raise InvalidInput(f"cannot read {what}: {str(e)[:300]}") from e


def _fit(value: object, info: kinds.Type) -> object:
    """`value` in the words of the type; what does not fit stays, and is refused by name afterwards."""
    if isinstance(info, kinds.UnionType):
        info = next(each for each in info.types if not isinstance(each, kinds.NoneType))
    if value is None:
        return _zero(info)
    if isinstance(info, kinds.StructType) and isinstance(value, dict):
        return _fields(value, info)
    if isinstance(info, kinds.DictType) and isinstance(value, dict):
        return {key: _fit(each, info.value_type) for key, each in value.items()}
    if isinstance(info, kinds.ListType) and isinstance(value, list):
        return [_fit(each, info.item_type) for each in value]
    return value


def _fields(value: dict[str, object], info: kinds.StructType) -> dict[str, object]:
    known = {field.encode_name.lower(): field for field in info.fields}
    found = {}
    for key, each in value.items():
        field = known.get(key.lower())
        if field is not None and each is not None:  # null leaves a field as it is
            found[field.encode_name] = _fit(each, field.type)
    return found


def _zero(info: kinds.Type) -> object:
    """What Go has where null stands in a list or a map."""
    if isinstance(info, kinds.StructType | kinds.DictType):
        return {}
    if isinstance(info, kinds.ListType):
        return []
    zeros = {kinds.StrType: "", kinds.IntType: 0, kinds.BoolType: False, kinds.FloatType: 0.0}
    return zeros.get(type(info))
