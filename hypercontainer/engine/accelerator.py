"""KVM or emulation, decided by proof: a /dev/kvm that opens and makes a VM may still be unable to run Linux.

A real guest is booted under KVM with a bound of seconds, the setting `kvm_proof_s`. The answer is kept for this boot of
the host, this VMM and this kernel, since any of them may change it.
"""

import logging
import os
import tempfile
import textwrap
import time
from pathlib import Path

import msgspec

from hypercontainer import vm as vms
from hypercontainer.errors import HyperError
from hypercontainer.hypervisor.base import Hypervisor, VmConfig
from hypercontainer.lib import document, files, proc
from hypercontainer.lib.trace import Timings
from hypercontainer.model import arch
from hypercontainer.model.record import Accelerator
from hypercontainer.model.settings import Settings

log = logging.getLogger(__name__)

KVM = Path("/dev/kvm")
PROOF_MIB = 256  # what each machine can have
NOBODY = 65534
REASON = 120  # characters of why it did not, for lines that people read

BootFiles = tuple[Path, Path]  # kernel, initramfs


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    accelerator: Accelerator
    reason: str


class _Cached(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    choice: Choice


def known(settings: Settings, vmm: str, boot: BootFiles, cache_dir: Path) -> Choice | None:
    """What is decided without a proof: by the settings, for lack of /dev/kvm, or by the proof of before."""
    match settings.accelerator:
        case "kvm":
            return Choice(accelerator="kvm", reason="the configuration says so")
        case "tcg":
            return Choice(accelerator="tcg", reason="the configuration says so")
    if not KVM.exists():
        return Choice(accelerator="tcg", reason="there is no /dev/kvm")
    try:
        cached = document.read(_cache(cache_dir), _Cached)
    except (FileNotFoundError, HyperError):
        return None
    return cached.choice if cached.key == _key(vmm, boot) else None


async def choose(settings: Settings, hypervisor: Hypervisor, boot: BootFiles, cache_dir: Path, run_dir: Path) -> Choice:
    """The accelerator for guests here; proved once, in `kvm_proof_s` seconds at most."""
    vmm = await hypervisor.version()
    if hypervisor.accelerator:
        return Choice(accelerator=hypervisor.accelerator, reason=f"{hypervisor.product} {vmm} runs them")
    if (choice := known(settings, vmm, boot, cache_dir)) is not None:
        return choice
    choice = await _prove(hypervisor, boot, run_dir, settings.kvm_proof_s)
    try:
        files.replace(_cache(cache_dir), msgspec.json.encode(_Cached(key=_key(vmm, boot), choice=choice)))
    except OSError as e:
        log.warning("cannot keep what was proved: %s: until that can be done it is proved each time", e)
    return choice


def _cache(cache_dir: Path) -> Path:
    return cache_dir / "accelerator.json"


def _key(vmm: str, boot: BootFiles) -> str:
    return f"{proc.boot_id()} {vmm} {boot[0]} {boot[1]}"  # both paths name digests or a bundle that never changes


async def _prove(hypervisor: Hypervisor, boot: BootFiles, run_dir: Path, timeout_s: float) -> Choice:
    if not os.access(KVM, os.R_OK | os.W_OK):
        return Choice(accelerator="tcg", reason="/dev/kvm may not be opened")
    try:
        await boots(hypervisor, boot, run_dir, "kvm", timeout_s)
    except HyperError as e:
        why = str(e).splitlines()[0].removeprefix("cannot start the virtual machine: ")
        why = textwrap.shorten(why, REASON, placeholder=" …")
        return Choice(accelerator="tcg", reason=f"no guest boots under /dev/kvm: {why}")
    return Choice(accelerator="kvm", reason="a guest booted under it")


async def boots(
    hypervisor: Hypervisor,
    boot: BootFiles,
    run_dir: Path,
    accelerator: Accelerator,
    timeout_s: float,
    of: str = "",
) -> float:
    """Boot a guest of no use until its agent answers, of an architecture or of this host's; the seconds it took.
    Nothing is left of it."""
    begin = time.monotonic()
    run_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="proof-", dir=run_dir))
    folder.chmod(0o711)
    config = VmConfig(
        name="proof",
        kernel=boot[0],
        initrd=boot[1],
        vcpus=1,
        memory_mib=PROOF_MIB,
        uid=NOBODY,
        arch=of or arch.host_name(),
        boot_timeout_s=timeout_s,
        accelerator=accelerator,
    )
    try:
        vm = await vms.boot(hypervisor, config, folder, Timings())
        took_s = time.monotonic() - begin
        await vm.close()
        await vm.guest.kill()
        return took_s
    finally:
        await vms.remove(hypervisor, folder)
