"""How large a machine is."""

from typing import Literal

import pytest

from hypercontainer.hypervisor.base import Limits
from hypercontainer.model.container import Resources
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


@pytest.mark.parametrize(
    ("limits", "cpus_and_mib"),
    [([(0, 0)], (0, 256)), ([(64, 0.5), (100, 0.6)], (2, 164)), ([(0, 0), (100, 1.0), (0, 0)], (1, 356))],
)
def test_together_they_use_what_their_limits_come_to(
    limits: list[tuple[int, float]], cpus_and_mib: tuple[int, int]
) -> None:
    found = [Resources(memory_bytes=mib << 20, cpu_quota_us=int(cpus * 100_000)) for mib, cpus in limits]
    assert size.together(found, 256) == cpus_and_mib


@pytest.mark.parametrize(
    ("limits", "held_to"),
    [
        ([], Limits()),
        ([Resources()], Limits()),
        ([Resources(cpu_quota_us=50_000)], Limits(cpu_quota_us=75_000)),
        ([Resources(cpu_quota_us=9, cpu_period_us=9), Resources(cpu_quota_us=1000)], Limits(cpu_quota_us=126_000)),
        ([Resources(cpu_quota_us=50_000), Resources()], Limits()),
        ([Resources(cpu_shares=512), Resources()], Limits(cpu_shares=1536)),
        ([Resources(cpu_shares=262_144)] * 2, Limits(cpu_shares=262_144)),
        ([Resources(unified={"io.weight": "50"}), Resources(unified={"io.weight": "300"})], Limits(io_weight=300)),
        ([Resources(unified={"io.weight": "default 50"})], Limits()),
    ],
)
def test_the_host_holds_a_machine_to_what_its_containers_come_to(limits: list[Resources], held_to: Limits) -> None:
    assert size.of_host(limits) == held_to
