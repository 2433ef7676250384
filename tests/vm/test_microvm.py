"""Guests of the setting `machine = "microvm"`: what they do as others, and what is refused.

The suite of drivers on it: MACHINE=microvm pytest tests/vm/test_agent.py."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercontainer.testing.daemon import PrivateDaemon, private_daemon
from tests.vm.conftest import ok

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def daemon(kernels: Path, busybox_archive: Path) -> Iterator[PrivateDaemon]:
    with private_daemon(kernels, {"accelerator": "tcg", "vcpus": 1, "memory_mib": 256, "machine": "microvm"}) as daemon:
        ok(daemon, "load", "-i", str(busybox_archive))
        yield daemon


def test_it_has_what_it_started_with_and_is_found_again(daemon: PrivateDaemon, tmp_path: Path) -> None:
    """Two networks, a folder of the host, a volume; a hyperd of another machine."""
    (tmp_path / "said").write_text("hello")
    for name in ("one", "two", "three"):
        ok(daemon, "network", "create", name)
    words = ("--network", "one", "--network", "two", "-v", f"{tmp_path}:/data", "-v", "kept:/kept")
    c = ok(daemon, "run", "-d", *words, "busybox", "sleep", "1000")
    inside = "cat /data/said; echo; ls /sys/bus/pci/devices | wc -l; ls /sys/class/net | grep -c eth"
    assert ok(daemon, "exec", c, "sh", "-c", inside).split() == ["hello", "0", "2"]
    for verb in (("fork", c), ("suspend", c), ("network", "connect", "three", c)):
        refused = daemon.ctl(*verb)
        assert refused.status == 1 and "not with QEMU's microvm, " in refused.err, refused
    larger = daemon.ctl("update", "--memory", "512m", c)
    assert larger.status == 1 and "512 MiB of memory: 256 at most" in larger.err
    alone = ok(daemon, "run", "-d", "busybox", "sleep", "1000")  # without a folder of the host, which no copy can have
    daemon.signal(signal.SIGKILL)
    text = daemon.config.read_text()
    daemon.config.write_text(text.replace('machine = "microvm"\n', ""))
    try:
        daemon.start()
        assert ok(daemon, "exec", c, "cat", "/data/said") == "hello"
        refused = daemon.ctl("fork", alone)
        assert refused.status == 1 and "not with QEMU's microvm, of which QEMU has no versions" in refused.err
        ok(daemon, "stop", "-t", "0", c)
        ok(daemon, "start", c)  # as the settings are now
        assert ok(daemon, "exec", c, "sh", "-c", "ls /sys/bus/pci/devices | wc -l") != "0"
        ok(daemon, "rm", "-f", c, alone)
        daemon.signal(signal.SIGTERM)
    finally:
        daemon.config.write_text(text)
    daemon.start()
    for name in ("one", "two", "three"):
        ok(daemon, "network", "rm", name)
    ok(daemon, "volume", "rm", "kept")


def test_one_that_waited_is_booted_and_becomes_whose_pod_comes(daemon: PrivateDaemon) -> None:
    assert ok(daemon, "run", "--rm", "busybox", "echo", "hello") == "hello"
    assert "cannot clone" not in daemon.log() and "cannot make a template" not in daemon.log()
