"""What a container takes of its image, of other containers, and of its guest."""

from pathlib import Path
from typing import Any

import pytest

from hypercontainer.engine.local import LocalEngine
from hypercontainer.errors import InvalidInput, NotFound
from hypercontainer.model import defaults
from hypercontainer.model.spec import (
    ContainerSpec,
    ContainerUpdate,
    Device,
    Mount,
    NetworkSpec,
    PodSpec,
    PortMapping,
)
from hypercontainer.testing.busybox import write_archive
from tests.unit.engine.world import ADMIN, Run, World, load


async def mounted(engine: LocalEngine, id: str) -> list[tuple[str, str, bool]]:
    return [(m.destination, m.name or m.source, m.rw) for m in (await engine.containers.inspect(id)).mounts]


async def test_volumes_and_binds_of_others(engine: LocalEngine, create: Run, tmp_path: Path) -> None:
    await create(
        "sleep",
        name="web",
        mounts=[
            Mount(type="volume", source="data", target="/data"),
            Mount(type="bind", source=str(tmp_path), target="/b", read_only=True),
            Mount(type="volume", source="theirs", target="/own"),
            Mount(type="tmpfs", target="/t"),
        ],
    )
    await create("sleep", name="later", mounts=[Mount(type="volume", source="late", target="/data")])
    own = Mount(type="volume", source="mine", target="/own")
    id = await create("sleep", mounts=[own], volumes_from=["web"])
    assert await mounted(engine, id) == [("/own", "mine", True), ("/data", "data", True), ("/b", str(tmp_path), False)]
    told = (await engine.containers.inspect(id)).host_config
    assert (told.volumes_from, told.binds) == (["web"], ["mine:/own"])
    both = await create("sleep", volumes_from=["web:ro", "later:z"])
    assert await mounted(engine, both) == [
        ("/data", "late", True),
        ("/b", str(tmp_path), False),
        ("/own", "theirs", False),
    ]
    with pytest.raises(NotFound):
        await create("sleep", volumes_from=["nobody"])
    with pytest.raises(InvalidInput, match="invalid mode 'rx'"):
        await create("sleep", volumes_from=["web:rx"])


async def test_a_volume_stays_while_somebody_has_it_of_another(engine: LocalEngine, create: Run) -> None:
    first = await create("sleep", mounts=[Mount(type="volume", target="/data")])
    second = await create("sleep", volumes_from=[first])
    [(_, name, _)] = await mounted(engine, second)
    await engine.containers.remove(first, force=False, volumes=True)
    assert (await engine.volumes.inspect(name)).name == name


async def test_names_that_programs_make_of_digests(engine: LocalEngine, create: Run) -> None:
    """Longer than a hostname may be; a pod's is one."""
    name = "job-" + "0123456789abcdef" * 8
    network = await engine.networks.create(NetworkSpec(name=f"{name}-network"), by=ADMIN)
    volume = Mount(type="volume", source=f"{name}-env", target="/env")
    id = await create("sleep", name=name, mounts=[volume], network=f"{name}-network")
    told = await engine.containers.inspect(name)
    assert (told.id, told.name, [*told.network_settings.networks]) == (id, f"/{name}", [f"{name}-network"])
    await engine.containers.rename(id, "x" * 255)
    for long in (engine.containers.rename(id, "x" * 256), engine.pods.create(PodSpec(name="x" * 64), by=ADMIN)):
        with pytest.raises(InvalidInput, match=r"use 1 to \d+ of"):
            await long
    await engine.containers.remove(id, force=False, volumes=True)
    await engine.networks.remove(network.id)


async def published(engine: LocalEngine, **spec: object) -> list[PortMapping]:
    container = ContainerSpec(image="web", command=["sleep"], expose=["53/udp", "80"])
    made = await engine.containers.create(PodSpec(containers=[container], **spec), by=ADMIN)  # type: ignore[arg-type]
    return engine.supervisor.find(made.id)[0].record.spec.ports


async def test_all_that_is_exposed_is_published(engine: LocalEngine, tmp_path: Path) -> None:
    write_archive(tmp_path / "web.tar", ["web"], config={"ExposedPorts": {"80/tcp": {}, "443": {}}})
    await load(engine, tmp_path / "web.tar")
    assert await published(engine) == []
    fixed = PortMapping(container_port=80, host_port=8080)
    assert await published(engine, publish_exposed=True, ports=[fixed]) == [
        fixed, PortMapping(container_port=443), PortMapping(container_port=53, protocol="udp"),
    ]  # fmt: skip


async def test_what_an_image_exposes_that_cannot_be_published(engine: LocalEngine, tmp_path: Path) -> None:
    write_archive(tmp_path / "web.tar", ["web"], config={"ExposedPorts": {"80/sctp": {}}})
    await load(engine, tmp_path / "web.tar")
    with pytest.raises(InvalidInput, match="80/sctp"):
        await published(engine, publish_exposed=True)


async def test_groups_and_weights_reach_the_guest(world: World, engine: LocalEngine, create: Run) -> None:
    id = await create("sleep", "1", groups=[44, "adm", 7], oom_score_adj=-5, cpu_shares=512)
    await engine.containers.start(id)
    agent = world.hypervisor.alive[0].agent
    [start] = [args for op, args in agent.requests if op == "process.start" and args.get("first")]
    assert (start["groups"], start["group_names"], start["oom_score_adj"]) == ([44, 7], ["adm"], -5)
    assert agent.containers[id].cgroup.cpu_shares == 512
    await engine.containers.update(id, ContainerUpdate(cpu_shares=2))
    assert agent.containers[id].cgroup.cpu_shares == 2
    assert world.hypervisor.alive[0].limits.cpu_shares == 2
    await engine.containers.update(id, ContainerUpdate(cpu_shares=0))
    assert agent.containers[id].cgroup.cpu_shares == 0
    told = (await engine.containers.inspect(id)).host_config
    assert (told.group_add, told.oom_score_adj, told.cpu_shares) == (["44", "adm", "7"], -5, 0)


async def test_devices_that_every_guest_has(engine: LocalEngine, create: Run) -> None:
    asked = [Device(path="/dev/fuse"), Device(path="/dev/null"), Device(path="/dev/zero", target="/z")]
    record = engine.supervisor.find(await create("sleep", devices=asked))[1].record
    assert [(d.path, d.type, d.major, d.minor) for d in record.config.devices] == [
        ("/dev/fuse", "c", 10, 229), ("/z", "c", 1, 5),
    ]  # fmt: skip


async def test_a_domain_stands_behind_the_name_of_the_host(world: World, engine: LocalEngine, create: Run) -> None:
    made = ContainerSpec(image="busybox", command=["sleep"])
    for n, (hostname, domain) in enumerate([("h", "example.com"), ("", "example.com")]):
        spec = PodSpec(name=f"p{n}", hostname=hostname, domainname=domain, containers=[made])
        id = (await engine.containers.create(spec, by=ADMIN)).id
        await engine.containers.start(id)
        setup = world.hypervisor.alive[-1].agent.pod
        name = hostname or id[:12]
        assert setup and setup.hosts and setup.hostname == name
        assert [row[1:] for row in setup.hosts if name in row] == [[f"{name}.example.com", name]]
        assert setup.sysctls["kernel.domainname"] == "example.com"
        told = (await engine.containers.inspect(id)).config
        assert (told.hostname, told.domainname) == (hostname or id[:12], "example.com")
        await engine.containers.remove(id, force=True, volumes=False)
    for domain in ("-x", "a" * 70):
        with pytest.raises(InvalidInput, match="invalid"):
            await engine.containers.create(PodSpec(domainname=domain, containers=[made]), by=ADMIN)


@pytest.mark.parametrize(
    ("asked", "masked", "read_only"),
    [
        ({}, defaults.MASKED_PATHS, defaults.READONLY_PATHS),
        ({"privileged": True}, [], []),
        ({"masked_paths": []}, [], defaults.READONLY_PATHS),
        ({"masked_paths": ["/proc//a/"], "readonly_paths": ["/x/../proc"]}, ["/proc/a"], ["/proc"]),
    ],
)
async def test_what_is_hidden_in_it(
    world: World, engine: LocalEngine, create: Run, asked: dict[str, Any], masked: list[str], read_only: list[str]
) -> None:
    id = await create("sleep", "1", tty=True, rows=24, columns=80, **asked)
    await engine.containers.start(id)
    agent = world.hypervisor.alive[0].agent
    assert (agent.containers[id].masked_paths, agent.containers[id].readonly_paths) == (masked, read_only)
    [start] = [args for op, args in agent.requests if op == "process.start" and args.get("first")]
    assert (start["rows"], start["columns"]) == (24, 80)


@pytest.mark.parametrize(
    "wrong",
    [
        {"masked_paths": ["proc"]},
        {"readonly_paths": ["/"]},
        {"masked_paths": ["/proc/x"] * 129},
        {"rows": 65536},
        {"devices": [Device(path="/dev/sda")]},
        {"devices": [Device(path="/dev/fuse", target="fuse")]},
        {"devices": [Device(path="/dev/fuse")] * 33},
        {"groups": [-1]},
        {"groups": ["a:b"]},
        {"groups": [""]},
        {"oom_score_adj": 1001},
        {"cpu_shares": 1 << 20},
        {"log_max_bytes": 1},
        {"log_files": 1},
        {"log": "none", "log_files": 2},
    ],
)
async def test_absurd_ones_are_refused(create: Run, wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        await create("sleep", **wrong)


@pytest.mark.parametrize(("files", "kept"), [(1, 2), (3, 3)])
async def test_a_log_is_no_larger_than_it_may_be(engine: LocalEngine, create: Run, files: int, kept: int) -> None:
    id = await create("spew", "200000", log_max_bytes=16384, log_files=files)
    session = await engine.containers.attach(id, stdin=False, stdout=True, stderr=True, logs=False, start=True)
    async for _ in session:
        pass
    await session.wait()
    log = engine.supervisor.find(id)[1].output.log
    assert log
    sizes = [path.stat().st_size for path in log.paths()]
    assert len(sizes) <= kept
    told = (await engine.containers.inspect(id)).host_config.log_config
    assert told.config == {"max-size": "16384", "max-file": str(files)}
