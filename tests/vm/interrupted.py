"""A test that is never over: test_interrupted ends it. HYPER_TOLD names a file that is written when its guest runs."""

import os
import threading
from pathlib import Path

import pytest

from hypercontainer.testing.daemon import PrivateDaemon
from tests.vm.conftest import ok


@pytest.mark.vm
def test_that_hangs(hyper: PrivateDaemon) -> None:
    ok(hyper, "run", "-d", "-v", "v:/v", "busybox", "sleep", "1000000")
    told = Path(os.environ["HYPER_TOLD"])
    told.with_suffix(".new").write_text(f"{hyper.folder} {hyper.settings['bridge']}")
    told.with_suffix(".new").rename(told)
    threading.Event().wait()
