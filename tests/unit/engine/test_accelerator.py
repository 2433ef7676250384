"""KVM is used when a guest has booted under it, and not when a file says that it might."""

from pathlib import Path

import pytest

from hypercontainer.engine import accelerator, describe
from hypercontainer.model.settings import Settings
from hypercontainer.testing.fakes import FakeHypervisor

BOOT = (Path("/kernel"), Path("/initrd"))


@pytest.fixture
def hypervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHypervisor:
    monkeypatch.setattr(accelerator, "KVM", tmp_path / "kvm")
    return FakeHypervisor()


async def choose(hypervisor: FakeHypervisor, path: Path, wish: str = "auto", boot: accelerator.BootFiles = BOOT) -> str:
    settings = Settings(accelerator=wish)
    choice = await accelerator.choose(settings, hypervisor, boot, path, path / "run")
    assert hypervisor.alive == [] and list((path / "run").glob("*")) == []
    return f"{choice.accelerator}: {choice.reason}"


async def test_without_a_device_nothing_is_tried(hypervisor: FakeHypervisor, tmp_path: Path) -> None:
    assert (await choose(hypervisor, tmp_path)).startswith("tcg: there is no")


async def test_a_guest_that_boots_is_the_proof(hypervisor: FakeHypervisor, tmp_path: Path) -> None:
    (tmp_path / "kvm").touch()
    assert (await choose(hypervisor, tmp_path)).startswith("kvm: a guest booted")


@pytest.mark.parametrize(("settings", "seconds"), [(Settings(), 5.0), (Settings(kvm_proof_s=90.0), 90.0)])
async def test_the_proof_may_take_as_long_as_the_settings_say(
    hypervisor: FakeHypervisor, tmp_path: Path, settings: Settings, seconds: float
) -> None:
    (tmp_path / "kvm").touch()
    await accelerator.choose(settings, hypervisor, BOOT, tmp_path, tmp_path / "run")
    assert [config.boot_timeout_s for config in hypervisor.booted] == [seconds]


async def test_a_device_under_which_no_guest_boots_is_not_used(hypervisor: FakeHypervisor, tmp_path: Path) -> None:
    (tmp_path / "kvm").touch()
    hypervisor.fail = "killed by signal 11"
    assert "signal 11" in await choose(hypervisor, tmp_path)
    hypervisor.fail = ""
    assert "signal 11" in await choose(hypervisor, tmp_path)  # kept, for this boot, VMM and kernel
    assert (await choose(hypervisor, tmp_path, boot=(Path("/other"), Path("/initrd")))).startswith("kvm")


async def test_a_long_reason_ends_with_a_whole_word(hypervisor: FakeHypervisor, tmp_path: Path) -> None:
    (tmp_path / "kvm").touch()
    hypervisor.fail = "signal " * 40
    chosen = await choose(hypervisor, tmp_path)
    assert chosen.endswith("signal …")
    assert len(chosen) < 200


@pytest.mark.parametrize("wish", ["kvm", "tcg"])
async def test_the_configuration_is_obeyed(hypervisor: FakeHypervisor, tmp_path: Path, wish: str) -> None:
    assert await choose(hypervisor, tmp_path, wish) == f"{wish}: the configuration says so"


async def test_a_hypervisor_that_is_the_hardwares_needs_no_proof(hypervisor: FakeHypervisor, tmp_path: Path) -> None:
    (tmp_path / "kvm").touch()
    hypervisor.accelerator = "xen"
    said = await choose(hypervisor, tmp_path)
    assert said == f"xen: {hypervisor.product} {await hypervisor.version()} runs them"
    assert hypervisor.booted == []
    choice = accelerator.Choice(accelerator="xen", reason="")
    assert describe.isolation(choice).level == "hardware"
