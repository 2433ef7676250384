"""Pushes, to a registry that misbehaves when told to."""

import gzip
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.errors import Denied, InvalidInput, NotFound, OtherPlatform, Unavailable
from hypercontainer.images import upload
from hypercontainer.images.archive import load
from hypercontainer.images.pull import pull
from hypercontainer.images.push import push
from hypercontainer.images.registry import BadBlob
from hypercontainer.images.store import ImageStore
from hypercontainer.images.transport import Retry
from hypercontainer.model.api import Credentials
from hypercontainer.model.documents import Progress
from hypercontainer.testing import layers as made
from tests.unit.images.looking import chunks, leftovers
from tests.unit.images.registries import FakeRegistry, Fault, serving

SOON = Retry(base_s=0.001, cap_s=0.002, patience_s=5)
LAYERS = [made.layer([made.member(f"f{n}", random.Random(n).randbytes(300_000))]) for n in range(3)]


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with serving(FakeRegistry()) as one:
        yield one


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "CHUNK", 100_000)
    monkeypatch.setattr(upload, "PIECE", 10_000)
    monkeypatch.setattr(upload, "WHOLE", 5_000)


async def loaded(store: ImageStore, name: str, layers: list[bytes] = LAYERS) -> None:
    await load(store, chunks(made.docker_archive(layers, [name])))


def manifest(registry: FakeRegistry, path: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(registry.files[path][1])
    return document


async def test_a_push(store: ImageStore, registry: FakeRegistry, tmp_path: Path) -> None:
    await loaded(store, f"{registry.host}/a:1")
    seen: list[Progress] = []
    [pushed] = await push(store, f"{registry.host}/a:1", report=seen.append, retry=SOON)
    document = manifest(registry, "a/manifests/1")
    assert (pushed.name, pushed.tag) == (f"{registry.host}/a", "1")
    assert pushed.digest == made.digest(registry.files["a/manifests/1"][1])
    assert pushed.size == len(registry.files["a/manifests/1"][1])
    for layer, plain in zip(document["layers"], LAYERS, strict=True):
        data = registry.files[f"a/blobs/{layer['digest']}"][1]
        assert (gzip.decompress(data), made.digest(data), len(data)) == (plain, layer["digest"], layer["size"])
    image = store.get(f"{registry.host}/a:1")
    assert image.digests == [f"{registry.host}/a@{pushed.digest}"]
    assert leftovers(store) == []
    lines = [f"{p.id}: {p.action}" if p.id else p.action for p in seen]
    assert lines[0] == f"The push refers to repository [{registry.host}/a]"
    ids = [made.digest(layer)[7:19] for layer in LAYERS]
    assert {f"{id}: Preparing" for id in ids} | {f"{id}: Pushed" for id in ids} <= set(lines)
    assert lines[-1] == f"1: digest: {pushed.digest} size: {pushed.size}"
    other = ImageStore(tmp_path / "other")
    assert (await pull(other, f"{registry.host}/a:1", retry=SOON)).id == image.id


async def test_what_is_there_is_not_sent_again(store: ImageStore, registry: FakeRegistry) -> None:
    await loaded(store, f"{registry.host}/a:1")
    [before] = await push(store, f"{registry.host}/a:1", retry=SOON)
    registry.requests.clear()
    seen: list[Progress] = []
    [after] = await push(store, f"{registry.host}/a:1", retry=SOON, report=seen.append)
    assert after == before
    assert [method for method, path, _ in registry.requests if method not in ("HEAD", "GET")] == ["PUT"]
    assert sum(p.action == "Layer already exists" for p in seen) == 3


async def test_what_came_from_a_registry_goes_as_it_came(store: ImageStore, registry: FakeRegistry) -> None:
    digest = registry.push("a", "1", LAYERS)
    await pull(store, f"{registry.host}/a:1", retry=SOON)
    store.tag(f"{registry.host}/a:1", f"{registry.host}/b/c:2")
    seen: list[Progress] = []
    [pushed] = await push(store, f"{registry.host}/b/c:2", retry=SOON, report=seen.append)
    assert pushed.digest == digest
    assert registry.files["b/c/manifests/2"] == registry.files["a/manifests/1"]
    assert sum(p.action == "Mounted from a" for p in seen) == 3
    assert not registry.sent("PATCH")
    names = [f"{registry.host}/a@{digest}", f"{registry.host}/b/c@{digest}"]
    assert store.get(f"{registry.host}/b/c:2").digests == names


async def test_what_the_store_has_is_not_written_again(store: ImageStore, registry: FakeRegistry) -> None:
    """Somebody may read it just then."""
    registry.push("a", "1", LAYERS)
    image = await pull(store, f"{registry.host}/a:1", retry=SOON)
    blobs = [store.blob(d) for d in (image.record.manifest, image.record.config, *image.record.layers)]
    before = [(path.stat().st_ino, path.stat().st_mtime_ns) for path in blobs]
    await push(store, f"{registry.host}/a:1", retry=SOON)
    assert [(path.stat().st_ino, path.stat().st_mtime_ns) for path in blobs] == before


async def test_a_registry_that_mounts_nothing(store: ImageStore, registry: FakeRegistry) -> None:
    registry.push("a", "1", LAYERS)
    await pull(store, f"{registry.host}/a:1", retry=SOON)
    registry.mounts = False
    store.tag(f"{registry.host}/a:1", f"{registry.host}/b:1")
    await push(store, f"{registry.host}/b:1", retry=SOON)
    assert len(registry.sent("PATCH")) == 3 * 4  # of 300,000 bytes and some, in chunks


@pytest.mark.parametrize("at", [0, 1, 55_000, 100_000, 250_000])
async def test_a_connection_that_breaks(store: ImageStore, registry: FakeRegistry, at: int) -> None:
    """What the registry has of the upload is not sent again."""
    await loaded(store, f"{registry.host}/a:1", LAYERS[:1])
    registry.break_upload_at = at
    await push(store, f"{registry.host}/a:1", retry=SOON)
    [layer] = manifest(registry, "a/manifests/1")["layers"]
    assert made.digest(registry.files[f"a/blobs/{layer['digest']}"][1]) == layer["digest"]
    assert registry.received < layer["size"] + 20_000 + 2000  # its configuration too
    assert len(registry.sent("POST")) == (3 if at < 2 else 2)  # nothing, or a byte: some say the same of both


async def test_a_registry_that_keeps_a_byte_of_each_chunk(store: ImageStore, registry: FakeRegistry) -> None:
    """It is not sent the rest as often as it likes."""
    await loaded(store, f"{registry.host}/a:1", LAYERS[:1])
    registry.miserly = True
    with pytest.raises(Unavailable, match="kept 1 of 100000 bytes"):
        await push(store, f"{registry.host}/a:1", retry=SOON)
    assert len(registry.sent("PATCH")) < 20


async def test_a_registry_that_has_lost_the_upload(store: ImageStore, registry: FakeRegistry) -> None:
    await loaded(store, f"{registry.host}/a:1", LAYERS[:1])
    registry.break_upload_at, registry.forgets = 150_000, True
    await push(store, f"{registry.host}/a:1", retry=SOON)
    assert len(registry.sent("POST")) == 3  # its layer's second beginning
    [layer] = manifest(registry, "a/manifests/1")["layers"]
    assert made.digest(registry.files[f"a/blobs/{layer['digest']}"][1]) == layer["digest"]


async def test_an_answer_that_was_lost(store: ImageStore, registry: FakeRegistry) -> None:
    """The upload had come to its end, and only we do not know."""
    await loaded(store, f"{registry.host}/a:1", LAYERS[:1])
    registry.lose_answer = True
    await push(store, f"{registry.host}/a:1", retry=SOON)
    assert "a/manifests/1" in registry.files


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        (Fault("uploads", 99, status=500), Unavailable, "answers 500"),
        (Fault("uploads", 99, status=403), Denied, "wrong name, or not logged in"),
        (Fault("uploads", 99, status=405), Unavailable, "answers 405"),
        (Fault("uploads", 99, status=202), Unavailable, "redirects to ''"),
        (Fault("uploads", 99, 202, {"Location": "ftp://x/"}), Unavailable, "redirects to 'ftp"),
        (Fault("uploads", 99, 202, {"Location": "http://169.254.169.254/x"}), Unavailable, "redirects to"),
        (Fault("uploads", 99, 301, {"Location": "/x"}), Unavailable, "answers 301"),
        (Fault("manifests", 99, status=400), Unavailable, "answers 400"),
        (Fault("manifests", 99, 201, {"Docker-Content-Digest": "sha256:" + "0" * 64}), BadBlob, "took sha256"),
        (Fault("uploads/", 99, 202, {"Location": "/v2/a/blobs/uploads/1", "Range": "0-99999999"}), Unavailable, "has"),
        (Fault("uploads/", 99, 202, {"Location": "/v2/a/blobs/uploads/1", "Range": "x" * 99}), Unavailable, "has 'xx"),
    ],
)
async def test_a_registry_that_makes_no_sense(
    store: ImageStore, registry: FakeRegistry, fault: Fault, error: type[Exception], words: str
) -> None:
    await loaded(store, f"{registry.host}/a:1")
    registry.faults.append(fault)
    with pytest.raises(error, match=words):
        await push(store, f"{registry.host}/a:1", retry=SOON)
    assert store.get(f"{registry.host}/a:1").digests == []
    assert leftovers(store) == []


async def test_what_the_registry_says_of_a_refusal(store: ImageStore, registry: FakeRegistry) -> None:
    await loaded(store, f"{registry.host}/a:1")
    registry.complaint = {"errors": [{"code": "DENIED", "message": "requested access\x1b to the resource is denied"}]}
    with pytest.raises(Denied, match=r"refuses: requested access to the resource is denied$"):
        await push(store, f"{registry.host}/a:1", retry=SOON)


async def test_uploads_elsewhere_get_no_credentials(store: ImageStore, registry: FakeRegistry) -> None:
    await loaded(store, f"{registry.host}/a:1", LAYERS[:1])
    async with serving(FakeRegistry()) as elsewhere:
        registry.basic, registry.elsewhere, elsewhere.files = "me:secret", elsewhere, registry.files
        await push(store, f"{registry.host}/a:1", retry=SOON, credentials=Credentials(username="me", password="secret"))
        assert elsewhere.sent("PATCH") and elsewhere.sent("PUT")
        assert not any("Authorization" in headers for _, _, headers in elsewhere.requests)


async def test_with_a_token_for_both_repositories(store: ImageStore, registry: FakeRegistry) -> None:
    registry.push("a", "1", LAYERS)
    await pull(store, f"{registry.host}/a:1", retry=SOON)
    store.tag(f"{registry.host}/a:1", f"{registry.host}/b:1")
    registry.bearer, registry.basic = "t0ken", "me:secret"
    await push(store, f"{registry.host}/b:1", retry=SOON, credentials=Credentials(username="me", password="secret"))
    assert "b/manifests/1" in registry.files
    with pytest.raises(Denied):
        await push(store, f"{registry.host}/b:1", retry=SOON, credentials=Credentials(username="me", password="no"))


async def test_an_index_that_names_the_image_stays(store: ImageStore, registry: FakeRegistry) -> None:
    """Else whoever pulls it, and pushes it again, takes the image from all other machines."""
    manifests = []
    for architecture in "amd64", "arm64":
        digest = registry.push("a", architecture, LAYERS, architecture=architecture)
        data = registry.files[f"a/manifests/{digest}"][1]
        platform = {"os": "linux", "architecture": architecture}
        manifests.append({**made.descriptor(data, "manifest.v1+json"), "platform": platform})
    registry.push_index("a", "1", manifests)
    before = registry.files["a/manifests/1"]
    image = await pull(store, f"{registry.host}/a:1", platform="amd64", retry=SOON)
    seen: list[Progress] = []
    [pushed] = await push(store, f"{registry.host}/a:1", report=seen.append, retry=SOON)
    assert registry.files["a/manifests/1"] == before
    assert (pushed.digest, pushed.size) == (made.digest(before[1]), len(before[1]))
    assert "1 is an index that names this image: it stays as it is" in [step.action for step in seen]
    assert store.get(image.id).digests == image.digests
    await loaded(store, f"{registry.host}/a:1", LAYERS[:1])  # another image: it is what the tag is to be
    [pushed] = await push(store, f"{registry.host}/a:1", retry=SOON)
    assert made.digest(registry.files["a/manifests/1"][1]) == pushed.digest != made.digest(before[1])


@pytest.mark.parametrize("data", [b"", b"[]", b'{"manifests": 7}', b'{"manifests": [{"digest": "x"}]}', b"\xff" * 100])
async def test_nonsense_under_the_tag_is_replaced(store: ImageStore, registry: FakeRegistry, data: bytes) -> None:
    registry.files["a/manifests/1"] = ("application/vnd.oci.image.index.v1+json", data)
    await loaded(store, f"{registry.host}/a:1")
    [pushed] = await push(store, f"{registry.host}/a:1", retry=SOON)
    assert made.digest(registry.files["a/manifests/1"][1]) == pushed.digest


async def test_all_tags(store: ImageStore, registry: FakeRegistry) -> None:
    await loaded(store, f"{registry.host}/a:1", LAYERS[:1])
    await loaded(store, f"{registry.host}/a:2", LAYERS[1:2])
    await loaded(store, f"{registry.host}/ab:3", LAYERS[2:])
    pushed = await push(store, f"{registry.host}/a", all_tags=True, retry=SOON)
    assert [one.tag for one in pushed] == ["1", "2"]
    tags = [path for path in registry.files if "/manifests/" in path and ":" not in path]
    assert sorted(tags) == ["a/manifests/1", "a/manifests/2"]
    with pytest.raises(InvalidInput, match="without a tag"):
        await push(store, f"{registry.host}/a:1", all_tags=True, retry=SOON)
    with pytest.raises(NotFound):
        await push(store, f"{registry.host}/none", all_tags=True, retry=SOON)


async def test_what_cannot_be_pushed(store: ImageStore, registry: FakeRegistry) -> None:
    await loaded(store, f"{registry.host}/a:1")
    with pytest.raises(NotFound):
        await push(store, f"{registry.host}/a:other", retry=SOON)
    with pytest.raises(InvalidInput, match="a digest is not given"):
        await push(store, f"{registry.host}/a@sha256:{'0' * 64}", retry=SOON)
    with pytest.raises(NotFound):
        await push(store, store.get(f"{registry.host}/a:1").id[7:19], retry=SOON)
    assert registry.requests == []


async def test_an_image_that_is_removed_meanwhile_stays_away(store: ImageStore, registry: FakeRegistry) -> None:
    await loaded(store, f"{registry.host}/a:1", LAYERS[:1])

    async def before(path: str) -> None:
        if "manifests" in path and store.list():
            store.remove(f"{registry.host}/a:1")

    registry.before = before
    with pytest.raises(NotFound):
        await push(store, f"{registry.host}/a:1", retry=SOON)
    assert store.list() == [] and leftovers(store) == []


async def both(store: ImageStore, name: str) -> None:
    for n, architecture in enumerate(("arm64", "amd64")):
        await load(store, chunks(made.docker_archive(LAYERS[n : n + 2], [name], architecture=architecture)))


async def test_all_platforms_of_a_name_go_under_an_index(
    store: ImageStore, registry: FakeRegistry, tmp_path: Path
) -> None:
    name = f"{registry.host}/a:1"
    await both(store, name)
    [pushed] = await push(store, name, retry=SOON)
    index = manifest(registry, "a/manifests/1")
    assert [one["platform"] for one in index["manifests"]] == [
        {"os": "linux", "architecture": architecture} for architecture in ("amd64", "arm64")
    ]
    assert pushed.digest == made.digest(registry.files["a/manifests/1"][1])
    for one in index["manifests"]:
        image = store.get(name, f"linux/{one['platform']['architecture']}")
        assert image.digests == sorted(f"{registry.host}/a@{digest}" for digest in (pushed.digest, one["digest"]))
        other = ImageStore(tmp_path / one["platform"]["architecture"])
        assert (await pull(other, name, platform=one["platform"]["architecture"], retry=SOON)).id == image.id
    seen: list[Progress] = []
    assert await push(store, name, retry=SOON, report=seen.append) == [pushed]
    assert "1 is an index that names these images: it stays as it is" in [step.action for step in seen]
    assert leftovers(store) == []


async def test_one_of_a_name_goes_alone(store: ImageStore, registry: FakeRegistry) -> None:
    """As docker's: the tag is no index any more."""
    name = f"{registry.host}/a:1"
    await both(store, name)
    await push(store, name, retry=SOON)
    [pushed] = await push(store, name, platform="linux/arm64", retry=SOON)
    assert "config" in manifest(registry, "a/manifests/1")
    assert f"{registry.host}/a@{pushed.digest}" in store.get(name, "linux/arm64").digests
    for all_tags in (False, True):
        with pytest.raises(OtherPlatform, match="not for linux/s390x: what is here is for linux/amd64, linux/arm64"):
            one = name.removesuffix(":1") if all_tags else name
            await push(store, one, platform="linux/s390x", retry=SOON, all_tags=all_tags)
