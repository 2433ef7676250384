"""Images against peers: Debian's docker-registry serves them, skopeo moves them, umoci unpacks them too."""

import asyncio
import hashlib
import json
import os
import shutil
import stat
import struct
import tarfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest
from backports import zstd

from hypercontainer.errors import Denied
from hypercontainer.images.archive import load
from hypercontainer.images.pull import pull
from hypercontainer.images.registry import BadBlob, login
from hypercontainer.images.save import save
from hypercontainer.images.store import ImageStore
from hypercontainer.images.transport import Retry
from hypercontainer.model.api import Credentials
from hypercontainer.testing import layers as made
from tests.interop.registries import docker_registry
from tests.unit.images.looking import check_erofs, chunks, leftovers, mounted
from tests.unit.images.registries import FakeRegistry, Fault, serving

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes devices, mounts"),
    pytest.mark.skipif(
        not all(map(shutil.which, ("docker-registry", "skopeo", "umoci"))), reason="docker-registry, skopeo, umoci"
    ),
]

SOON = Retry(base_s=0.01, cap_s=0.02)
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
LAYERS = [
    made.layer(
        [
            made.folder("./", mode=0o755, mtime=3),
            made.folder("bin", mode=0o755),
            made.member("bin/busybox", Path("/bin/busybox").read_bytes(), mode=0o4755),
            made.member("bin/ping", b"#!ping", mode=0o755, xattrs={"security.capability": CAPABILITY}),
            made.hardlink("bin/sh", "bin/busybox", mode=0o4755),
            made.symlink("bin/ls", "/bin/busybox", uid=3, gid=4),
            made.folder("etc", mode=0o750, uid=1, gid=2, mtime=1000),
            made.member(
                "etc/passwd", b"root:x:0:0::/:/bin/sh\n", mode=0o640, uid=7, gid=8, xattrs={"user.note": b"hi"}
            ),
            made.member("etc/gone", b"1"),
            made.member("etc/conf.d/old", b"1"),
            made.folder("tmp", mode=0o1777),
            made.folder("srv", mode=0o2770, gid=50),
            made.member("dev/null", kind=tarfile.CHRTYPE, device=(1, 3), mode=0o666),
            made.member("run/fifo", kind=tarfile.FIFOTYPE, mode=0o600),
            made.folder("usr/lib"),
            made.symlink("lib", "usr/lib"),
        ]
    ),
    made.layer(
        [
            made.member("etc/.wh.gone"),
            made.folder("etc/conf.d", mtime=2000),
            made.member("etc/conf.d/.wh..wh..opq"),
            made.member("etc/conf.d/new", b"2"),
            made.member("lib/libx.so", b"elf", mode=0o755),
            made.member("srv/page", b"<h1>", gid=50),
            made.member("big", os.urandom(300_000) + bytes(700_000)),
        ]
    ),
]


async def run(*words: str | Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()


async def skopeo(*words: str | Path) -> None:
    await run("skopeo", "--insecure-policy", *words)


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "image.tar"
    path.write_bytes(made.docker_archive(LAYERS, ["test:1"]))
    return path


@pytest.fixture
async def registry(tmp_path: Path, archive: Path) -> AsyncIterator[str]:
    """docker-registry with the image test:1 in it."""
    async with docker_registry(tmp_path / "registry") as host:
        await skopeo("copy", "--dest-tls-verify=false", f"docker-archive:{archive}", f"docker://{host}/test:1")
        yield host


class Seen(NamedTuple):
    """What there is to know of a file."""

    mode: int
    uid: int
    gid: int
    mtime: int
    links: int
    device: int
    content: str
    xattrs: dict[str, bytes]


def look(root: Path, wanted: Callable[[str], bool] = lambda _: True) -> dict[str, Seen]:
    """Every file below `root`."""
    out = {}
    for here, folders, files in os.walk(root):
        for name in [*folders, *files, *([""] if Path(here) == root else [])]:
            path = Path(here, name)
            status = path.lstat()
            is_file, is_link = stat.S_ISREG(status.st_mode), path.is_symlink()
            content = hashlib.sha256(path.read_bytes()).hexdigest() if is_file else os.readlink(path) if is_link else ""
            xattrs = {k: os.getxattr(path, k, follow_symlinks=False) for k in os.listxattr(path, follow_symlinks=False)}
            out[str(path.relative_to(root))] = Seen(
                status.st_mode,
                status.st_uid,
                status.st_gid,
                int(status.st_mtime),
                0 if stat.S_ISDIR(status.st_mode) else status.st_nlink,
                status.st_rdev,
                content,
                {k: v for k, v in xattrs.items() if k.startswith("user.") or k == "security.capability"},
            )
    return out


async def test_umoci_makes_the_same_tree(store: ImageStore, archive: Path, tmp_path: Path) -> None:
    await skopeo("copy", f"docker-archive:{archive}", f"oci:{tmp_path}/oci:1")
    await run("umoci", "unpack", "--image", f"{tmp_path}/oci:1", tmp_path / "bundle")
    [image] = await load(store, chunks(archive.read_bytes()))
    with mounted(store.rootfs(image), tmp_path / "mount") as root:
        ours, theirs = look(root), look(tmp_path / "bundle" / "rootfs")
    assert (ours["."].mtime, ours["etc"].mtime) == (3, 1000)  # the second layer changes them and does not say when
    for name in (".", "etc", "dev", "run", "usr"):  # of the others no layer speaks at all
        theirs[name] = theirs[name]._replace(mtime=ours[name].mtime)
    assert ours.keys() == theirs.keys()
    assert {n: (ours[n], theirs[n]) for n in ours if ours[n] != theirs[n]} == {}
    assert ours["bin/busybox"].links == 2 and ours["bin/ping"].xattrs and ours["etc/passwd"].xattrs


async def test_a_pull_from_docker_registry(store: ImageStore, registry: str) -> None:
    image = await pull(store, f"{registry}/test:1", retry=SOON)
    assert image.record.diff_ids == [made.digest(layer) for layer in LAYERS]
    check_erofs(store.rootfs(image))
    again = await pull(store, image.digests[0], retry=SOON)
    assert again.id == image.id
    assert leftovers(store) == []


@pytest.mark.parametrize("form", ["v2s2", "oci"])
async def test_both_kinds_of_manifest(store: ImageStore, registry: str, archive: Path, form: str) -> None:
    await skopeo(
        "copy",
        "--dest-tls-verify=false",
        "--format",
        form,
        f"docker-archive:{archive}",
        f"docker://{registry}/x:{form}",
    )
    image = await pull(store, f"{registry}/x:{form}", retry=SOON)
    said = json.loads(store.blob(image.record.manifest).read_bytes())
    assert ("oci" in said["mediaType"]) == (form == "oci")


async def test_zstd_layers(store: ImageStore, tmp_path: Path) -> None:
    files = made.oci_files(LAYERS, compress=zstd.compress)
    index = json.loads(files["index.json"])
    index["manifests"][0]["annotations"] = {"org.opencontainers.image.ref.name": "1"}
    files["index.json"] = json.dumps(index).encode()
    for name, data in files.items():
        (tmp_path / "oci" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "oci" / name).write_bytes(data)
    async with docker_registry(tmp_path / "registry") as host:
        await skopeo("copy", "--dest-tls-verify=false", f"oci:{tmp_path}/oci:1", f"docker://{host}/x:zstd")
        image = await pull(store, f"{host}/x:zstd", retry=SOON)
    assert {store.blob(digest).read_bytes()[:4] for digest in image.record.layers} == {b"\x28\xb5\x2f\xfd"}


async def test_an_index_in_docker_registry(store: ImageStore, registry: str) -> None:
    accept = {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://{registry}/v2/test/manifests/1", headers=accept) as answer:
            data, kind = await answer.read(), answer.content_type
        here = {"mediaType": kind, "digest": made.digest(data), "size": len(data)}
        index = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json",
            "manifests": [{**here, "platform": {"os": "linux", "architecture": "amd64"}}],
        }
        url = f"http://{registry}/v2/test/manifests/many"
        async with session.put(url, json=index, headers={"Content-Type": str(index["mediaType"])}) as answer:
            assert answer.status == 201, await answer.text()
    image = await pull(store, f"{registry}/test:many", platform="linux/amd64", retry=SOON)
    assert len(image.digests) == 2


async def test_basic_authorization(store: ImageStore, archive: Path, tmp_path: Path) -> None:
    async with docker_registry(tmp_path / "registry", auth=True) as host:
        await skopeo(
            "copy",
            "--dest-tls-verify=false",
            "--dest-creds=me:secret",
            f"docker-archive:{archive}",
            f"docker://{host}/test:1",
        )
        with pytest.raises(Denied, match=rf"{host} wants credentials: log in first \(hyperctl login {host}\)"):
            await pull(store, f"{host}/test:1", retry=SOON)
        with pytest.raises(Denied):
            await pull(store, f"{host}/test:1", credentials=Credentials(username="me", password="no"), retry=SOON)
        await pull(store, f"{host}/test:1", credentials=Credentials(username="me", password="secret"), retry=SOON)
        await login(host, None, Credentials(username="me", password="secret"), SOON)
        with pytest.raises(Denied, match=f"{host} refuses these credentials"):
            await login(host, None, Credentials(username="me", password="no"), SOON)


async def test_faults_between_us_and_docker_registry(store: ImageStore, registry: str) -> None:
    """A proxy that is busy, breaks, cuts blobs in the middle and garbles them."""
    async with serving(FakeRegistry(upstream=f"http://{registry}")) as proxy:
        proxy.faults = [
            Fault("/manifests/", status=429, headers={"Retry-After": "0"}),
            Fault("/manifests/", status=500),
            Fault("/blobs/", times=3, cut_after=70_000),
        ]
        image = await pull(store, f"{proxy.host}/test:1", retry=SOON)
        assert [h["Range"] for _, _, h in proxy.requests if "Range" in h]
        store.remove(image.id)
        proxy.faults = [Fault("/blobs/", times=100, change=lambda data: data[:-1] + bytes([data[-1] ^ 1]))]
        with pytest.raises(BadBlob, match=r"blob sha256:\w+ came with digest sha256:"):
            await pull(store, f"{proxy.host}/test:1", retry=SOON)
        assert leftovers(store) == []


@pytest.mark.parametrize("form", ["docker", "oci"])
async def test_skopeo_reads_what_we_save(store: ImageStore, registry: str, tmp_path: Path, form: str) -> None:
    image = await pull(store, f"{registry}/test:1", retry=SOON)
    saved = tmp_path / "saved.tar"
    with open(saved, "wb") as f:
        async for piece in save(store, [image.names[0]], form):  # type: ignore[arg-type]
            f.write(piece)
    source = f"docker-archive:{saved}" if form == "docker" else f"oci-archive:{saved}:1"
    await skopeo("copy", source, f"oci:{tmp_path}/again:1")
    index = json.loads((tmp_path / "again" / "index.json").read_bytes())
    manifest = tmp_path / "again" / "blobs" / "sha256" / index["manifests"][0]["digest"].removeprefix("sha256:")
    config = tmp_path / "again" / "blobs" / "sha256" / json.loads(manifest.read_bytes())["config"]["digest"][7:]
    assert json.loads(config.read_bytes())["rootfs"]["diff_ids"] == image.record.diff_ids


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
async def test_we_read_what_skopeo_saves(store: ImageStore, registry: str, tmp_path: Path, form: str) -> None:
    saved = tmp_path / "saved.tar"
    name = f":{registry}/test:1" if form == "docker-archive" else ":localhost/named:2"
    await skopeo("copy", "--src-tls-verify=false", f"docker://{registry}/test:1", f"{form}:{saved}{name}")
    [image] = await load(store, chunks(saved.read_bytes()))
    assert image.record.diff_ids == [made.digest(layer) for layer in LAYERS]
    assert image.names == [name[1:]]


async def test_zstd_chunked_as_skopeo_writes_it(store: ImageStore, archive: Path, tmp_path: Path) -> None:
    """It leaves out the zeros at a layer's end, which the digest in the configuration counts."""
    chunked, saved = f"oci-archive:{tmp_path}/chunked.tar:1", tmp_path / "saved.tar"
    await skopeo("copy", "--dest-compress-format", "zstd:chunked", f"docker-archive:{archive}", chunked)
    [image] = await load(store, chunks((tmp_path / "chunked.tar").read_bytes()))
    assert image.record.diff_ids == [made.digest(layer) for layer in LAYERS]
    with open(saved, "wb") as f:
        async for piece in save(store, [image.id], "docker"):
            f.write(piece)
    await skopeo("copy", f"docker-archive:{saved}", f"oci:{tmp_path}/again:1")
