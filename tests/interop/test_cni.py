"""Networks that plugins of CNI make, called as engines call them: a machine in the namespace has what is there."""

import http.client
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.interop import netns
from tests.interop.netns import inside, ip, output
from tests.vm.runv import LIMIT_S, Runv

PLUGINS = Path("/usr/lib/cni")
LIBRARY = re.compile(r"(?:=> )?(/\S+) \(0x")
NAME = "cni"  # of the container

pytestmark = [
    pytest.mark.interop,
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces"),
    pytest.mark.skipif(not PLUGINS.exists(), reason="needs the package containernetworking-plugins"),
]

Config = Mapping[str, Any]


def host_local(*subnets: str, routes: Sequence[str] = ("0.0.0.0/0",)) -> Config:
    ranges = [[{"subnet": subnet}] for subnet in subnets]
    return {"type": "host-local", "ranges": ranges, "routes": [{"dst": route} for route in routes]}


def static(*addresses: str, **more: object) -> Config:
    return {"type": "static", "addresses": [{"address": address} for address in addresses], **more}


GIVEN = host_local("10.93.0.0/24", routes=[])
V4 = host_local("10.93.0.0/24")
V6 = host_local("fd93::/64", routes=["::/0"])
DUAL = host_local("10.93.0.0/24", "fd93::/64", routes=["0.0.0.0/0", "::/0"])
BRIDGE: Config = {"type": "bridge", "bridge": "cni0", "isGateway": True}
BOTH = ("198.51.100.1", "2001:db8::1")  # of the machine outside, reached by default routes


@dataclass(frozen=True)
class Row:
    """`chains`: the plugins of each interface, eth0, eth1 …; `world`: addresses outside that the machine reaches;
    `lines`: what ip does in the namespace afterwards."""

    chains: Sequence[Sequence[Config]]
    world: Sequence[str] = BOTH[:1]
    lines: Sequence[str] = ()
    far: bool = False  # nobody in the namespace of the plugins reaches it


TABLE: Mapping[str, Row] = {
    "bridge": Row([[{**BRIDGE, "isDefaultGateway": True, "ipMasq": True, "ipam": GIVEN}]]),
    "bridge of IPv6": Row([[{**BRIDGE, "ipam": V6}]], BOTH[1:]),
    "bridge of both": Row([[{**BRIDGE, "mtu": 1400, "hairpinMode": True, "ipam": DUAL}]], BOTH),
    "two bridges": Row(
        [
            [{**BRIDGE, "ipam": DUAL}],
            [{**BRIDGE, "bridge": "cni1", "ipam": host_local("10.94.0.0/24", "fd94::/64", routes=["10.77.0.0/16"])}],
        ],
        [*BOTH, "10.94.0.1", "fd94::1"],
    ),
    "ptp": Row([[{"type": "ptp", "ipMasq": True, "ipam": V4}]]),
    "ptp of both": Row([[{"type": "ptp", "mtu": 1400, "ipam": DUAL}]], BOTH),
    "macvlan": Row(
        [[{"type": "macvlan", "master": "wire", "mode": "bridge", "ipam": static(
            "10.95.0.2/24", "fd95::2/64", routes=[{"dst": "0.0.0.0/0", "gw": "10.95.0.1"}])}]],
        ["10.95.0.1", "fd95::1", "198.51.100.2"],
        far=True,
    ),
    "host-device": Row(
        [[{"type": "host-device", "device": "wire", "ipam": static(
            "10.95.0.2/24", "10.96.0.2/24", "fd95::2/64", routes=[{"dst": "0.0.0.0/0", "gw": "10.95.0.1"}])}]],
        ["10.95.0.1", "fd95::1", "198.51.100.2"],
        far=True,
    ),
    "loopback": Row([[{"type": "loopback"}]], ["127.0.0.1"], far=True),
    "portmap, bandwidth, firewall": Row(
        [
            [
                {**BRIDGE, "ipam": V4},
                {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True},
                {"type": "bandwidth", "ingressRate": 80_000_000, "ingressBurst": 8_000_000,
                 "egressRate": 80_000_000, "egressBurst": 8_000_000},
                {"type": "firewall", "backend": "iptables"},
            ]
        ]
    ),
    "tuning": Row(
        [[{**BRIDGE, "ipam": V4}, {"type": "tuning", "mac": "02:11:22:33:44:55", "mtu": 1300, "promisc": False}]]
    ),
    "routes": Row(
        [[{**BRIDGE, "ipam": DUAL}]],
        BOTH,
        [
            "route add 10.70.0.0/16 via 10.93.0.1 dev eth0 metric 70 mtu 1280",
            "route add 10.70.0.0/16 via 10.93.0.9 dev eth0 metric 71",
            "route add 10.71.0.0/16 dev eth0 scope link",
            "route add 10.72.0.0/16 via 172.16.9.9 dev eth0 onlink",
            "route add blackhole 10.73.0.0/16",
            "route add unreachable 10.74.0.0/16",
            "route add prohibit 10.75.0.0/16",
            "route add 10.76.0.0/16 nexthop via 10.93.0.7 dev eth0 weight 3 nexthop via 10.93.0.8 dev eth0",
            "addr add 10.93.0.200/24 dev eth0",
            "route add 10.78.0.0/16 via 10.93.0.1 dev eth0 src 10.93.0.200",
            "-6 route add fd70::/64 via fd93::1 dev eth0 metric 70 mtu 1280",
            "-6 route add blackhole fd73::/64",
            "-6 route add unreachable fd74::/64 metric 5",
            "-6 route add fd76::/64 nexthop via fd93::7 dev eth0 nexthop via fd93::8 dev eth0",
        ],
    ),
    "neighbours": Row(
        [[{**BRIDGE, "ipam": DUAL}]],
        BOTH,
        [
            "neigh add 10.93.0.77 lladdr 02:00:00:00:00:77 dev eth0 nud permanent",
            "-6 neigh add fd93::77 lladdr 02:00:00:00:00:77 dev eth0 nud permanent",
        ],
    ),
    "sbr": Row(
        [
            [{**BRIDGE, "ipam": V4}],
            [{**BRIDGE, "bridge": "cni1", "ipam": host_local("10.94.0.0/24")}, {"type": "sbr"}],
        ],
        [BOTH[0], "10.94.0.1"],
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """The host of an engine, `outside`, whose interface `wire` leads to another machine; a namespace for a pod."""

    outside: str
    given: str
    folder: Path

    def call(self, command: str, chains: Sequence[Sequence[Config]]) -> list[Config]:
        """What each chain answered: ADD as an engine calls its plugins, DEL and CHECK too."""
        return [self._chain(command, f"eth{n}", f"net{n}", chain) for n, chain in enumerate(chains)]

    def _chain(self, command: str, interface: str, network: str, chain: Sequence[Config]) -> Config:
        kept = self.folder / f"{interface}.json"
        result: Any = json.loads(kept.read_text()) if kept.exists() else None
        for config in reversed(chain) if command == "DEL" else chain:
            whole: dict[str, Any] = {"cniVersion": "1.0.0", "name": network, **config}
            if "ipam" in config:
                whole["ipam"] = {**config["ipam"], "dataDir": str(self.folder / "ipam")}
            if "capabilities" in config:
                ports = [{"hostPort": 8099, "containerPort": 80, "protocol": "tcp"}]
                whole["runtimeConfig"] = {"portMappings": ports}
            if result:
                whole["prevResult"] = result
            said = self._plugin(command, interface, whole)
            result = json.loads(said) if said and command == "ADD" else result
        if command == "ADD":
            kept.write_text(json.dumps(result))
        return result or {}

    def _plugin(self, command: str, interface: str, config: Config) -> str:
        env = {
            "CNI_COMMAND": command, "CNI_CONTAINERID": self.given, "CNI_NETNS": f"/run/netns/{self.given}",
            "CNI_IFNAME": "lo" if config["type"] == "loopback" else interface, "CNI_PATH": str(PLUGINS),
            "PATH": os.environ["PATH"],
        }  # fmt: skip
        with inside(self.outside):
            argv = [PLUGINS / config["type"]]
            done = subprocess.run(argv, input=json.dumps(config), text=True, capture_output=True, env=env)
        assert done.returncode == 0, (command, config, done.stdout, done.stderr)
        return done.stdout


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        far, outside, given = (stack.enter_context(netns.namespace(name)) for name in ("hyfar", "hyout", "hypod"))
        with inside(outside):
            ip(
                f"link add name wire type veth peer name far netns {far}",
                "link set wire up",
                *(f"addr add {address}/{32 if ':' not in address else '128 nodad'} dev lo" for address in BOTH),
            )
            for family in ("ipv4", "ipv6"):
                Path(f"/proc/sys/net/{family}/conf/all/forwarding").write_text("1")
        with inside(far):
            ip("addr add 10.95.0.1/24 dev far", "addr add fd95::1/64 dev far nodad", "addr add 198.51.100.2/32 dev lo")
            ip("link set far up")
        yield Place(outside, given, tmp_path)


def with_ip(rootfs: Path) -> None:
    """iproute2 and its libraries: what it says inside is compared with what it says outside."""
    (rootfs / "tools").mkdir()
    found = output("ldd", str(Path("/bin/ip").resolve()))
    for library in LIBRARY.findall(found):
        shutil.copy(library, rootfs / "tools")
    shutil.copy(Path("/bin/ip").resolve(), rootfs / "tools/ip")


class Machine:
    """A container of runv's in the namespace."""

    def __init__(self, runv: Runv) -> None:
        self._runv = runv

    def __call__(self, *words: str) -> str:
        return self._runv.ok("exec", NAME, *words)

    def ip(self, *words: str) -> Any:
        said = self("/tools/ld-linux-x86-64.so.2", "--library-path", "/tools", "/tools/ip", "-j", "-d", *words)
        return json.loads(said or "[]")


@contextmanager
def machine(runv: Runv, place: str) -> Iterator[Machine]:
    """One in the network namespace at `place`."""
    bundle = runv.bundle("httpd", "-f", "-p", "80", "-h", "/www")
    rootfs = bundle / "rootfs"
    (rootfs / "www").mkdir()
    (rootfs / "www/index.html").write_text("a machine\n")
    with_ip(rootfs)
    config = json.loads((bundle / "config.json").read_text())
    others = [each for each in config["linux"]["namespaces"] if each["type"] != "network"]
    for held in config["process"]["capabilities"].values():
        held.append("CAP_NET_RAW")  # for ping
    config["linux"]["namespaces"] = [*others, {"type": "network", "path": place}]
    (bundle / "config.json").write_text(json.dumps(config))
    assert runv.spawn("create", "--bundle", str(bundle), NAME).wait(LIMIT_S) == 0  # who keeps its pipes open
    runv.ok("start", NAME)
    yield Machine(runv)
    runv.ok("delete", "--force", NAME)


def outer(given: str, *words: str) -> Any:
    with inside(given):
        return json.loads(output("ip", "-j", "-d", *words) or "[]")


WHAT: Mapping[str, Sequence[str]] = {
    "links": ["addr"], "four": ["-4", "route", "show", "table", "all"], "six": ["-6", "route", "show", "table", "all"],
    "rules": ["-4", "rule"], "rules6": ["-6", "rule"], "neighbours": ["neigh", "show", "nud", "permanent"],
}  # fmt: skip


def facts(ip: Any) -> Mapping[str, Any]:
    """All that must be inside as it is outside. `ip`: asks there."""
    said = {what: ip(*words) for what, words in WHAT.items()}
    links = [link for link in said["links"] if "LOOPBACK" not in link["flags"] and link["addr_info"]]
    # an address that has lost the route of its prefix is all of it inside: the kernel there leads to that by its link
    own = {address["local"] for link in links for address in link["addr_info"] if address["prefixlen"] == 128}
    names = {link["ifname"] for link in links if any(a.get("scope") != "link" for a in link["addr_info"])}
    return {
        "links": sorted(
            (link["ifname"], link["address"], link["mtu"],
             sorted(a["local"] for a in link["addr_info"] if a["scope"] != "link"))
            for link in links if link["ifname"] in names
        ),
        "four": sorted(filter(None, map(route, said["four"]))),
        "six": sorted(filter(None, map(route, (each for each in said["six"] if each["dst"] not in own)))),
        "rules": sorted(json.dumps(each, sort_keys=True) for each in said["rules"]),
        "rules6": sorted(json.dumps(each, sort_keys=True) for each in said["rules6"]),
        "neighbours": sorted((n["dst"], n["dev"], n["lladdr"]) for n in said["neighbours"] if n["dev"] in names),
    }  # fmt: skip


def route(said: Any) -> str:
    """As text, without who has made it; "" for what each kernel makes for itself."""
    if said.get("table") == "local" or said["dst"] in ("fe80::/64", "ff00::/8", "multicast"):
        return ""
    kept = {key: said[key] for key in said if key not in ("protocol", "pref", "flags", "dev", "type")}
    device = said.get("dev", "")
    hops = [{key: hop[key] for key in hop if key != "flags"} for hop in said.get("nexthops", ())]
    onlink = "onlink" in said.get("flags", ())
    what = said.get("type", "unicast")
    kept |= {"type": what, "dev": device if device != "lo" else "", "nexthops": hops, "onlink": onlink}
    return json.dumps(kept, sort_keys=True)


@pytest.mark.parametrize("name", TABLE)
def test_what_plugins_made_is_the_machines(place: Place, runv: Runv, name: str) -> None:
    row = TABLE[name]
    results = place.call("ADD", row.chains)
    addresses = [each["address"].partition("/")[0] for result in results for each in result.get("ips", [])]
    with inside(place.given):
        for line in row.lines:
            output("ip", *line.split())
    before = facts(lambda *words: outer(place.given, *words))
    with machine(runv, f"/run/netns/{place.given}") as run:
        assert facts(run.ip) == before
        for address in row.world:
            assert "1 packets received" in run("ping", "-c", "1", "-W", "30", address), address
        for address in addresses:
            assert row.far or page(place.outside, address) == "a machine\n"
        assert facts(lambda *words: outer(place.given, *words)) == before
    place.call("DEL", row.chains)


def page(outside: str, address: str, port: int = 80) -> str:
    """What the container's web server says to who is outside."""
    with inside(outside), closing(http.client.HTTPConnection(address, port, timeout=LIMIT_S)) as server:
        server.request("GET", "/")
        return server.getresponse().read().decode()
