"""What is ours of a domain, in its run directory: the reader of its console, virtiofsd, and who its VMM is."""

from pathlib import Path

from hypercontainer.hypervisor.host.limits import cgroup_name
from hypercontainer.hypervisor.host.rundir import RunDir
from hypercontainer.lib import files
from hypercontainer.model.record import ProcessRef

CONSOLE = "console"  # the reader: hyper-jail keeps what it reads
VMM = "qemu"


class DomainDir(RunDir):
    """`qemu.pid` is written by us, who have no keeper of it: libvirtd has started it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, vmm=VMM, monitor="console.sock")
        self.console = self.monitor
        self.share = path / "share.sock"
        self.programs = (*self.programs, CONSOLE)
        self.console_out = f"{CONSOLE}.out"

    @property
    def name(self) -> str:
        """Of the domain: of this run directory alone, whatever other daemons with other roots call theirs."""
        return f"hyper-{cgroup_name(self.path)}"

    def save_vmm(self, process: ProcessRef) -> None:
        line = f"{process.pid} {process.start_time}\n"
        files.replace(self.path / f"{VMM}.pid", (line * 2).encode(), durable=False)
