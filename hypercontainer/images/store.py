"""The image store: blobs by digest, one EROFS file per root file system, names. docs/state.md says where what is.

Any number of processes and threads may use one store at once. A SIGKILL at any moment leaves it sound: content comes
into being in a workspace and is linked into place, then the index is replaced; what a killed one left is swept by the
next that opens the store. Methods are quick (no more than links and small files) unless they say otherwise.
"""

import builtins
import fcntl
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import msgspec

from hypercontainer.errors import InvalidInput, NotFound, OtherPlatform
from hypercontainer.images import base, index, inspect, manifest, platform, reference, removal, workspace
from hypercontainer.images.index import Image, ImageRecord, Index
from hypercontainer.images.manifest import Config
from hypercontainer.images.reference import Reference
from hypercontainer.images.removal import Users
from hypercontainer.images.workspace import Workspace
from hypercontainer.lib import clock, files
from hypercontainer.lib.tasks import in_thread
from hypercontainer.model import documents as doc

PARTIAL_S = 24 * 3600.0  # what a pull that was cut short left is worth keeping that long, so that the next goes on


class ImageStore:
    """The images below folder `root`, which is made if it is missing. Opening one sweeps."""

    def __init__(self, root: Path) -> None:
        self.root = root = Path(os.path.abspath(root))  # helpers work in folders of their own
        self._blobs, self._rootfs = root / "blobs" / "sha256", root / "rootfs"
        self.partial, self._work = root / "partial", root / "work"
        self._lock, self._index = root / "lock", root / "index.json"
        for folder in (self._blobs, self._rootfs, self.partial, self._work):
            folder.mkdir(0o700, parents=True, exist_ok=True)
        self.sweep()

    # reading

    def get(self, name: str, wanted: str = "") -> Image:
        """The image with this name, name@digest, id, or beginning of an id. NotFound; InvalidInput if ambiguous.

        Of those of a name the one for platform `wanted`; "": the one for this host, or else the one that came last. One
        that does not run on `wanted` is not found, and those are told that are there."""
        here = index.read(self._index)
        return _image(here, _choose(here, name, self._all(here, name), wanted))

    def named(self, name: str, wanted: Sequence[str] = ()) -> "builtins.list[Image]":
        """Those that are called so: for all platforms, or for each of `wanted`. The last is the one that a name is for
        whom any will do. NotFound where one of these is not there."""
        here = index.read(self._index)
        usual = _choose(here, name, self._all(here, name))
        return [_image(here, i) for i in sorted(self._those(here, name, wanted), key=lambda i: i == usual)]

    def list(self) -> "builtins.list[Image]":
        """All images, the newest first."""
        here = index.read(self._index)
        return sorted((_image(here, i) for i in here.images), key=lambda image: -image.record.created_ns)

    def blob(self, digest: str) -> Path:
        """Where the blob is, if it is there."""
        return self._blobs / digest.removeprefix("sha256:")

    def rootfs(self, image: Image) -> Path:
        """The image's root file system, an EROFS file that nobody may change. NotFound when someone took it away."""
        path = self.rootfs_of(image.record.chain)
        if not path.exists():
            raise NotFound("root file system of image", image.id, "pull or load the image again")
        return path

    def holds(self, image: Image, path: str) -> bool:
        """Whether something is at `path` of its root file system, links followed as a guest follows them."""
        with open(self.rootfs(image), "rb") as f:
            return base.holds(f.fileno(), path)

    def rootfs_of(self, chain: str) -> Path:
        return self._rootfs / f"{chain}.erofs"

    def find_chain(self, chain: str) -> ImageRecord | None:
        """An image with this very root file system."""
        here = index.read(self._index)
        found = next((r for r in here.images.values() if r.chain == chain), None)
        return found if found and self.rootfs_of(chain).exists() else None

    def document(self, image: Image) -> Config:
        """The image's whole configuration."""
        try:
            return manifest.read_config(self.blob(image.id).read_bytes())
        except FileNotFoundError as e:
            raise NotFound("configuration of image", image.id, "pull or load the image again") from e

    def config(self, image: Image) -> doc.ProcessConfig:
        """How a container of the image starts, for lack of other words from its user."""
        return inspect.process(self.document(image))

    def inspect(self, image: Image) -> doc.Image:
        parent = image.record.parent
        there = parent if parent in index.read(self._index).images else ""
        return inspect.image(image, self.document(image), there)

    def entry(self, image: Image, containers: int = -1) -> doc.ImageEntry:
        """A line of `hyperctl images`; `containers` is docker's -1 when nobody counted them."""
        return inspect.entry(image, self.document(image), containers)

    def history(self, image: Image) -> Sequence[doc.HistoryEntry]:
        return inspect.history(image, self.document(image), self._parents(image))

    def _parents(self, image: Image) -> Iterator[Image]:
        """The images that it was made of here, while they are there: the next one first."""
        here = index.read(self._index)
        while (parent := image.record.parent) in here.images:
            yield (image := _image(here, parent))

    @classmethod
    def _those(cls, here: Index, name: str, wanted: Sequence[str]) -> "builtins.list[str]":
        """Those for each of the platforms; for none: all that are called so."""
        ids = cls._all(here, name)
        return [*dict.fromkeys(_choose(here, name, ids, each) for each in wanted)] if wanted else [*ids]

    @staticmethod
    def _all(here: Index, name: str) -> "builtins.list[str]":
        """Those that are called so, for different platforms, the last one at the end: docker's order is a whole id, a
        name, then the beginning of an id."""
        short = name.removeprefix("sha256:")
        if len(short) == 64 and f"sha256:{short}" in here.images:
            return [f"sha256:{short}"]
        with suppress(InvalidInput):
            ref = reference.parse(name)
            if ref.digest:
                wanted = f"{ref.domain}/{ref.path}@{ref.digest}"
                if found := [i for i, r in here.images.items() if wanted in r.digests]:
                    return sorted(found, key=lambda i: here.images[i].tagged_ns)  # of an index there may be several
            elif ref.canonical in here.names:
                return here.names[ref.canonical]
        if not reference.is_id(name):
            reference.parse(name)  # an invalid name is told as such
            raise NotFound("image", name)
        ids = [i for i in here.images if i.removeprefix("sha256:").startswith(short)]
        if len(ids) > 1:
            raise InvalidInput(f"image id {name} is ambiguous: {len(ids)} images begin so")
        if not ids:
            raise NotFound("image", name)
        return ids

    # changing

    def tag(self, name: str, target: str, wanted: str = "") -> None:
        """Let `target` name what is called `name`, for that platform or for all; another image may lose that name."""
        ref = reference.parse(target)
        if ref.digest:
            raise InvalidInput(f"cannot tag {target}: a digest is not given but computed")
        with self.changing() as here:
            for image_id in self._those(here, name, [wanted] if wanted else []):
                here.give(ref.canonical, image_id)

    @contextmanager
    def changing(self, freed: "builtins.list[int] | None" = None) -> Iterator[Index]:
        """The index under the store's lock. When the block ends well, what it left in it is written; then the files
        that only the old one needed go, their bytes told in `freed`."""
        with files.locked(self._lock):
            here = index.read(self._index)
            before, needed = msgspec.json.encode(here), self._needed(here)
            yield here
            if msgspec.json.encode(here) != before:
                with workspace.disk_full_is_told("write", self._index):
                    index.write(self._index, here)
                gone = [_unlink(path) for path in needed - self._needed(here)]
                if freed is not None:
                    freed += gone

    def _needed(self, here: Index) -> set[Path]:
        """The files of the images in `here`."""
        blobs = {self.blob(d) for r in here.images.values() for d in (r.manifest, r.config, *r.layers)}
        return blobs | {self.rootfs_of(r.chain) for r in here.images.values()}

    @asynccontextmanager
    async def workspace(self) -> AsyncIterator[Workspace]:
        """A folder to make things in; it goes with the block, whatever happens. OSError ENOSPC becomes Exhausted."""
        with workspace.disk_full_is_told("write to", self.root):
            with files.locked(self._lock):  # or a sweeper may take it for an abandoned one
                work = Workspace.make(self._work)
            try:
                yield work
            finally:
                await in_thread(work.close)

    def hold(self, work: Workspace, images: Iterable[Image]) -> None:
        """Let `work` have the images' blobs, by links of its own: a removal meanwhile takes nothing away from it."""
        for image in images:
            for digest in {image.record.manifest, image.record.config, *image.record.layers}:
                if not work.blob(digest).exists():
                    try:
                        os.link(self.blob(digest), work.blob(digest))
                    except FileNotFoundError as e:
                        raise NotFound("blob", digest, f"image {image.id} is damaged: pull or load it again") from e

    def publish(
        self,
        work: Workspace,
        image_id: str,
        record: ImageRecord,
        names: Iterable[Reference],
        *,
        known: bool = False,
    ) -> Image:
        """Let the image be in the store: its blobs, and its root file system if the store has none such.

        They are in `work`, verified. `known`: it is there, and NotFound if it was removed meanwhile. Waits for the
        disk: call it in a thread."""
        new = self._places(work, record)
        for path in new:
            files.fsync(path)
        made: list[Path] = []
        try:
            with self.changing() as here:
                if known and image_id not in here.images:
                    raise NotFound("image", image_id)
                made += [target for path, target in new.items() if _link(path, target)]
                for folder in (self._blobs, self._rootfs):
                    files.fsync(folder)
                old = here.images.get(image_id)
                digests = sorted({*record.digests, *(old.digests if old else [])})
                here.images[image_id] = msgspec.structs.replace(record, digests=digests, tagged_ns=clock.now_ns())
                for ref in names:
                    here.give(ref.canonical, image_id)
                image = _image(here, image_id)
        except BaseException:
            for path in made:  # all of it verified: somebody who has linked up since has links of its own
                path.unlink(missing_ok=True)
            raise
        return image

    def _places(self, work: Workspace, record: ImageRecord) -> dict[Path, Path]:
        """What is in `work` of that image -> its place in the store."""
        digests = {record.manifest, record.config, *record.layers}
        rootfs = work.path / f"{record.chain}.erofs"
        return {**{work.blob(d): self.blob(d) for d in sorted(digests)}, rootfs: self.rootfs_of(record.chain)}

    # taking away

    def remove(
        self,
        name: str,
        *,
        force: bool = False,
        users: Users = removal.nobody,
        parents: bool = True,
        wanted: Sequence[str] = (),
    ) -> Sequence[doc.ImageRemoved]:
        """docker's rmi: take a name off an image, for all platforms or those `wanted`; with the last one the image
        goes. NotFound, InUse."""
        said: builtins.list[doc.ImageRemoved] = []
        with self.changing() as here:
            for image_id in self._those(here, name, wanted):
                for step in removal.remove(here, image_id, name, force=force, users=users, parents=parents):
                    said += [] if step.untagged and step in said else [step]  # the name is told once
        return said

    def prune(
        self, *, all: bool = False, users: Users = removal.nobody, wanted: Callable[[Image], bool] = lambda _: True
    ) -> doc.Pruned:
        """Remove images without a name (with `all`: also those with one) that nobody uses and that are `wanted`, and
        what pulls left. Those that one with a name was made of stay, unless `all`: builds go on from them."""
        freed: builtins.list[int] = []
        with self.changing(freed) as here:
            named = {image_id for ids in here.names.values() for image_id in ids}
            kept = set() if all else removal.lineage(here, named)
            gone = [i for i in here.images if i not in kept and not users(i) and wanted(_image(here, i))]
            for image_id in gone:
                for name in here.named(image_id):
                    here.take(name, image_id)
                removal.delete(here, image_id)
        return doc.Pruned(deleted=gone, space_reclaimed=sum(freed) + self.sweep(partial_s=0))

    def sweep(self, *, partial_s: float = PARTIAL_S) -> int:
        """Remove what no image needs and nobody makes; of what a pull left only what is older than `partial_s`.

        Returns how many bytes of blobs and root file systems that freed.
        A file that a workspace shares has a second link, a partial blob that somebody fetches a lock: both stay."""
        with files.locked(self._lock):
            workspace.sweep(self._work)
            index.sweep(self._index)
            needed = self._needed(index.read(self._index))
            before, freed = time.time() - partial_s, 0
            for folder in (self._blobs, self._rootfs, self.partial):
                for path in set(folder.iterdir()) - needed:
                    status = path.stat()
                    young = folder is not self._rootfs and status.st_mtime > before
                    if status.st_nlink == 1 and not young and not (folder is self.partial and _is_locked(path)):
                        freed += _unlink(path)
            return freed

    def forget(self, digests: Sequence[str]) -> None:
        """Remove those of `digests` that no image has, whatever their age: a pull has failed for good."""
        with files.locked(self._lock):
            needed = self._needed(index.read(self._index))
            for digest in digests:
                part = self.partial / digest.removeprefix("sha256:")
                if (blob := self.blob(digest)) not in needed:
                    blob.unlink(missing_ok=True)
                if part.exists() and not _is_locked(part):
                    part.unlink()


def _image(here: Index, image_id: str) -> Image:
    record = here.images[image_id]
    names = sorted(str(reference.parse(name)) for name in here.named(image_id))
    digests = sorted(str(reference.parse(d)) for d in record.digests)
    return Image(id=image_id, names=names, digests=digests, record=record)


def _choose(here: Index, name: str, ids: Sequence[str], wanted: str = "") -> str:
    there = [here.images[image_id].platform for image_id in ids]
    chosen = platform.best(there, platform.parse(wanted))
    if chosen is not None:
        return ids[chosen]
    if wanted:
        raise OtherPlatform(name, str(platform.parse(wanted)), sorted(map(str, there)))
    return ids[-1]


def _unlink(path: Path) -> int:
    """Returns the bytes that this frees on the disk; 0 when it was gone, or has another name."""
    try:
        status = path.stat()
        path.unlink()
    except FileNotFoundError:
        return 0
    return status.st_blocks * 512 if status.st_nlink == 1 else 0


def _is_locked(path: Path) -> bool:
    with open(path, "rb") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _link(source: Path, target: Path) -> bool:
    """Give `source` its place. False when something is there: the same content, for both were verified."""
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    return True
