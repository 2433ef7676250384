"""save and import."""

import io
import json
import lzma
import tarfile

import pytest

from hypercontainer.errors import InvalidInput, NotFound, OtherPlatform
from hypercontainer.images import platform
from hypercontainer.images.archive import import_image, load
from hypercontainer.images.save import save
from hypercontainer.images.store import ImageStore
from hypercontainer.images.unpack import BadLayer
from hypercontainer.testing import layers as made
from tests.unit.images.looking import chunks, leftovers

BASE = made.layer([made.folder("etc"), made.member("etc/motd", b"hello\n")])
TOP = made.layer([made.member("data", b"x" * 10_000)])


async def saved(store: ImageStore, names: list[str], form: str) -> bytes:
    return b"".join([piece async for piece in save(store, names, form)])  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["docker", "oci"])
async def test_there_and_back(store: ImageStore, form: str) -> None:
    await load(store, chunks(made.archive(made.oci_files([BASE, TOP], "docker.io/library/a:1"))))
    await load(store, chunks(made.docker_archive([BASE], ["a:2", "b/c:3"])))
    archive = await saved(store, ["a", "b/c:3"], form)
    other = ImageStore(store.root.with_name("other"))
    images = {name: image for image in await load(other, chunks(archive)) for name in image.names}
    assert sorted(images) == ["a:1", "a:2", "b/c:3"]
    for name, image in images.items():
        assert image.id == store.get(name).id
        assert form == "docker" or image.record.manifest == store.get(name).record.manifest
    assert leftovers(store) == leftovers(other) == []


async def both(store: ImageStore) -> None:
    """a:1 for two platforms, a:2 for one."""
    here = platform.host().architecture
    for name, architecture, layer in (("a:1", here, BASE), ("a:1", "s390x", TOP), ("a:2", here, TOP)):
        await load(store, chunks(made.docker_archive([layer], [name], architecture=architecture)))


@pytest.mark.parametrize("form", ["docker", "oci"])
async def test_all_platforms_there_and_back(store: ImageStore, form: str) -> None:
    await both(store)
    archive = await saved(store, ["a:1"], form)
    other = ImageStore(store.root.with_name("other"))
    loaded = await load(other, chunks(archive))
    assert [image.names for image in loaded] == [["a:1"]] * 2
    assert {image.id for image in loaded} == {image.id for image in store.named("a:1")}
    if form == "docker":  # others' loads have a name be the last one's
        assert loaded[-1].id == store.get("a:1").id
    again = ImageStore(store.root.with_name("again"))
    [image] = await load(again, chunks(archive), wanted=["linux/s390x"])
    assert image.id == store.get("a:1", "linux/s390x").id and len(again.list()) == 1
    with pytest.raises(NotFound, match=r"no such image for linux/arm/v5: in the archive \(there is linux/"):
        await load(again, chunks(archive), wanted=["linux/arm/v5"])
    assert leftovers(again) == leftovers(other) == []


@pytest.mark.parametrize("form", ["docker", "oci"])
async def test_platforms_are_chosen(store: ImageStore, form: str) -> None:
    await both(store)
    here = str(platform.host())
    other = ImageStore(store.root.with_name("other"))
    loaded = await load(other, chunks(b"".join([x async for x in save(store, ["a"], form, [here])])))  # type: ignore[arg-type]
    assert sorted(image.names for image in loaded) == [["a:1"], ["a:2"]]
    assert {image.record.architecture for image in loaded} == {platform.host().architecture}
    with pytest.raises(OtherPlatform, match=r"a:2 \(not for linux/s390x: what is here is for linux/"):
        save(store, ["a"], form, ["linux/s390x"])  # type: ignore[arg-type]


async def test_dockers_layout(store: ImageStore) -> None:
    [image] = await load(store, chunks(made.archive(made.oci_files([BASE, TOP]))))
    with tarfile.open(fileobj=io.BytesIO(await saved(store, [image.id], "docker"))) as tar:
        names = tar.getnames()
        [item] = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
        assert tar.extractfile(item["Layers"][1]).read() == TOP  # type: ignore[union-attr]
    assert item["RepoTags"] is None  # it was asked for by id
    assert sorted(names) == sorted([item["Config"], *item["Layers"], "manifest.json"])


async def test_layers_are_written_once(store: ImageStore) -> None:
    await load(store, chunks(made.docker_archive([BASE, TOP], ["a"])))
    await load(store, chunks(made.docker_archive([BASE], ["b"])))
    for form in ("docker", "oci"):
        with tarfile.open(fileobj=io.BytesIO(await saved(store, ["a", "b", "a:latest"], form))) as tar:
            names = tar.getnames()
        assert len(names) == len(set(names))


async def test_unknown_images_are_told_at_once(store: ImageStore) -> None:
    for names, error in ((["x"], NotFound), (["../x"], InvalidInput), ([], InvalidInput)):
        with pytest.raises(error):
            save(store, names)


async def test_a_reader_that_goes_away(store: ImageStore) -> None:
    await load(store, chunks(made.docker_archive([BASE, TOP], ["a"])))
    pieces = save(store, ["a"])
    await anext(pieces)
    await pieces.aclose()
    assert leftovers(store) == []


async def test_import(store: ImageStore) -> None:
    starts = {"Cmd": ["/bin/sh", "-l"], "ExposedPorts": {"80/tcp": {}}}
    image = await import_image(store, chunks(lzma.compress(BASE)), name="mine:1", config=starts, message="hello")
    assert image.names == ["mine:1"]
    assert image.record.diff_ids == [made.digest(BASE)]
    config = store.config(image)
    assert (config.cmd, config.exposed_ports) == (["/bin/sh", "-l"], {"80/tcp": {}})
    assert store.inspect(image).comment == "hello"
    assert store.history(image)[0].comment == "hello"
    assert leftovers(store) == []


async def test_an_import_for_another_platform(store: ImageStore) -> None:
    found = store.inspect(await import_image(store, chunks(BASE), platform="linux/arm/v7"))
    assert (found.os, found.architecture, found.variant) == ("linux", "arm", "v7")
    with pytest.raises(InvalidInput, match="invalid platform"):
        await import_image(store, chunks(BASE), platform="a/b/c/d")


async def test_import_of_what_is_no_tar(store: ImageStore) -> None:
    with pytest.raises(BadLayer, match="damaged tar"):
        await import_image(store, chunks(b"no tar at all" * 1000), name="mine")
    with pytest.raises(InvalidInput, match="invalid image name"):
        await import_image(store, chunks(BASE), name="/mine")
    assert leftovers(store) == []
