"""Measures the QEMU of `make qemu` beside the distribution's: what there is to attack, and what a start takes.

python -m bench.qemus [--rounds 20] [--kernel NAME]

All in one run, in turn; starts are of templates.
"""

import argparse
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from bench import bare
from bench.compare import Steps, in_turn, table
from bench.measure import Series
from bench.places import CHECKOUT, IMAGE, KERNELS, load_image, our_kernel, say
from bench.starts import Starts
from hypercontainer.hypervisor.base import Snapshot, VmConfig
from hypercontainer.hypervisor.qemu import argv
from hypercontainer.hypervisor.qemu.machines import machine_of
from hypercontainer.model.arch import host_name
from hypercontainer.testing.daemon import private_daemon

MEMORY_MIB = 128
CLONES = 10  # that are alive at once, of each
MACHINE = machine_of(host_name())
DEVICE = re.compile(rb'^name "(?!\S+-cpu")', re.MULTILINE)  # without models of processors
BELOW = re.compile(rb"^\s.*/lib", re.MULTILINE)


class Qemu:
    """What is measured of one."""

    def __init__(self, stack: ExitStack, program: str, kernel: str) -> None:
        settings = {"kernel": kernel, "factory": "template", "accelerator": "tcg", "qemu": program}
        daemon = stack.enter_context(private_daemon(KERNELS, settings))
        load_image(daemon)
        self.program, self.kernel = program, kernel
        self.starts = Starts(daemon, IMAGE, "template")
        self.greeted = Series("from exec to QMP's greeting, a clone's command line")

    def facts(self) -> str:
        size = Path(self.program).stat().st_size / 1e6
        libraries = len(BELOW.findall(_said("ldd", self.program)))
        devices = len(DEVICE.findall(_said(self.program, "-device", "help")))
        machines = len(_said(self.program, "-machine", "help").splitlines()) - 1
        return f"{self.program}: {size:.1f} MB, {libraries} libraries, {devices} devices, {machines} machines"

    def run_greeting(self) -> None:
        with tempfile.TemporaryDirectory(prefix="hyb") as folder, ExitStack() as files:
            listeners = []
            for name in ("qmp", "agent"):
                listener = files.enter_context(socket.socket(socket.AF_UNIX))
                listener.bind(f"{folder}/{name}")
                listener.listen(1)
                listeners.append(listener.fileno())
            memory = os.memfd_create("memory", os.MFD_CLOEXEC)
            files.callback(os.close, memory)
            os.truncate(memory, MEMORY_MIB << 20)
            fds = argv.Descriptors(qmp=listeners[0], agent=listeners[1], memory=memory)
            words = argv.command(self.program, MACHINE, _config(memory), fds)
            client = files.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(f"{folder}/qmp")
            begin = time.perf_counter()
            with subprocess.Popen(words, pass_fds=fds.all(), stdin=subprocess.DEVNULL) as process:
                client.recv(1)
                self.greeted.samples.append((time.perf_counter() - begin) * 1e3)
                process.kill()

    @property
    def steps(self) -> Steps:
        return [self.run_greeting, self.starts.run_true]

    @property
    def series(self) -> list[Series]:
        return [self.greeted, self.starts.whole, *self.starts.steps.values()]

    def clones(self) -> Series:
        return bare.pss(CLONES, self.kernel, MEMORY_MIB, self.program)


def _config(memory: int) -> VmConfig:
    origin = Snapshot(memory=memory, state=memory)
    return VmConfig(
        name="bench", kernel=Path(), initrd=Path(), vcpus=1, memory_mib=MEMORY_MIB, uid=1, accelerator="tcg",
        arch=MACHINE.arch, origin=origin,
    )  # fmt: skip


def _said(*words: str) -> bytes:
    return subprocess.run(words, capture_output=True, check=True, timeout=60).stdout


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.qemus", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--kernel", default=our_kernel(), help="a bundle's name (default: our own, where one is built)")
    args = parser.parse_args()
    theirs, ours = shutil.which(MACHINE.program), CHECKOUT / ".cache/hyper/qemu" / MACHINE.program
    if not theirs or not ours.exists():
        raise SystemExit("bench: there is nothing to compare: `make qemu` builds one")
    with ExitStack() as stack:
        before, after = (Qemu(stack, program, args.kernel) for program in (theirs, str(ours)))
        steps = before.steps, after.steps
        say("one round to warm up, not counted")
        in_turn(1, *steps, lambda _: None)
        for each in (before, after):
            each.greeted.samples.clear()
            each.starts.whole.samples.clear()
            each.starts.steps.clear()  # that of the template's making is among them
        in_turn(args.rounds, *steps, say)
        print(f"before: {before.facts()}\nafter:  {after.facts()}")
        rows = [[*each.series, each.clones()] for each in (before, after)]
        print(table(*rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
