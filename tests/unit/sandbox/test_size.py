"""How large a machine is."""

from typing import Literal

import pytest

from hypercontainer.sandbox import size


@pytest.mark.parametrize(
    ("accelerator", "setting", "of_host", "vcpus"),
    [("tcg", 0, 4, 1), ("kvm", 0, 4, 4), ("kvm", 0, 64, 8), ("kvm", 2, 64, 2), ("tcg", 2, 4, 2)],
)
def test_processors_by_default(
    monkeypatch: pytest.MonkeyPatch, accelerator: Literal["kvm", "tcg"], setting: int, of_host: int, vcpus: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(of_host)))
    assert size.usual_vcpus(setting, accelerator) == vcpus
