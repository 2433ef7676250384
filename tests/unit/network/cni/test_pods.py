"""Pods that plugins connect and disconnect: in which order, told what, and what is left when one fails or is killed."""

import asyncio
import json
import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.errors import HyperError, InvalidInput, NotFound, TimedOut, Unavailable, WrongState
from hypercontainer.lib import mount, netns
from hypercontainer.model.pod_network import Asked, HostPort
from hypercontainer.network.cni.pods import PodNetworks
from tests.interop.netns import output

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")

# Writes down what it was called with, and does as its configuration says: `answers`, or fails, or waits.
PLUGIN = """#!/bin/sh
config=$(cat)
if [ "$CNI_COMMAND" = VERSION ]; then
    printf '%s' '{"cniVersion": "1.1.0", "supportedVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]}'
    exit
fi
name=$(basename "$0")
printf '%s\\t%s\\t%s\\t%s\\t%s\\t%s\\t%s\\n' "$CNI_COMMAND" "$name" "$CNI_CONTAINERID" "$CNI_IFNAME" "$CNI_NETNS" \\
    "$CNI_ARGS" "$config" >>CALLS
said=ANSWERS/$name.$CNI_COMMAND
[ ! -x "$said" ] || exec "$said"
[ "$CNI_COMMAND" != ADD ] || printf '{"cniVersion": "1.1.0", "ips": [{"address": "10.9.0.7/24"}], "by": "%s"}' "$name"
"""


class World:
    """Networks of pods, and plugins `a`, `b` and `c` that do what a test has them do."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls_file = folder, folder / "calls"
        for name in ("conf", "bin", "answers", "root", "run"):
            (folder / name).mkdir()
        for name in "abc":
            text = PLUGIN.replace("CALLS", str(self.calls_file)).replace("ANSWERS", str(folder / "answers"))
            executable(folder / "bin" / name, text)
        self.write()
        self.networks = self.anew()

    def anew(self, limit_s: float = 60.0) -> PodNetworks:
        """What the next hyperd has."""
        f = self.folder
        return PodNetworks(f / "root", f / "run", f / "conf", [f / "nosuch", f / "bin"], limit_s=limit_s)

    def write(self, *plugins: Mapping[str, Any], version: str = "1.1.0", **more: object) -> None:
        chain = plugins or [{"type": name} for name in "abc"]
        document = {"cniVersion": version, "name": "net", "plugins": chain, **more}
        (self.folder / "conf/10.conflist").write_text(json.dumps(document))

    def have(self, plugin: str, command: str, script: str) -> None:
        executable(self.folder / "answers" / f"{plugin}.{command}", f"#!/bin/sh\n{script}\n")

    def allow(self, plugin: str, command: str) -> None:
        (self.folder / "answers" / f"{plugin}.{command}").unlink()

    def pipe(self, name: str) -> Path:
        os.mkfifo(path := self.folder / name)
        return path

    def calls(self) -> list[Sequence[Any]]:
        """Those since the last time."""
        lines = self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
        self.calls_file.unlink(missing_ok=True)
        return [[*line.split("\t")[:6], json.loads(line.split("\t", 6)[6])] for line in lines]

    def order(self) -> list[str]:
        return [f"{command} {name}" for command, name, *_ in self.calls()]

    def left(self) -> list[str]:
        return [path.name for place in ("root/cni", "run/cni") for path in (self.folder / place).glob("*")]


def executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    for path in (tmp_path / "run/cni").glob("*"):
        netns.let_go(path)


async def test_a_chain_is_told_each_result_and_undone_backwards(world: World) -> None:
    world.write(
        {"type": "a", "capabilities": {"portMappings": True, "mac": False}, "x": {"y": [1, None]}},
        {"type": "b"},
        {"type": "c", "capabilities": {"bandwidth": True}},
    )
    asked = Asked(id="p1", name="web", namespace="shop", uid="u", ports=[HostPort(80, 8080)], mac="02:00:00:00:00:01")
    attached = await world.networks.attach(asked)
    assert (attached.network, attached.addresses, attached.dns) == ("net", ["10.9.0.7"], None)
    place = str(world.folder / "run/cni/p1")
    assert attached.netns == place and mount.mounted(place)
    calls = world.calls()
    arguments = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=p1;K8S_POD_UID=u"
    for command, _, id, interface, where, args, config in calls:
        assert (command, id, interface, where, args) == ("ADD", "p1", "eth0", place, arguments)
        assert (config["cniVersion"], config["name"], "capabilities" in config) == ("1.1.0", "net", False)
    first, second, third = (call[-1] for call in calls)
    ports = [{"hostPort": 80, "containerPort": 8080, "protocol": "tcp", "hostIP": ""}]
    assert (first["x"], first["runtimeConfig"]) == ({"y": [1, None]}, {"portMappings": ports})
    assert "runtimeConfig" not in second and "runtimeConfig" not in third
    assert ["prevResult" in config and config["prevResult"]["by"] for config in (first, second, third)] == [
        False, "a", "b",
    ]  # fmt: skip
    assert world.networks.find("p1") == attached == await world.networks.attach(asked)  # again: nothing
    assert world.calls() == []

    world.write({"type": "nosuch"})  # what is undone is what was done
    await world.networks.check("p1")
    checked = world.calls()
    assert [f"{call[0]} {call[1]} {call[-1]['prevResult']['by']}" for call in checked] == [
        "CHECK a c", "CHECK b c", "CHECK c c",
    ]  # fmt: skip
    await world.networks.detach("p1")
    undone = world.calls()
    assert [f"{call[0]} {call[1]} {call[4] == place} {call[-1]['prevResult']['by']}" for call in undone] == [
        "DEL c True c", "DEL b True c", "DEL a True c",
    ]  # fmt: skip
    assert undone[-1][-1]["runtimeConfig"] == {"portMappings": ports}
    assert world.left() == [] and not mount.mounted(place)
    await world.networks.detach("p1")
    assert world.calls() == [] and world.networks.find("p1") is None


async def test_lo_is_up_and_alone_in_a_new_namespace(world: World) -> None:
    attached = await world.networks.attach(Asked(id="p1"))
    with netns.opened(attached.netns) as fd:
        assert not netns.is_ours(fd)
        seen = netns.inside(fd, lambda: Path("/proc/thread-self/net/dev").read_text())
        flags = netns.inside(fd, lambda: output("ip", "-o", "link", "show", "lo"))
    assert [line.split(":")[0].strip() for line in seen.splitlines()[2:]] == ["lo"] and "LOOPBACK,UP" in flags
    await world.networks.detach("p1")


@pytest.mark.parametrize("plugin", "abc")
async def test_a_plugin_that_fails_says_why_and_nothing_is_left(world: World, plugin: str) -> None:
    world.have(plugin, "ADD", """printf '{"code": 107, "msg": "no room", "details": "in 10.9.0.0/24"}'; exit 1""")
    why = rf"cannot connect pod p1 to CNI network net: CNI plugin {plugin}: no room: in 10\.9\.0\.0/24 \(code 107\)"
    with pytest.raises(HyperError, match=why):
        await world.networks.attach(Asked(id="p1"))
    added = [f"ADD {name}" for name in "abc" if name <= plugin]
    calls = world.calls()
    assert [f"{command} {name}" for command, name, *_ in calls] == [*added, "DEL c", "DEL b", "DEL a"]
    before = [None, None, "a", "b"]["abc".index(plugin) + 1]  # who has said a result
    assert [call[-1].get("prevResult", {}).get("by") for call in calls[-3:]] == [before] * 3
    assert world.left() == []


@pytest.mark.parametrize(
    ("script", "why", "kind"),
    [
        ("""echo '{"code": 11, "msg": "busy"}'; exit 1""", r"busy \(code 11\)", Unavailable),
        ("echo oh >&2; exit 3", r"oh \(exit status 3\)", HyperError),
        ("exit 3", r"it said nothing \(exit status 3\)", HyperError),
        ("kill -9 $$", r"it said nothing \(exit status -9\)", HyperError),
        ("exit 0", "its result", HyperError),
        ("echo '[1]'", "it is no object", HyperError),
        ("""echo '{"ips": [{"address": "x"}]}'""", "'x' is no address", HyperError),
        ("""echo '{"ips": []}'""", "there is no address of eth0", HyperError),
        ("yes", "wrote more than 1048576 bytes", HyperError),
        ("yes >&2 | head -c 9000000 >&2; exit 1", r"y \(exit status 1\)", HyperError),
    ],
)
async def test_what_a_plugin_may_say(world: World, script: str, why: str, kind: type[HyperError]) -> None:
    world.have("c", "ADD", script if "yes >&2" not in script else "yes | head -c 9000000 >&2; exit 1")
    with pytest.raises(kind, match=why) as caught:
        await world.networks.attach(Asked(id="p1"))
    assert type(caught.value) is kind and len(str(caught.value)) < 2000
    assert world.left() == []


async def test_a_plugin_that_hangs_is_killed_with_all_that_it_runs(world: World) -> None:
    pipe = world.pipe("pipe")
    world.have("b", "ADD", f"(echo here; exec sleep 1000) >{pipe} & wait")
    held = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(TimedOut, match=r"cannot connect pod p1 to CNI network net: .* did not end within 2 s"):
        await world.anew(limit_s=2).attach(Asked(id="p1"))
    with open(held, "rb") as rest:
        assert rest.read() in (b"here\n", b"")  # and nobody has its other end
    assert world.order()[-3:] == ["DEL c", "DEL b", "DEL a"] and world.left() == []


async def test_who_gives_up_leaves_nothing(world: World) -> None:
    begun = world.pipe("begun")
    world.have("b", "ADD", f"echo begun >{begun}; sleep 1000")
    attaching = asyncio.create_task(world.networks.attach(Asked(id="p1")))
    await asyncio.to_thread(begun.read_text)
    attaching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attaching
    assert world.order() == ["ADD a", "ADD b", "DEL c", "DEL b", "DEL a"] and world.left() == []


async def test_what_cannot_be_undone_is_undone_later(world: World) -> None:
    await world.networks.attach(Asked(id="p1"))
    await world.networks.attach(Asked(id="p2"))
    world.order()
    world.have("b", "DEL", "exit 1")
    with pytest.raises(HyperError, match="cannot disconnect pod p1 from CNI network net: CNI plugin b"):
        await world.networks.detach("p1")
    assert world.order() == ["DEL c", "DEL b"]  # what a made is under what b made
    [complaint] = await world.networks.sweep(lambda: ["p2"])
    assert "cannot disconnect pod p1" in complaint
    assert "p1" in world.left()
    world.allow("b", "DEL")
    assert await world.anew().sweep(lambda: ["p2"]) == []
    assert set(world.left()) == {"p2.json", "p2"}
    await world.networks.detach("p2")


async def test_a_hyperd_that_comes_back_undoes_what_was_begun(world: World) -> None:
    """A plugin kills it: what that hyperd made is undone, and made anew when it is asked for again."""
    module = "tests.unit.network.cni.test_pods"
    script = f"import asyncio, sys; from {module} import killed; asyncio.run(killed(sys.argv[1]))"
    for again in (False, True):
        world.have("b", "ADD", "kill -9 $PPID")
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", script, str(world.folder))
        assert await child.wait() == -9
        assert set(world.left()) == {"p1.json", "p1"} and world.order() == ["ADD a", "ADD b"]
        world.allow("b", "ADD")
        networks = world.anew()
        assert networks.find("p1") is None
        with pytest.raises(WrongState, match="cannot check the network of pod p1: it is not connected"):
            await networks.check("p1")
        if again:
            assert (await networks.attach(Asked(id="p1"))).addresses == ["10.9.0.7"]
            assert world.order() == ["DEL c", "DEL b", "DEL a", "ADD a", "ADD b", "ADD c"]
        else:
            assert await networks.sweep(list) == []
            assert world.order() == ["DEL c", "DEL b", "DEL a", "GC a", "GC b", "GC c"] and world.left() == []
    await networks.detach("p1")
    assert world.left() == []


async def test_plugins_of_a_hyperd_that_was_killed_are_ended_first(world: World) -> None:
    """With what they run: they would go on making what is undone."""
    pipe = world.pipe("pipe")
    held = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    world.have("b", "ADD", f"exec 3>{pipe}; sleep 1000 & kill -9 $PPID; wait")
    script = f"import asyncio, sys; from {killed.__module__} import killed; asyncio.run(killed(sys.argv[1]))"
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", script, str(world.folder))
    assert await child.wait() == -9
    assert await world.anew().sweep(list) == []
    with open(held, "rb") as rest:
        assert rest.read() == b""  # nobody has its other end
    assert world.order()[-6:] == ["DEL c", "DEL b", "DEL a", "GC a", "GC b", "GC c"] and world.left() == []


async def killed(folder: str) -> None:
    f = Path(folder)
    await PodNetworks(f / "root", f / "run", f / "conf", [f / "bin"]).attach(Asked(id="p1"))


@pytest.mark.parametrize("gone", [netns.let_go, mount.unmount])  # the second leaves its file
async def test_after_a_reboot_plugins_are_told_of_no_namespace(world: World, gone: Callable[[Path], object]) -> None:
    attached = await world.networks.attach(Asked(id="p1"))
    gone(Path(attached.netns))
    world.calls()
    assert await world.anew().sweep(list) == []
    assert [call[4] for call in world.calls() if call[0] == "DEL"] == ["", "", ""]
    assert world.left() == []


async def test_plugins_are_told_which_attachments_there_are(world: World) -> None:
    await asyncio.gather(*(world.networks.attach(Asked(id=f"p{n}")) for n in range(3)))
    world.calls()
    world.have("a", "GC", 'echo \'{"code": 5, "msg": "disk"}\'; exit 1')
    [complaint] = await world.networks.sweep(lambda: ["p0", "p2"])
    assert "cannot clean CNI network net up: CNI plugin a: disk (code 5)" in complaint
    gc = [call for call in world.calls() if call[0] == "GC"]
    assert [name for _, name, *_ in gc] == ["a", "b", "c"]  # whatever one of them says
    for call in gc:
        there = [{"containerID": "p0", "ifname": "eth0"}, {"containerID": "p2", "ifname": "eth0"}]
        assert call[-1]["cni.dev/valid-attachments"] == there and call[2:6] == ["", "", "", ""]
    world.write(disableGC=True)
    await world.networks.sweep(lambda: ["p0", "p2"])
    world.write(version="1.0.0")
    await world.networks.sweep(lambda: ["p0", "p2"])
    assert world.calls() == []
    assert await world.networks.sweep(list) == []
    assert world.left() == []


async def test_nobody_is_connected_while_plugins_clean_up(world: World) -> None:
    begun, go_on = world.pipe("begun"), world.pipe("go")
    world.have("a", "GC", f"echo begun >{begun}; cat {go_on}")
    sweeping = asyncio.create_task(world.networks.sweep(list))
    await asyncio.to_thread(begun.read_text)
    attaching = asyncio.create_task(world.networks.attach(Asked(id="p1")))
    await asyncio.wait([attaching], timeout=0.2)
    assert world.order() == ["GC a"]
    await asyncio.to_thread(go_on.write_text, "on")
    assert await sweeping == []
    await attaching
    assert world.order() == ["GC b", "GC c", "ADD a", "ADD b", "ADD c"]
    await world.networks.detach("p1")


async def test_status_is_the_plugins_word(world: World) -> None:
    await world.networks.status()
    assert world.order() == ["STATUS a", "STATUS b", "STATUS c"]
    world.have("b", "STATUS", 'echo \'{"code": 50, "msg": "no addresses"}\'; exit 1')
    with pytest.raises(Unavailable, match="cannot use CNI network net: CNI plugin b: no addresses"):
        await world.networks.status()
    world.write(version="1.0.0")
    await world.networks.status()  # nobody can be asked
    world.write({"type": "gone"})
    with pytest.raises(Unavailable, match=r"there is no CNI plugin gone in .*nosuch, .*bin"):
        await world.networks.status()
    (world.folder / "conf/10.conflist").unlink()
    with pytest.raises(NotFound, match="no such CNI network"):
        await world.networks.status()


async def test_plugins_of_before_are_told_what_those_know(world: World) -> None:
    for version, told in (("0.3.1", False), ("0.4.0", True)):
        world.write(version=version)
        await world.networks.attach(Asked(id="p1"))
        world.calls()
        await world.networks.check("p1")
        assert [call[0] for call in world.calls()] == (["CHECK"] * 3 if told else [])
        await world.networks.detach("p1")
        assert ["prevResult" in call[-1] for call in world.calls()] == [told] * 3
    world.write(disableCheck=True)
    await world.networks.attach(Asked(id="p1"))
    world.calls()
    await world.networks.check("p1")
    assert world.calls() == []
    await world.networks.detach("p1")


@pytest.mark.parametrize("id", ["", "../x", "a/b", "-a", "a" * 300])
async def test_an_id_that_is_none_is_refused(world: World, id: str) -> None:
    for refused in (world.networks.attach(Asked(id=id)), world.networks.detach(id), world.networks.check(id)):
        with pytest.raises(InvalidInput, match="invalid pod id"):
            await refused
    assert world.left() == []


async def test_what_cannot_be_written_down_is_not_made(world: World) -> None:
    (world.folder / "root/cni").write_text("in the way of the folder")
    with pytest.raises(HyperError, match=r"cannot read .*/p1\.json: Not a directory"):
        await world.networks.attach(Asked(id="p1"))
    assert world.calls() == []
