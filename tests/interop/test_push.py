"""Pushes to Debian's docker-registry, looked at and fetched again by skopeo."""

import asyncio
import json
import os
import random
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.errors import Denied
from hypercontainer.images import upload
from hypercontainer.images.archive import load
from hypercontainer.images.pull import pull
from hypercontainer.images.push import push
from hypercontainer.images.store import ImageStore
from hypercontainer.images.transport import Retry
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


async def test_a_connection_that_breaks_in_the_midst(
    store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between us and the registry a relay cuts the first uploads short."""
    monkeypatch.setattr(upload, "CHUNK", 500_000)
    cuts = iter([400_000, 1_200_000])

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*host.split(":"))
        left = next(cuts, 1 << 60)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, most: int) -> None:
            while most > 0 and (data := await source.read(min(65536, most))):
                most -= len(data)
                sink.write(data)
                await sink.drain()
            sink.transport.abort() if most <= 0 else sink.close()

        tasks = [asyncio.create_task(pump(reader, back, left)), asyncio.create_task(pump(there, writer, 1 << 60))]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        for one in (writer, back):
            one.transport.abort()

    async with docker_registry(tmp_path / "registry") as host:
        server = await asyncio.start_server(relay, "127.0.0.1", 0)
        name = f"127.0.0.1:{server.sockets[0].getsockname()[1]}/a"
        await load(store, chunks(made.docker_archive(LAYERS, [f"{name}:1"])))
        [pushed] = await push(store, f"{name}:1", retry=SOON)
        server.close()
        assert (await inspect(f"{host}/a:1"))["Digest"] == pushed.digest
        assert next(cuts, None) is None


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
