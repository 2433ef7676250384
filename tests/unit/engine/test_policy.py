"""What a caller may have made: the policy is asked before anything is."""

from pathlib import Path

import msgspec
import pytest

from hypercontainer.engine.local import LocalEngine
from hypercontainer.engine.policy import admit
from hypercontainer.errors import Denied
from hypercontainer.model.principal import Principal, Role
from hypercontainer.model.spec import ContainerSpec, Mount, PodSpec
from tests.unit.engine.world import ADMIN, World

USER = Principal(Role.USER, uid=1000, gid=100, pid=7)
BIND = Mount(type="bind", source="/etc", target="/e")
VOLUME = Mount(type="volume", source="data", target="/d")


def pod(*mounts: Mount) -> PodSpec:
    return PodSpec(name="p", containers=[ContainerSpec(image="busybox", command=["sleep"], mounts=list(mounts))])


def test_admins_may_have_anything() -> None:
    assert admit(ADMIN, pod(BIND)) == pod(BIND)


async def test_users_have_no_folder_of_the_host(engine: LocalEngine) -> None:
    with pytest.raises(Denied, match="cannot mount /etc"):
        await engine.containers.create(pod(VOLUME, BIND), by=USER)
    with pytest.raises(Denied, match="/etc"):
        await engine.pods.create(pod(BIND), by=USER)
    made = await engine.pods.create(pod(VOLUME), by=USER)
    with pytest.raises(Denied, match="/etc"):
        await engine.pods.add(made.id, pod(BIND).containers[0], by=USER)
    await engine.containers.create(msgspec.structs.replace(pod(BIND), name="theirs"), by=ADMIN)
    borrows = ContainerSpec(image="busybox", command=["sleep"], volumes_from=["theirs"])
    with pytest.raises(Denied, match="what theirs does"):
        await engine.containers.create(PodSpec(name="mine", containers=[borrows]), by=USER)
    await engine.containers.remove("theirs", force=True, volumes=True)
    assert len(await engine.containers.list(all=True, filters={})) == 1
    assert [volume.name for volume in await engine.volumes.list({})] == ["data"]
    await engine.pods.remove(made.id, force=True, volumes=True)


async def test_users_have_none_by_another_name(engine: LocalEngine, tmp_path: Path) -> None:
    options = {"type": "none", "o": "bind", "device": str(tmp_path)}
    with pytest.raises(Denied, match="leave them out"):
        await engine.volumes.create("etc", {}, by=USER, options=options)
    assert await engine.volumes.list({}) == []
    made = await engine.volumes.create("shared", {}, by=ADMIN, options=options)
    assert made.options == options
    created = await engine.containers.create(pod(Mount(type="volume", source="shared", target="/d")), by=USER)
    [mount] = engine.supervisor.find(created.id)[1].record.mounts
    assert mount.path == str(tmp_path)


async def test_another_policy_may_change_what_is_made(world: World, engine: LocalEngine) -> None:
    """Of a container that joins a pod it sees that pod, with this one."""
    seen = []

    def small(principal: Principal, spec: PodSpec) -> PodSpec:
        seen.append((principal, spec.name, len(spec.containers)))
        members = [msgspec.structs.replace(member, pids=7) for member in spec.containers]
        return msgspec.structs.replace(spec, containers=members)

    await engine.close()
    world.engines.remove(engine)
    engine = await world.engine(admission=small)
    first = await engine.pods.create(pod(), by=USER)
    added = await engine.pods.add(first.id, ContainerSpec(image="busybox", name="more"), by=ADMIN)
    assert seen == [(USER, "p", 1), (ADMIN, "p", 1)]
    for c in ("p-0", added.id):
        assert (await engine.containers.inspect(c)).host_config.pids_limit == 7
    await engine.pods.remove(first.id, force=True, volumes=True)
