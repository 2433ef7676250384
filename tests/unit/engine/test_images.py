"""Images that the settings pin, mirrors that they name, and what several ask of one image at once."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from hypercontainer.engine.local import LocalEngine
from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.cri import cri_pb2 as pb
from hypercontainer.hyperd.cri.image import Images
from hypercontainer.model.settings import Registry
from hypercontainer.testing import layers as made
from hypercontainer.testing.busybox import write_archive
from tests.unit.engine.world import World, load
from tests.unit.images.registries import FakeRegistry, serving


async def pinning(world: World, tmp_path: Path, *names: str) -> LocalEngine:
    """An engine with those pinned, and two images: kept:1, which has other:1 as a name too, and gone:1."""
    world.settings = msgspec.structs.replace(world.settings, pinned_images=list(names))
    engine = await world.engine()
    for name in ("kept:1", "gone:1"):
        archive = tmp_path / f"{name}.tar"
        write_archive(archive, [name], config={"Labels": {"name": name}})
        await load(engine, archive)
    await engine.images.tag("kept:1", "other:1")
    return engine


async def names(engine: LocalEngine) -> set[str]:
    return {name for entry in await engine.images.list({}) for name in entry.repo_tags}


@pytest.mark.parametrize("how", [{"all": True, "wanted": {}}, {"all": False, "wanted": {"dangling": ["false"]}}])
async def test_a_prune_passes_over_what_is_pinned(world: World, tmp_path: Path, how: dict[str, object]) -> None:
    engine = await pinning(world, tmp_path, "docker.io/library/kept:1")
    assert (await engine.images.inspect("other:1")).pinned and not (await engine.images.inspect("gone:1")).pinned
    gone = (await engine.images.inspect("gone:1")).id
    assert (await engine.images.prune(**how)).deleted == [gone]  # type: ignore[arg-type]
    assert await names(engine) == {"kept:1", "other:1"}


async def test_one_that_is_pinned_by_name_is_pruned_without_it(world: World, tmp_path: Path) -> None:
    engine = await pinning(world, tmp_path, "kept:1")
    await engine.images.remove("kept:1", force=False)
    assert len((await engine.images.prune(all=True, wanted={})).deleted) == 2


async def test_a_kubelet_is_told_what_is_pinned_and_may_remove_it_all_the_same(world: World, tmp_path: Path) -> None:
    engine = await pinning(world, tmp_path, "kept:1")
    images = Images(engine)
    listed = (await images.list(pb.ListImagesRequest())).images
    assert {name: each.pinned for each in listed for name in each.repo_tags} == {
        "docker.io/library/kept:1": True,
        "docker.io/library/other:1": True,
        "docker.io/library/gone:1": False,
    }
    asked = pb.ImageSpec(image="docker.io/library/kept:1")
    assert (await images.status(pb.ImageStatusRequest(image=asked))).image.pinned
    await images.remove(pb.RemoveImageRequest(image=asked))
    assert await names(engine) == {"gone:1"}


async def test_several_remove_one_image_at_once(world: World, tmp_path: Path) -> None:
    engine = await pinning(world, tmp_path)
    images, asked = Images(engine), pb.RemoveImageRequest(image=pb.ImageSpec(image="docker.io/library/kept:1"))
    await asyncio.gather(*(images.remove(asked) for _ in range(4)))
    assert await names(engine) == {"gone:1"}


async def test_what_is_no_name_cannot_be_pinned(world: World) -> None:
    world.settings = msgspec.structs.replace(world.settings, pinned_images=["-x"])
    with pytest.raises(InvalidInput, match="see `pinned_images` in config"):
        await world.engine()


def mirroring(world: World, tmp_path: Path, text: str) -> None:
    """Write a hosts.toml for all registries, and have the settings say so."""
    place = tmp_path / "certs.d/_default/hosts.toml"
    place.parent.mkdir(parents=True)
    place.write_text(text)
    own = {"own.example": Registry(mirrors=["http://mirror.example:5000"], insecure=True)}
    world.settings = msgspec.structs.replace(world.settings, registry_config_path=str(place.parents[1]), registries=own)


async def test_a_pull_goes_by_hosts_toml(world: World, tmp_path: Path) -> None:
    async with serving(FakeRegistry()) as mirror:
        mirror.push("a", "1", [made.layer([made.member("f", b"of the mirror")])])
        mirroring(world, tmp_path, f'server = "http://127.0.0.1:1"\n[host."http://{mirror.host}"]')
        engine = await world.engine()
        async for _ in await engine.images.pull("registry.invalid/a:1", all_tags=False, platform="", credentials=None):
            pass
        assert await names(engine) == {"registry.invalid/a:1"}
        assert mirror.paths("/manifests/1")


async def test_mirrors_are_told(world: World, tmp_path: Path) -> None:
    mirroring(world, tmp_path, '[host."https://a.example"]\n[host."https://b.example/x/v2"]\noverride_path = true')
    engine = await world.engine()
    hub, own = (await engine.system.info()).registries
    assert (hub.name, hub.mirrors, hub.insecure) == ("docker.io", ["https://a.example/", "https://b.example/x/"], False)
    assert (own.name, own.mirrors, own.insecure) == ("own.example", ["http://mirror.example:5000/"], True)


async def test_a_hosts_toml_that_makes_no_sense_is_a_warning(world: World, tmp_path: Path) -> None:
    mirroring(world, tmp_path, "server = 7")
    info = await (await world.engine()).system.info()
    assert [each.name for each in info.registries] == ["own.example"]
    [warning] = [each for each in info.warnings if "hosts.toml" in each]
    assert warning.startswith("nothing is pulled of docker.io: cannot read ")
