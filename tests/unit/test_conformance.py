"""What is known of foreign tests: docs/conformance.md says the same, and the judgement of a run."""

from collections.abc import Iterator

import pytest

from tests.conformance import critest, crun, docker_py, sources
from tests.conformance.docker_py import Known, Lists, Outcome
from tests.conftest import CHECKOUT

SHOWN = 12  # names in a row
LISTS = Lists(
    not_run=[],
    fails=[Known(why="for a reason", tests=["a.py::A::x", "a.py::A::y"])],
    varies=[Known(why="by chance", tests=["a.py::A::v"])],
)
RESULTS = """<testsuites><testsuite>
<testcase classname="tests.integration.a.A" name="x"><failure message="no">…</failure></testcase>
<testcase classname="tests.integration.a.A" name="y"/>
<testcase classname="tests.integration.a" name="z"><error message="setup"/></testcase>
<testcase classname="tests.integration.a.A" name="s"><skipped type="pytest.skip" message="old"/></testcase>
<testcase classname="tests.integration.a.A" name="q"><skipped type="pytest.xfail" message="known"/></testcase>
</testsuite></testsuites>"""


def rows() -> Iterator[str]:
    lists = [docker_py.known(), crun.known(), critest.known()]
    for known in (known for each in lists for known in (*each.fails, *each.varies, *each.not_run)):
        names = [f"`{test.rpartition('::')[2]}`" for test in known.tests]
        yield f"| {', '.join(names) if len(names) <= SHOWN else f'{len(names)} tests'} | {known.why} |"


@pytest.mark.parametrize("row", list(rows()))
def test_every_reason_is_told(row: str) -> None:
    assert row in (CHECKOUT / "docs/conformance.md").read_text().splitlines()


def test_a_report_is_read() -> None:
    assert docker_py.outcomes(RESULTS) == {
        "a.py::A::x": Outcome("failed", "no"),
        "a.py::A::y": Outcome("passed", ""),
        "a.py::z": Outcome("failed", "setup"),
        "a.py::A::s": Outcome("skipped", "old"),
        "a.py::A::q": Outcome("xfailed", "known"),
    }


def test_what_a_test_of_cruns_prints_is_read() -> None:
    assert crun.said("1..1\nok 1 - x\n", "") == Outcome("passed", "")
    assert crun.said("1..1\nok 1 - x #SKIP\n", "") == Outcome("skipped", "")
    assert crun.said("1..0\n", "") == Outcome("skipped", "")
    assert crun.said("1..1\nnot ok 1 - x\n", "why") == Outcome("failed", "1..1 not ok 1 - x why")
    assert crun.said("", "") == Outcome("failed", "")


def test_apts_sources_are_those_of_sources() -> None:
    lines = "Types: deb deb-src\nURIs: http://x\n\ndeb [a=b] http://x y main\n# deb\n"
    wanted = "Types: deb-src\nURIs: http://x\n\ndeb-src [a=b] http://x y main\n# deb\n"
    assert sources.of_sources(lines) == wanted


def test_what_is_not_as_it_is_known_is_told() -> None:
    said = docker_py.judge(docker_py.outcomes(RESULTS), LISTS, whole=True)
    assert [line.partition(":")[0] for line in said] == [
        "fails, which is not known",
        "passed, though it is known to fail",
    ]
    found = {"a.py::A::x": Outcome("failed", "no"), "a.py::A::v": Outcome("failed", "no")}
    assert docker_py.judge(found, LISTS, whole=False) == []
    assert docker_py.judge(found, LISTS, whole=True) == ["is no test, though it is known to fail: a.py::A::y"]
