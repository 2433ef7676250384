"""Each target gets its share of SECONDS. The input that fails is left in failed.bin."""

import random
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from hypercontainer.errors import HyperError
from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
GUEST = Path(__file__).parents[2] / "guest/tests/corpus"  # the guest reads the same formats
VECTORS = Path(__file__).parents[1] / "vectors"
SHARED = {
    "docker": VECTORS / "docker",
    "frames": GUEST / "frames",
    "layers": GUEST / "archive",
    "copies": GUEST / "archive",
}
TELLING = (b"\0", b"\xff", b"\x80", b"0", b"-", b'"', b"{", b"[", b"null", b"1e999", b"../", b"\n", b"\xc3")
BLOCK = 512


def corpus(target: str) -> list[bytes]:
    found = [path.read_bytes() for path in sorted((SHARED.get(target) or CORPUS / target).iterdir())]
    assert found, f"the corpus of {target} is empty"
    return found


def inputs(target: str, rng: random.Random) -> Iterator[bytes]:
    """First the corpus as it is, then for ever what becomes of it."""
    seeds = corpus(target)
    yield from seeds
    while True:
        data = mutated(bytearray(rng.choice(seeds)), rng, seeds)
        yield _mended(data) if target in ("layers", "copies") and rng.random() < 0.9 else bytes(data)


def mutated(data: bytearray, rng: random.Random, seeds: list[bytes]) -> bytearray:
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(5):
            case 0:
                data[at : at + 1] = rng.choice(TELLING)
            case 1:
                data[at : at + rng.randrange(1, 9)] = rng.randbytes(rng.randrange(9))
            case 2:
                del data[at:]
            case 3:
                data[at:at] = data[at : at + rng.randrange(1, 2 * BLOCK)]
            case _:
                other = rng.choice(seeds)
                data[at:] = other[rng.randrange(len(other) + 1) :]
    return data


def _mended(data: bytearray) -> bytes:
    """With right checksums where headers may be: behind them is all the rest."""
    for at in range(0, len(data) - BLOCK + 1, BLOCK):
        if data[at + 257 : at + 262] == b"ustar":
            data[at + 148 : at + 156] = b" " * 8
            data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + BLOCK])
    return bytes(data)


def run(target: str, seed: int, *, until: float = float("inf"), most: float = float("inf")) -> int:
    """Run `target` until that time of time.monotonic() or for `most` inputs; how many there were."""
    for n, data in zip(count(), inputs(target, random.Random(f"{seed} {target}")), strict=False):
        if n >= most or (time.monotonic() >= until and n >= len(corpus(target))):
            return n
        try:
            TARGETS[target](data)
        except HyperError:
            pass
        except BaseException:
            Path("failed.bin").write_bytes(data)
            print(f"fuzz: {target} failed; its input is in failed.bin", file=sys.stderr)
            raise
    raise AssertionError("inputs have no end")


if __name__ == "__main__":
    seconds, seed = float(sys.argv[1]), int(sys.argv[2])
    for name in TARGETS:
        ran = run(name, seed, until=time.monotonic() + seconds)
        print(f"{name}: {ran} inputs, {len(corpus(name))} of the corpus; nothing found", flush=True)
