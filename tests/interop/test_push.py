"""Pushes to Debian's docker-registry, looked at and fetched again by skopeo."""

import asyncio
import json
import os
import random
import re
import shutil
import subprocess
import tarfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hypercontainer.errors import Denied
from hypercontainer.images import upload
from hypercontainer.images.archive import load
from hypercontainer.images.distribution import distribution
from hypercontainer.images.manifest import OCI_INDEX
from hypercontainer.images.pull import pull
from hypercontainer.images.push import push
from hypercontainer.images.store import ImageStore
from hypercontainer.images.transport import Retry
from hypercontainer.model import arch
from hypercontainer.model.api import Credentials
from hypercontainer.model.documents import Progress
from hypercontainer.testing import layers as made
from hypercontainer.testing.daemon import PrivateDaemon
from tests.interop.registries import docker_registry
from tests.unit.images.looking import chunks, leftovers

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(not all(map(shutil.which, ("docker-registry", "skopeo"))), reason="docker-registry, skopeo"),
]

SOON = Retry(base_s=0.01, cap_s=0.02)
ME = Credentials(username="me", password="secret")
LAYERS = [
    made.layer([made.folder("etc"), made.member("etc/motd", b"hello\n")]),
    made.layer([made.member("big", random.Random(1).randbytes(3_000_000)), made.member("etc/.wh.motd")]),
]


async def skopeo(*words: str | os.PathLike[str]) -> bytes:
    process = await asyncio.create_subprocess_exec(
        "skopeo", *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out


async def inspect(name: str, *words: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(await skopeo("inspect", "--tls-verify=false", *words, f"docker://{name}"))
    return document


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


async def test_a_push_and_the_way_back(store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "CHUNK", 1_000_000)
    async with docker_registry(tmp_path / "registry") as host:
        await load(store, chunks(made.docker_archive(LAYERS, [f"{host}/me/a:1"])))
        [pushed] = await push(store, f"{host}/me/a:1", retry=SOON)
        found = await inspect(f"{host}/me/a:1")
        image = store.get(f"{host}/me/a:1")
        assert found["Digest"] == pushed.digest
        assert image.digests == [f"{host}/me/a@{pushed.digest}"]
        assert found["Layers"] == image.record.layers
        await skopeo("copy", "--src-tls-verify=false", f"docker://{host}/me/a:1", f"oci:{tmp_path / 'oci'}:1")
        index = json.loads((tmp_path / "oci/index.json").read_text())
        assert index["manifests"][0]["digest"] == pushed.digest
        blobs = tmp_path / "oci/blobs/sha256"
        config = json.loads((blobs / image.id.removeprefix("sha256:")).read_text())
        assert config["rootfs"]["diff_ids"] == [made.digest(layer) for layer in LAYERS]
        with tarfile.open(blobs / image.record.layers[1].removeprefix("sha256:")) as layer:
            assert layer.getnames() == ["big", "etc/.wh.motd"]
        other = ImageStore(tmp_path / "other")
        again = await pull(other, f"{host}/me/a:1", retry=SOON)
        assert (again.id, again.digests, again.record.manifest) == (image.id, image.digests, image.record.manifest)
        assert leftovers(store) == []


async def test_what_skopeo_pushed_goes_on_as_it_came(store: ImageStore, tmp_path: Path) -> None:
    """Docker's manifests too; its layers are taken from the other repository."""
    (tmp_path / "a.tar").write_bytes(made.docker_archive(LAYERS, ["a:1"]))
    async with docker_registry(tmp_path / "registry") as host:
        there = f"docker://{host}/from/a:1"
        await skopeo(
            "copy", "--format", "v2s2", "--dest-tls-verify=false", f"docker-archive:{tmp_path / 'a.tar'}", there
        )
        digest = (await inspect(f"{host}/from/a:1"))["Digest"]
        await pull(store, f"{host}/from/a:1", retry=SOON)
        store.tag(f"{host}/from/a:1", f"{host}/to/b:2")
        seen: list[Progress] = []
        [pushed] = await push(store, f"{host}/to/b:2", retry=SOON, report=seen.append)
        assert pushed.digest == digest == (await inspect(f"{host}/to/b:2"))["Digest"]
        assert (await inspect(f"{host}/to/b:2", "--raw")) == (await inspect(f"{host}/from/a:1", "--raw"))
        assert sum(step.action == "Mounted from from/a" for step in seen) == 2
        seen.clear()
        await push(store, f"{host}/to/b:2", retry=SOON, report=seen.append)
        assert sum(step.action == "Layer already exists" for step in seen) == 2


async def test_an_index_that_it_came_of(store: ImageStore, tmp_path: Path) -> None:
    """What was pulled through an index goes to another repository with the digest that the index names: the index is
    as good there. skopeo takes it from there."""
    async with docker_registry(tmp_path / "registry") as host:
        manifests = []
        for architecture in "amd64", "arm64":
            name = f"{host}/from/a:{architecture}"
            await load(store, chunks(made.docker_archive(LAYERS, [name], architecture=architecture)))
            [pushed] = await push(store, name, retry=SOON)
            platform = {"os": "linux", "architecture": architecture}
            kind = "application/vnd.oci.image.manifest.v1+json"
            manifests.append({"mediaType": kind, "digest": pushed.digest, "size": pushed.size, "platform": platform})
        index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}).encode()
        await put(host, "from/a", index)
        found = await distribution(f"{host}/from/a:many", retry=SOON)
        assert [(p.os, p.architecture) for p in found.platforms] == [("linux", "amd64"), ("linux", "arm64")]

        other = ImageStore(tmp_path / "other")
        for architecture, wanted in zip(("arm64", "amd64"), reversed(manifests), strict=True):
            name = f"{host}/from/a@{found.descriptor.digest}"
            image = await pull(other, name, platform=f"linux/{architecture}", retry=SOON)
            assert image.digests == sorted(f"{host}/from/a@{d}" for d in (wanted["digest"], found.descriptor.digest))
            other.tag(image.id, f"{host}/to/b:{architecture}")
            seen: list[Progress] = []
            [pushed] = await push(other, f"{host}/to/b:{architecture}", retry=SOON, report=seen.append)
            assert pushed.digest == wanted["digest"] == (await inspect(f"{host}/to/b:{architecture}"))["Digest"]
        await pull(other, f"{host}/from/a:many", retry=SOON)
        [pushed] = await push(other, f"{host}/from/a:many", retry=SOON)
        raw = await skopeo("inspect", "--tls-verify=false", "--raw", f"docker://{host}/from/a:many")
        assert made.digest(raw) == pushed.digest == found.descriptor.digest
        assert other.get(f"{host}/from/a@{found.descriptor.digest}").record.architecture == arch.host().docker
        await put(host, "to/b", index)  # it refuses an index of what it does not have
        raw = await skopeo("inspect", "--tls-verify=false", "--raw", f"docker://{host}/to/b:many")
        assert made.digest(raw) == found.descriptor.digest
        everything = ("--all", "--src-tls-verify=false", f"docker://{host}/to/b:many", f"oci:{tmp_path / 'oci'}:many")
        await skopeo("copy", *everything)
        blobs = {f"sha256:{path.name}" for path in (tmp_path / "oci/blobs/sha256").iterdir()}
        assert {str(each["digest"]) for each in manifests} <= blobs


async def put(host: str, repository: str, index: bytes) -> None:
    """An index under the tag `many`, for which we have no command."""
    url = f"http://{host}/v2/{repository}/manifests/many"
    async with (
        aiohttp.ClientSession() as http,
        http.put(url, data=index, headers={"Content-Type": OCI_INDEX}) as response,
    ):
        assert response.status == 201, await response.text()


async def test_with_a_password(store: ImageStore, tmp_path: Path) -> None:
    async with docker_registry(tmp_path / "registry", auth=True) as host:
        await load(store, chunks(made.docker_archive(LAYERS[:1], [f"{host}/a:1"])))
        await load(store, chunks(made.docker_archive(LAYERS, [f"{host}/a:2"])))
        for wrong in (None, Credentials(username="me", password="wrong")):
            with pytest.raises(Denied):
                await push(store, f"{host}/a:1", retry=SOON, credentials=wrong)
        pushed = await push(store, f"{host}/a", all_tags=True, retry=SOON, credentials=ME)
        assert [one.tag for one in pushed] == ["1", "2"]
        for one in pushed:
            found = await inspect(f"{host}/a:{one.tag}", "--creds", "me:secret")
            assert found["Digest"] == one.digest


class Relay:
    """Between us and a registry: aborts a connection when `cut` says so of how many bytes it has carried to the
    registry, and of a piece that comes from there (or b""). `sent` counts the bytes of all connections."""

    def __init__(self, registry: str, cut: Callable[[int, bytes], bool]) -> None:
        self._there, self._cut = registry.split(":"), cut
        self.sent = 0

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        async with server:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._there)
        carried = 0

        async def up() -> None:
            nonlocal carried
            while data := await reader.read(65536):
                self.sent += len(data)
                carried += len(data)
                back.write(data)
                await back.drain()
                if self._cut(carried, b""):
                    break

        async def down() -> None:
            while data := await there.read(65536):
                writer.write(data)
                await writer.drain()
                if self._cut(carried, data):
                    break

        tasks = [asyncio.create_task(up()), asyncio.create_task(down())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        for one in (writer, back):
            one.transport.abort()


async def test_a_connection_that_breaks_in_the_midst(
    store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a chunk: the registry, which has a part of it, gives that upload up. It begins again."""
    monkeypatch.setattr(upload, "CHUNK", 500_000)
    left = [400_000, 1_200_000]

    def cut(sent: int, _: bytes) -> bool:
        return bool(left) and sent >= left[0] and bool(left.pop(0))

    async with docker_registry(tmp_path / "registry") as host, Relay(host, cut).serve() as relay:
        name = f"{relay}/a"
        await load(store, chunks(made.docker_archive(LAYERS, [f"{name}:1"])))
        [pushed] = await push(store, f"{name}:1", retry=SOON)
        assert (await inspect(f"{host}/a:1"))["Digest"] == pushed.digest
        assert left == []


async def test_a_connection_that_breaks_between_chunks(
    store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry is asked how far it has come, and what it has is not sent again."""
    monkeypatch.setattr(upload, "CHUNK", 100_000)
    kept: set[bytes] = set()

    def cut(_: int, answer: bytes) -> bool:
        """After each tenth of its words that it has a chunk."""
        said = set(re.findall(rb"\r\nRange: 0-[0-9]*99999\r\n", answer)) - kept
        kept.update(said)
        return bool(said) and len(kept) % 10 == 0

    async with docker_registry(tmp_path / "registry") as host:
        between = Relay(host, cut)
        async with between.serve() as relay:
            name = f"{relay}/a"
            await load(store, chunks(made.docker_archive(LAYERS, [f"{name}:1"])))
            [pushed] = await push(store, f"{name}:1", retry=SOON)
        assert (await inspect(f"{host}/a:1"))["Digest"] == pushed.digest
        size = sum(store.blob(layer).stat().st_size for layer in store.get(f"{name}:1").record.layers)
        assert len(kept) == size // 100_000
        assert size > 3_000_000 and between.sent < size + 100_000  # the heads of some forty requests


async def test_what_a_person_sees(hyper: PrivateDaemon, tmp_path: Path) -> None:
    """Login, push, and the digest in the list of images."""
    env = {**hyper.env, "DOCKER_CONFIG": str(tmp_path / "docker")}

    def ctl(*words: str, stdin: bytes = b"") -> str:
        done = subprocess.run(hyper.argv(*words), env=env, input=stdin, capture_output=True, timeout=300)
        assert done.returncode == 0, (words, done)
        return done.stdout.decode()

    async with docker_registry(tmp_path / "registry", auth=True) as host:

        def story() -> tuple[list[str], str]:
            ctl("tag", "busybox", f"{host}/bb:1")
            assert "log in first" in hyper.ctl("push", f"{host}/bb:1").err
            ctl("login", "-u", "me", "--password-stdin", host, stdin=b"secret")
            lines = ctl("push", f"{host}/bb:1").splitlines()
            listed = ctl("images", "--digests", "--format", "{{.Digest}}", f"{host}/bb")
            assert ctl("push", "-q", f"{host}/bb:1") == f"{host}/bb:1\n"
            ctl("rmi", f"{host}/bb:1")
            return lines, listed.strip()

        lines, digest = await asyncio.to_thread(story)
        assert lines[0] == f"The push refers to repository [{host}/bb]"
        assert re.fullmatch(rf"1: digest: {digest} size: [0-9]+", lines[-1])
        assert sum(line.endswith(": Pushed") for line in lines) == 1
        assert (await inspect(f"{host}/bb:1", "--creds", "me:secret"))["Digest"] == digest
