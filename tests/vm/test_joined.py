"""Containers that share the network of another one, with real guests; and over the death of hyperd."""

import signal
from pathlib import Path

import pytest

from hypercontainer.testing.daemon import PrivateDaemon
from tests.vm.conftest import ok
from tests.vm.network import page
from tests.vm.test_networks import address, ask, make, serve

pytestmark = pytest.mark.vm

LISTEN = "mkdir -p /tmp/w; echo side >/tmp/w/index.html; exec httpd -f -p 81 -h /tmp/w"


def join(hyper: PrivateDaemon, name: str, *flags: str) -> None:
    ok(hyper, "run", "-d", "--name", name, "--network", "container:web", *flags, "busybox", "sh", "-c", LISTEN)


def test_two_have_one_network(hyper: PrivateDaemon) -> None:
    make(hyper, "front")
    serve(hyper, "web", "--network", "front", "-p", "127.0.0.1::81")
    serve(hyper, "other", "--network", "front")
    join(hyper, "side")
    at = address(hyper, "web", "front")

    def published() -> int:
        return int(ok(hyper, "port", "web", "81").rpartition(":")[2])

    def all_is_well() -> None:
        assert ask(hyper, "side", "127.0.0.1") == "web" and ask(hyper, "web", "127.0.0.1:81") == "side"
        assert ask(hyper, "other", "web:81") == ask(hyper, "side", f"{at}:81") == "side"
        assert ask(hyper, "side", "other") == "other"  # it asks for names, too
        assert page(published()) == "side\n"
        for file in ("/etc/hosts", "/etc/resolv.conf", "/etc/hostname"):
            assert ok(hyper, "exec", "side", "cat", file) == ok(hyper, "exec", "web", "cat", file)
        assert "httpd -f -vv" not in ok(hyper, "exec", "side", "ps")

    all_is_well()
    hyper.signal(signal.SIGKILL)
    hyper.start()
    all_is_well()
    ok(hyper, "restart", "-t", "0", "web")
    all_is_well()
    port = published()
    ok(hyper, "rm", "-f", "web")
    assert ask(hyper, "side", "127.0.0.1:81") == "side" and page(port) != "side\n"
    serve(hyper, "web", "--network", "front", "-p", f"127.0.0.1:{port}:80")
    assert page(port) == "web\n" and ask(hyper, "other", "web") == "web"
    hyper.signal(signal.SIGKILL)
    hyper.start()
    assert ask(hyper, "other", f"{at}:81") == "side"
    assert page(port) == "web\n"
    ok(hyper, "rm", "-f", "side", "web", "other")
    ok(hyper, "network", "rm", "front")


def test_folders_reach_a_machine_that_was_started_with_some(hyper: PrivateDaemon, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("of this host")
    bind = f"{tmp_path}:/x"
    serve(hyper, "web", "-m", "64m")
    refused = hyper.ctl(
        "run", "-d", "--name", "side", "--network", "container:web", "-v", bind, "busybox", "sleep", "9"
    )
    assert refused.status != 0 and "stop web and start it again" in refused.err
    ok(hyper, "stop", "-t", "0", "web")
    ok(hyper, "start", "web")
    ok(hyper, "start", "side")
    assert ok(hyper, "exec", "side", "cat", "/x/x") == "of this host"
    ok(hyper, "rm", "-f", "side")
    join(hyper, "side", "-v", bind, "-m", "32m")
    assert ok(hyper, "exec", "side", "cat", "/x/x") == "of this host"
    assert ok(hyper, "exec", "side", "cat", "/sys/fs/cgroup/memory.max") == str(32 << 20)
    assert ok(hyper, "exec", "web", "cat", "/sys/fs/cgroup/memory.max") == str(64 << 20)
    ok(hyper, "rm", "-f", "side", "web")
