"""What was asked for and what the image says, put together; times and events as people read them."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from signal import SIGTERM

import pytest

from hypercontainer.engine import describe, resolve
from hypercontainer.engine.events import Events
from hypercontainer.engine.local import LocalEngine
from hypercontainer.errors import InvalidInput
from hypercontainer.lib import clock
from hypercontainer.model.documents import AddressConfig, NamedEndpoint, ProcessConfig
from hypercontainer.model.record import NicRecord, PortRecord
from hypercontainer.model.spec import ContainerSpec, EndpointSpec, Mount, PodSpec, PortMapping
from tests.unit.engine.world import ADMIN, ROOTFS, Run

IMAGE = ProcessConfig(entrypoint=["/entry"], cmd=["a", "b"], env=["PATH=/p", "X=1"], volumes={"/data": {}})


def args(**spec: object) -> list[str]:
    return resolve.container(ContainerSpec(image="i", **spec), "sha256:0", IMAGE, ROOTFS, name="c").config.process.args  # type: ignore[arg-type]


def test_what_the_image_says_and_nobody_does_is_told() -> None:
    odd = ProcessConfig(env=["A=1", "odd"], cmd=["x"], stop_signal="SIGWHAT")
    made = resolve.container(ContainerSpec(image="i"), "sha256:0", odd, ROOTFS, name="c")
    assert "odd" not in made.config.process.env
    assert made.stop_signal == SIGTERM
    said = resolve.warnings(ContainerSpec(image="i"), odd)
    assert [word for word in ("'odd'", "'SIGWHAT'") if any(word in each for each in said)] == ["'odd'", "'SIGWHAT'"]


def test_entrypoint_and_command_are_joined_as_docker_joins_them() -> None:
    assert args() == ["/entry", "a", "b"]
    assert args(command=["x"]) == ["/entry", "x"]
    assert args(entrypoint=["/other"]) == ["/other"]  # the image's command is void then
    assert args(entrypoint=["/other"], command=["x"]) == ["/other", "x"]
    assert args(entrypoint=[], command=["x"]) == ["x"]
    with pytest.raises(InvalidInput, match="no command"):
        args(entrypoint=[])


def test_the_callers_environment_wins_and_keeps_the_images_order() -> None:
    made = resolve.container(ContainerSpec(image="i", env=["X=2", "Y=3"]), "sha256:0", IMAGE, ROOTFS, name="c")
    assert made.config.process.env == ["PATH=/p", "X=2", "Y=3"]


def test_an_images_volume_is_anonymous_unless_something_is_mounted_there() -> None:
    made = resolve.container(ContainerSpec(image="i"), "sha256:0", IMAGE, ROOTFS, name="c")
    assert [(m.target, m.anonymous) for m in made.mounts] == [("/data", True)]
    mine = Mount(type="volume", source="mine", target="/data")
    made = resolve.container(ContainerSpec(image="i", mounts=[mine]), "sha256:0", IMAGE, ROOTFS, name="c")
    assert [(m.source, m.anonymous) for m in made.mounts] == [("mine", False)]


@pytest.mark.parametrize(
    "wrong",
    [
        PodSpec(vcpus=-1),
        PodSpec(memory_mib=1),
        PodSpec(hostname="-x"),
        PodSpec(tenant="../x"),
        PodSpec(tenant="x" * 64),
        PodSpec(ports=[PortMapping(container_port=0)]),
        PodSpec(extra_hosts={"a b": "1.2.3.4"}),
        PodSpec(extra_hosts={"a": "nowhere"}),
    ],
)
def test_absurd_pods_are_refused(wrong: PodSpec) -> None:
    with pytest.raises(InvalidInput):
        resolve.pod(wrong, name="p", implicit=False)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (125, "2 minutes"),
        (3600, "About an hour"),
        (7200, "2 hours"),
        (86400 * 3, "3 days"),
        (86400 * 20, "2 weeks"),
        (86400 * 90, "3 months"),
        (86400 * 800, "2 years"),
    ],
)
def test_times_are_told_as_docker_tells_them(seconds: int, words: str) -> None:
    assert describe.ago(0, seconds * 1_000_000_000) == words


async def test_events_are_kept_and_told(tmp_path: Path) -> None:
    events = Events(tmp_path / "events.db")
    events.emit("container", "start", "1", {})
    following = events.follow(0, None, {})
    assert (await anext(following)).action == "start"
    later = asyncio.create_task(anext(following))
    await asyncio.sleep(0)
    events.emit("container", "die", "1", {})
    assert (await later).action == "die"
    await following.aclose()
    events.close()
    again = Events(tmp_path / "events.db")
    past = again.follow(0, None, {})
    assert [(await anext(past)).action for _ in range(2)] == ["start", "die"]
    await past.aclose()
    again.close()


async def test_what_was_taken_from_the_image_is_told(create: Run, engine: LocalEngine) -> None:
    id = await create("true", env=["GONE", "A=b", "BLANK="])
    assert (await engine.containers.inspect(id)).config.env[-3:] == ["A=b", "BLANK=", "GONE"]


async def test_a_place_in_a_network_is_told_before_it_is_taken(engine: LocalEngine) -> None:
    there = EndpointSpec(address="192.168.123.9", mac="02:42:ac:11:00:02", options={"a": "b"})
    container = ContainerSpec(image="busybox", command=["true"], name="web")
    await engine.containers.create(PodSpec(containers=[container], networks=[there]), by=ADMIN)
    [place] = (await engine.containers.inspect("web")).network_settings.networks.values()
    assert place.ipam_config == AddressConfig(ipv4_address="192.168.123.9")
    assert (place.mac_address, place.driver_opts, place.ip_address) == (there.mac, {"a": "b"}, "")


async def test_what_docker_names_is_in_the_documents(engine: LocalEngine, create: Run) -> None:
    mounts = [
        Mount(type="volume", source="v", target="/v"),
        Mount(type="bind", source="/etc", target="/e", read_only=True),
    ]
    await engine.volumes.create("v", {}, by=ADMIN)
    container = ContainerSpec(image="busybox", command=["true"], name="web", mounts=mounts)
    ports = [PortMapping(container_port=80)]
    await engine.containers.create(PodSpec(containers=[container], vcpus=2, ports=ports), by=ADMIN)
    found = await engine.containers.inspect("web", size=True)
    assert (found.driver, found.host_config.log_config.type, found.host_config.nano_cpus) == (
        "overlay", "json-file", 2_000_000_000,
    )  # fmt: skip
    assert [(m.type, m.driver, m.propagation, m.mode) for m in found.mounts] == [
        ("volume", "local", "", ""), ("bind", "", "rprivate", "ro"),
    ]  # fmt: skip
    assert (found.config.exposed_ports, found.config.volumes) == ({"80/tcp": {}}, {})
    assert found.network_settings.networks == {"bridge": NamedEndpoint()}
    assert found.size_rw == 0 and found.size_root_fs == engine.host.images.get("busybox").size
    [entry] = await engine.containers.list(all=True, filters={}, size=True)
    assert (list(entry.networks), entry.size_rw, entry.size_root_fs) == (["bridge"], 0, found.size_root_fs)
    assert (await engine.containers.inspect("web")).size_rw is None


async def test_a_size_that_nobody_gave_is_no_limit(engine: LocalEngine, create: Run) -> None:
    id = await create("cat", open_stdin=True)
    await engine.containers.start(id)
    found = await engine.containers.inspect(id)
    assert (found.host_config.nano_cpus, found.host_config.memory, found.host_config.pids_limit) == (0, 0, 0)
    assert found.vm and found.vm.vcpus == 1  # emulated
    [entry] = await engine.pods.list(all=True, filters={})
    assert (entry.vcpus, (await engine.containers.stats(id)).cpu_stats.online_cpus) == (1, 1)


async def test_networks_are_those_of_the_pod_that_runs(engine: LocalEngine, create: Run) -> None:
    id = await create("cat", open_stdin=True)
    await engine.containers.start(id)
    settings = (await engine.containers.inspect(id, size=True)).network_settings
    assert settings.networks["bridge"].ip_address == settings.ip_address == "10.0.0.2"
    [interface] = settings.interfaces
    assert (interface.name, interface.network, interface.addresses) == ("eth0", "bridge", ["10.0.0.2/24"])
    assert interface.mac_address == settings.mac_address
    [entry] = await engine.containers.list(all=True, filters={}, size=True)
    assert entry.size_rw is not None and entry.size_rw > 0
    await engine.containers.remove(id, force=True, volumes=False)


def test_all_interfaces_are_told_of_but_those_that_come_or_go() -> None:
    pod = resolve.pod(PodSpec(), name="p", implicit=True)
    pod.nics = [
        NicRecord(tap="t", mac="02:00:00:00:00:01", addresses=["10.0.0.2/24"], name="data0", netns="/run/netns/x"),
        NicRecord(tap="u", mac="02:00:00:00:00:02", addresses=["10.0.1.2/24", "fd00::2/64"], name="eth0", network="db"),
        NicRecord(tap="v", mac="02:00:00:00:00:03", addresses=[], name="eth1", network="db", provisional=True),
    ]
    settings = describe.network(pod)
    assert [(i.name, i.network, i.netns, i.mtu, len(i.addresses)) for i in settings.interfaces] == [
        ("data0", "", "/run/netns/x", 1500, 1), ("eth0", "db", "", 1500, 2),
    ]  # fmt: skip
    assert settings.ip_address == "10.0.0.2"


def test_what_the_image_exposes_is_kept_in_the_record() -> None:
    image = ProcessConfig(cmd=["a"], exposed_ports={"53/udp": {}, "80": {}}, volumes={"/data": {}})
    made = resolve.container(ContainerSpec(image="i"), "sha256:0", image, ROOTFS, name="c")
    assert (made.exposed_ports, made.volumes) == (["53/udp", "80/tcp"], ["/data"])
    pod = resolve.pod(PodSpec(ports=[PortMapping(container_port=8080)]), name="p", implicit=True)
    pod.nics = [NicRecord(tap="t", mac="", addresses=["10.0.0.2/24"])]
    pod.nics[0].ports = [PortRecord(host_ip="", host_port=1, container_port=8080, protocol="tcp")]
    ports = describe.network(pod, made).ports
    assert {key: bool(hosts) for key, hosts in ports.items()} == {"53/udp": False, "80/tcp": False, "8080/tcp": True}


async def test_a_signal_is_told_before_what_it_leads_to(engine: LocalEngine, create: Run) -> None:
    async def told(since_ns: int) -> list[tuple[str, str, str, str]]:
        events = await engine.system.events(
            since_ns, clock.now_ns(), {"container": ["web"], "event": ["kill", "die", "stop"]}
        )
        return [(e.status, e.origin, e.actor.attributes.get("signal", ""), e.scope) async for e in events]

    ends: list[tuple[Callable[[], Awaitable[None]], str]] = [
        (lambda: engine.containers.stop("web", 0), "15"),
        (lambda: engine.containers.remove("web", force=True, volumes=False), "9"),
    ]
    for end, signal in ends:
        since = clock.now_ns()
        if signal == "15":
            await create("cat", name="web", open_stdin=True)
        await engine.containers.start("web")
        await end()
        names = [name for name, *_ in await told(since)]
        assert names.index("kill") < names.index("die")
        assert ("kill", "busybox", signal, "local") in await told(since)
