"""Requests: what is refused and why, the vectors, the network, the end."""

import errno
import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.unit.guest.conftest import Guest, inside
from tests.unit.guest.wire_client import Refused

CONTROL: dict[str, list[dict[str, Any]]] = json.loads((Path(__file__).parents[2] / "vectors/control.json").read_text())
MAC = "02:00:00:00:00:01"


@pytest.mark.parametrize("request_", CONTROL["requests"], ids=lambda r: r["op"])
def test_every_key_is_known(guest: Guest, request_: dict[str, Any]) -> None:
    """Whatever else is wrong with these requests here, their words are those of docs/wire.md."""
    if request_["op"] == "poweroff":
        guest.host.call(request_["op"], **request_["args"])
        return
    try:
        guest.host.call(request_["op"], **request_["args"])
    except Refused as e:
        assert e.errno != errno.EINVAL or not e.message.startswith("read arguments"), e
        assert e.errno != errno.ENOSYS


@pytest.mark.parametrize("request_", CONTROL["requests"], ids=lambda r: r["op"])
def test_an_unknown_key_is_refused(guest: Guest, request_: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        guest.host.call(request_["op"], **request_["args"], colour="red")
    assert refused.value.errno == errno.EINVAL
    assert "unknown key 'colour'" in refused.value.message


@pytest.mark.parametrize("bad", CONTROL["bad"], ids=lambda b: b["name"])
def test_bad_lines(guest: Guest, bad: dict[str, Any]) -> None:
    """A line without an id that can be read is answered with id 0."""
    line = bad["line"].encode("utf-8", "surrogateescape")
    guest.host.inputs[0].data += line + b"\n"
    answer = guest.host.until(lambda: guest.host.refusals or list(guest.host.answers.values()))[0]
    assert answer.get("error", answer)["errno"] == bad["errno"]
    guest.host.next_id = 1000
    assert guest.host.call("ping") == {}


def test_a_line_that_is_too_long(guest: Guest) -> None:
    guest.host.inputs[0].data += b'{"id":1,"op":"' + b"x" * (1 << 20) + b'"}\n'
    guest.host.until(lambda: guest.host.refusals)
    assert guest.host.refusals[0]["errno"] == errno.E2BIG
    guest.host.next_id = 2
    assert guest.host.call("ping") == {}


def test_more_values_than_anyone_needs(guest: Guest) -> None:
    guest.host.inputs[0].data += b'{"id":1,"op":"ping","args":{"a":[' + b"0," * 70000 + b"0]}}\n"
    guest.host.until(lambda: guest.host.refusals)
    assert guest.host.refusals[0]["errno"] == errno.E2BIG


def test_too_many_requests_under_way(running: Guest) -> None:
    """Each waits for an exec in a frozen container; the 65th is refused."""
    running.host.call("container.freeze", id="c1", frozen=True)
    asked = [running.host.ask("process.start", id=f"p{i}", container="c1", args=["true"]) for i in range(64)]
    with pytest.raises(Refused) as refused:
        running.host.call("ping")
    assert refused.value.errno == errno.EAGAIN
    host = running.another_host()
    host.hello()
    assert host.call("ping") == {}
    assert len(host.call("list")["processes"]) == 65
    host.call("container.freeze", id="c1", frozen=False)
    for i in range(64):
        host.exit_of(f"p{i}")
    assert asked


def test_removal_answers_starts_that_wait(running: Guest) -> None:
    running.host.call("container.freeze", id="c1", frozen=True)
    asked = running.host.ask("process.start", id="p", container="c1", args=["true"])
    running.host.call("container.remove", id="c1")
    with pytest.raises(Refused) as refused:
        running.host.answer(asked)
    assert refused.value.errno == errno.ECANCELED


def test_info(guest: Guest) -> None:
    info = guest.host.call("info")
    assert set(info) == {"version", "kernel", "uptime_ms", "memory_total_kib", "memory_available_kib"}
    assert info["memory_total_kib"] > info["memory_available_kib"] > 0


@pytest.fixture
def link(guest: Guest) -> Guest:
    if not shutil.which("ip") or not shutil.which("nsenter"):
        pytest.skip("ip and nsenter are not installed")
    inside(guest, "ip", "link", "add", "odd0", "address", MAC, "type", "veth", "peer", "name", "other0")
    inside(guest, "ip", "link", "set", "other0", "up")
    return guest


def addresses(guest: Guest, name: str = "eth0") -> set[str]:
    found = json.loads(inside(guest, "ip", "-j", "address", "show", "dev", name))[0]["addr_info"]
    return {f"{a['local']}/{a['prefixlen']}" for a in found if a["scope"] == "global"}


def test_the_network(link: Guest) -> None:
    interface = {"mac": MAC, "name": "eth0", "mtu": 1400, "addresses": ["10.1.2.3/24", "fd00:1::3/64"]}
    routes = [
        {"dst": "default", "gateway": "10.1.2.1", "family": 4},
        {"dst": "10.77.0.0/16", "gateway": "10.1.2.9"},
        {"dst": "default", "gateway": "fd00:1::1", "family": 6},
    ]
    link.host.call("pod.setup", interfaces=[interface], routes=routes)
    shown = json.loads(inside(link, "ip", "-j", "link", "show", "dev", "eth0"))[0]
    assert (shown["address"], shown["mtu"], "UP" in shown["flags"]) == (MAC, 1400, True)
    assert addresses(link) == {"10.1.2.3/24", "fd00:1::3/64"}
    assert "tentative" not in inside(link, "ip", "-6", "address", "show", "dev", "eth0", "scope", "global")
    assert "10.1.2.255" in inside(link, "ip", "-4", "address", "show", "dev", "eth0")
    routes4 = {r["dst"]: r.get("gateway") for r in json.loads(inside(link, "ip", "-j", "route"))}
    assert (routes4["default"], routes4["10.77.0.0/16"]) == ("10.1.2.1", "10.1.2.9")
    assert "via fd00:1::1" in inside(link, "ip", "-6", "route", "show", "default")
    assert "UP" in json.loads(inside(link, "ip", "-j", "link", "show", "dev", "lo"))[0]["flags"]


def test_routes_by_an_interface(link: Guest) -> None:
    interface = {"mac": MAC, "name": "eth0", "addresses": ["10.1.2.3/32", "fd00:1::3/128"]}
    routes = [
        {"dst": "169.254.1.1", "gateway": "", "device": "eth0"},
        {"dst": "fd00:1::1", "gateway": "", "device": "eth0"},
        {"dst": "10.1.2.0/24", "gateway": "169.254.1.1", "device": "eth0"},
        {"dst": "default", "gateway": "fe80::1", "device": "eth0"},
        {"dst": "default", "gateway": "", "family": 4, "device": "eth0"},
    ]
    for _ in range(2):
        link.host.call("pod.setup", interfaces=[interface], routes=routes)
        shown = inside(link, "ip", "-4", "route"), inside(link, "ip", "-6", "route")
        assert sorted(line.split(" proto ")[0].strip() for line in shown[0].splitlines()) == [
            "10.1.2.0/24 via 169.254.1.1 dev eth0", "169.254.1.1 dev eth0", "default dev eth0",
        ]  # fmt: skip
        assert "fd00:1::1 dev eth0" in shown[1] and "default via fe80::1 dev eth0" in shown[1]


def test_routes_of_all_kinds_come_and_go(link: Guest) -> None:
    interface: dict[str, Any] = {
        "mac": MAC, "name": "eth0", "addresses": ["10.1.2.3/24", "10.1.2.4/24", "fd00:1::3/64"],
        "neighbours": [{"address": "10.1.2.77", "mac": OTHER_MAC}, {"address": "fd00:1::77", "mac": OTHER_MAC}],
    }  # fmt: skip
    hops = [{"gateway": f"10.1.2.{n}", "device": "eth0", "weight": n} for n in (7, 8)]
    hops6 = [{"gateway": f"fd00:1::{n}", "device": "eth0", "weight": 1} for n in (7, 8)]
    gateway: dict[str, Any] = {"gateway": "10.1.2.1", "device": "eth0"}
    routes: list[dict[str, Any]] = [
        {"dst": "10.5.0.0/16", **gateway, "metric": 70, "source": "10.1.2.4", "metrics": [2, 1280]},
        {"dst": "10.5.0.0/16", **gateway, "metric": 71},
        {"dst": "default", **gateway, "table": 100},
        {"dst": "10.6.0.0/16", "gateway": "172.16.0.1", "device": "eth0", "onlink": True, "table": 1000},
        {"dst": "10.7.0.0/16", "gateway": "", "kind": "blackhole"},
        {"dst": "10.8.0.0/16", "gateway": "", "hops": hops},
        {"dst": "fd07::/32", "gateway": "", "family": 6, "kind": "unreachable"},
        {"dst": "fd08::/32", "gateway": "", "family": 6, "hops": hops6},
    ]
    rules = [
        {"family": 4, "priority": 70, "table": 100, "source": "10.1.2.4/32"},
        {"family": 6, "priority": 71, "table": 1000, "dst": "fd00::/16"},
    ]
    shows = (
        "-4 route show table all type unicast", "-4 route show type blackhole", "-6 route show",
        "-4 rule", "-6 rule", "neigh show nud permanent",
    )  # fmt: skip

    def shown() -> str:
        return "\n".join(" ".join(inside(link, "ip", *words.split()).split()) for words in shows)

    link.host.call("pod.setup", interfaces=[{**interface, "neighbours": []}])
    before = shown()
    for _ in range(2):
        link.host.call("pod.setup", interfaces=[interface], routes=routes, rules=rules)
        for words in (
            "10.5.0.0/16 via 10.1.2.1 dev eth0 proto static src 10.1.2.4 metric 70 mtu 1280",
            "10.5.0.0/16 via 10.1.2.1 dev eth0 proto static metric 71",
            "default via 10.1.2.1 dev eth0 table 100 proto static",
            "10.6.0.0/16 via 172.16.0.1 dev eth0 table 1000 proto static onlink",
            "blackhole 10.7.0.0/16",
            "nexthop via 10.1.2.7 dev eth0 weight 7 nexthop via 10.1.2.8 dev eth0 weight 8",
            "unreachable fd07::/32",
            "nexthop via fd00:1::7 dev eth0 weight 1 nexthop via fd00:1::8 dev eth0 weight 1",
            "70: from 10.1.2.4 lookup 100",
            "71: from all to fd00::/16 lookup 1000",
            f"10.1.2.77 dev eth0 lladdr {OTHER_MAC} PERMANENT",
            f"fd00:1::77 dev eth0 lladdr {OTHER_MAC} PERMANENT",
        ):
            assert words in shown(), (words, shown())
    gone = [{**each, "gone": True} for each in routes], [{**each, "gone": True} for each in rules]
    for _ in range(2):
        link.host.call("pod.setup", interfaces=[{**interface, "neighbours": []}], routes=gone[0], rules=gone[1])
        assert shown() == before


HOP: dict[str, Any] = {"gateway": "10.0.0.1", "device": "lo", "weight": 1}
TO_SEVERAL: dict[str, Any] = {"dst": "10.5.0.0/16", "gateway": ""}
PLAIN: dict[str, Any] = {"mac": MAC, "name": "eth0", "addresses": []}


@pytest.mark.parametrize(
    "wrong",
    [
        {"routes": [{"dst": "10.5.0.0/16", "gateway": "", "kind": "other"}]},
        {"routes": [{"dst": "10.5.0.0/16", "gateway": "10.1.2.1", "metrics": [2]}]},
        {"routes": [{"dst": "10.5.0.0/16", "gateway": "10.1.2.1", "metrics": [18, 1]}]},
        {"routes": [{"dst": "10.5.0.0/16", "gateway": "10.1.2.1", "metrics": ["2", 1]}]},
        {"routes": [{"dst": "10.5.0.0/16", "gateway": "10.1.2.1", "table": -1}]},
        {"routes": [{"dst": "10.5.0.0/16", "gateway": "10.1.2.1", "source": "nonsense"}]},
        {"routes": [TO_SEVERAL | {"hops": [HOP | {"gateway": "fd00::1"}]}]},
        {"routes": [TO_SEVERAL | {"hops": [HOP | {"device": "x"}]}]},
        {"routes": [TO_SEVERAL | {"hops": [HOP | {"weight": 0}]}]},
        {"routes": [TO_SEVERAL | {"hops": 9 * [HOP]}]},
        {"rules": [{"family": 4, "priority": 1, "table": 0}]},
        {"rules": [{"family": 4, "priority": 1, "table": 7, "source": "fd00::/16"}]},
        {"rules": [{"family": 4, "priority": -1, "table": 7}]},
        {"interfaces": [PLAIN | {"neighbours": [{"address": "10.0.0.1", "mac": "x"}]}]},
    ],
)  # fmt: skip
def test_a_route_that_is_none_is_refused(link: Guest, wrong: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        link.host.call("pod.setup", **wrong)
    assert refused.value.errno in (errno.EINVAL, errno.E2BIG, errno.ENODEV)


def test_the_network_again_changes_what_differs(link: Guest) -> None:
    def setup(name: str, *wanted: str, gateway: str) -> None:
        interface = {"mac": MAC, "name": name, "addresses": list(wanted)}
        link.host.call("pod.setup", interfaces=[interface], routes=[{"dst": "default", "gateway": gateway}])

    setup("eth0", "10.1.2.3/24", gateway="10.1.2.1")
    setup("eth0", "10.1.2.3/24", gateway="10.1.2.1")
    assert addresses(link) == {"10.1.2.3/24"}
    setup("net1", "10.1.3.4/24", "fd00::4/64", gateway="10.1.3.1")
    assert addresses(link, "net1") == {"10.1.3.4/24", "fd00::4/64"}
    default = [r for r in json.loads(inside(link, "ip", "-j", "route")) if r["dst"] == "default"]
    assert [r["gateway"] for r in default] == ["10.1.3.1"]


def test_a_clone_is_given_its_address(link: Guest) -> None:
    own = "02:00:00:00:00:77"
    interface = {"mac": own, "hardware": MAC, "name": "eth0", "addresses": ["10.1.2.3/24"]}
    for _ in range(2):
        link.host.call("pod.setup", interfaces=[interface])
        assert json.loads(inside(link, "ip", "-j", "link", "show", "dev", "eth0"))[0]["address"] == own
    assert addresses(link) == {"10.1.2.3/24"}


OTHER_MAC = "02:00:00:00:00:55"


def add_link(guest: Guest, name: str) -> None:
    inside(guest, "ip", "link", "add", name, "address", OTHER_MAC, "type", "veth", "peer", "name", f"{name}x")


def test_an_interface_comes_later_and_goes_again(link: Guest) -> None:
    first = {"mac": MAC, "name": "eth0", "addresses": ["10.1.2.3/24"]}
    link.host.call("pod.setup", interfaces=[first], routes=[{"dst": "default", "gateway": "10.1.2.1"}])
    later = {"mac": OTHER_MAC, "name": "eth1", "mtu": 1400, "addresses": ["10.5.0.3/16", "fd00:5::3/64"]}
    for _ in range(2):
        add_link(link, "odd1")
        link.host.call("pod.setup", interfaces=[later], routes=[{"dst": "10.6.0.0/16", "gateway": "10.5.0.1"}])
        assert addresses(link, "eth1") == {"10.5.0.3/16", "fd00:5::3/64"}
        assert addresses(link) == {"10.1.2.3/24"}
        default = [{"dst": "default", "gateway": "10.1.2.1"}]
        link.host.call("pod.setup", removed=[OTHER_MAC, "02:00:00:00:00:99"], routes=default)
        names = [shown["ifname"] for shown in json.loads(inside(link, "ip", "-j", "link"))]
        assert "eth1" not in names and "eth0" in names
        assert "10.6.0.0" not in inside(link, "ip", "-4", "route")


def test_an_interface_that_comes_late_is_waited_for(link: Guest) -> None:
    later = {"mac": OTHER_MAC, "name": "eth1", "addresses": []}
    asked = link.host.ask("pod.setup", interfaces=[later])
    add_link(link, "odd1")
    assert link.host.answer(asked) == {}
    assert "eth1" in inside(link, "ip", "link")


def test_counters(link: Guest) -> None:
    interface = {"mac": MAC, "name": "eth0", "addresses": ["10.1.2.3/24"]}
    link.host.call("pod.setup", interfaces=[interface])
    link.container()
    names = [n["name"] for n in link.host.call("container.stats", id="c1")["net"]]
    assert sorted(names) == ["eth0", "other0"]


@pytest.mark.parametrize("wrong", [{"mac": "02:00:00:00:00:99"}, {"addresses": ["10.0.0.1/33"]}, {"addresses": ["x"]},
                                   {"addresses": [5]}, {"mtu": 70000}, {"name": ""}, {"name": "x" * 16}])  # fmt: skip
def test_bad_interfaces(link: Guest, wrong: dict[str, Any]) -> None:
    interface = {"mac": MAC, "name": "eth0", "addresses": [], **wrong}
    with pytest.raises(Refused):
        link.host.call("pod.setup", interfaces=[interface])


def test_poweroff(running: Guest) -> None:
    streams = running.start("p", "sh", "-c", "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.01; done")
    running.host.until(lambda: running.host.outputs[streams["stdout"]].data == b"up\n")
    assert running.host.call("poweroff", timeout_ms=500) == {}
    assert running.host.exit_of("p")["status"] == 3
    assert running.host.exit_of("first")["status"] == 137  # PID 1 has no handler for TERM: it was killed in the end
    assert running.host.outputs[streams["stdout"]].data == b"up\nbye\n"
    assert running.process.wait(10) == 0


def test_poweroff_of_nothing_is_quick_and_happens_once(guest: Guest) -> None:
    begin = time.monotonic()
    number = guest.host.ask("poweroff", timeout_ms=60000)
    guest.host.answer(number)
    assert guest.process.wait(10) == 0
    assert time.monotonic() - begin < 30


def test_nothing_begins_while_the_guest_goes_down(running: Guest) -> None:
    running.start("p", "sh", "-c", "trap '' TERM; sleep 1000")
    off = running.host.ask("poweroff", timeout_ms=700)
    with pytest.raises(Refused) as refused:
        running.start("q", "true")
    assert refused.value.errno == errno.ESHUTDOWN
    with pytest.raises(Refused):
        running.host.call("poweroff")
    assert running.host.answer(off) == {}
