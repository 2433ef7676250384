"""Profiles of AppArmor, by Debian's kernel: what they deny, who has them, and what cannot be had."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.lib import apparmor
from hypercontainer.testing.daemon import PrivateDaemon
from tests.vm.runv import Runv, until

pytestmark = pytest.mark.vm

ADMIN = [f"CAP_{name}" for name in ("SYS_ADMIN", "DAC_OVERRIDE")]
WRITES = "echo a >/tmp/allowed; echo b >/tmp/denied; cat /proc/self/attr/current"
DENIED = "sh: can't create /tmp/denied: Permission denied\n"
TREE = r"""
mount -t securityfs securityfs /sys/kernel/security
tell() {
	for name in *; do
		printf '%s {' "$name"
		if [ -d "$name" ]; then (cd "$name" && tell); else cat "$name"; fi
		echo '}'
	done
}
cd /sys/kernel/security/apparmor/features && tell
"""


def confined(profile: str, **more: Any) -> dict[str, Any]:
    return {"process": {"apparmorProfile": profile, **more}}


def test_a_profile_denies_what_it_says(runv: Runv) -> None:
    bundle = runv.bundle("sh", "-c", WRITES, **confined("hyper-denies"))
    assert runv("run", "--bundle", str(bundle), "one") == (0, "hyper-denies (enforce)\n", DENIED)
    assert (bundle / "rootfs/tmp/allowed").read_text() == "a\n" and not (bundle / "rootfs/tmp/denied").exists()
    for usual in ("unconfined", "docker-default", ""):  # in a machine without AppArmor
        bundle = runv.bundle("sh", "-c", "cat /proc/self/attr/current 2>/dev/null || echo none", **confined(usual))
        assert runv.ok("run", "--bundle", str(bundle), "two") == "none\n"


def test_an_exec_has_its_containers_or_its_own(runv: Runv) -> None:
    bundle = runv.bundle("sleep", "1000", **confined("hyper-denies"))
    assert runv.spawn("run", "--bundle", str(bundle), "one").poll() is None
    until(lambda: runv("exec", "one", "true").status == 0)
    assert runv("exec", "one", "sh", "-c", WRITES) == (0, "hyper-denies (enforce)\n", DENIED)
    more = runv("exec", "--apparmor", "hyper-denies-more", "one", "sh", "-c", "cat /proc/self/attr/current; >/tmp/x")
    assert more.out == "hyper-denies-more (enforce)\n" and "can't create /tmp/x: Permission denied" in more.err
    assert runv.ok("exec", "--apparmor", "unconfined", "one", "cat", "/proc/self/attr/current") == "unconfined\n"
    wrong = runv("exec", "--apparmor", "hyper-nothing", "one", "true")
    assert wrong.status == 1 and "no file in" in wrong.err
    assert runv("exec", "one", "sh", "-c", WRITES).err == DENIED  # over a restart of hyperd
    runv.hyper.signal(signal.SIGKILL)
    runv.hyper.start()
    assert runv("exec", "one", "sh", "-c", WRITES).err == DENIED


def test_what_cannot_be_had_is_refused_in_words(runv: Runv) -> None:
    bundle = runv.bundle("sleep", "1000", **confined("hyper-nothing"))
    wrong = runv("create", "--bundle", str(bundle), "one")
    assert wrong.status == 1 and "AppArmor profile 'hyper-nothing': no file in" in wrong.err
    assert runv.ok("list", "-q") == ""
    bundle = runv.bundle("sleep", "1000", **confined(""))
    assert runv.spawn("create", "--bundle", str(bundle), "one").wait() == 0
    runv.ok("start", "one")
    late = runv("exec", "--apparmor", "hyper-denies", "one", "true")
    assert late.status == 1 and "was started before anybody asked for it: see the setting apparmor" in late.err


def test_rules_are_compiled_for_what_this_kernel_can(runv: Runv) -> None:
    """What lib/apparmor.features says is true of the oldest kernel of guests, which this one is."""
    sets = dict.fromkeys(("bounding", "effective", "permitted"), ADMIN)
    mounts = [{"destination": f"/{kind}", "type": kind if kind == "proc" else "sysfs"} for kind in ("proc", "sys")]
    bundle = runv.bundle("sh", "-c", TREE, mounts=mounts, **confined("hyper-admin", capabilities=sets))
    said = runv.ok("run", "--bundle", str(bundle), "one")
    assert said == (Path(str(resources.files("hypercontainer"))) / apparmor.FEATURES).read_text()


def test_a_container_of_ours(hyper: PrivateDaemon) -> None:
    words = ("run", "-d", "--name", "web", "--init", "--security-opt", "apparmor=hyper-denies", "busybox")
    made = hyper.ctl(*words, "sh", "-c", f"{WRITES}; sleep 1000")
    assert made.status == 0, made
    until(lambda: "enforce" in hyper.ctl("logs", "web").out)
    assert hyper.ctl("logs", "web") == (0, "hyper-denies (enforce)\n", DENIED)
    assert hyper.ctl("exec", "--privileged", "web", "sh", "-c", WRITES) == (0, "hyper-denies (enforce)\n", DENIED)
    assert hyper.ctl("inspect", "--format", "{{.HostConfig.SecurityOpt}}", "web").out == "[apparmor=hyper-denies]\n"
    assert hyper.ctl("restart", "-t", "1", "web").status == 0
    assert hyper.ctl("exec", "web", "sh", "-c", WRITES) == (0, "hyper-denies (enforce)\n", DENIED)
    wrong = hyper.ctl("run", "--rm", "--security-opt", "apparmor=hyper-nothing", "busybox", "true")
    assert wrong.status == 125 and "AppArmor profile 'hyper-nothing': no file in" in wrong.err
    joined = ("--network", "container:plain", "--security-opt", "apparmor=hyper-denies", "busybox", "true")
    assert hyper.ctl("run", "-d", "--name", "plain", "busybox", "sleep", "1000").status == 0
    late = hyper.ctl("run", "--rm", *joined)
    assert late.status == 125 and "see the setting apparmor" in late.err


def test_the_setting_has_it_in_each_machine(hyper: PrivateDaemon) -> None:
    with _said(hyper, "apparmor = true\n"):
        assert hyper.ctl("run", "-d", "--name", "plain", "busybox", "sleep", "1000").status == 0
        joined = ("--network", "container:plain", "--security-opt", "apparmor=hyper-denies", "busybox")
        assert hyper.ctl("run", "--rm", *joined, "sh", "-c", WRITES) == (0, "hyper-denies (enforce)\n", DENIED)
        hyper.clear()


@contextmanager
def _said(hyper: PrivateDaemon, line: str) -> Iterator[None]:
    """For the block, its settings have that line too."""
    usual = hyper.config.read_text()
    try:
        hyper.config.write_text(line + usual)
        hyper.signal(signal.SIGTERM)
        hyper.start()
        yield
    finally:
        hyper.config.write_text(usual)
        hyper.signal(signal.SIGTERM)
        hyper.start()
