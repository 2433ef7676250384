"""Images that the settings pin, and what several ask of one image at once."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from hypercontainer.engine.local import LocalEngine
from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.cri import cri_pb2 as pb
from hypercontainer.hyperd.cri.image import Images
from hypercontainer.testing.busybox import write_archive
from tests.unit.engine.world import World, load


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
