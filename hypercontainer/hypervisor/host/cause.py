"""Why a virtual machine ended, in words. From what its VMM, the keeper of that and the guest's kernel said."""

import re
import signal

from hypercontainer.hypervisor.base import OUT_OF_MEMORY
from hypercontainer.hypervisor.host.rundir import RunDir
from hypercontainer.lib import cgroup

CAUSE_BYTES = 16384  # of the console are searched for a panic

# of a guest's kernel that finds nobody to kill, or was told to kill nobody
OOM_PANICS = ("System is deadlocked on memory", "Out of memory")
PANIC = re.compile(r"Kernel panic - not syncing: (.*)")
NAME = re.compile(r"^(qemu-system-\w+: | *(Error|Fatal): )")  # what each complaint of QEMU, of lkvm begins with
ASIDE = re.compile(r"warning: |^ *(Info|Warning): ")  # what is none
POWER_DOWN = "reboot: Power down"
CONTROL = re.compile(r"[^\n\t\x20-\x7e\xa0-\uffff]")  # the guest's bytes end up on terminals


def text(console: bytes) -> str:
    """The guest's console as harmless text."""
    return CONTROL.sub("", console.decode(errors="replace").replace("\r\n", "\n"))


def why_ended(run: RunDir, *, reason: str = "", share: str = "", off: str = POWER_DOWN) -> str:
    """Why the VMM of `run` ended, its processes gone and its files still there: `cause`, by what is there. Nothing is
    known of the status and the log of one that hyper-jail has not started."""
    return cause(
        vmm=run.vmm,
        status=run.status(run.vmm),
        reason=reason,
        console=text(run.read_tail(run.console_out, CAUSE_BYTES)),
        log=text(run.read_tail(f"{run.vmm}.log", CAUSE_BYTES)),
        out_of_memory=cgroup.out_of_memory(run.groups()),
        share=share,
        off=off,
    )


def cause(
    *,
    vmm: str = "qemu",
    status: str,
    reason: str = "",
    console: str,
    log: str,
    out_of_memory: bool,
    share: str = "",
    off: str = POWER_DOWN,
) -> str:
    """`status` is hyper-jail's, `reason` of QMP's SHUTDOWN event ("" if nobody was connected), `log` the VMM's stderr.
    `share`: how virtiofsd ended, if the VMM was killed for that. `off`: the last word of a kernel that was told to
    power off."""
    if out_of_memory:
        return "killed by the host: the virtual machine's memory limit was reached"
    if share:
        return f"its shared folders are gone: virtiofsd ended by {_signal(share) if 'signal' in share else share}"
    complaints = [line for line in log.rstrip().splitlines() if line and not ASIDE.search(line)]
    words = "; ".join(NAME.sub("", word) for word in complaints[-3:])[:500]
    if status.startswith("signal "):
        return f"killed by {_signal(status)}" + (f"; {vmm}: {words}" if words else "")
    if status != "exit 0" and words:
        return f"{vmm}: {words}"
    if reason in ("host-qmp-quit", "host-signal"):
        return "ended by the host"
    if reason != "guest-shutdown" and (panics := PANIC.findall(console)):
        return _panic(panics[-1].strip()[:500])
    if reason == "guest-shutdown" or off in console[-2000:]:
        return "powered off"
    if reason == "guest-reset" or status == "exit 0":
        return "the guest reset itself"
    return f"the VMM is gone ({status})" if status else "the VMM is gone"


def _panic(words: str) -> str:
    said = f"guest kernel panic: {words}"
    return f"{OUT_OF_MEMORY}: {said}" if words.startswith(OOM_PANICS) else said


def _signal(status: str) -> str:
    number = int(status.split()[1])
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"
