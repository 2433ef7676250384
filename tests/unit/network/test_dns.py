"""What a pod is told of names."""

from pathlib import Path

import pytest

from hypercontainer.errors import InvalidInput
from hypercontainer.model.spec import Dns
from hypercontainer.network.dns import FALLBACK, LOCALHOST, MAX_SEARCH, MAX_SERVERS, asked_for, host_dns, hosts, local


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "resolv.conf", tmp_path / "uplink"


def test_the_hosts_own_servers(files: tuple[Path, Path]) -> None:
    files[0].write_text(
        "# made by hand\nnameserver 192.0.2.1 # first\nnameserver 2001:db8::1\ndomain old\nsearch a.example b.example\n"
        "options ndots:2 timeout:1\noptions rotate\n; nameserver 1.1.1.1\nnameserver\nnameserver nonsense\n"
    )
    assert host_dns(*files) == Dns(
        nameservers=["192.0.2.1", "2001:db8::1"],
        search=["a.example", "b.example"],
        options=["ndots:2", "timeout:1", "rotate"],
    )


def test_loopback_servers_are_replaced_by_systemd_resolveds(files: tuple[Path, Path]) -> None:
    files[0].write_text("nameserver 127.0.0.53\noptions edns0\nsearch lan\n")
    files[1].write_text("nameserver 192.0.2.7\nnameserver fe80::1%eth0\nsearch other\n")
    assert host_dns(*files) == Dns(nameservers=["192.0.2.7"], search=["lan"], options=["edns0"])


def test_where_nothing_can_be_reached_docker_falls_back(files: tuple[Path, Path]) -> None:
    assert host_dns(*files).nameservers == FALLBACK
    files[0].write_text("nameserver 127.0.0.1\nnameserver ::1\nnameserver 0.0.0.0\n")
    assert host_dns(*files).nameservers == FALLBACK


def test_whom_this_host_asks_for_a_pod(files: tuple[Path, Path]) -> None:
    """Its own loopback it reaches itself, and nobody may have it ask there."""
    files[0].write_text("nameserver 127.0.0.53\nnameserver nonsense\n")
    assert asked_for(Dns(), files[0]) == ["127.0.0.53"]
    assert asked_for(Dns(nameservers=["127.0.0.53", "fe80::1", "0.0.0.0", "192.0.2.1"]), files[0]) == ["192.0.2.1"]
    assert asked_for(Dns(nameservers=["::1"]), files[0]) == []
    files[0].unlink()
    assert asked_for(Dns(), files[0]) == FALLBACK


def test_names_without_a_dot_are_those_of_networks() -> None:
    assert local(Dns(nameservers=["192.0.2.1"], search=["lan"])) == Dns(
        nameservers=["127.0.0.11"], search=["lan"], options=["ndots:0"]
    )
    assert local(Dns(options=["ndots:2"])).options == ["ndots:2"]


def test_it_is_bounded(files: tuple[Path, Path]) -> None:
    files[0].write_text("".join(f"nameserver 192.0.2.{n}\n" for n in range(100)) + "search " + "x " * 1000 + "\n")
    dns = host_dns(*files)
    assert (len(dns.nameservers), len(dns.search)) == (MAX_SERVERS, MAX_SEARCH)
    files[0].write_bytes(b"nameserver 192.0.2.1\n" + b"\xff" * (10 << 20))
    assert host_dns(*files).nameservers == ["192.0.2.1"]


def test_hosts() -> None:
    rows = hosts("web", ["10.0.0.2/24", "fd00::2/64", ""], {"db": "10.0.0.9", "host": "host-gateway"}, "10.0.0.1")
    assert rows[: len(LOCALHOST)] == LOCALHOST
    assert rows[len(LOCALHOST) :] == [["10.0.0.9", "db"], ["10.0.0.1", "host"], ["10.0.0.2", "web"], ["fd00::2", "web"]]


def test_the_first_label_of_a_hostname_is_an_alias() -> None:
    assert hosts("foo.bar.example", ["10.0.0.2/24"], {})[-1] == ["10.0.0.2", "foo.bar.example", "foo"]


@pytest.mark.parametrize(
    ("name", "address"), [("db", "x"), ("db\n1.2.3.4 evil", "1.1.1.1"), ("", "1.1.1.1"), ("#", "::")]
)
def test_hosts_that_are_none(name: str, address: str) -> None:
    with pytest.raises(InvalidInput):
        hosts("web", [], {name: address})
