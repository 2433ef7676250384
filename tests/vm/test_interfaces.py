"""Network interfaces that come and go while a machine runs: packets both ways, and nothing left of any."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from hypercontainer.engine.local import LocalEngine
from hypercontainer.errors import WrongState
from hypercontainer.lib import clock, document
from hypercontainer.model import ids, settings, upgrade
from hypercontainer.model.record import NetworkRecord, NicRecord, SubnetRecord
from hypercontainer.model.spec import ExecSpec
from hypercontainer.network.netns import NetnsNetwork
from hypercontainer.sandbox.pod import Pod
from hypercontainer.testing.daemon import PrivateDaemon, free_subnet
from tests.interop import netns
from tests.interop.netns import inside, ip
from tests.unit.engine.world import execute
from tests.vm.conftest import ok
from tests.vm.mortal_nic import STEPS, add, remove
from tests.vm.test_netns import page

pytestmark = [pytest.mark.vm, pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")]

ROOT = Path(__file__).parents[2]
SERVE = ("busybox", "httpd", "-f", "-p", "80", "-h", "/www")


class Life:
    """An engine in place of the daemon, and the container "c" of it."""

    def __init__(self, engine: LocalEngine) -> None:
        self.engine = engine
        self.pod: Pod = engine.supervisor.find("c")[0]

    async def say(self, *command: str, container: str = "c") -> str:
        """What a command in the container writes."""
        session = await execute(self.engine, container, ExecSpec(command=list(command)))
        return b"".join([data async for _, data in session]).decode()

    async def names(self) -> set[str]:
        return {line.split(": ")[1] for line in (await self.say("ip", "-o", "link")).splitlines()}


@asynccontextmanager
async def living(hyper: PrivateDaemon) -> AsyncIterator[Life]:
    hyper.signal(signal.SIGTERM)
    engine = LocalEngine(settings.load(hyper.config))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(engine.close)
        await engine.open()
        stack.push_async_callback(clear, engine)
        yield Life(engine)


async def clear(engine: LocalEngine) -> None:
    """What this process holds open of machines is let go of with them."""
    for pod in list(engine.supervisor.pods.values()):
        await engine.pods.remove(pod.record.id, force=True, volumes=True, all_owners=True)


@asynccontextmanager
async def network(life: Life) -> AsyncIterator[NetworkRecord]:
    """Another bridge."""
    subnet = IPv4Network(free_subnet())
    record = NetworkRecord(
        version=document.version(upgrade.NETWORK),
        id=ids.new_id(),
        name="blue",
        bridge=f"hyt{os.getpid()}",
        subnets=[SubnetRecord(subnet=str(subnet), gateway=str(subnet[1]))],
        created_ns=clock.now_ns(),
    )
    await life.engine.host.networks.create(record)
    try:
        yield record
    finally:
        await life.engine.host.networks.remove(record)


def at(nic: NicRecord) -> str:
    return nic.address.partition("/")[0]


def there(nic: NicRecord) -> bool:
    return Path("/sys/class/net", nic.tap).exists()


@pytest.mark.parametrize("first", ["bridge", "none"])
async def test_interfaces_of_another_bridge_come_and_go(hyper: PrivateDaemon, first: str) -> None:
    ok(hyper, "run", "-d", "--name", "c", "--network", first, *SERVE)
    async with living(hyper) as life, network(life) as blue:
        before = await life.names()
        for _ in range(2):
            nics = [await add(life.engine, life.pod, "blue") for _ in range(3)]
            assert await life.names() - before == {nic.name for nic in nics}
            told = (await life.engine.containers.inspect("c")).network_settings.interfaces
            assert {(interface.name, *interface.addresses) for interface in told} >= {
                (nic.name, *nic.addresses) for nic in nics
            }
            for nic in nics:
                assert "1 packets received" in await life.say(
                    "ping", "-c", "1", "-I", nic.name, blue.subnets[0].gateway
                )
                assert at(nic) in await life.say("cat", "/etc/hosts")
            assert "Hello from a virtual machine" in host_page(at(nics[0]))
            for nic in nics:
                await remove(life.pod, nic)
                assert not there(nic)
            assert await life.names() == before
        assert nics[0].address not in await life.say("cat", "/etc/hosts")


def host_page(address: str) -> str:
    return subprocess.run(["curl", "-s", "-m", "60", f"http://{address}/"], capture_output=True, text=True).stdout


async def test_the_next_interface_leads_out_when_the_first_has_gone(hyper: PrivateDaemon) -> None:
    ok(hyper, "run", "-d", "--name", "c", *SERVE)
    async with living(hyper) as life, network(life) as blue:
        [first] = life.pod.record.nics
        nic = await add(life.engine, life.pod, "blue")
        assert f"default via {first.gateway}" in await life.say("ip", "route")
        await remove(life.pod, first)
        assert await life.names() == {"lo", nic.name}
        assert f"default via {blue.subnets[0].gateway}" in await life.say("ip", "route")
        assert "Hello from a virtual machine" in host_page(at(nic))
        again = await add(life.engine, life.pod)  # its address, its MAC and its name are free again
        assert (again.mac, again.name, again.address) == (first.mac, first.name, first.address)
        assert "Hello from a virtual machine" in host_page(at(again))


async def test_an_interface_of_a_namespace_comes_and_goes(hyper: PrivateDaemon) -> None:
    ok(hyper, "run", "-d", "--name", "c", *SERVE)
    async with living(hyper) as life:
        with ExitStack() as stack:
            outside, given = (stack.enter_context(netns.namespace(name)) for name in ("hyout", "hypod"))
            with inside(given):
                ip(
                    f"link add name data0 mtu 1400 type veth peer name wire0 mtu 1400 netns {outside}",
                    "addr add 10.94.0.2/24 dev data0",
                    "link set data0 up",
                )
            with inside(outside):
                ip("addr add 10.94.0.1/24 dev wire0", "link set wire0 up")
            for _ in range(2):
                async with life.pod.locked() as locked:
                    [nic] = await NetnsNetwork(f"/run/netns/{given}").plan(life.pod.record.id, [], [])
                    await locked.add_interface(nic)
                assert "1 packets received" in await life.say("ping", "-c", "1", "-s", "1372", "10.94.0.1")
                assert "Hello from a virtual machine" in page(outside, "10.94.0.2")
                await remove(life.pod, nic)
                assert await life.names() == {"lo", "eth0"}
                with inside(given):
                    assert "ingress" not in netns.output("tc", "qdisc") and nic.tap not in netns.output("ip", "link")


async def test_a_guest_that_holds_on_to_an_interface_loses_it(
    hyper: PrivateDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hypercontainer.sandbox.interfaces.TELL_S", 1.0)
    ok(hyper, "run", "-d", "--name", "c", *SERVE)
    async with living(hyper) as life:
        nic = await add(life.engine, life.pod)
        await life.say("sh", "-c", f"ping -I {nic.name} {nic.gateway} >/dev/null 2>&1 &")
        guest = life.pod.machine.running().guest
        await guest.pause()  # nobody has told the pod
        await remove(life.pod, nic)
        assert not there(nic) and len(life.pod.record.nics) == 1
        await guest.resume()  # it finds nothing where its device was
        assert await life.names() == {"lo", "eth0"}
        again = await add(life.engine, life.pod)
        assert "1 packets received" in await life.say("ping", "-c", "1", "-I", again.name, again.gateway)


async def test_what_has_changed_is_not_copied_until_it_is_as_before(hyper: PrivateDaemon) -> None:
    ok(hyper, "run", "-d", "--name", "c", *SERVE)
    async with living(hyper) as life:
        nic = await add(life.engine, life.pod)
        with pytest.raises(WrongState, match="cannot fork c"):
            await life.engine.snapshots.fork("c", count=1, name="copy", ports=[])
        await remove(life.pod, nic)
        await life.engine.snapshots.fork("c", count=1, name="copy", ports=[])
        copy, _ = life.engine.supervisor.find("copy")
        assert "Hello from a virtual machine" in host_page(at(copy.record.nics[0]))
        more = await add(life.engine, copy)
        assert more.name in await life.say("ip", "-o", "link", container="copy")


@pytest.mark.parametrize(("verb", "step"), [(verb, step) for verb, steps in STEPS.items() for step in steps])
def test_hyperd_killed_while_one_comes_or_goes_leaves_none(hyper: PrivateDaemon, verb: str, step: str) -> None:
    ok(hyper, "run", "-d", "--name", "c", *SERVE)
    pod = json.loads(ok(hyper, "pod", "inspect", "c"))[0]["Id"]
    hyper.signal(signal.SIGTERM)
    argv = [sys.executable, "-m", "tests.vm.mortal_nic", str(hyper.config), verb, step]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == -signal.SIGKILL, done.stderr
    hyper.start()
    links = ok(hyper, "exec", "c", "ip", "-o", "link")
    assert re.findall(r"^\d+: (\w+)", links, re.MULTILINE) == ["lo", "eth0"]
    assert [path.name for path in Path("/sys/class/net").glob(f"hy{pod}*")] == [f"hy{pod}"]
    assert len(json.loads((hyper.root / "pods" / pod / "pod.json").read_text())["nics"]) == 1
    argv = [sys.executable, "-m", "tests.vm.mortal_nic", str(hyper.config), "add", "setup_pod"]
    hyper.signal(signal.SIGTERM)
    again = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=900)  # nothing stands in its way
    assert again.returncode == -signal.SIGKILL, again.stderr
    hyper.start()
    assert "Hello from a virtual machine" in host_page(
        ok(hyper, "inspect", "-f", "{{.NetworkSettings.IPAddress}}", "c")
    )
