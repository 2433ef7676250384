"""Archives of images into the store."""

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from hypercontainer.errors import HyperError, InvalidInput, NotFound
from hypercontainer.images.archive import load
from hypercontainer.images.store import ImageStore
from hypercontainer.images.unpack import BadLayer
from hypercontainer.model.documents import HealthConfig, Progress
from hypercontainer.testing import layers as made
from tests.unit.images.looking import check_erofs, chunks, leftovers

BASE = made.layer([made.folder("etc"), made.member("etc/motd", b"hello\n"), made.folder("var")])
TOP = made.layer([made.member("var/data", b"x" * 10_000), made.member("etc/.wh.motd")])


async def test_a_docker_archive(store: ImageStore) -> None:
    seen: list[Progress] = []
    [image] = await load(
        store, chunks(made.docker_archive([BASE, TOP], ["test:1", "localhost:5000/a/b:2"])), seen.append
    )
    assert image.names == ["localhost:5000/a/b:2", "test:1"]
    assert store.get("test:1") == store.get("localhost:5000/a/b:2") == store.get(image.id[7:20]) == image
    check_erofs(store.rootfs(image))
    assert store.config(image).cmd == ["/bin/sh"]
    assert store.config(image).env == ["PATH=/bin"]
    assert image.size == 10_006
    assert image.record.sizes == [6, 10_000]
    assert {p.action for p in seen} >= {"Read", "Unpacking"}
    assert leftovers(store) == []


async def test_an_oci_layout(store: ImageStore) -> None:
    files = made.oci_files([BASE, TOP])
    [image] = await load(store, chunks(made.archive(files)))
    assert image.names == ["test:latest"]
    assert image.record.diff_ids == [made.digest(BASE), made.digest(TOP)]
    assert image.record.manifest.removeprefix("sha256:") in [Path(name).name for name in files]
    assert leftovers(store) == []


@pytest.mark.parametrize(
    "pack", [gzip.compress, zstd.compress, lzma.compress, bz2.compress], ids=["gzip", "zstd", "xz", "bzip2"]
)
async def test_any_compression(store: ImageStore, pack: Callable[[bytes], bytes]) -> None:
    archive = made.docker_archive([BASE])
    [plain] = await load(store, chunks(archive))
    [packed] = await load(store, chunks(pack(archive)))
    assert plain.id == packed.id


@pytest.mark.parametrize("pack", [lambda d: gzip.compress(d, mtime=0), zstd.compress], ids=["gzip", "zstd"])
async def test_compressed_layers_in_a_docker_archive(store: ImageStore, pack: Callable[[bytes], bytes]) -> None:
    config = made.config([BASE])
    manifest = [{"Config": "config.json", "RepoTags": None, "Layers": ["layer"]}]
    files = {"layer": pack(BASE), "config.json": config, "manifest.json": json.dumps(manifest).encode()}
    [image] = await load(store, chunks(made.archive(files)))
    assert (image.names, image.id) == ([], made.digest(config))
    assert store.blob(made.digest(pack(BASE))).exists()


async def test_several_images_that_share_layers(store: ImageStore) -> None:
    one = made.config([BASE])
    two = made.config([BASE], comment="another")
    manifest = [
        {"Config": "1.json", "RepoTags": ["one:1"], "Layers": ["base/layer.tar"]},
        {"Config": "2.json", "RepoTags": ["two:2"], "Layers": ["link/layer.tar"]},
    ]
    archive = made.layer(
        [
            made.member("manifest.json", json.dumps(manifest).encode()),
            made.symlink("link/layer.tar", "../base/layer.tar"),
            made.member("base/layer.tar", BASE),
            made.member("1.json", one),
            made.member("2.json", two),
        ]
    )
    images = await load(store, chunks(archive))
    assert [image.names for image in images] == [["one:1"], ["two:2"]]
    assert store.rootfs(images[0]) == store.rootfs(images[1])
    assert leftovers(store) == []


async def test_dockers_layout_before_2016(store: ImageStore) -> None:
    files = {
        "repositories": json.dumps({"old": {"1": "top"}}).encode(),
        "base/json": json.dumps({"id": "base", "created": "2014-01-01T00:00:00Z"}).encode(),
        "base/layer.tar": BASE,
        "top/json": json.dumps({"id": "top", "parent": "base", "config": {"Cmd": ["/old"]}, "os": "linux"}).encode(),
        "top/layer.tar": TOP,
    }
    [image] = await load(store, chunks(made.archive(files)))
    assert image.names == ["old:1"]
    assert store.config(image).cmd == ["/old"]
    assert image.record.diff_ids == [made.digest(BASE), made.digest(TOP)]


async def test_documents_of_old_and_of_other_tools(store: ImageStore) -> None:
    said: dict[str, Any] = {
        "architecture": None,
        "os": None,
        "history": None,
        "unknown": [1],
        "config": {"Labels": None, "Cmd": None},
    }
    [image] = await load(store, chunks(made.docker_archive([BASE], **said)))
    assert store.config(image).labels == {}
    health = {"Test": ["CMD", "true"], "Interval": 30_000_000_000, "Timeout": -1, "Retries": 10**30, "New": 1}
    [image] = await load(store, chunks(made.docker_archive([BASE], config={"Healthcheck": health})))
    bounded = HealthConfig(test=["CMD", "true"], interval=30_000_000_000, retries=365 * 86400 * 10**9)
    assert store.inspect(image).config.healthcheck == bounded


async def test_names_are_those_of_the_archive(store: ImageStore) -> None:
    await load(store, chunks(made.docker_archive([BASE], ["mine:1"])))
    [image] = await load(store, chunks(made.docker_archive([BASE], ["a:1", "b/c:2"])))
    assert image.names == ["a:1", "b/c:2"]
    [image] = await load(store, chunks(made.docker_archive([BASE], [])))
    assert image.names == []
    assert sorted(store.list()[0].names) == ["a:1", "b/c:2", "mine:1"]


async def test_configurations_that_add_up(store: ImageStore) -> None:
    config = json.dumps({"rootfs": {"type": "layers", "diff_ids": []}, "author": "x" * (8_000_000)}).encode()
    items = [{"Config": "c", "Layers": [], "RepoTags": [f"a:{n}"]} for n in range(60)]
    with pytest.raises(InvalidInput, match="more than 67108864 bytes in all"):
        await load(store, chunks(made.archive({"c": config, "manifest.json": json.dumps(items).encode()})))
    assert store.list() == []


async def test_an_image_of_no_layers(store: ImageStore) -> None:
    [image] = await load(store, chunks(made.docker_archive([])))
    check_erofs(store.rootfs(image))


def damaged(change: Callable[[dict[str, bytes]], object], **how: object) -> bytes:
    files = made.oci_files([BASE], **how)  # type: ignore[arg-type]
    change(files)
    return made.archive(files)


LAYER = f"blobs/sha256/{made.digest(BASE)[7:]}"

BAD = {
    "nothing": (b"", "no manifest.json"),
    "no tar": (b"what is this? " * 100, "damaged tar"),
    "cut short": (made.docker_archive([BASE])[:5000], "ends inside|no manifest.json"),
    "cut gzip": (gzip.compress(made.docker_archive([BASE]))[:-300], "gzip data"),
    "not JSON": (made.archive({"manifest.json": b"{"}), "manifest.json"),
    "deep JSON": (made.archive({"index.json": b"[" * 100_000}), "index"),
    "no images": (made.archive({"manifest.json": b"[]"}), "no image in it"),
    "no layer": (damaged(lambda f: f.pop(LAYER), compress=None), f"no file '{LAYER}'"),
    "other bytes": (damaged(lambda f: f.update({LAYER: TOP}), compress=None), "blob sha256:.* has digest sha256:"),
    "name is a path": (made.docker_archive([BASE], ["../../etc/passwd"]), "invalid image name"),
    "name is an option": (made.docker_archive([BASE], ["--help"]), "invalid image name"),
    "path in manifest": (
        made.archive({"manifest.json": b'[{"Config":"/etc/passwd","Layers":[]}]'}),
        "no file '/etc/passwd'",
    ),
    "climbing entry": (made.layer([made.member("../x", b"1")]), "climbs"),
    "absolute entry": (made.layer([made.member("/x", b"1")]), "no manifest.json"),
    "wrong os": (made.docker_archive([BASE], os="windows"), "for windows"),
    "NUL": (made.docker_archive([BASE], config={"Env": ["A=\0"]}), "NUL"),
    "diff ids": (made.docker_archive([BASE], rootfs={"type": "layers", "diff_ids": []}), "0 diff ids for 1 layers"),
    "no digest": (made.docker_archive([BASE], rootfs={"diff_ids": ["sha256:1/../.."]}), "not a sha256 digest"),
}


@pytest.mark.parametrize("case", BAD)
async def test_what_is_wrong_is_said_and_nothing_stays(store: ImageStore, case: str) -> None:
    data, words = BAD[case]
    with pytest.raises(InvalidInput, match=words):
        await load(store, chunks(data))
    assert store.list() == []
    assert leftovers(store) == []


async def test_a_layer_that_is_not_what_its_image_says(store: ImageStore) -> None:
    with pytest.raises(BadLayer, match=f"layer {made.digest(TOP)}.*has digest {made.digest(BASE)}"):
        await load(store, chunks(made.docker_archive([BASE], rootfs={"diff_ids": [made.digest(TOP)]})))
    assert leftovers(store) == []


async def test_a_client_that_breaks_off(store: ImageStore) -> None:
    async def broken() -> object:
        yield made.docker_archive([BASE])[:2000]
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        await load(store, broken())  # type: ignore[arg-type]
    assert leftovers(store) == []


async def test_names_move_and_images_stay(store: ImageStore) -> None:
    [first] = await load(store, chunks(made.docker_archive([BASE])))
    [second] = await load(store, chunks(made.docker_archive([TOP])))
    assert store.get("test").id == second.id
    assert store.get(first.id).names == []
    with pytest.raises(NotFound):
        store.get("nobody")
    with pytest.raises(HyperError, match="invalid image name"):
        store.get("../x")


async def test_of_an_index_all_that_the_archive_has_of_linux(store: ImageStore) -> None:
    """Not what a builder says of them, and nothing of Windows; what is named and not there is left out."""
    files: dict[str, bytes] = {}
    manifests = []
    for os, architecture in (("linux", "amd64"), ("linux", "arm64"), ("windows", "amd64"), ("unknown", "unknown")):
        one = made.oci_files([BASE], architecture=architecture, os=os)
        [described] = json.loads(one["index.json"])["manifests"]
        manifests.append({**described, "platform": {"os": os, "architecture": architecture}})
        files |= one
    manifests.append({**manifests[0], "digest": "sha256:" + "0" * 64, "platform": {"os": "linux"}})
    index = json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()
    name = {"annotations": {"io.containerd.image.name": "docker.io/library/many:1"}}
    top = {**made.descriptor(index, "index.v1+json"), **name}
    files[f"blobs/sha256/{made.digest(index).removeprefix('sha256:')}"] = index
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [top]}).encode()
    loaded = await load(store, chunks(made.archive(files)))
    assert [(image.names, image.record.architecture) for image in loaded] == [
        (["many:1"], "amd64"),
        (["many:1"], "arm64"),
    ]
