"""Calls between the guest's files point down: of two files at most one uses what the other defines."""

import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

GUEST = Path(__file__).parents[3] / "guest"
NO_CODE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|^\s*#[^\n]*', re.DOTALL | re.MULTILINE)
FUNCTION = re.compile(r"^(?!static\b|typedef\b)\w[\w \t*]*?\b(\w+)\([^;{]*\)\s*\{", re.MULTILINE)
VARIABLE = re.compile(
    r"^(?!static\b|typedef\b|extern\b|return\b)\w[\w \t*]*?\b(\w+)(?:\[[^\]]*\])?(?: =|;)", re.MULTILINE
)
POINTER = re.compile(r"^(?!static\b|typedef\b|extern\b)\w[\w \t*]*\(\*(\w+)\)\([^;{]*\)(?: =|;)", re.MULTILINE)

WORD = re.compile(r"(?<![\w.>])[a-z_]\w*")  # no member of a structure


def uses_of(sources: dict[str, str]) -> dict[str, set[str]]:
    """The files whose functions and variables are used in each file."""
    code = {name: NO_CODE.sub(" ", text) for name, text in sources.items()}
    owner = {
        symbol: name
        for name, text in code.items()
        for pattern in (FUNCTION, VARIABLE, POINTER)
        for symbol in pattern.findall(text)
    }
    return {
        name: {owner[word] for word in set(WORD.findall(text)) if owner.get(word, name) != name}
        for name, text in code.items()
    }


def test_no_file_is_used_by_what_it_uses() -> None:
    uses = uses_of({path.name: path.read_text() for path in GUEST.glob("*.c")})
    assert {"channel.c", "stream.c"} <= uses["ops.c"]  # it sees what there is to see
    assert "channel.c" in uses["reply.c"]
    assert "ops.c" in uses["init.c"]
    order = list(TopologicalSorter(uses).static_order())  # CycleError names the circle
    assert order[-1] == "init.c"


def test_a_circle_would_be_found() -> None:
    circle = {
        "low.c": '#include "high.h"\nint low(void)\n{\n\treturn high;\n}\n',
        "high.c": "int high;\n\nvoid tell(void)\n{\n\tlow();\n}\n",
        "other.c": '/* low high */\nstatic int word(void)\n{\n\treturn "low"[0];\n}\n',
    }
    uses = uses_of(circle)
    assert uses == {"low.c": {"high.c"}, "high.c": {"low.c"}, "other.c": set()}
    with pytest.raises(CycleError):
        list(TopologicalSorter(uses).static_order())
