"""Curves and figures of the measurements."""

import os
import xml.etree.ElementTree as ET

import pytest

from bench import memory, plot
from bench.engines import need
from bench.measure import Series
from hypercontainer.errors import Unavailable

CURVE = plot.Curve(title="start <ms>", x=[1, 100, 480], y=[90.0, 120.5, 333.0])


def test_a_picture_is_xml_with_every_point_inside_its_panel() -> None:
    root = ET.fromstring(plot.svg("all & each", "VMs", [CURVE, CURVE]))
    circles = [(float(c.get("cx", "")), float(c.get("cy", ""))) for c in root.iter() if c.tag.endswith("circle")]
    assert len(circles) == 2 * len(CURVE.x)
    assert all(plot.MARGIN <= x <= plot.WIDTH - plot.MARGIN for x, _ in circles)
    assert [y for _, y in circles[:3]] == sorted((y for _, y in circles[:3]), reverse=True)


def test_in_a_terminal_the_longest_bar_is_the_greatest() -> None:
    bars = [line.count("█") for line in plot.text(CURVE).splitlines()[1:]]
    assert bars == sorted(bars) and bars[-1] == plot.BAR


def test_a_curve_of_nothing_is_drawn() -> None:
    flat = plot.Curve(title="none", x=[1], y=[0.0])
    assert "█" not in plot.text(flat)
    ET.fromstring(plot.svg("", "", [flat]))


def test_what_processes_take_is_read_from_proc() -> None:
    assert 1 < memory.pss_mib([os.getpid()]) <= memory.rss_mib(os.getpid()) * 1.1
    assert memory.processor_ms([os.getpid()]) > 0
    assert os.getpid() in memory.descendants(os.getppid())


def test_the_worst_of_rates_are_the_low_ones() -> None:
    assert Series("rate", "MB/s", [float(n) for n in range(1, 101)]).p95 < 10
    assert Series("time", "ms", [float(n) for n in range(1, 101)]).p95 > 90


def test_a_peer_that_is_not_here_is_named() -> None:
    with pytest.raises(Unavailable, match="no-such-engine is not installed"):
        need("sh", "no-such-engine")
