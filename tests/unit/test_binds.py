"""The tables of docs/howto/volumes.md are those that the tests of our guests, and of docker's containers, hold true."""

from pathlib import Path

import pytest

from tests.binds import FOLDERS, LOCKS, Row

PAGE = Path(__file__).parents[2] / "docs/howto/volumes.md"


@pytest.mark.parametrize("table", [FOLDERS, LOCKS])
def test_the_page_has_the_rows_that_are_tested(table: list[Row]) -> None:
    _, _, found = PAGE.read_text().partition(f"{table[0]}\n")
    assert found.split("\n\n")[0].splitlines() == [str(row) for row in table[1:]]
