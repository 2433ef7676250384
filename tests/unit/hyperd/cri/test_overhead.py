"""What `frakti overhead` makes of what it reads."""

from collections.abc import AsyncIterator

import pytest
import yaml

from hypercontainer.errors import HyperError
from hypercontainer.hyperd.cri import overhead
from hypercontainer.hyperd.cri.overhead import Cost

SMAPS = b"""55d0-55d1 r--p 00000000 fe:00 7 /usr/bin/qemu-system-x86_64
Rss:   9 kB
Pss:   100 kB
Pss_Dirty:   7 kB
7f00-7f80 rw-s 00000000 00:01 1026 /memfd:memory (deleted)
Pss:   4000 kB
7f90-7fa0 rw-p 00000000 00:00 0
Pss:   23 kB
"""
COST = Cost(20_000, 30_000, 1_500, 0.0123)


async def told(*found: Cost) -> AsyncIterator[Cost]:
    for each in found:
        yield each


def test_memory_of_the_guest_is_told_apart() -> None:
    assert overhead.split(SMAPS) == (123, 4000)


def test_manifests_are_those_of_runtime_classes() -> None:
    [one, other] = yaml.safe_load_all(overhead.manifests({"hyper": COST, "small": COST._replace(cpu=0.0)}))
    assert one == {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": "hyper"},
        "handler": "hyper",
        "overhead": {"podFixed": {"memory": "51Mi", "cpu": "13m"}},
    }
    assert (other["handler"], other["overhead"]["podFixed"]["cpu"]) == ("small", "1m")


def test_the_table_has_a_line_a_handler() -> None:
    title, row = overhead.table({"hyper": COST}).splitlines()
    assert title.split() == ["HANDLER", "VMM", "GUEST", "HELPERS", "MEMORY", "CPU"]
    assert row.split() == ["hyper", "19.5", "MiB", "29.3", "MiB", "1.5", "MiB", "51Mi", "13m"]


async def test_what_is_at_rest_is_told() -> None:
    boots, rests = COST._replace(cpu=0.9), COST._replace(guest_kib=30_500)
    assert await overhead.settled(told(boots, COST, rests, boots)) == rests
    assert await overhead.settled(told(boots, COST)) == COST  # and what does not come to rest, as it is
    with pytest.raises(HyperError, match="has ended"):
        await overhead.settled(told())
