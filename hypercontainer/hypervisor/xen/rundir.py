"""What is ours of a domain, in its run directory and where Xen keeps its logs."""

from pathlib import Path

from hypercontainer.hypervisor.host.limits import cgroup_name
from hypercontainer.hypervisor.host.rundir import RunDir
from hypercontainer.hypervisor.xen.toolstack import LOGS, MARK
from hypercontainer.lib import files, proc
from hypercontainer.model.record import ProcessRef

CONSOLE = "console"  # the reader: hyper-jail keeps what it reads
VMM = "xl"  # the process that waits for the domain's end
LOG_BYTES = 16384


class DomainDir(RunDir):
    """`xl.pid` is written by us, who have no keeper of it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, vmm=VMM, monitor="domain.cfg")
        self.text = self.monitor  # what xl reads
        self.programs = (*self.programs, CONSOLE)
        self.console_out = f"{CONSOLE}.out"

    @property
    def name(self) -> str:
        """Of the domain: of this run directory alone, whatever other daemons with other roots call theirs."""
        return f"hyper-{cgroup_name(self.path)}"

    def marked(self) -> list[ProcessRef]:
        """All that runs for the domain and was started by xl, or is xl."""
        return [ProcessRef(pid=pid, start_time=started) for pid, started in proc.told(MARK, self.name)]

    def save_vmm(self, process: ProcessRef) -> None:
        line = f"{process.pid} {process.start_time}\n"
        files.replace(self.path / f"{VMM}.pid", (line * 2).encode(), durable=False)

    def log(self) -> str:
        """What the process of xl has said last."""
        try:
            with open(LOGS / f"xl-{self.name}.log", "rb") as f:
                f.seek(max(0, f.seek(0, 2) - LOG_BYTES))
                return f.read(LOG_BYTES).decode(errors="replace")
        except FileNotFoundError:
            return ""

    def clear(self) -> None:
        for kind in ("xl", "qemu-dm"):
            for path in LOGS.glob(f"{kind}-{self.name}.log*"):
                path.unlink(missing_ok=True)
        super().clear()
