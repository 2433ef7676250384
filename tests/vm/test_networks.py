"""Networks with real guests: who reaches whom, also by whatever a guest's root says; and over the death of hyperd."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hypercontainer.testing.daemon import PrivateDaemon
from tests.vm.conftest import GUEST_S, bridges, ok
from tests.vm.network import page

pytestmark = pytest.mark.vm

SAY = "mkdir -p /tmp/w; echo {name} >/tmp/w/index.html; exec httpd -f -vv -p 80 -h /tmp/w"
SOON_S = 5  # to wait for an answer that never comes


def serve(hyper: PrivateDaemon, name: str, *flags: str) -> None:
    """A container whose port 80 says its name, and logs who asks; its root may do anything to its network. It listens
    when this returns."""
    ok(
        hyper,
        "run",
        "-d",
        "--name",
        name,
        "--cap-add",
        "NET_ADMIN",
        *flags,
        "busybox",
        "sh",
        "-c",
        SAY.format(name=name),
    )
    assert ask(hyper, name, "127.0.0.1") == name


def ask(hyper: PrivateDaemon, name: str, address: str) -> str:
    """What a container hears there, once the server listens."""
    get = f"until wget -q -O - http://{address}/; do sleep 0.1; done"
    return ok(hyper, "exec", name, "timeout", str(int(GUEST_S)), "sh", "-c", get)


def hears(hyper: PrivateDaemon, name: str, address: str) -> bool:
    """Whether a container hears anything there, and soon."""
    get = ["wget", "-T", str(SOON_S), "-q", "-O", "-", f"http://{address}/"]
    return hyper.ctl("exec", name, *get).status == 0


def do(hyper: PrivateDaemon, name: str, *lines: str) -> None:
    for line in lines:
        ok(hyper, "exec", name, "sh", "-c", line)


def address(hyper: PrivateDaemon, name: str, network: str, field: str = "IPAddress") -> str:
    return ok(hyper, "inspect", "-f", f'{{{{(index .NetworkSettings.Networks "{network}").{field}}}}}', name)


def make(hyper: PrivateDaemon, name: str, *flags: str) -> tuple[str, str]:
    """Its subnet of IPv4 without the last number, and its id."""
    id = ok(hyper, "network", "create", *flags, name)
    subnet = json.loads(ok(hyper, "network", "inspect", name))[0]["IPAM"]["Config"][0]["Subnet"]
    return str(subnet).rpartition(".")[0], id


def tables() -> str:
    return subprocess.run(["nft", "list", "tables"], check=True, capture_output=True, text=True).stdout


def test_networks_are_apart_and_outlive_hyperd(hyper: PrivateDaemon) -> None:
    front, first = make(hyper, "front")
    back, second = make(hyper, "back", "--internal", "--ipv6")
    serve(hyper, "db", "--network", "back", "--ip", f"{back}.77")
    serve(hyper, "web", "--network", "front", "--network", "name=back,alias=web", "-p", "127.0.0.1::80")
    serve(hyper, "other", "--network", "front")
    port = int(ok(hyper, "port", "web").rpartition(":")[2])
    known = {name: address(hyper, name, network) for name, network in (("web", "front"), ("other", "front"))}
    inside = address(hyper, "web", "back")
    assert address(hyper, "db", "back") == f"{back}.77" and inside.startswith(f"{back}.")

    def all_is_well() -> None:
        assert page(port) == "web\n"
        assert ask(hyper, "web", f"{back}.77") == "db" and ask(hyper, "db", inside) == "web"
        assert ask(hyper, "web", f"[{address(hyper, 'db', 'back', 'GlobalIPv6Address')}]") == "db"
        assert ask(hyper, "other", known["web"]) == "web" and ask(hyper, "web", known["other"]) == "other"

    all_is_well()
    # the root of one in `front` tries to reach what is in `back` alone, by itself and as its neighbour; and out of that
    for name, gateway, neighbour, target in (
        ("other", f"{front}.1", f"{back}.78", f"{back}.77"), ("db", f"{back}.1", f"{front}.78", known["other"]),
    ):  # fmt: skip
        do(hyper, name, "ip route del default || true", f"ip route add default via {gateway}")
        assert not hears(hyper, name, target)
        do(hyper, name, f"ip addr add {neighbour}/32 dev eth0", f"ip route add {target} via {gateway} src {neighbour}")
        assert not hears(hyper, name, target)
        do(hyper, name, f"ip route replace {target} dev eth0 src {neighbour}")  # as if it were on its own wire
        assert not hears(hyper, name, target)
        do(hyper, name, f"ip route del {target}", f"ip addr del {neighbour}/32 dev eth0")
    assert not hears(hyper, "other", f"{front}.1:{port}")  # published at 127.0.0.1 of the host alone
    askers = {name: ok(hyper, "logs", name) + hyper.ctl("logs", name).err for name in ("db", "other")}
    assert inside in askers["db"] and f"{front}." not in askers["db"] and f"{back}.78" not in askers["db"]
    assert (
        known["web"] in askers["other"] and f"{back}." not in askers["other"] and f"{front}.78" not in askers["other"]
    )

    hyper.signal(signal.SIGKILL)
    hyper.start()
    all_is_well()
    done = hyper.ctl("network", "rm", "back")
    assert done.status == 1 and "container db" in done.err and "container web" in done.err
    ok(hyper, "stop", "-t", "0", "web")
    ok(hyper, "network", "disconnect", "front", "web")
    ok(hyper, "network", "connect", "--ip", f"{front}.99", "front", "web")
    ok(hyper, "start", "web")
    assert (address(hyper, "web", "front"), ask(hyper, "other", f"{front}.99")) == (f"{front}.99", "web")
    assert interfaces(hyper, "web") == ["lo", "eth0", "eth1"]
    ok(hyper, "rm", "-f", "web", "db", "other")
    assert len(bridges(hyper)) == 3
    ok(hyper, "network", "rm", "front", "back")
    assert len(bridges(hyper)) == 1
    assert first[:12] not in tables() and second[:12] not in tables()
    assert list((hyper.root / "networks").iterdir()) == []


def interfaces(hyper: PrivateDaemon, name: str) -> list[str]:
    return [line.split()[1] for line in ok(hyper, "exec", name, "ip", "-o", "-4", "addr").splitlines()]


def test_a_container_joins_and_leaves_while_it_runs(hyper: PrivateDaemon) -> None:
    back, _ = make(hyper, "back")
    serve(hyper, "db", "--network", "back")
    serve(hyper, "web", "-p", "127.0.0.1::80")
    there, port = address(hyper, "db", "back"), int(ok(hyper, "port", "web").rpartition(":")[2])
    assert page(port) == "web\n" and not hears(hyper, "web", there)
    ok(hyper, "network", "connect", "--ip", f"{back}.77", "back", "web")
    assert interfaces(hyper, "web") == ["lo", "eth0", "eth1"]
    assert ask(hyper, "web", there) == "db" and ask(hyper, "db", f"{back}.77") == "web" and page(port) == "web\n"

    hyper.signal(signal.SIGKILL)
    hyper.start()
    assert ask(hyper, "web", there) == "db" and page(port) == "web\n"
    ok(hyper, "network", "disconnect", "bridge", "web")
    assert interfaces(hyper, "web") == ["lo", "eth1"] and address(hyper, "web", "back") == f"{back}.77"
    assert ask(hyper, "web", there) == "db" and page(port) == "web\n"  # by the other one, with its default route
    assert f"default via {back}.1 dev eth1" in ok(hyper, "exec", "web", "ip", "route")
    assert hyper.ctl("network", "rm", "back").status == 1
    ok(hyper, "network", "disconnect", "back", "web")
    assert interfaces(hyper, "web") == ["lo"]
    ok(hyper, "rm", "-f", "web", "db")
    ok(hyper, "network", "rm", "back")


def test_what_a_reboot_takes_is_made_again(hyper: PrivateDaemon) -> None:
    """Bridge and rules, of a network that no pod is in."""
    before = {*bridges(hyper)}
    net, id = make(hyper, "n")
    hyper.signal(signal.SIGKILL)
    [made] = {*bridges(hyper)} - before
    device = made.removeprefix("bridge ")
    for words in (f"ip link del {device}", f"nft delete table inet {device}", f"nft delete table bridge {device}"):
        subprocess.run(words.split(), check=True)
    hyper.start()
    assert {*bridges(hyper)} == before | {made} and tables().count(device) == 2 and id[:12] in device
    serve(hyper, "web", "--network", "n")
    assert address(hyper, "web", "n").startswith(f"{net}.")
    ok(hyper, "rm", "-f", "web")
    ok(hyper, "network", "rm", "n")
    assert {*bridges(hyper)} == before and device not in tables()


@pytest.mark.parametrize("at", ["recorded", "bridge", "rules", "made", "unbridged", "destroyed"])
def test_killed_in_the_middle_a_network_is_whole_or_gone(hyper: PrivateDaemon, at: str) -> None:
    """Whatever a hyperd after it finds can be listed, used and removed; then nothing is left."""
    before, removes = {*bridges(hyper)}, at in ("unbridged", "destroyed")
    if removes:
        ok(hyper, "network", "create", "n")
    hyper.signal(signal.SIGTERM)
    usual, hyper.hyperd = hyper.hyperd, [sys.executable, str(Path(__file__).with_name("mortal_network.py")), at]
    try:
        hyper.start()
        assert hyper.ctl("network", *(("rm", "n") if removes else ("create", "n"))).status != 0
        hyper.signal(signal.SIGKILL)
    finally:
        hyper.hyperd = usual
        hyper.start()
    id = ok(hyper, "network", "ls", "-q", "-f", "name=^n$")
    assert len({*bridges(hyper)} - before) == 1
    assert "eth0" in ok(hyper, "run", "--rm", "--network", "n", "busybox", "ip", "-4", "-o", "addr")
    ok(hyper, "network", "rm", "n")
    assert {*bridges(hyper)} == before and id not in tables()


def test_who_administers_the_network_makes_interfaces(hyper: PrivateDaemon) -> None:
    """Of the kinds that the guest has, which come with the first that may; others have none of them."""
    script = """brctl addbr b0
    for kind in bridge veth dummy; do ip link add name $kind-0 type $kind; done
    cd /sys/class/net
    ls -d dummy0 2>/dev/null
    ls -d *-0 b0/bridge
    ip link add name vxlan-0 type vxlan 2>/dev/null || cat /proc/modules"""
    said = ok(hyper, "run", "--rm", "--cap-add", "NET_ADMIN", "busybox", "sh", "-c", script).splitlines()
    assert said[:4] == ["b0/bridge", "bridge-0", "dummy-0", "veth-0"]
    later = {"bridge", "veth", "dummy", "tun"}
    loaded = {line.split()[0] for line in said[4:]}
    plain = {line.split()[0] for line in ok(hyper, "run", "--rm", "busybox", "cat", "/proc/modules").splitlines()}
    assert loaded - plain == {*later, "stp", "llc"} or not loaded  # a kernel of our own has them built in
    assert not later & plain
