"""Figures of hyperd itself, as monitoring has them: families of numbers with labels. Frozen values."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

Type = Literal["counter", "gauge", "histogram"]


class Figure(NamedTuple):
    value: float
    labels: Mapping[str, str] = {}
    part: str = ""  # of a histogram: "bucket", "sum", "count"


class Family(NamedTuple):
    name: str
    help: str
    type: Type
    figures: list[Figure]
