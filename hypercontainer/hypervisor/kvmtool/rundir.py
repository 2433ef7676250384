"""What there is of an lkvm in its run directory, and where its guest listens."""

import hashlib
import os
from pathlib import Path

from hypercontainer.hypervisor.host.rundir import RunDir
from hypercontainer.hypervisor.kvmtool.argv import AGENT_PORT
from hypercontainer.lib.vsock import Vsock

VMM = "lkvm"
CIDS = range(3, (1 << 32) - 1)  # of guests: below are the host's, above is everybody's


class LkvmDir(RunDir):
    """Its number on this host is made of the path, so that it is known before the VMM is, and by the next hyperd."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, vmm=VMM)
        digest = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()
        self.vsock = Vsock(CIDS[int(digest[:8], 16) % len(CIDS)], AGENT_PORT)
