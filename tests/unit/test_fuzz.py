"""The fuzz targets in Python find nothing in their corpora, and in some inputs more."""

import pytest

from tests.fuzz.__main__ import corpus, run
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_what_reads_foreign_bytes(target: str) -> None:
    assert run(target, 1, most=len(corpus(target)) + 100) == len(corpus(target)) + 100
