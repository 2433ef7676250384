"""How a VMM's life ends, with processes that do as little as they can in its place and virtiofsd's."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercontainer.errors import InUse
from hypercontainer.hypervisor.base import VmConfig
from hypercontainer.hypervisor.host import life
from hypercontainer.hypervisor.qemu.rundir import qemu_run
from hypercontainer.lib import proc
from hypercontainer.model.record import ProcessRef

STATUS = "exit 1"


class Host:
    """One VMM with a virtiofsd; each ends by itself when its stdin does."""

    def __init__(self, folder: Path) -> None:
        self.vmm, self.share = (subprocess.Popen(["cat"], stdin=subprocess.PIPE) for _ in range(2))
        run = qemu_run(folder)
        (folder / "virtiofsd.status").write_text(STATUS)
        config = VmConfig(name="one", kernel=folder, initrd=folder, memory_mib=64, vcpus=1, uid=7, accelerator="tcg")
        helpers = [_ref(self.share)]
        self.guest = life.ProcessGuest(life.born("qemu", config, run, _ref(self.vmm), helpers), run)

    def end(self, process: "subprocess.Popen[bytes]") -> None:
        process.communicate(timeout=20)

    def close(self) -> None:
        for process in (self.vmm, self.share):
            process.kill()
            process.communicate(timeout=20)


def _ref(process: "subprocess.Popen[bytes]") -> ProcessRef:
    return ProcessRef(pid=process.pid, start_time=proc.start_time(process.pid) or 0)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    made.close()


async def test_a_vmm_that_ends_by_itself_has_lost_no_share(host: Host) -> None:
    ended = asyncio.create_task(host.guest.wait())
    await asyncio.to_thread(host.end, host.vmm)
    assert await ended == "the VMM is gone"
    assert host.share.poll() is None  # which is not its business


async def test_without_its_virtiofsd_a_vmm_is_ended(host: Host) -> None:
    ended = asyncio.create_task(host.guest.wait())
    await asyncio.to_thread(host.end, host.share)
    await asyncio.to_thread(host.vmm.wait, 20)
    assert await ended == f"its shared folders are gone: virtiofsd ended by {STATUS}"


async def test_who_reads_of_an_end_is_not_told_of_another_one_meanwhile(host: Host) -> None:
    async with host.guest._ending:
        ended = asyncio.create_task(host.guest.wait())
        await asyncio.to_thread(host.end, host.share)
        await host.guest.tell_end()
        await asyncio.to_thread(host.vmm.wait, 20)
    assert await ended == "killed"
    assert host.guest._share_end == ""


async def test_one_that_is_gone_was_not_killed(host: Host) -> None:
    host.end(host.vmm)
    host.end(host.share)
    await host.guest.tell_end()
    assert await host.guest.wait() == "the VMM is gone"


async def test_a_share_that_is_still_used_is_named(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(life, "SHARED_S", 0.0)
    with pytest.raises(Exception, match=r"it uses its share after 0 s"):
        await host.guest.tell_end()
    host.end(host.share)
    await host.guest.tell_end()


def test_a_folder_has_one_vmm(tmp_path: Path) -> None:
    run = qemu_run(tmp_path)
    lock = run.take("one")
    with pytest.raises(InUse, match=f"cannot boot two: a virtual machine runs in {tmp_path}"):
        run.take("two")
    os.close(lock)
