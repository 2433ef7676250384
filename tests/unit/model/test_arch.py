"""The table of architectures."""

import os

import pytest

from hypercontainer.errors import InvalidInput, Unavailable
from hypercontainer.images import platform
from hypercontainer.model import arch
from hypercontainer.model.syscalls import ARCHITECTURES

SAID = os.uname()


def on(monkeypatch: pytest.MonkeyPatch, machine: str) -> None:
    uname = os.uname_result((SAID.sysname, SAID.nodename, SAID.release, SAID.version, machine))
    monkeypatch.setattr(os, "uname", lambda: uname)


@pytest.mark.parametrize(
    ("machine", "image"),
    [("x86_64", "linux/amd64"), ("aarch64", "linux/arm64/v8"), ("s390x", "linux/s390x"), ("ppc64le", "linux/ppc64le")],
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


def test_one_without_a_kernel_says_so() -> None:
    there = "amd64, arm64, s390x, ppc64le"
    with pytest.raises(
        InvalidInput, match=f"machines of riscv64, for Debian 12 has no kernel package of it: use {there}$"
    ):
        arch.named("riscv64")
    why = f"an image for riscv64: Debian 12 has no kernel package of it, and there are virtual machines of {there}$"
    with pytest.raises(InvalidInput, match=why):
        arch.of_image("riscv64")


def test_each_has_the_system_calls_of_its_programs() -> None:
    assert {abi for one in arch.ARCHES.values() for abi in one.abis} == set(ARCHITECTURES)
