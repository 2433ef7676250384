"""guest/wire.c against the frames that Python's codec is held to as well."""

import json
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests import zig
from tests.unit.guest.wire_client import ACK, DATA, EOF, HELLO, HYPR, STOP, frame

ROOT = Path(__file__).parents[3]
VECTORS: dict[str, list[dict[str, Any]]] = json.loads((ROOT / "tests/vectors/frames.json").read_text())
GREETING = frame(HELLO, HYPR, 7, b"{}")
GREETED = f"1 {HYPR} 7 {b'{}'.hex()}"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    guest = ROOT / "guest"
    return zig.program(tmp_path_factory.mktemp("decode") / "decode", guest / "tests/decode.c", guest / "wire.c")


def decode(program: Path, data: bytes, piece: int = 1) -> list[str]:
    return (
        subprocess.run([program, str(piece)], input=data, capture_output=True, check=True).stdout.decode().splitlines()
    )


@pytest.mark.parametrize("vector", VECTORS["good"], ids=lambda v: v["name"])
def test_good_frames(program: Path, vector: dict[str, Any]) -> None:
    shown = f"{vector['kind']} {vector['stream']} {vector['offset']} {vector['payload_hex']}"
    data = bytes.fromhex(vector["hex"])
    for piece in (1, 17, 65536):
        assert decode(program, GREETING + bytes(3) + data + bytes(3) + data, piece) == [GREETED, shown, shown, "sound"]


@pytest.mark.parametrize("vector", VECTORS["bad"], ids=lambda v: v["name"])
def test_bad_frames(program: Path, vector: dict[str, Any]) -> None:
    """Lost: nothing but HELLO is taken, and a host's preamble and HELLO put it right again."""
    data = bytes.fromhex(vector["hex"])
    again = frame(HELLO, HYPR, 8, b"{}")
    lines = decode(program, GREETING + data + bytes(32785) + frame(ACK, 1, 2) + again + frame(STOP, 5, 0), 4096)
    assert lines == [GREETED, f"1 {HYPR} 8 {b'{}'.hex()}", "5 5 0 ", "sound"]


@pytest.mark.parametrize("seed", range(5))
def test_a_frame_cut_anywhere_is_dropped_and_the_next_host_understood(program: Path, seed: int) -> None:
    rng = random.Random(seed)
    inner = frame(HELLO, HYPR, 666, b"{}") + frame(DATA, 0, 0, b"forged")
    cut = rng.choice(
        [frame(DATA, 3, 9, inner * 200), frame(ACK, 3, 9), frame(EOF, 1, 1), frame(HELLO, HYPR, 1, b"{}" * 99)]
    )
    for _ in range(20):
        data = (
            GREETING + cut[: rng.randrange(1, len(cut))] + bytes(32785) + frame(HELLO, HYPR, 8, b"") + frame(ACK, 1, 5)
        )
        assert decode(program, data, rng.choice([1000, 65536])) == [GREETED, f"1 {HYPR} 8 ", "3 1 5 ", "sound"]


def test_nothing_before_the_first_hello(program: Path) -> None:
    data = b"noise" + frame(DATA, 0, 0, b"x") + b"\x01\x00" + GREETING
    assert decode(program, data) == [GREETED, "sound"]
    assert decode(program, b"noise" + frame(DATA, 0, 0, b"x")) == ["lost"]
