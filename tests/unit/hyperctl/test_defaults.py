"""--help of run and create says what happens without each flag, and it is what the engine does."""

import re

import pytest

from hypercontainer.engine import health
from hypercontainer.hyperctl import commands, moot
from hypercontainer.hyperctl.flags import BOOL, help_text
from hypercontainer.hyperctl.text import parse_mib
from hypercontainer.model.settings import USUAL_MIB, Settings
from hypercontainer.model.spec import ContainerSpec, PodSpec
from hypercontainer.sandbox.size import MOST_VCPUS

MAKERS = ("run", "create")
# these ask for something that is not there without them
NO_DEFAULT = {"entrypoint", "cidfile", "pod", "net", "tenant", *(flag.name for flag in moot.FLAGS)}
SETTINGS, CONTAINER, POD = Settings(), ContainerSpec(image="x"), PodSpec()


def shown(name: str) -> dict[str, str]:
    """The default of each option that --help shows one for."""
    text = re.sub(r"\n {10,}", "  ", help_text(name, "", commands.load(name)))
    return dict(re.findall(r"^ +(?:-., )?--([a-z0-9-]+) .*\(default (.+)\)$", text, re.MULTILINE))


@pytest.mark.parametrize("name", MAKERS)
def test_each_value_has_a_default(name: str) -> None:
    asked = {f.name for f in commands.load(name).flags if f.kind != BOOL and f.default != []}
    assert asked - NO_DEFAULT <= shown(name).keys()


@pytest.mark.parametrize("name", sorted(commands.COMMANDS))
def test_a_default_of_the_code_is_shown(name: str) -> None:
    if not name.startswith("_"):
        defaults = {f.name: f.default for f in commands.load(name).flags if f.default not in ("", False, [], None)}
        said = shown(name)
        assert {key: said[key].lower() for key in defaults} == {k: str(v).lower() for k, v in defaults.items()}


@pytest.mark.parametrize("name", MAKERS)
def test_the_defaults_are_the_engines(name: str) -> None:
    said = shown(name)
    assert (said["cpus"], POD.vcpus, SETTINGS.vcpus) == (f"1; the host's, {MOST_VCPUS} at most, with KVM", 0, 0)
    assert said["memory"] == "2g, or a quarter of the host's"
    assert parse_mib("2g") == USUAL_MIB >= SETTINGS.memory_mib
    assert parse_mib(said["storage-size"]) == SETTINGS.scratch_mib
    assert parse_mib(said["shm-size"]) == CONTAINER.shm_mib
    assert (said["factory"], said["locks"]) == (SETTINGS.factory, SETTINGS.share_locks)
    assert (said["network"], said["restart"]) == (POD.networks[0].network, CONTAINER.restart.name)
    times_s = (health.INTERVAL_S, health.TIMEOUT_S, 0, health.START_INTERVAL_S)
    flags = ("interval", "timeout", "start-period", "start-interval")
    assert [said[f"health-{flag}"] for flag in flags] == [f"{value:g}s" for value in times_s]
    assert int(said["health-retries"]) == health.RETRIES
    assert int(said["stop-timeout"]) == CONTAINER.stop_timeout_s
    assert (said["pids-limit"], CONTAINER.pids) == ("no limit", 0)
    assert f"in {SETTINGS.log_files} files of {SETTINGS.log_max_mib} MiB" in commands.load(name).notes
