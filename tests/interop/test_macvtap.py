"""internetworking_model = "macvtap": what plugins of CNI made is the machine's, as usual, and what cannot be so is
refused."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from hypercontainer.testing.daemon import PrivateDaemon, private_daemon
from tests.interop.netns import inside, ip, output
from tests.interop.test_cni import NAME, PLUGINS, TABLE, Place, facts, machine, outer, page, place
from tests.vm.runv import LIMIT_S, Runv
from tests.vm.test_netns import page as web

pytestmark = [
    pytest.mark.interop,
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces"),
    pytest.mark.skipif(not PLUGINS.exists(), reason="needs the package containernetworking-plugins"),
]

__all__ = ["place"]  # a fixture

LEFT = ("ip -d -o link", "nft list ruleset", "tc qdisc")


@pytest.fixture(scope="module")
def macvtaps(kernels: Path) -> Iterator[PrivateDaemon]:
    settings: Mapping[str, str | int] = {"accelerator": "tcg", "memory_mib": 256, "internetworking_model": "macvtap"}
    with private_daemon(kernels, settings) as daemon:
        yield daemon


@pytest.fixture
def runv(macvtaps: PrivateDaemon, tmp_path: Path) -> Iterator[Runv]:
    folder = tmp_path / "runv"
    folder.mkdir()
    runv = Runv(macvtaps, folder)
    yield runv
    for id in runv("list", "-q").out.split():
        runv("delete", "--force", id)
    for process in runv.started:
        process.communicate(timeout=LIMIT_S)


def left(given: str) -> list[str]:
    """What a machine could leave there."""
    with inside(given):
        return [output(*words.split()) for words in LEFT]


@pytest.mark.parametrize("name", ["bridge of both", "two bridges", "host-device", "routes"])
def test_what_plugins_made_is_the_machines(place: Place, runv: Runv, name: str) -> None:
    row = TABLE[name]
    results = place.call("ADD", row.chains)
    addresses = [each["address"].partition("/")[0] for result in results for each in result.get("ips", [])]
    with inside(place.given):
        for line in row.lines:
            output("ip", *line.split())
    before, clean = facts(lambda *words: outer(place.given, *words)), left(place.given)
    with machine(runv, f"/run/netns/{place.given}") as run:
        assert "macvtap mode passthru" in left(place.given)[0]
        assert facts(run.ip) == before
        for address in row.world:
            assert "1 packets received" in run("ping", "-c", "1", "-W", "30", address), address
        for address in addresses:
            assert row.far or page(place.outside, address) == "a machine\n"
        assert facts(lambda *words: outer(place.given, *words)) == before
        assert len(runv.ok("interface", "ls", NAME).splitlines()) == 1 + len(row.chains)
    assert left(place.given) == clean
    place.call("DEL", row.chains)


def test_a_macvlan_is_refused(place: Place, runv: Runv) -> None:
    place.call("ADD", TABLE["macvlan"].chains)
    clean = left(place.given)
    config = given(runv, place)
    done = runv("run", "--bundle", str(config.parent), NAME)
    assert done.status != 0
    assert "eth0" in done.err and "it is a macvlan, and can have none on it" in done.err
    runv("delete", "--force", NAME)
    assert left(place.given) == clean
    place.call("DEL", TABLE["macvlan"].chains)


def test_the_next_hyperd_follows_what_comes_and_takes_away_all(place: Place, runv: Runv) -> None:
    """An interface that comes while the machine runs, and one that changes and goes, by one that was killed since."""
    row = TABLE["bridge of both"]
    place.call("ADD", row.chains)
    clean = left(place.given)
    with machine(runv, f"/run/netns/{place.given}") as run:
        assert runv.hyper.process
        runv.hyper.process.kill()
        runv.hyper.process.wait()
        runv.hyper.start()
        with inside(place.given):
            ip(
                f"link add name eth5 type veth peer name wire5 netns {place.outside}",
                "addr add 10.97.0.2/24 dev eth5",
                "link set eth5 mtu 1300 up",
            )
        with inside(place.outside):
            ip("addr add 10.97.0.1/24 dev wire5", "link set wire5 mtu 1300 up")
        run("sh", "-c", "until ip addr show dev eth5 | grep -q 10.97.0.2; do sleep 0.1; done")
        assert "1 packets received" in run("ping", "-c", "1", "-s", "1272", "-W", "30", "10.97.0.1")
        assert "machine" in web(place.outside, "10.97.0.2")
        with inside(place.given):
            ip("link set eth5 mtu 1400")
        run("sh", "-c", "until grep -q 1400 /sys/class/net/eth5/mtu; do sleep 0.1; done")
        with inside(place.given):
            ip("link del eth5")
        run("sh", "-c", "while grep -q eth5 /proc/net/dev; do sleep 0.1; done")
    assert left(place.given) == clean
    place.call("DEL", row.chains)


def test_who_asks_dockers_resolver_is_refused(place: Place, runv: Runv) -> None:
    row = TABLE["bridge of both"]
    place.call("ADD", row.chains)
    clean = left(place.given)
    path = given(runv, place)
    resolv = path.with_name("resolv.conf")
    resolv.write_text("search example\nnameserver 127.0.0.11\noptions ndots:0\n")
    config = json.loads(path.read_text())
    bind = {"destination": "/etc/resolv.conf", "type": "bind", "source": str(resolv), "options": ["rbind"]}
    config["mounts"].append(bind)
    path.write_text(json.dumps(config))
    done = runv("run", "--bundle", str(path.parent), NAME)
    assert done.status != 0 and "ask 127.0.0.11 for names by a macvtap" in done.err
    runv("delete", "--force", NAME)
    assert left(place.given) == clean
    place.call("DEL", row.chains)


def given(runv: Runv, place: Place) -> Path:
    """The config.json of a bundle in the namespace."""
    path = runv.bundle("true") / "config.json"
    config = json.loads(path.read_text())
    others = [each for each in config["linux"]["namespaces"] if each["type"] != "network"]
    config["linux"]["namespaces"] = [*others, {"type": "network", "path": f"/run/netns/{place.given}"}]
    path.write_text(json.dumps(config))
    return path
