"""What a bundle's annotations ask of its machine, and who is refused."""

import pytest

from hypercontainer.engine import annotations
from hypercontainer.engine.annotations import KNOWN, PREFIX
from hypercontainer.errors import InvalidInput
from hypercontainer.model.settings import Annotation, Settings
from hypercontainer.model.spec import PodSpec

ALL: tuple[Annotation, ...] = ("vcpus", "memory_mib", "factory")


def test_what_is_not_ours_is_passed_over() -> None:
    said = {"io.kubernetes.cri.sandbox-id": "x", "io.katacontainers.config.hypervisor.kernel": "/etc/passwd", "": "x"}
    assert annotations.asked(said, []) == {}


def test_nobody_may_anything_by_default() -> None:
    assert Settings().annotations == []
    for word in KNOWN:
        with pytest.raises(InvalidInput, match=f"cannot use annotation {PREFIX}{word}: hyperd's settings do not allow"):
            annotations.asked({PREFIX + word: "1"}, [])


def test_all_that_the_settings_can_name_is_known() -> None:
    assert set(KNOWN) == set(ALL)
    said = {f"{PREFIX}vcpus": "3", f"{PREFIX}memory_mib": "4096", f"{PREFIX}factory": "direct"}
    asked = annotations.asked(said, ALL)
    assert asked == {"vcpus": 3, "memory_mib": 4096, "factory": "direct"}
    assert annotations.sized(PodSpec(), asked, 2048) == PodSpec(vcpus=3, memory_mib=4096, factory="direct")


def test_a_machine_is_never_smaller_for_that() -> None:
    spec = PodSpec(vcpus=4, memory_mib=64)  # a limit inside a usual one
    assert annotations.sized(spec, {"vcpus": 2, "memory_mib": 2048}, 2048) == spec
    assert annotations.sized(PodSpec(memory_mib=8192), {"memory_mib": 4096}, 2048).memory_mib == 8192


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("kernel", "/boot/vmlinuz", "nobody knows it; known are io.hypercontainer.vcpus"),
        ("", "x", "nobody knows it"),
        ("memory_mib", "2g", "'2g' is no number of 1 to"),
        ("memory_mib", "-1", "is no number"),
        ("memory_mib", "9" * 5000, "is no number"),
        ("vcpus", "0", "is no number"),
        ("vcpus", "٣", "is no number"),
        ("factory", "kata", "'kata' is none of cache, template, direct"),
    ],
)
def test_what_is_refused(name: str, value: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        annotations.asked({PREFIX + name: value}, ALL)
