"""What a guest does whoever makes it, of whatever architecture: each a test that a driver's module runs with its own.

    @everywhere.each
    def test_everywhere(hyper: PrivateDaemon, does: everywhere.Does) -> None:
        does(hyper)

The hyperd has busybox and the profiles of `everywhere.SETTINGS`. Words after it are flags of each run.
"""

import time
from typing import Protocol

import pytest

from hypercontainer.testing.daemon import PrivateDaemon, Value
from tests.conftest import PROFILES
from tests.vm.conftest import ok

SETTINGS: dict[str, Value] = {"apparmor_profiles": str(PROFILES)}


class Does(Protocol):
    def __call__(self, hyper: PrivateDaemon, /, *flags: str) -> None: ...


def an_image_runs(hyper: PrivateDaemon, /, *flags: str) -> None:
    c = ok(hyper, "run", "-d", *flags, "busybox", "sh", "-c", "echo begun; sleep 1000")
    assert hyper.ctl("exec", c, "sh", "-c", "echo said; exit 3")[:2] == (3, "said\n")
    assert ok(hyper, "logs", c) == "begun"
    ok(hyper, "rm", "-f", c)


def its_clock_is_right(hyper: PrivateDaemon, /, *flags: str) -> None:
    before = time.time()
    said = int(ok(hyper, "run", "--rm", *flags, "busybox", "date", "+%s"))
    assert int(before) <= said <= time.time()


def its_system_calls_are_filtered(hyper: PrivateDaemon, /, *flags: str) -> None:
    run = ("run", "--rm", *flags)
    assert ok(hyper, *run, "busybox", "grep", "Seccomp:", "/proc/self/status").split() == ["Seccomp:", "2"]
    refused = hyper.ctl(*run, "busybox", "unshare", "-m", "true")
    assert refused.status and "Operation not permitted" in refused.err
    assert hyper.ctl(*run, "--privileged", "busybox", "unshare", "-m", "true").status == 0


def its_processes_are_confined(hyper: PrivateDaemon, /, *flags: str) -> None:
    """By AppArmor, which guests of Debian's kernel have."""
    script = "echo a >/tmp/allowed && ! echo b >/tmp/denied && ls /tmp && cat /proc/self/attr/current"
    done = hyper.ctl("run", "--rm", "--security-opt", "apparmor=hyper-denies", *flags, "busybox", "sh", "-c", script)
    assert (done.status, done.out) == (0, "allowed\nhyper-denies (enforce)\n"), done
    assert "can't create /tmp/denied: Permission denied" in done.err


def its_panic_is_told(hyper: PrivateDaemon, /, *flags: str) -> None:
    done = hyper.ctl("run", "--rm", "--privileged", *flags, "busybox", "sh", "-c", "echo c > /proc/sysrq-trigger")
    assert done.status and "guest kernel panic: sysrq triggered crash" in done.err


each = pytest.mark.parametrize(
    "does",
    [
        pytest.param(does, id=does.__name__)
        for does in (
            an_image_runs,
            its_clock_is_right,
            its_system_calls_are_filtered,
            its_processes_are_confined,
            its_panic_is_told,
        )
    ],
)
