"""What a guest does before it waits: containers on all kinds of roots, and nothing of them is left."""

from pathlib import Path

import pytest

from hypercontainer import vm as vms
from hypercontainer.errors import GuestError
from hypercontainer.factory.base import EMPTY, Roots
from hypercontainer.factory.rehearsal import ANOTHER, NAME, rehearse
from hypercontainer.hypervisor.base import VmConfig
from hypercontainer.lib.trace import Timings
from hypercontainer.testing.fake_process import FakeProcess
from hypercontainer.testing.fakes import FakeHypervisor, FakeShare


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    (tmp_path / "root").mkdir()
    return Roots(EMPTY, tmp_path / "root")


async def test_with_a_share_a_container_is_in_a_folder_too(
    hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path, share: FakeShare, roots: Roots
) -> None:
    share.prepare()
    async with vms.booted(hypervisor, config, run_dir, Timings()) as vm:
        agent = hypervisor.alive[0].agent
        await rehearse(vm, roots, network=False, share=share)
        made = [args["rootfs"] for op, args in agent.requests if op == "container.create"]
        assert [set(root) for root in made if isinstance(root, dict)] == [{"lower", "upper"}, {"folder"}]
        started = [(args["id"], args.get("first", False)) for op, args in agent.requests if op == "process.start"]
        assert started == [(NAME, True), (ANOTHER, False)] * 2
        assert not agent.containers and not agent.processes
    assert list(share.root.iterdir()) == []


async def test_a_program_that_fails_is_no_rehearsal(
    hypervisor: FakeHypervisor, config: VmConfig, run_dir: Path, roots: Roots
) -> None:
    async def fail(process: FakeProcess) -> int:
        return 3

    async with vms.booted(hypervisor, config, run_dir, Timings()) as vm:
        hypervisor.alive[0].agent.programs["hyperstart"] = fail
        with pytest.raises(GuestError, match="status 3"):
            await rehearse(vm, roots, network=False)
