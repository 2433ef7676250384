import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercontainer.lib import fastjson

DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(DOCUMENTS)
def test_it_agrees_with_the_standard_library(document: object) -> None:
    assert fastjson.loads(json.dumps(document)) == document
    assert json.loads(fastjson.dumps(document)) == document


@given(st.text())
def test_it_accepts_what_the_standard_library_accepts(text: str) -> None:
    try:
        expected = json.loads(text, parse_constant=int)  # int("NaN") is a ValueError: they are not JSON
    except ValueError:
        with pytest.raises(ValueError, match="JSON"):
            fastjson.loads(text)
    else:
        assert fastjson.loads(text) == expected


@pytest.mark.parametrize(
    "text", ["", " ", "{", "[1,]", "{}x", "nul", '"', '"\n"', "[" * 100_000, b"\xff", '{"a"}', "NaN"]
)
def test_what_is_no_document_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError, match="JSON"):
        fastjson.loads(text)


def test_what_has_no_place_in_json_is_refused() -> None:
    with pytest.raises(TypeError, match="object has no place"):
        fastjson.dumps({"a": object()})
    with pytest.raises(ValueError, match="range"):
        fastjson.dumps(math.nan)
