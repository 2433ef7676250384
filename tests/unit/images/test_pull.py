"""Pulls, from a registry that misbehaves when told to."""

import asyncio
import json
import random
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from yarl import URL

from hypercontainer.errors import Denied, Exhausted, HyperError, InvalidInput, NotFound, Unavailable
from hypercontainer.images.distribution import distribution
from hypercontainer.images.hosts import Registries
from hypercontainer.images.manifest import OCI_INDEX, OCI_MANIFEST
from hypercontainer.images.pull import pull, pull_all
from hypercontainer.images.registry import BadBlob, following
from hypercontainer.images.store import ImageStore
from hypercontainer.images.transport import Retry, address
from hypercontainer.model import arch
from hypercontainer.model import documents as doc
from hypercontainer.model.api import Credentials
from hypercontainer.model.documents import Progress
from hypercontainer.model.settings import Registry
from hypercontainer.testing import layers as made
from tests.unit.images.looking import leftovers
from tests.unit.images.registries import FakeRegistry, Fault, serving

SOON = Retry(base_s=0.001, cap_s=0.002, patience_s=5)
LAYERS = [made.layer([made.member(f"f{n}", random.Random(n).randbytes(300_000))]) for n in range(4)]


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with serving(FakeRegistry()) as one:
        one.push("a", "1", LAYERS)
        yield one


def blob(n: int) -> str:
    return made.digest(made.gzipped(LAYERS[n]))


async def test_a_pull(store: ImageStore, registry: FakeRegistry) -> None:
    seen: list[Progress] = []
    image = await pull(store, f"{registry.host}/a:1", report=seen.append, retry=SOON)
    assert image.names == [f"{registry.host}/a:1"]
    assert image.digests == [f"{registry.host}/a@{image.record.manifest}"]
    assert store.get(image.digests[0]) == image
    assert store.rootfs(image).exists()
    assert leftovers(store) == []
    done = {p.id for p in seen if p.action == "Download complete"}
    assert done == {blob(n)[7:19] for n in range(4)}
    assert all(p.current <= p.total for p in seen if p.total)


async def test_a_manifest_that_comes_compressed(store: ImageStore, registry: FakeRegistry) -> None:
    registry.encoding = "gzip"
    assert (await pull(store, f"{registry.host}/a:1", retry=SOON)).names == [f"{registry.host}/a:1"]
    registry.encoding = "br"
    with pytest.raises(Unavailable, match=f"from {registry.host}: it is encoded as 'br'"):
        await pull(store, f"{registry.host}/a:1", retry=SOON)


async def test_a_layer_that_the_registry_does_not_have(store: ImageStore, registry: FakeRegistry) -> None:
    _, data = registry.files["a/manifests/1"]
    document = json.loads(data)
    document["layers"][0]["urls"] = ["https://elsewhere.example/layer"]
    registry.files["a/manifests/1"] = (document["mediaType"], json.dumps(document).encode())
    await pull(store, f"{registry.host}/a:1", retry=SOON)  # it has it all the same
    store.remove(f"{registry.host}/a:1", force=True, users=lambda _: "")
    registry.push("a", "1", [made.layer([made.member("x", b"new")])])
    document = json.loads(registry.files["a/manifests/1"][1])
    document["layers"][0]["urls"] = ["https://elsewhere.example/layer"]
    registry.files["a/manifests/1"] = (document["mediaType"], json.dumps(document).encode())
    del registry.files[f"a/blobs/{document['layers'][0]['digest']}"]
    with pytest.raises(InvalidInput, match=r"outside of the registry, at 'https://elsewhere.example/layer'"):
        await pull(store, f"{registry.host}/a:1", retry=SOON)


async def test_what_is_there_is_not_fetched_again(store: ImageStore, registry: FakeRegistry) -> None:
    await pull(store, f"{registry.host}/a:1", retry=SOON)
    registry.push("b", "2", [*LAYERS[:3], made.layer([made.member("new", b"new")])])
    registry.requests.clear()
    image = await pull(store, f"{registry.host}/b:2", retry=SOON)
    assert len(registry.paths("/blobs/")) == 2  # its configuration, its one new layer
    registry.requests.clear()
    assert (await pull(store, f"{registry.host}/b:2", retry=SOON)).id == image.id
    assert registry.paths("/blobs/") == []


async def test_three_layers_at_once(store: ImageStore, registry: FakeRegistry) -> None:
    waiting, three = 0, asyncio.Event()

    async def before(path: str) -> None:
        nonlocal waiting
        if path.partition("/blobs/")[2] in {blob(n) for n in range(4)}:
            waiting += 1
            if waiting == 3:
                three.set()
            await three.wait()

    registry.before = before
    await pull(store, f"{registry.host}/a:1", retry=SOON)


async def test_two_pulls_at_once_share_the_work(store: ImageStore, registry: FakeRegistry) -> None:
    other = ImageStore(store.root)
    name = f"{registry.host}/a:1"
    one, two = await asyncio.gather(pull(store, name, retry=SOON), pull(other, name, retry=SOON))
    assert one.id == two.id
    assert len(registry.paths("/blobs/")) == 5
    assert leftovers(store) == []


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_registry_that_is_busy_is_asked_again(store: ImageStore, registry: FakeRegistry, status: int) -> None:
    registry.faults = [
        Fault("/manifests/", times=2, status=status),
        Fault(blob(0), status=status, headers={"Retry-After": "0"}),
    ]
    await pull(store, f"{registry.host}/a:1", retry=SOON)


async def test_retries_have_an_end(store: ImageStore, registry: FakeRegistry) -> None:
    registry.faults = [Fault("/manifests/", times=1000, status=500)]
    with pytest.raises(Unavailable, match=r"cannot pull .*answers 500.*5 times in a row"):
        await pull(store, f"{registry.host}/a:1", retry=SOON)
    assert len(registry.paths("/manifests/")) == 5


async def test_a_wait_that_is_too_long_is_said(store: ImageStore, registry: FakeRegistry) -> None:
    registry.faults = [Fault("/manifests/", status=429, headers={"Retry-After": "3600"})]
    with pytest.raises(Unavailable, match=r"answers 429.*asks to wait 3600 s"):
        await pull(store, f"{registry.host}/a:1", retry=SOON)


async def test_a_cut_connection_is_gone_on_with(store: ImageStore, registry: FakeRegistry) -> None:
    registry.faults = [Fault(blob(1), cut_after=100_000), Fault(blob(1), cut_after=50_000)]
    await pull(store, f"{registry.host}/a:1", retry=SOON)
    ranges = [h.get("Range") for _, path, h in registry.requests if blob(1) in path]
    assert ranges[0] is None
    begins = [int(r.removeprefix("bytes=").rstrip("-")) for r in ranges[1:] if r]
    assert begins == sorted(begins) and begins[-1] > 0


async def test_many_cuts_are_survived_while_there_is_progress(store: ImageStore, registry: FakeRegistry) -> None:
    registry.faults = [Fault(blob(1), cut_after=40_000, times=6)]
    await pull(store, f"{registry.host}/a:1", retry=SOON._replace(attempts=2))


async def test_a_later_pull_goes_on_where_one_broke_off(store: ImageStore, registry: FakeRegistry) -> None:
    registry.faults = [Fault(blob(1), cut_after=100_000), Fault(blob(1), times=1000, status=503)]
    with pytest.raises(Unavailable):
        await pull(store, f"{registry.host}/a:1", retry=SOON)
    registry.faults.clear()
    registry.requests.clear()
    again = ImageStore(store.root)
    await pull(again, f"{registry.host}/a:1", retry=SOON)
    [headers] = [h for _, path, h in registry.requests if blob(1) in path]
    assert headers.get("Range", "").startswith("bytes=")
    assert leftovers(again) == []


async def test_a_server_without_ranges(store: ImageStore, registry: FakeRegistry) -> None:
    registry.faults = [Fault(blob(1), cut_after=100_000), Fault(blob(1), no_ranges=True)]
    await pull(store, f"{registry.host}/a:1", retry=SOON)


async def test_what_was_left_is_not_trusted(store: ImageStore, registry: FakeRegistry) -> None:
    (store.partial / blob(1)[7:]).write_bytes(b"not the beginning of it")
    await pull(store, f"{registry.host}/a:1", retry=SOON)
    (store.partial / blob(1)[7:]).write_bytes(b"x" * 10_000_000)
    store.blob(blob(1)).unlink()
    await pull(store, f"{registry.host}/a:1", retry=SOON)


WRONG: dict[str, Callable[[bytes], bytes]] = {
    "other bytes": lambda data: data[:1000] + b"!" + data[1001:],
    "too many": lambda data: data + b"!",
    "too few": lambda data: data[:-1],
    "endless": lambda data: data * 100,
}


@pytest.mark.parametrize("how", WRONG)
async def test_wrong_bytes(store: ImageStore, registry: FakeRegistry, how: str) -> None:
    registry.faults = [Fault(blob(2), times=1000, change=WRONG[how])]
    with pytest.raises(BadBlob, match=blob(2)):
        await pull(store, f"{registry.host}/a:1", retry=SOON)
    assert store.list() == []
    assert leftovers(store) == []


async def test_a_wrong_manifest(store: ImageStore, registry: FakeRegistry) -> None:
    digest = registry.push("a", "1", LAYERS)
    registry.faults = [Fault("/manifests/", times=9, change=lambda data: data + b" ")]
    with pytest.raises(BadBlob, match=f"manifest {digest} came with digest"):
        await pull(store, f"{registry.host}/a@{digest}", retry=SOON)


def a_manifest(kind: str, size: int) -> bytes:
    config = {"mediaType": kind, "digest": "sha256:" + "0" * 64, "size": size}
    return json.dumps({"schemaVersion": 2, "config": config, "layers": []}).encode()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{", "manifest"),
        (b"[]", "manifest"),
        (b'{"schemaVersion": 1, "fsLayers": []}', "schema 1"),
        (b" " * (5 << 20), "more than 4194304 bytes"),
        (a_manifest("x", 1), "not an image's"),
        (a_manifest("application/vnd.oci.image.config.v1+json", 99999999), "99999999 bytes"),
    ],
)
async def test_absurd_manifests(store: ImageStore, registry: FakeRegistry, data: bytes, words: str) -> None:
    registry.files["a/manifests/1"] = ("application/json", data)
    with pytest.raises(HyperError, match=words):
        await pull(store, f"{registry.host}/a:1", retry=SOON)
    assert leftovers(store) == []


async def test_no_such_image(store: ImageStore, registry: FakeRegistry) -> None:
    with pytest.raises(NotFound, match=r"no such image: .*/a:2"):
        await pull(store, f"{registry.host}/a:2", retry=SOON)


async def test_nobody_there(store: ImageStore, registry: FakeRegistry) -> None:
    with pytest.raises(Unavailable, match=r"cannot pull 127.0.0.1:1/a"):
        await pull(store, "127.0.0.1:1/a", retry=SOON)


async def test_basic_authorization(store: ImageStore, registry: FakeRegistry) -> None:
    registry.basic = "me:secret"
    with pytest.raises(Denied, match="wants credentials"):
        await pull(store, f"{registry.host}/a:1", retry=SOON)
    with pytest.raises(Denied, match="refuses these credentials"):
        await pull(store, f"{registry.host}/a:1", credentials=Credentials(username="me", password="x"), retry=SOON)
    await pull(store, f"{registry.host}/a:1", credentials=Credentials(username="me", password="secret"), retry=SOON)


async def test_bearer_authorization(store: ImageStore, registry: FakeRegistry) -> None:
    registry.bearer, registry.basic = "abc", "me:secret"
    with pytest.raises(Denied, match="no token"):
        await pull(store, f"{registry.host}/a:1", retry=SOON)
    registry.given = 0
    await pull(store, f"{registry.host}/a:1", credentials=Credentials(username="me", password="secret"), retry=SOON)
    assert registry.given == 1  # one token for all requests


async def test_a_token_may_be_said_to_be_created(store: ImageStore, registry: FakeRegistry) -> None:
    registry.bearer, registry.token_status = "abc", 201
    await pull(store, f"{registry.host}/a:1", retry=SOON)
    registry.token_status = 404
    with pytest.raises(Unavailable, match=f"cannot get a token from {registry.host}: it answers 404"):
        await pull(store, f"{registry.host}/b:1", retry=SOON)


@pytest.mark.parametrize(
    "url, told",
    [
        ("https://me:secret@h.example:5000/v2", "h.example:5000"),
        ("https://h.example/", "h.example"),
        ("http://[::1]:5000/", "[::1]:5000"),
        ("http://[::1]:80/", "[::1]"),
    ],
)
def test_a_person_is_told_a_host_and_no_credentials(url: str, told: str) -> None:
    assert address(URL(url)) == told


async def test_anonymous_tokens_and_ones_taken_back(store: ImageStore, registry: FakeRegistry) -> None:
    registry.bearer = "first"

    async def before(path: str) -> None:
        if "/blobs/" in path:
            registry.bearer = "second"

    registry.before = before
    await pull(store, f"{registry.host}/a:1", retry=SOON)
    assert registry.given == 2


async def test_credentials_do_not_follow_a_redirect_to_another_host(store: ImageStore, registry: FakeRegistry) -> None:
    registry.basic = "me:secret"
    credentials = Credentials(username="me", password="secret")
    async with serving(FakeRegistry()) as elsewhere:
        elsewhere.files = {"signed": ("application/octet-stream", made.gzipped(LAYERS[0]))}
        target = f"http://{elsewhere.host}/v2/signed?signature=a%2Bb%2F"
        registry.faults = [Fault(blob(0), status=307, headers={"Location": target})]
        await pull(store, f"{registry.host}/a:1", credentials=credentials, retry=SOON)
        [(_, path, headers)] = elsewhere.requests
    assert path == "/v2/signed"
    assert "Authorization" not in headers


async def test_redirects_have_an_end(store: ImageStore, registry: FakeRegistry) -> None:
    registry.faults = [Fault("/v2/a", times=1000, status=302, headers={"Location": "/v2/a/again"})]
    with pytest.raises(Unavailable, match="more than 5 redirects"):
        await pull(store, f"{registry.host}/a:1", retry=SOON)


async def test_the_platform_is_chosen(store: ImageStore, registry: FakeRegistry) -> None:
    manifests = []
    for architecture, variant in (("arm", "v6"), ("arm64", "v8"), ("amd64", ""), ("arm", "v7"), ("s390x", "")):
        digest = registry.push("many", "x", [LAYERS[0]], architecture=architecture, variant=variant)
        data = registry.files[f"many/manifests/{digest}"][1]
        platform = {"os": "linux", "architecture": architecture, "variant": variant}
        manifests.append({**made.descriptor(data, "manifest.v1+json"), "platform": platform})
    registry.push_index("many", "1", manifests)
    name = f"{registry.host}/many:1"
    assert (await pull(store, name, platform="linux/arm/v7", retry=SOON)).record.variant == "v7"
    assert (await pull(store, name, platform="arm64", retry=SOON)).record.architecture == "arm64"
    image = await pull(store, name, platform="linux/amd64", retry=SOON)
    assert image.record.architecture == "amd64"
    assert len(image.digests) == 2  # the index's and its own
    with pytest.raises(NotFound, match=r"no such image for linux/riscv64: .*there is linux/amd64, linux/arm/v6"):
        await pull(store, name, platform="linux/riscv64", retry=SOON)


@pytest.mark.parametrize("order", [("arm64", "amd64"), ("amd64", "arm64")])
async def test_an_index_by_its_digest_is_the_image_for_this_machine(
    store: ImageStore, registry: FakeRegistry, order: tuple[str, str]
) -> None:
    """Of those that are here; each is there by its own digest."""
    manifests = []
    for architecture in "amd64", "arm64":
        digest = registry.push("many", architecture, [LAYERS[0]], architecture=architecture)
        data = registry.files[f"many/manifests/{digest}"][1]
        platform = {"os": "linux", "architecture": architecture}
        manifests.append({**made.descriptor(data, "manifest.v1+json"), "platform": platform})
    registry.push_index("many", "1", manifests)
    index = f"{registry.host}/many@{made.digest(registry.files['many/manifests/1'][1])}"
    pulled = {each: await pull(store, index, platform=each, retry=SOON) for each in order}
    assert store.get(index).id == pulled[arch.host().docker].id
    for image in pulled.values():
        assert store.get(f"{registry.host}/many@{image.record.manifest}").id == image.id


async def test_all_tags(store: ImageStore, registry: FakeRegistry) -> None:
    """However many pages they come in; a list that never ends is not read for ever."""
    registry.push("a", "2", LAYERS[:2])
    registry.pages = [["2"], ["1"], []]
    seen: list[Progress] = []
    found = await pull_all(store, f"{registry.host}/a", report=seen.append, retry=SOON)
    assert list(found) == [f"{registry.host}/a:1", f"{registry.host}/a:2"]
    assert [image.names for image in found.values()] == [[name] for name in found]
    assert [p.id for p in seen if p.action.startswith("Digest: ")] == ["1", "2"]
    with pytest.raises(InvalidInput, match="name the repository, without a tag"):
        await pull_all(store, f"{registry.host}/a:1", retry=SOON)
    registry.pages = [[]]
    with pytest.raises(NotFound, match="its repository has no tags"):
        await pull_all(store, f"{registry.host}/a", retry=SOON)
    registry.pages = [["../x"]]
    with pytest.raises(InvalidInput, match=r"'\.\./x' is none"):
        await pull_all(store, f"{registry.host}/a", retry=SOON)
    registry.pages = [["1"]] * 2000
    with pytest.raises(Unavailable, match="has 1 on 1000 pages, and more"):
        await pull_all(store, f"{registry.host}/a", retry=SOON)


@pytest.mark.parametrize(
    ("link", "after"),
    [
        ('</v2/a/tags/list?n=2&last=b>; rel="next"', "/v2/a/tags/list?n=2&last=b"),
        ("<https://r.example/x>;rel=next", "https://r.example/x"),
        ('<x>; title="a"; rel=next; y=z', "x"),
        ('<x>; rel="prev"', ""),
        ("", ""),
        ("x; rel=next", ""),
        ("<x", ""),
    ],
)
def test_where_the_next_page_is(link: str, after: str) -> None:
    assert following(link) == after


async def test_what_a_registry_has(registry: FakeRegistry) -> None:
    digest = made.digest(registry.files["a/manifests/1"][1])
    found = await distribution(f"{registry.host}/a:1", retry=SOON)
    data = registry.files["a/manifests/1"][1]
    assert found.descriptor == doc.Descriptor(media_type=OCI_MANIFEST, digest=digest, size=len(data))
    assert found.platforms == [doc.Platform(os="linux", architecture=arch.host().docker)]
    assert registry.paths("/blobs/") == [f"/v2/a/blobs/{json.loads(data)['config']['digest']}"]
    platform = {"os": "windows", "architecture": "amd64", "os.version": "10.0", "os.features": ["win32k"]}
    registry.push_index("a", "many", [{**made.descriptor(data, "manifest.v1+json"), "platform": platform}])
    many = await distribution(f"{registry.host}/a:many", retry=SOON)
    assert many.descriptor.media_type == OCI_INDEX
    assert many == await distribution(f"{registry.host}/a@{many.descriptor.digest}", retry=SOON)
    assert many.platforms == [
        doc.Platform(os="windows", architecture="amd64", os_version="10.0", os_features=["win32k"])
    ]
    with pytest.raises(NotFound):
        await distribution(f"{registry.host}/a:none", retry=SOON)


async def test_a_configuration_that_is_too_large_to_look_at(registry: FakeRegistry) -> None:
    kind, data = registry.files["a/manifests/1"]
    document = json.loads(data)
    document["config"]["size"] = 1 << 30
    registry.files["a/manifests/1"] = kind, json.dumps(document).encode()
    with pytest.raises(InvalidInput, match="bytes, 8388608 at most"):
        await distribution(f"{registry.host}/a:1", retry=SOON)
    assert registry.paths("/blobs/") == []


async def test_an_image_for_another_machine(store: ImageStore, registry: FakeRegistry) -> None:
    registry.push("a", "1", [LAYERS[0]], architecture="sparc")
    with pytest.raises(InvalidInput, match="it is for linux/sparc"):
        await pull(store, f"{registry.host}/a:1", retry=SOON)


async def test_mirrors_come_first_and_may_fail(store: ImageStore, registry: FakeRegistry) -> None:
    async with serving(FakeRegistry()) as mirror, serving(FakeRegistry()) as other:
        mirror.faults = [Fault("", times=1000, status=500)]
        other.push("a", "1", LAYERS)
        del other.files[f"a/blobs/{blob(3)}"]
        how = Registry(mirrors=[f"http://{mirror.host}", f"http://{other.host}"])
        name = f"{registry.host}/a:1"
        await pull(store, name, registries=Registries({registry.host: how}), retry=SOON)
        assert mirror.paths("/manifests/") and len(other.paths("/blobs/")) == 5
        assert registry.paths("/manifests/") == []
        assert [path.rpartition("/")[2] for path in registry.paths("/blobs/")] == [blob(3)]


async def test_a_cancelled_pull_leaves_what_it_has(store: ImageStore, registry: FakeRegistry) -> None:
    reached = asyncio.Event()

    async def before(path: str) -> None:
        if blob(3) in path:
            reached.set()
            await asyncio.Event().wait()

    registry.before = before
    task = asyncio.create_task(pull(store, f"{registry.host}/a:1", retry=SOON))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list((store.root / "work").iterdir()) == []
    registry.before = None
    await pull(store, f"{registry.host}/a:1", retry=SOON)


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../a", "--all", "a b", "A", "a:b:c", "http://x/y", "a" * 300])
async def test_absurd_names(store: ImageStore, name: str) -> None:
    with pytest.raises(InvalidInput, match="invalid image name"):
        await pull(store, name)


async def test_a_plain_registry_is_not_spoken_to_unless_insecure(store: ImageStore, tmp_path: Path) -> None:
    async with serving(FakeRegistry()) as registry:
        registry.push("a", "1", [LAYERS[0]])
        how = Registry(mirrors=[f"https://{registry.host}"])
        image = await pull(store, f"{registry.host}/a:1", registries=Registries({registry.host: how}), retry=SOON)
        assert json.loads(store.blob(image.id).read_bytes())["os"] == "linux"


def a_certificate(folder: Path) -> ssl.SSLContext:
    """Signed by nobody that anyone trusts."""
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1", "-days", "2"]
    subprocess.run([*words, "-keyout", folder / "key", "-out", folder / "cert"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert", folder / "key")
    return context


async def test_tls(store: ImageStore, tmp_path: Path, registry: FakeRegistry) -> None:
    async with serving(FakeRegistry(), a_certificate(tmp_path)) as secure:
        secure.push("a", "1", LAYERS[:1])
        await pull(store, f"{secure.host}/a:1", retry=SOON)  # on loopback no certificate is asked for
        secure.requests.clear()
        how = Registry(mirrors=[f"https://{secure.host}"])  # elsewhere one is
        await pull(store, f"{registry.host}/a:1", registries=Registries({registry.host: how}), retry=SOON)
        assert secure.requests == []


@pytest.mark.parametrize("small", [20, 100, 300, 900, 1300, 1700, 2300], indirect=True)
async def test_a_full_disk(small: Path, registry: FakeRegistry) -> None:
    """Four layers of 300 kB, and the root file system of all: nothing stays of what came before the end."""
    store = ImageStore(small / "images")
    with pytest.raises(Exhausted, match="No space left"):
        await pull(store, f"{registry.host}/a:1", retry=SOON)
    assert store.list() == []
    assert leftovers(store) == []
