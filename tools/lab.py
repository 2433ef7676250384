"""Runs a command of this checkout where KVM or Xen works: in an emulated Debian 12, whose processor has AMD's SVM.

    tools/lab.py [--xen | --bench] [--count] [--minutes N] [--program FILE]... COMMAND...

As root, on a Debian with apt. The lab has no network: what it needs is on its disks, a Debian (kept in .cache/lab, made
anew when what goes in changes) and this checkout as it is, at its own path. What the command prints comes by a serial
line, its status by a device of QEMU's. Everything but the kept disk goes when this ends, by a signal too. A `--program`
of this host, whose libraries the lab's packages have, is found there by its name.
"""

import argparse
import gzip
import hashlib
import json
import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from hypercontainer.kernel.initramfs import Entry, cpio
from hypercontainer.kernel.modules import ModuleTree
from hypercontainer.lib import files

CHECKOUT = Path(__file__).parents[1]
HOME = CHECKOUT / ".cache/lab"
INIT = Path(__file__).with_name("lab-init.sh")  # the first process of the Debian in there
# A kernel with kvm_amd and a dom0's drivers, and what runs .venv and the tests
MORE = ("linux-image-amd64", "python3", "procps", "erofs-utils", "util-linux", "apparmor")

# What the lab's kernel needs to find its root.
MODULES = ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4")
# Of the checkout, what git does not have: nothing is built in there, emulated.
BUILT = (".venv", ".cache/hyper", ".cache/zig", "hypercontainer/_bin", "hypercontainer/hyperd/cri/cri_pb2.py")

MEMORY_MIB = 4096
SLACK_MIB = 2048  # free on each disk, sparse
TRANSLATIONS_MIB = 512  # of code: a whole userland's, and that of guests
EXIT_PORT = 0xF4  # where the lab says how its command ended


class Lab(NamedTuple):
    """A host that guests are to run on."""

    kept: str  # what its folders of kept disks are called
    packages: tuple[str, ...]  # besides those of all
    cpu: str
    parameters: str  # of Linux
    hypervisor: str = ""  # below Linux: where /boot has it …
    hypervisor_parameters: str = ""  # … and what it is told
    lists: tuple[str, ...] = ("debian-packages.txt",)  # more packages are in these


# SVM with nested pages is what KVM and Xen need. The rest is for speed, in a host that nobody attacks: without five
# levels of page tables an exit of a guest, which empties the emulated TLB, costs less, and nothing is copied byte by
# byte.
KVM = Lab(
    kept="debian",
    packages=("libvirt-daemon", "libvirt-daemon-driver-qemu"),
    cpu="max,svm=on,npt=on,la57=off,erms=off,fsrm=off",
    parameters="console=ttyS0 mitigations=off kvm.halt_poll_ns=0",
)
# What is measured beside peers: nothing else differs.
BENCH = KVM._replace(kept="bench", packages=(), lists=(*KVM.lists, "debian-packages-bench.txt"))
XEN = Lab(
    kept="xen",
    packages=("xen-hypervisor-4.17-amd64", "xen-utils-4.17", "xenstore-utils", "qemu-system-xen"),
    cpu="qemu64,npt=on",
    parameters="console=hvc0 mitigations=off",
    hypervisor="xen-4.17-amd64.gz",
    hypervisor_parameters="console=com1 com1=115200,8n1 loglvl=error guest_loglvl=error dom0_mem=2560M,max:2560M",
)


class Disk(NamedTuple):
    """What a lab boots, of one key."""

    kernel: Path
    initrd: Path
    image: Path
    hypervisor: Path | None = None


def say(text: str) -> None:
    print(f"lab: {text}", flush=True)


def packages(lab: Lab) -> list[str]:
    """Debian's, by the lists that `make setup` reads."""
    words = [
        line.partition("#")[0].split() for name in lab.lists for line in (CHECKOUT / name).read_text().splitlines()
    ]
    return sorted({*MORE, *lab.packages, *(name for name, *only in filter(None, words) if only in ([], ["[amd64]"]))})


def run(*words: str | Path) -> None:
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)


def debian(lab: Lab) -> Disk:
    """The kept disk; made where there is none of what is to be in there."""
    key = hashlib.sha256(json.dumps([packages(lab), MODULES, str(INIT)]).encode()).hexdigest()[:16]
    folder = HOME / f"{lab.kept}-{key}"
    hypervisor = folder / "hypervisor" if lab.hypervisor else None
    disk = Disk(folder / "vmlinuz", folder / "initrd", folder / "root.img", hypervisor)
    if folder.exists():
        return disk
    for old in HOME.glob(f"{lab.kept}-*"):
        shutil.rmtree(old)
    say(f"making a Debian 12 with {len(packages(lab))} packages and what they need (two minutes)")
    with workspace() as work:
        root = work / "root"
        run(CHECKOUT / "tools/debian-root.sh", root, ",".join(packages(lab)))
        (root / CHECKOUT.relative_to("/")).mkdir(parents=True)
        kept = work / "kept"
        kept.mkdir()
        shutil.copy(next(root.glob("boot/vmlinuz-*")), kept / disk.kernel.name)
        (kept / disk.initrd.name).write_bytes(initramfs(root))
        if disk.hypervisor:  # which QEMU does not unpack
            (kept / disk.hypervisor.name).write_bytes(gzip.decompress((root / "boot" / lab.hypervisor).read_bytes()))
        for leftover in root.glob("boot/*"):
            leftover.unlink()
        make_image(kept / disk.image.name, root)
        kept.rename(folder)
    return disk


def initramfs(root: Path) -> bytes:
    """One that loads what the kernel lacks, mounts both disks and hands over to INIT."""
    modules = ModuleTree(next(root.glob("lib/modules/*"))).pick(MODULES)
    lines = [
        "#!/bin/busybox sh",
        "/bin/busybox mount -t devtmpfs dev /dev",
        *(f"/bin/busybox insmod /modules/{module.name}.ko" for module in modules),
        "until [ -b /dev/vda ] && [ -b /dev/vdb ]; do /bin/busybox usleep 10000; done",
        "/bin/busybox mount -t ext4 /dev/vda /root",
        f"/bin/busybox mount -t ext4 /dev/vdb /root{CHECKOUT}",
        f"exec /bin/busybox switch_root /root {INIT}",
    ]
    program = stat.S_IFREG | 0o755
    return cpio(
        [
            *(Entry(name, stat.S_IFDIR | 0o755) for name in ("bin", "dev", "modules", "root")),
            Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
            Entry("bin/busybox", program, (root / "bin/busybox").read_bytes()),
            Entry("init", program, "\n".join(lines).encode() + b"\n"),
            *(Entry(f"modules/{module.name}.ko", program, module.path.read_bytes()) for module in modules),
        ]
    )


def make_image(image: Path, tree: Path) -> None:
    """A sparse ext4 of what is in `tree`."""
    used = int(subprocess.run(["du", "-sm", tree], check=True, capture_output=True, text=True).stdout.split()[0])
    image.touch(0o600)
    os.truncate(image, (used + used // 8 + SLACK_MIB) << 20)
    run("mke2fs", "-q", "-t", "ext4", "-d", tree, image)


def checkout(work: Path, command: str, programs: Sequence[Path]) -> Path:
    """A disk of this checkout, of the command that is to run there, and of programs for it."""
    tree = work / "checkout"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True, capture_output=True, text=True, cwd=CHECKOUT,
    )  # fmt: skip
    there = [name for name in (*BUILT, *listed.stdout.split("\0")) if name and (CHECKOUT / name).exists()]
    (tree / ".cache/lab/bin").mkdir(parents=True)
    subprocess.run(["cp", "--archive", "--link", "--parents", *there, tree], check=True, cwd=CHECKOUT)
    (tree / ".cache/lab/command").write_text(command + "\n")
    for program in programs:
        shutil.copy(program, tree / ".cache/lab/bin")
    run(sys.executable, "-m", "compileall", "-q", *(tree / name for name in ("hypercontainer", "tests")))
    make_image(work / "checkout.img", tree)
    return work / "checkout.img"


def qemu(lab: Lab, disk: Disk, checkout: Path, *, counts: bool = False) -> list[str]:
    """The lab's own. Its kept disk is not written to: what changes is in a file without a name. `counts`: an
    instruction takes a nanosecond of its clocks, and waiting for what its devices do takes none."""
    words = f"quiet panic=-1 {lab.parameters} lab.folder={CHECKOUT} lab.port={EXIT_PORT}"
    kernel = ["-kernel", str(disk.kernel), "-initrd", str(disk.initrd), "-append", words]
    if disk.hypervisor:  # Linux is the first of its modules, the initramfs the second
        modules = f"{disk.kernel} {words},{disk.initrd}"
        kernel = ["-kernel", str(disk.hypervisor), "-initrd", modules, "-append", lab.hypervisor_parameters]
    thread, processors, clock = "multi", 2, list[str]()
    if counts:
        thread, processors, clock = "single", 1, ["-icount", "shift=0,sleep=off"]
    return [
        "qemu-system-x86_64",
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio"),
        *("-accel", f"tcg,thread={thread},tb-size={TRANSLATIONS_MIB}", "-cpu", lab.cpu, *clock),
        *("-smp", str(processors), "-m", f"{MEMORY_MIB}M"),
        *kernel,
        *("-drive", f"file={disk.image},format=raw,if=virtio,snapshot=on"),
        *("-drive", f"file={checkout},format=raw,if=virtio,cache=unsafe"),
        *("-device", "virtio-rng-pci"),
        *("-device", f"isa-debug-exit,iobase={EXIT_PORT:#x},iosize=1"),
    ]


def boot(words: Sequence[str], work: Path, minutes: int) -> int:
    """Run the lab's `qemu`; the status of its command. QEMU dies with us, whatever ends us."""
    words = ["setpriv", "--pdeathsig", "KILL", *words]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, env={**os.environ, "TMPDIR": str(work)}) as process:
        try:
            status = process.wait(timeout=minutes * 60)
        except subprocess.TimeoutExpired:
            say(f"it has not ended in {minutes} minutes: ended")
            return 124
        finally:
            process.kill()
    if status < 3 or status & 1 == 0:  # 1 is what QEMU says of its own mistakes
        say("it ended before its command did: see the last words above")
        return 125
    return (status >> 1) - 1


@contextmanager
def workspace() -> Iterator[Path]:
    """A folder that goes with the block, on the disk that the checkout is on."""
    work = Path(tempfile.mkdtemp(prefix="run.", dir=HOME))
    try:
        yield work
    finally:
        shutil.rmtree(work)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=int, default=40, help="the longest that it may take (%(default)s)")
    parser.add_argument("--program", type=Path, action="append", default=[], metavar="FILE", help="take it along")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--xen", action="store_true", help="a dom0 of Xen instead of a host with KVM")
    which.add_argument("--bench", action="store_true", help="a host with KVM and the peers of `make bench`")
    parser.add_argument("--count", action="store_true", help="its clocks count instructions, a nanosecond each")
    parser.add_argument("command", nargs="+", metavar="COMMAND")
    asked = parser.parse_args()
    for missing in (program for program in asked.program if not program.is_file()):
        sys.exit(f"lab: cannot take {missing} along: there is no such file")
    if os.getuid():
        sys.exit("lab: cannot make a Debian: only root can")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    HOME.mkdir(parents=True, exist_ok=True)
    if not files.taken(os.open(HOME / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)):
        sys.exit("lab: cannot start: another one of this checkout runs")
    for old in HOME.glob("run.*"):  # of one that was killed
        shutil.rmtree(old)
    lab = XEN if asked.xen else BENCH if asked.bench else KVM
    disk = debian(lab)
    with workspace() as work:
        command = shlex.join(asked.command) if len(asked.command) > 1 else asked.command[0]
        image = checkout(work, command, asked.program)
        say(f"booting it; in there: {' '.join(asked.command)}")
        return boot(qemu(lab, disk, image, counts=asked.count), work, asked.minutes)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except subprocess.CalledProcessError as e:
        sys.exit(f"lab: {e}")
