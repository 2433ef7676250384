"""Guests of QEMU's, of this host's architecture: `MACHINE=microvm` and `ACCELERATOR=kvm` have others than the usual."""

import pytest

from hypercontainer.testing.daemon import PrivateDaemon
from tests.vm import everywhere

pytestmark = pytest.mark.vm


@everywhere.each
def test_everywhere(hyper: PrivateDaemon, does: everywhere.Does) -> None:
    does(hyper)
