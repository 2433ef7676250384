"""Names, removals, sweeps; and that nobody's death breaks the store."""

import asyncio
import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hypercontainer.errors import Exhausted, HyperError, InUse, InvalidInput, NotFound, OtherPlatform
from hypercontainer.images import platform
from hypercontainer.images.archive import load
from hypercontainer.images.index import Image
from hypercontainer.images.store import ImageStore
from hypercontainer.images.workspace import Workspace
from hypercontainer.model import arch
from hypercontainer.testing import layers as made
from tests.unit.images.looking import check_erofs, chunks, leftovers

FIXTURES = Path(__file__).parents[2] / "fixtures"
BASE = made.layer([made.folder("etc"), made.member("etc/motd", b"hello\n")])
TOP = made.layer([made.member("data", b"x" * 10_000)])
TAGS = ["a:1", "a:2", "b:1"]


async def one(store: ImageStore, layers: list[bytes], names: list[str]) -> Image:
    [image] = await load(store, chunks(made.docker_archive(layers, names)))
    return image


def said(store: ImageStore, name: str, **how: object) -> list[str]:
    return [r.untagged or r.deleted for r in store.remove(name, **how)]  # type: ignore[arg-type]


async def test_untag_then_delete(store: ImageStore) -> None:
    image = await one(store, [BASE, TOP], ["a:1", "a:2"])
    assert said(store, "a:1") == ["a:1"]
    assert store.get("a:2").names == ["a:2"]
    top, bottom = image.record.chain, made.digest(BASE)
    assert said(store, "a:2") == ["a:2", image.id, f"sha256:{top}", bottom]
    assert store.list() == []
    assert leftovers(store) == []
    with pytest.raises(NotFound):
        store.get(image.id)


async def test_shared_layers_stay(store: ImageStore) -> None:
    both = await one(store, [BASE, TOP], ["both"])
    base = await one(store, [BASE], ["base"])
    assert said(store, "both:latest") == ["both:latest", both.id, f"sha256:{both.record.chain}"]
    check_erofs(store.rootfs(base))
    assert store.blob(made.digest(BASE)).exists()
    assert not store.blob(made.digest(TOP)).exists()


async def test_removal_by_id(store: ImageStore) -> None:
    image = await one(store, [BASE], TAGS)
    with pytest.raises(InUse, match="several repositories"):
        store.remove(image.id[7:19])
    assert said(store, image.id[7:19], force=True)[:4] == [*TAGS, image.id]
    assert leftovers(store) == []


async def of(store: ImageStore, architecture: str, names: list[str], layer: bytes = BASE, **said: str) -> Image:
    """One for a platform."""
    [image] = await load(store, chunks(made.docker_archive([layer], names, architecture=architecture, **said)))
    return image


@pytest.mark.skipif(platform.host().architecture == "arm64", reason="here that is the one that runs")
async def test_a_name_has_an_image_for_each_platform(store: ImageStore) -> None:
    arm, power = await of(store, "arm64", ["a"], variant="v8"), await of(store, "ppc64le", ["a"])
    assert (store.get("a").id, store.get("a", "linux/arm64").id) == (power.id, arm.id)  # none runs here: the last one
    here = await of(store, platform.host().architecture, ["a", "b"])
    assert store.get("a").id == here.id and store.get("b", "").id == here.id
    assert [store.get("a", each).id for each in ("arm64", "linux/arm64/v8", "ppc64le")] == [arm.id] * 2 + [power.id]
    with pytest.raises(NotFound, match=r"no such image: b \(not for linux/arm64: what is here is for linux/"):
        store.get("b", "linux/arm64")
    assert all(image.names[:1] == ["a:latest"] for image in store.list())


async def test_another_one_for_the_same_platform_takes_the_name(store: ImageStore) -> None:
    old, power = await of(store, "arm64", ["a"]), await of(store, "ppc64le", ["a"])
    new = await of(store, "arm64", ["a"], TOP, variant="v8")  # what arm64 alone means
    assert [store.get("a", each).id for each in ("arm64", "ppc64le")] == [new.id, power.id]
    assert store.get(old.id).names == []


@pytest.mark.skipif(platform.host().architecture == "arm64", reason="here that is the one that runs")
async def test_names_are_given_and_taken_of_one_platform(store: ImageStore) -> None:
    arm, power = await of(store, "arm64", ["a"]), await of(store, "ppc64le", ["a"])
    store.tag("a", "b", "linux/arm64")
    assert [image.id for image in store.named("b")] == [arm.id]
    assert [image.id for image in store.named("a", ["ppc64le", "arm64"])] == [arm.id, power.id]
    for refused in (lambda: store.tag("a", "c", "s390x"), lambda: store.remove("a", wanted=["arm64", "s390x"])):
        with pytest.raises(
            OtherPlatform, match=r"a \(not for linux/s390x: what is here is for linux/arm64, linux/ppc64le"
        ):
            refused()
    assert said(store, "a", wanted=["linux/ppc64le"])[:2] == ["a:latest", power.id]
    assert [image.id for image in store.named("a")] == [arm.id]


async def test_names_are_given_and_taken_of_all_platforms(store: ImageStore) -> None:
    arm, power = await of(store, "arm64", ["a"]), await of(store, "ppc64le", ["a"])
    store.tag("a", "b")
    store.tag(arm.id, "c")
    assert store.get("b", "ppc64le").id == power.id and store.get(arm.id).names == ["a:latest", "b:latest", "c:latest"]
    assert said(store, "a") == ["a:latest"]
    assert said(store, "b")[:2] == ["b:latest", power.id]  # the other one has a name yet
    with pytest.raises(InUse, match="web uses it"):
        store.remove("c", users=lambda _: "container web")
    assert store.get("c").id == arm.id
    assert store.prune(all=True).deleted == [arm.id]
    assert leftovers(store) == []


async def test_an_index_of_before_is_read(store: ImageStore) -> None:
    image = await one(store, [BASE], ["a:1", "b:2"])
    path = store.root / "index.json"
    document = json.loads(path.read_text())
    assert document["version"] == 3 and document["names"] == {
        f"docker.io/library/{n}": [image.id] for n in ("a:1", "b:2")
    }
    before = json.loads((FIXTURES / "images/2.json").read_text())
    path.write_text(json.dumps(before))
    [old] = store.list()
    assert sorted(before["names"]) == ["docker.io/library/busybox:latest", "example.com/other:1"]
    assert store.get("busybox").id == store.get("example.com/other:1").id == old.id


async def test_an_image_in_use_stays(store: ImageStore) -> None:
    image = await one(store, [BASE], ["a:1", "a:2"])

    def users(image_id: str) -> str | None:
        return "container web" if image_id == image.id else None

    assert said(store, "a:1", users=users) == ["a:1"]  # it has another name
    for name in ("a:2", image.id):
        with pytest.raises(InUse, match="container web uses it"):
            store.remove(name, users=users)
    assert said(store, "a:2", users=users, force=True) == ["a:2"]
    assert store.get(image.id).names == []
    assert store.prune(users=users).deleted == []
    assert store.rootfs(image).exists()
    pruned = store.prune()
    assert (pruned.deleted, pruned.space_reclaimed > 0) == ([image.id], True)
    assert leftovers(store) == []


async def test_prune(store: ImageStore) -> None:
    first = await one(store, [BASE], ["a"])
    second = await one(store, [TOP], ["a"])
    assert store.prune().deleted == [first.id]
    assert store.prune(all=True).deleted == [second.id]
    assert store.list() == []


async def test_tags(store: ImageStore) -> None:
    image = await one(store, [BASE], ["a"])
    store.tag("a", "localhost:5000/x/y:z")
    assert store.get("localhost:5000/x/y:z").id == image.id
    store.tag(image.id[7:15], "c")
    assert store.get("docker.io/library/c:latest").names == ["a:latest", "c:latest", "localhost:5000/x/y:z"]
    for bad in ("../x", "-x", "X", "a@" + image.id, "", "0" * 64):
        with pytest.raises(InvalidInput):
            store.tag("a", bad)
    with pytest.raises(NotFound):
        store.tag("nobody", "d")


async def test_ids(store: ImageStore) -> None:
    image = await one(store, [BASE], [])
    assert store.get(image.id) == store.get(image.id[7:]) == store.get(image.id[:15]) == image
    with pytest.raises(NotFound):
        store.get("sha256:" + "0" * 64)
    with pytest.raises(NotFound):
        store.remove("nobody")


async def test_documents(store: ImageStore) -> None:
    said: dict[str, object] = {
        "Env": ["A=1"],
        "Cmd": None,
        "Entrypoint": ["/x"],
        "ExposedPorts": {"80/tcp": {}},
        "Volumes": {"/data": {}},
        "Labels": {"k": "v"},
        "WorkingDir": "/w",
        "User": "www:33",
        "StopSignal": "SIGINT",
        "Healthcheck": {"Test": ["NONE"]},
    }
    history = [
        {"created": "2024-01-01T00:00:00Z", "created_by": "ADD base"},
        {"created": "2024-01-02T00:00:00Z", "created_by": "ENV A=1", "empty_layer": True},
        {"created": "2024-01-03T00:00:00Z", "created_by": "ADD top", "comment": "last"},
    ]
    archive = made.docker_archive([BASE, TOP], ["a"], config=said, history=history, author="me")
    [image] = await load(store, chunks(archive))
    document = store.inspect(image)
    assert (document.id, document.repo_tags, document.size) == (image.id, ["a:latest"], 10_006)
    assert (document.author, document.comment, document.architecture) == ("me", "last", arch.host().docker)
    assert document.created == "2024-05-06T07:08:09.123456789Z"
    assert document.root_fs.layers == [made.digest(BASE), made.digest(TOP)]
    config = store.config(image)
    assert (config.env, config.cmd, config.entrypoint, config.user) == (["A=1"], None, ["/x"], "www:33")
    assert (config.exposed_ports, config.volumes, config.labels) == ({"80/tcp": {}}, {"/data": {}}, {"k": "v"})
    assert (config.working_dir, config.stop_signal) == ("/w", "SIGINT")
    entry = store.entry(image)
    assert (entry.id, entry.labels, entry.created, entry.containers) == (image.id, {"k": "v"}, 1714979289, -1)
    lines = store.history(image)
    assert [(e.created_by, e.size) for e in lines] == [("ADD top", 10_000), ("ENV A=1", 0), ("ADD base", 6)]
    assert [e.id for e in lines] == [image.id, "<missing>", "<missing>"]
    assert lines[0].tags == ["a:latest"]


# several at once, and dying


def loader(root: Path, archive: Path) -> "subprocess.Popen[bytes]":
    program = (
        "import asyncio, sys; from pathlib import Path; from hypercontainer.images.store import ImageStore\n"
        "from hypercontainer.images.archive import load\n"
        "async def chunks():\n"
        "    with open(sys.argv[2], 'rb') as f:\n"
        "        while data := f.read(65536): yield data\n"
        "print('ready', flush=True)\n"
        "asyncio.run(load(ImageStore(Path(sys.argv[1])), chunks()))\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program, root, archive], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


async def test_several_processes_at_once(store: ImageStore, tmp_path: Path) -> None:
    archives = []
    for n in range(3):
        archives.append(tmp_path / f"{n}.tar")
        layers = [BASE, made.layer([made.member("n", b"%d" % n)])]
        archives[n].write_bytes(made.docker_archive(layers, ["same", f"own:{n}"]))
    processes = [loader(store.root, archive) for archive in archives for _ in range(2)]
    for process in processes:
        _, stderr = await asyncio.to_thread(process.communicate, timeout=60)
        assert process.returncode == 0, stderr
    assert len(store.list()) == 3
    assert store.get("same").id in {store.get(f"own:{n}").id for n in range(3)}
    for image in store.list():
        check_erofs(store.rootfs(image))
    assert leftovers(store) == []


# Loads the archive again and again, each time in a fork of its own that kills itself at one step further: a step is
# any call that Python reports to its auditors and that could change the store. Ends with the first that gets through.
DYING = """
import asyncio, os, signal, sys
from pathlib import Path
from hypercontainer.images.archive import load
from hypercontainer.images.store import ImageStore

STEPS = {"open", "os.link", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "subprocess.Popen",
         "fcntl.flock", "shutil.rmtree", "os.scandir"}

async def chunks():
    with open(sys.argv[2], "rb") as f:
        while data := f.read(65536):
            yield data

def run(root, steps):
    left = [steps]
    def step(event, args):
        if event in STEPS:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(step)
    asyncio.run(load(ImageStore(root), chunks()))

for steps in range(int(sys.argv[3]), 10_000, int(sys.argv[4])):
    pid = os.fork()
    if not pid:
        run(Path(sys.argv[1]) / str(steps), steps)
        os._exit(0)
    if os.waitpid(pid, 0)[1] == 0:
        break
"""


def wait_for_orphans(root: Path) -> None:
    """The unpacker of a killed loader runs on for a moment, and holds the workspace's lock."""
    for lock in root.glob("work/*/lock"):
        with open(lock, "rb") as f:
            fcntl.flock(f, fcntl.LOCK_EX)


def test_a_killed_loader_leaves_the_store_sound(tmp_path: Path) -> None:
    """Killed at any step, it has loaded the image or nothing; what it leaves the next that opens the store sweeps."""
    archive = tmp_path / "a.tar"
    archive.write_bytes(made.docker_archive([BASE, TOP], ["a"]))
    roots = tmp_path / "roots"
    subprocess.run([sys.executable, "-c", DYING, roots, archive, "0", "1"], check=True, timeout=200)
    every = sorted(roots.iterdir(), key=lambda path: int(path.name))
    loaded = []
    for root in every:
        wait_for_orphans(root)
        store = ImageStore(root)
        loaded.append(len(store.list()))
        for image in store.list():
            check_erofs(store.rootfs(image))
            assert made.digest(store.blob(image.id).read_bytes()) == image.id
        assert [name for name in leftovers(store) if not name.startswith("blobs/")] == []
        store.sweep(partial_s=0)
        assert leftovers(store) == []
    assert len(every) > 30
    assert loaded == sorted(loaded)  # nothing before some step, the image from then on
    assert (loaded[0], loaded[-1]) == (0, 1)


def test_a_held_workspace_is_not_swept(store: ImageStore) -> None:
    work = Workspace.make(store.root / "work")
    ImageStore(store.root).sweep(partial_s=0)
    assert work.path.exists()
    os.close(work.lock)
    ImageStore(store.root)
    assert not work.path.exists()


@pytest.mark.parametrize("small", [40, 100, 300, 1040, 1048, 1056, 1100, 1300, 1700, 2000, 2040, 2060], indirect=True)
async def test_a_full_disk(small: Path) -> None:
    """1 MiB of files: the layer and the EROFS file take it twice."""
    store = ImageStore(small / "images")
    with pytest.raises(Exhausted, match=r"cannot .*[Nn]o space left"):
        await load(store, chunks(made.docker_archive([made.layer([made.member("f", b"x" * (1 << 20))])])))
    assert store.list() == []
    assert leftovers(store) == []


def bomb(byte: bytes, *, inside: bool) -> bytes:
    """100 MiB of `byte`, compressed in the layer or with the archive."""
    layer = made.layer([made.member("f", byte * (100 << 20))])
    return made.archive(made.oci_files([layer])) if inside else made.gzipped(made.docker_archive([layer]))


@pytest.mark.parametrize("small", [65536], indirect=True)
@pytest.mark.parametrize("inside", [False, True], ids=["of the archive", "of a layer"])
async def test_kilobytes_that_become_zeros_take_no_room(small: Path, inside: bool) -> None:
    store = ImageStore(small / "images")
    before = shutil.disk_usage(small).used
    [image] = await load(store, chunks(bomb(b"\0", inside=inside)))
    assert sum(image.record.sizes) == 100 << 20
    assert shutil.disk_usage(small).used - before < 1 << 20


@pytest.mark.parametrize("small", [65536], indirect=True)
@pytest.mark.parametrize("inside", [False, True], ids=["of the archive", "of a layer"])
async def test_kilobytes_that_become_more_than_the_disk_has(small: Path, inside: bool) -> None:
    store = ImageStore(small / "images")
    archive = bomb(b"x", inside=inside)
    assert len(archive) < 1 << 20
    with pytest.raises(Exhausted, match=r"cannot .*[Nn]o space left"):
        await load(store, chunks(archive))
    assert store.list() == []
    assert leftovers(store) == []


@pytest.mark.parametrize("small", [8192], indirect=True)
async def test_a_disk_that_is_large_enough(small: Path) -> None:
    store = ImageStore(small / "images")
    await load(store, chunks(made.docker_archive([made.layer([made.member("f", b"x" * (1 << 20))])])))
    assert leftovers(store) == []


def test_an_index_of_another_time(store: ImageStore) -> None:
    (store.root / "index.json").write_text(json.dumps({"version": 99}))
    with pytest.raises(HyperError, match="it is of version 99"):
        store.list()
    (store.root / "index.json").write_text("{")
    with pytest.raises(HyperError, match="cannot read"):
        store.list()
