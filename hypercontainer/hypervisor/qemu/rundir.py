"""A QEMU's run directory."""

from pathlib import Path

from hypercontainer.hypervisor.host.rundir import RunDir


def qemu_run(path: Path) -> RunDir:
    return RunDir(path, vmm="qemu", monitor="qmp.sock")
