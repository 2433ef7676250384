"""JSON as Go reads it: a table of what its encoding/json makes of documents, and no way to make it crash."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercontainer.errors import InvalidInput
from hypercontainer.images import manifest
from hypercontainer.lib import foreign


class Inner(msgspec.Struct, frozen=True):
    name: str = ""
    size: int = 0


class Outer(msgspec.Struct, frozen=True, rename="camel"):
    text: str = "kept"
    list_of: list[str] = []
    maybe: list[Inner] | None = None
    labels: dict[str, str] = {}
    inner: Inner = Inner()
    anything: Any = None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", Outer()),
        ('{"text": null, "listOf": null, "maybe": null, "labels": null, "inner": null}', Outer()),
        ('{"TEXT": "a", "LISTOF": ["b"]}', Outer(text="a", list_of=["b"])),
        ('{"text": "a", "Text": "b"}', Outer(text="b")),
        ('{"listOf": ["a", null]}', Outer(list_of=["a", ""])),
        ('{"labels": {"Key": null, "key": "x"}}', Outer(labels={"Key": "", "key": "x"})),
        ('{"maybe": [null, {"NAME": "x", "size": null}]}', Outer(maybe=[Inner(), Inner(name="x")])),
        ('{"unknown": {"deep": [1, 2]}, "inner": {"size": 3, "other": 1}}', Outer(inner=Inner(size=3))),
        ('{"anything": {"A": null}}', Outer(anything={"A": None})),
        ('{"text": "\xff"}', Outer(text="\ufffd")),
    ],
)
def test_as_go_reads_it(text: str, expected: Outer) -> None:
    assert foreign.read(text.encode("latin-1"), Outer, "it", 1000) == expected


@pytest.mark.parametrize(
    "text", ["", "{", '{"text": 1}', '{"inner": []}', '{"listOf": {}}', "[]", "[" * 900, " " * 1001]
)
def test_what_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="cannot read it: "):
        foreign.read(text.encode(), Outer, "it", 1000)


@pytest.mark.parametrize("nesting", ['{"a":', "["])
def test_absurd_nesting(nesting: str) -> None:
    with pytest.raises(InvalidInput, match="cannot read"):
        foreign.read(nesting.encode() * 100_000, dict[str, str], "it", 1 << 20)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([
        "config", "Config", "layers", "rootfs", "diff_ids", "Env", "Labels", "Healthcheck", "manifests", "platform",
    ]), inner, max_size=4),
)  # fmt: skip


@given(JSON | st.binary(max_size=200))
def test_any_document_is_read_or_refused(value: object) -> None:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    for read in (manifest.read_config, manifest.read_manifest, manifest.read_index, manifest.kind_of):
        try:
            read(data)
        except InvalidInput:
            pass


@given(JSON)
def test_null_is_as_if_nothing_was_said(value: object) -> None:
    """Wherever a null stands for a field, leaving the field out gives the same."""

    def without(part: object) -> object:
        if isinstance(part, dict):
            return {key: without(each) for key, each in part.items() if each is not None}
        return [without(each) for each in part] if isinstance(part, list) else part

    def outcome(document: object) -> object:
        try:
            return foreign.read(json.dumps(document).encode(), manifest.Manifest, "it", 1 << 20)
        except InvalidInput:
            return "refused"

    assert outcome(value) == outcome(without(value))
