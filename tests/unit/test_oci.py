"""The table of what OCI runtimes are known to fail: each of its lines is about a case that there is."""

import ast
import os
import subprocess

import pytest

from tests.conftest import CHECKOUT
from tests.oci import known
from tests.oci.left import Process, below, stat
from tests.oci.reaper import ended

SUITE = CHECKOUT / "tests/oci"


def cases() -> set[str]:
    """FILE::FUNCTION of all."""
    return {
        f"{file.name}::{node.name}"
        for file in SUITE.glob("test_*.py")
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_the_suite_has_the_cases_that_it_promises() -> None:
    assert len(cases()) >= 200


@pytest.mark.parametrize("runtime", known.table())
def test_what_is_known_is_about_cases(runtime: str) -> None:
    listed = [case for entry in known.table()[runtime] for case in entry.cases]
    assert {case.partition("[")[0] for case in listed} <= cases()
    assert len(listed) == len(set(listed))


def test_a_process_is_below_who_started_it() -> None:
    ours = Process(os.getpid(), stat(os.getpid())[1])
    assert ours in below(os.getppid())
    assert ours not in below(os.getpid())


def test_a_process_that_has_gone_has_ended() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    assert ended(child.pid, 0)
