"""Pods in network namespaces that somebody else made: by hand, and by the plugins of CNI."""

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.engine.local import LocalEngine
from hypercontainer.model import settings
from hypercontainer.model.spec import ContainerSpec, EndpointSpec, ExecSpec, PodSpec
from hypercontainer.network.none import NoNetwork
from hypercontainer.testing.daemon import PrivateDaemon, Value
from tests.conftest import ACCELERATOR
from tests.interop import netns
from tests.interop.netns import inside, ip, output, serving
from tests.unit.engine.world import ADMIN, execute, load
from tests.vm.conftest import GUEST_S, left_behind, ok
from tests.vm.test_faults import mortal

pytestmark = [pytest.mark.vm, pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")]

PLUGINS = Path("/usr/lib/cni")
NOISE = ("forever", "preferred_lft", "valid_lft")

Say = Callable[..., Awaitable[str]]


@pytest.fixture
def outside() -> Iterator[str]:
    with netns.namespace("hyout") as name:
        yield name


@pytest.fixture
def given() -> Iterator[str]:
    with netns.namespace("hypod") as name:
        yield name


@pytest.fixture
def in_namespace(
    kernels: Path, busybox_archive: Path, tmp_path: Path
) -> Callable[..., AbstractAsyncContextManager[Say]]:
    """`async with in_namespace(NAME) as say`: a container whose machine has the interfaces there, and answers
    web clients; `say` runs a command in it."""

    @asynccontextmanager
    async def booted(namespace: str, factory: str) -> AsyncIterator[Say]:
        folder = tmp_path / "hyper"
        folder.mkdir()
        how: dict[str, Value] = {
            "accelerator": ACCELERATOR,
            "memory_mib": 256,
            "factory": factory,
            "boot_timeout_s": GUEST_S,
        }
        options = settings.load(PrivateDaemon(folder, kernels, how).config)
        engine = LocalEngine(options, bridges=lambda _: NoNetwork())
        async with AsyncExitStack() as stack:
            await engine.open()
            stack.push_async_callback(engine.close)
            await load(engine, busybox_archive)
            container = ContainerSpec(image="busybox", name="c", command=["httpd", "-f", "-p", "80", "-h", "/www"])
            await engine.containers.create(
                PodSpec(containers=[container], networks=[EndpointSpec(network="none")]), by=ADMIN
            )
            engine.supervisor.find("c")[0].record.netns = f"/run/netns/{namespace}"
            stack.push_async_callback(engine.containers.remove, "c", force=True, volumes=True)
            await engine.containers.start("c")

            async def say(*command: str) -> str:
                session = await execute(engine, "c", ExecSpec(command=list(command)))
                return b"".join([data async for _, data in session]).decode()

            yield say
        shutil.rmtree(folder)

    return booted


def page(namespace: str, address: str) -> str:
    """What a web server answers to a client in the namespace."""
    with inside(namespace):
        s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    with s, s.makefile("rb") as answer:
        s.settimeout(GUEST_S)
        s.connect((address, 80))
        s.sendall(b"GET /index.html HTTP/1.0\r\n\r\n")
        return answer.read().decode()


def seen(namespace: str) -> list[str]:
    with inside(namespace):
        shows = ["ip -o addr", "ip route", "ip -6 route", "tc qdisc"]
        links = [f"{link['ifname']} {link['address']} {link['mtu']}" for link in netns.links()]
        return [*links, *(" ".join(w for w in output(*words.split()).split() if w not in NOISE) for words in shows)]


async def test_two_interfaces_are_the_machines(
    outside: str, given: str, in_namespace: Callable[..., AbstractAsyncContextManager[Say]]
) -> None:
    with inside(given):
        for n, mtu in ((1, 1400), (2, 1500)):  # not as the guest's kernel would call them
            ip(
                f"link add name eth{n} mtu {mtu} type veth peer name wire{n} mtu {mtu} netns {outside}",
                f"link set eth{n} addrgenmode none",  # an address that comes later would look like a leftover
                f"addr add 10.{90 + n}.0.2/24 dev eth{n}",
                f"addr add fd9{n}::2/64 dev eth{n} nodad",
                f"link set eth{n} up",
            )
    with inside(outside):
        ip("addr add 198.51.100.1/32 dev lo", "addr add 2001:db8::1/128 dev lo nodad")
        for n in (1, 2):
            ip(f"addr add 10.{90 + n}.0.1/24 dev wire{n}", f"addr add fd9{n}::1/64 dev wire{n} nodad")
            ip(f"link set wire{n} up")
    with inside(given):
        netns.await_carriers()
        ip("route add default via 10.91.0.1", "route add default via fd91::1", "route add 10.66.0.9 dev eth2")
    before = seen(given)
    async with in_namespace(given, "direct") as say:
        shown = await say("ip", "addr")
        assert "eth1: " in shown and "eth2: " in shown and "mtu 1400" in shown
        assert "10.66.0.9 dev eth2" in await say("ip", "route")
        with serving(outside, "world", 81):
            for address in ("198.51.100.1", "10.92.0.1"):
                assert "1 packets received" in await say("ping", "-c", "1", address)
                assert "world sees 10.9" in await say("sh", "-c", f"nc {address} 81 </dev/null")
            for address in ("2001:db8::1", "fd92::1"):
                assert "1 packets received" in await say("ping", "-6", "-c", "1", address)
            assert "world sees fd92::2" in await say("sh", "-c", "nc fd92::1 81 </dev/null")
        for address in ("10.91.0.2", "10.92.0.2", "fd91::2", "fd92::2"):
            assert "Hello from a virtual machine" in page(outside, address)
        for address, mtu in (("10.91.0.1", 1400), ("10.92.0.1", 1500)):  # a packet of that size passes whole
            assert "1 packets received" in await say("ping", "-c", "1", "-s", str(mtu - 28), address)
    assert seen(given) == before


@pytest.mark.parametrize("step", ["prepare", "files", "vmm", "agent", "claim", "pod", "rootfs", "process"])
def test_hyperd_killed_at_a_step_of_a_start_leaves_the_namespace_as_it_was(
    hyper: PrivateDaemon, outside: str, given: str, step: str
) -> None:
    with inside(given):
        ip(
            f"link add name eth0 type veth peer name wire0 netns {outside}",
            "link set eth0 addrgenmode none",
            "addr add 10.95.0.2/24 dev eth0",
            "link set eth0 up",
        )
    with inside(outside):
        ip("addr add 10.95.0.1/24 dev wire0", "link set wire0 up")
    with inside(given):
        netns.await_carriers()
    before = seen(given)
    done = mortal(hyper, "self", step, "", f"/run/netns/{given}")
    assert done.returncode == -signal.SIGKILL, done.stderr
    hyper.start()
    assert (seen(given) == before) == (step != "process")
    ok(hyper, "start", "mortal")
    assert "1 packets received" in ok(hyper, "exec", "mortal", "ping", "-c", "1", "10.95.0.1")
    ok(hyper, "rm", "-f", "mortal")
    assert left_behind(hyper, lambda: [line for line in seen(given) if line not in before]) == []
    assert seen(given) == before


def cni(command: str, kind: str, host: str, given: str, conf: dict[str, Any]) -> dict[str, Any]:
    """What a plugin of CNI answered; it works in the namespace `host`."""
    env = {
        "CNI_COMMAND": command, "CNI_CONTAINERID": given, "CNI_NETNS": f"/run/netns/{given}", "CNI_IFNAME": "eth0",
        "CNI_PATH": str(PLUGINS), "PATH": os.environ["PATH"],
    }  # fmt: skip
    with inside(host):
        done = subprocess.run([PLUGINS / kind], input=json.dumps(conf), text=True, capture_output=True, env=env)
    assert done.returncode == 0, (done.stdout, done.stderr)
    answer: dict[str, Any] = json.loads(done.stdout or "{}")
    return answer


@pytest.mark.skipif(not PLUGINS.exists(), reason="needs the package containernetworking-plugins")
@pytest.mark.parametrize(("kind", "factory"), [("bridge", "template"), ("ptp", "direct")])
async def test_what_plugins_of_cni_made_is_the_machines(
    outside: str,
    given: str,
    in_namespace: Callable[..., AbstractAsyncContextManager[Say]],
    tmp_path: Path,
    kind: str,
    factory: str,
) -> None:
    subnets = [[{"subnet": "10.93.0.0/24"}], [{"subnet": "fd93::/64"}]]
    ipam = {
        "type": "host-local", "ranges": subnets, "dataDir": str(tmp_path / "ipam"),
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
    }  # fmt: skip
    conf = {"cniVersion": "0.4.0", "name": "net", "type": kind, "isGateway": True, "bridge": "cni0", "ipam": ipam}
    made = cni("ADD", kind, outside, given, conf)
    addresses = [address["address"].partition("/")[0] for address in made["ips"]]
    with inside(outside):
        ip("addr add 198.51.100.1/32 dev lo", "addr add 2001:db8::1/128 dev lo nodad")
    with inside(given):
        netns.await_carriers()
    before = seen(given)
    async with in_namespace(given, factory) as say:
        with serving(outside, "world", 81):
            assert f"world sees {addresses[0]}" in await say("sh", "-c", "nc 198.51.100.1 81 </dev/null")
            assert f"world sees {addresses[1]}" in await say("sh", "-c", "nc 2001:db8::1 81 </dev/null")
        for address in addresses:
            assert "Hello from a virtual machine" in page(outside, address)
    assert seen(given) == before
    cni("DEL", kind, outside, given, conf)
