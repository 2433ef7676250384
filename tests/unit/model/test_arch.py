"""The table of architectures."""

import os

import pytest

from hypercontainer.errors import Unavailable
from hypercontainer.images import platform
from hypercontainer.model import arch
from hypercontainer.model.syscalls import ARCHITECTURES

SAID = os.uname()


def on(monkeypatch: pytest.MonkeyPatch, machine: str) -> None:
    uname = os.uname_result((SAID.sysname, SAID.nodename, SAID.release, SAID.version, machine))
    monkeypatch.setattr(os, "uname", lambda: uname)


@pytest.mark.parametrize(
    ("machine", "image"), [("x86_64", "linux/amd64"), ("aarch64", "linux/arm64/v8"), ("s390x", "linux/s390x")]
)
def test_images_are_for_the_architecture_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, machine: str, image: str
) -> None:
    on(monkeypatch, machine)
    assert str(platform.host()) == image


def test_a_machine_that_is_not_in_the_table_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, "mips64")
    with pytest.raises(Unavailable, match="architecture mips64: there are x86_64, aarch64"):
        arch.host()


def test_each_has_the_system_calls_of_its_programs() -> None:
    assert {abi for one in arch.ARCHES.values() for abi in one.abis} == set(ARCHITECTURES)
