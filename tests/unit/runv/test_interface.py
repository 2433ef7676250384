"""runv interface: interfaces of the namespace of a real process."""

import os
import subprocess
from collections.abc import Iterator

import pytest

from hypercontainer.runv import flags, interface
from hypercontainer.runv.flags import UsageError, Words
from hypercontainer.runv.interface import NoInterface
from tests.interop.netns import inside, ip, namespace

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")


def said(*words: str) -> Words:
    return flags.parse(flags.VERBS["interface"], list(words))


@pytest.fixture
def host() -> Iterator[str]:
    """This thread is in it, and has an interface "spare"."""
    with namespace("hyhost") as name, inside(name):
        ip("link add name spare type veth peer name wire")
        yield name


@pytest.fixture
def pid(host: str) -> Iterator[int]:
    """Of a process in a namespace of its own."""
    with (
        namespace("hyif") as name,
        subprocess.Popen(["nsenter", f"--net=/run/netns/{name}", "cat"], stdin=subprocess.PIPE) as process,
    ):
        while os.stat(f"/proc/{process.pid}/ns/net").st_ino != os.stat(f"/run/netns/{name}").st_ino:
            os.sched_yield()
        yield process.pid
        process.communicate()


def links() -> str:
    return subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout


def test_one_is_added_changed_and_removed(pid: int) -> None:
    values = {"host-device": "spare", "name": "eth7", "ip": "10.7.0.2/24", "mac": "02:00:00:00:00:07", "mtu": "1400"}
    interface.add(pid, values)
    assert interface.listed(pid) == [["eth7", "02:00:00:00:00:07", "1400", "10.7.0.2/24"]]
    interface.update(pid, "eth7", {"add-ip": "fd07::2/64", "delete-ip": "10.7.0.2/24", "mtu": "1450"})
    assert interface.listed(pid) == [["eth7", "02:00:00:00:00:07", "1450", "fd07::2/64"]]
    assert "eth7" not in links()
    interface.remove(pid, "eth7")
    assert interface.listed(pid) == []
    assert "eth7" in links()


@pytest.mark.parametrize("wrong", [{"ip": "10.7.0.300/24"}, {"mac": "nonsense"}, {"mtu": "-1"}, {"name": "a/b"}])
def test_what_cannot_be_added_is_where_it_was(pid: int, wrong: dict[str, str]) -> None:
    with pytest.raises(NoInterface, match="cannot ip "):
        interface.add(pid, {"host-device": "spare", "name": "eth7", **wrong})
    assert interface.listed(pid) == []
    assert "spare" in links()


def test_what_is_not_there(pid: int) -> None:
    with pytest.raises(NoInterface, match="nosuch"):
        interface.add(pid, {"host-device": "nosuch"})
    with pytest.raises(NoInterface, match="nosuch"):
        interface.remove(pid, "nosuch")


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["show", "c"], "there is no interface command"),
        (["add", "c"], "--host-device is missing"),
        (["add", "c", "--host-device", "d", "--add-ip", "10.0.0.2/24"], "add has no flag --add-ip"),
        (["rm", "c"], "name is missing"),
        (["ls", "c", "eth0"], "no name"),
        (["update", "c", "eth0"], "nothing to change"),
    ],
)
def test_words_that_make_no_sense(words: list[str], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        interface.check(said(*words))


def test_the_names_of_commands() -> None:
    assert [interface.check(said(name, "c")) for name in ("ls", "list")] == ["ls", "ls"]
    assert [interface.check(said(name, "c", "eth0")) for name in ("rm", "remove")] == ["rm", "rm"]
