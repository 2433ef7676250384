"""Named volumes: folders of this host that outlive containers."""

import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from hypercontainer.errors import HyperError, InUse, InvalidInput, NotFound
from hypercontainer.lib import clock, document, files, mount, proc
from hypercontainer.model import ids, upgrade
from hypercontainer.storage import mountopts

MAX_LABELS = 256
MAX_LABEL_BYTES = 4096
REMOVE_TIMEOUT_S = 600.0
BINDS = ("bind", "rbind")
NO_KIND = ("", "none", "bind")  # types that are no file system: a folder is bound
OPTIONS = ("type", "o", "device")  # of docker's driver local
KIND = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}", re.ASCII)
MAX_DEVICE, MAX_OPTIONS = 1024, 4000  # bytes: mount(2) reads a page


class Volume(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """volume.json: what is known of a volume beside its files."""

    version: int = document.version(upgrade.VOLUME)
    name: str
    labels: dict[str, str] = {}
    options: dict[str, str] = {}  # of docker's driver local: `type`, `device` and `o`, as mount(2) takes them, or none
    anonymous: bool = False
    created_ns: int

    @property
    def bound(self) -> bool:
        """It is a folder of this host."""
        return self.options.get("type", "none") in NO_KIND

    @property
    def mounted(self) -> bool:
        """It is a file system of its own, mounted while somebody uses it: see mounted.py."""
        return bool(self.options) and not self.bound

    @property
    def volatile(self) -> bool:
        """Nothing is in it when its first user comes."""
        return self.options.get("type") == "tmpfs"


class Pruned(NamedTuple):
    names: list[str]
    bytes_freed: int


Names = list[str]  # named here: inside the class `list` is a method
Folders = list[Path]
InUseBy = Callable[[str], str | None]  # volume name -> who uses it, in words


class VolumeStore:
    """The folder `root`: in it a folder a volume, with `_data` and volume.json.

    A volume appears and disappears by one rename, with `root`/.lock held: several processes may use the store at
    once, and a SIGKILL leaves at most folders named .new-* and .gone-*, which the next removal sweeps away.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def create(
        self, name: str = "", labels: Mapping[str, str] | None = None, options: Mapping[str, str] | None = None
    ) -> Volume:
        """Return the volume `name`, made if there is none (then with `labels` and `options`); "" makes an anonymous
        one. InvalidInput for options that docker's driver local has not."""
        volume = Volume(
            name=ids.check_name("volume", name) if name else ids.new_id(),
            labels=_checked(labels or {}),
            options=_checked_options(options or {}),
            anonymous=not name,
            created_ns=clock.now_ns(),
        )
        self.root.mkdir(mode=0o711, parents=True, exist_ok=True)
        with files.locked(self.root / ".lock"):
            try:
                return self.get(volume.name)
            except NotFound:
                self._make(volume)
        return volume

    def _make(self, volume: Volume) -> None:
        new = self.root / f".new-{secrets.token_hex(8)}"
        with files.telling(f"create volume {volume.name}"):
            try:
                new.mkdir(mode=0o711)
                (new / "_data").mkdir(mode=0o755)
                files.replace(new / "volume.json", msgspec.json.encode(volume))
                files.fsync(new)
                new.rename(self.root / volume.name)
                files.fsync(self.root)
            except OSError:
                _take_back(new)
                raise

    def get(self, name: str) -> Volume:
        """Raises NotFound, InvalidInput for what can be no volume's name."""
        try:
            return _read(self.root / ids.check_name("volume", name) / "volume.json")
        except FileNotFoundError as e:
            raise NotFound("volume", name) from e

    def list(self) -> list[Volume]:
        """All volumes that can be read, by name; `unread` tells of the others."""
        return [volume for volume in self._found() if isinstance(volume, Volume)]

    def unread(self) -> Names:
        """Why there are volumes that cannot be read: damaged, or made by a newer program. They stay as they are."""
        return [why for why in self._found() if isinstance(why, str)]

    def _found(self) -> Iterator[Volume | str]:
        """Each volume, or why it cannot be read."""
        for name in sorted(os.listdir(self.root)) if self.root.exists() else []:
            if name.startswith("."):
                continue
            path = self.root / name / "volume.json"
            try:
                yield _read(path)
            except (FileNotFoundError, NotADirectoryError):
                continue  # removed meanwhile, or never one
            except OSError as e:
                yield f"cannot read {path}: {e.strerror}"
            except HyperError as e:
                yield str(e)

    def path(self, name: str) -> Path:
        """The folder that holds the volume's files, those of a mounted one while it is mounted. Raises NotFound."""
        volume = self.get(name)
        bound = volume.options and volume.bound
        return Path(volume.options["device"]) if bound else self.root / volume.name / "_data"

    def inspect(self, volume: Volume) -> dict[str, object]:
        """The volume as docker's API words it."""
        return {
            "Name": volume.name,
            "Driver": "local",
            "Mountpoint": str(self.root / volume.name / "_data"),
            "CreatedAt": clock.rfc3339(volume.created_ns),
            "Labels": dict(volume.labels),
            "Options": dict(volume.options),
            "Scope": "local",
        }

    async def remove(self, name: str, in_use: InUseBy, *, force: bool = False) -> None:
        """Remove the volume and all its files. `in_use` is asked with the store locked. `force`: a missing one is fine.

        Raises NotFound, InUse. The volume is gone at once; its files are when this returns.
        """
        try:
            gone = self._put_away(ids.check_name("volume", name), in_use)
        except NotFound:
            if force:
                return
            raise
        await _delete([gone])

    def _put_away(self, name: str, in_use: InUseBy) -> Path:
        self.get(name)
        with files.locked(self.root / ".lock"):
            volume = self.get(name)
            if user := in_use(name):
                raise InUse(f"cannot remove volume {name}: {user} uses it", "volume", name, [user])
            if volume.mounted:
                mount.unmount(self.root / name / "_data")  # nobody uses it
            gone = self.root / f".gone-{secrets.token_hex(8)}"
            (self.root / name).rename(gone)
            files.fsync(self.root)
        return gone

    async def sizes(self, names: Names) -> dict[str, int]:
        """Bytes of disk that the files of each take; of one that is gone meanwhile, nothing."""
        return {path.parent.name: size for path, size in await _sizes([self.root / n / "_data" for n in names])}

    async def prune(
        self, in_use: InUseBy, *, everything: bool = False, wanted: Callable[[Volume], bool] = lambda _: True
    ) -> Pruned:
        """Remove the anonymous volumes that nobody uses (`everything`: the named ones too) and that are `wanted`,
        and old leftovers."""
        names: Names = []
        folders = self._leftovers()
        for volume in self.list():
            if (everything or volume.anonymous) and wanted(volume):
                try:
                    folders.append(self._put_away(volume.name, in_use))
                except (InUse, NotFound):
                    continue
                names.append(volume.name)
        freed = sum(size for _, size in await _sizes(folders))
        await _delete(folders)
        return Pruned(names, freed)

    def _leftovers(self) -> Folders:
        if not self.root.exists():
            return []
        with files.locked(self.root / ".lock"):  # nobody is making one now
            return [path for path in self.root.iterdir() if path.name.startswith((".new-", ".gone-"))]


def _checked(labels: Mapping[str, str]) -> dict[str, str]:
    if len(labels) > MAX_LABELS or any(len(k) + len(v) > MAX_LABEL_BYTES for k, v in labels.items()):
        raise InvalidInput(f"too many labels: at most {MAX_LABELS}, of {MAX_LABEL_BYTES} characters each")
    return dict(labels)


def _checked_options(options: Mapping[str, str]) -> dict[str, str]:
    if not options:
        return {}
    for key, value in options.items():
        if key == "size":
            raise InvalidInput("quota size requested but no quota support: a tmpfs has o=size=…")
        if key not in OPTIONS:
            raise InvalidInput(f"invalid option: {key[:60]!r}: use type=, device= and o=")
        if "\0" in value or len(value.encode()) > (MAX_OPTIONS if key == "o" else MAX_DEVICE):
            raise InvalidInput(f"invalid option {key}={value[:60]!r}: it has a NUL byte, or is too long")
    kind, device = options.get("type", "none"), options.get("device", "")
    if kind in NO_KIND:
        _check_bound(device, options.get("o", ""))
    elif not KIND.fullmatch(kind):
        raise InvalidInput(f"invalid option type={kind[:60]!r}: it is no kind of file systems")
    elif not device:
        raise InvalidInput('missing required option: "device"')
    else:
        mountopts.parse(options.get("o", ""))
    return dict(options)


def _check_bound(device: str, o: str) -> None:
    if o not in BINDS:
        raise InvalidInput(f"cannot make a volume of type none with o={o[:200]!r}: use o=bind, device=/FOLDER")
    if not os.path.isabs(device) or not os.path.isdir(device):
        raise InvalidInput(f"cannot make a volume of {device[:200]!r}: it is not the path of a folder of this host")


def _read(path: Path) -> Volume:
    return document.read_versioned(path, Volume, upgrade.VOLUME)


def _take_back(new: Path) -> None:
    for path in (new / ".volume.json.new", new / "volume.json"):
        path.unlink(missing_ok=True)
    for path in (new / "_data", new):
        if path.exists():
            path.rmdir()


async def _delete(folders: Sequence[Path]) -> None:
    """Delete folders whose contents a guest made: as deep, as many and as oddly named as it liked.

    A process of its own does it: rm walks by descriptors, follows nothing, recurses without a stack, and hyperd's
    loop goes on meanwhile.
    """
    if folders:
        await proc.run(["rm", "-rf", "--one-file-system", "--", *folders], timeout_s=REMOVE_TIMEOUT_S)


async def _sizes(folders: Sequence[Path]) -> list[tuple[Path, int]]:
    """How much of the disk is below each; what is not there is left out."""
    if not folders:
        return []
    result = await proc.run(["du", "-sx", "-B1", "-0", "--", *folders], timeout_s=REMOVE_TIMEOUT_S, check=False)
    rows = [row.partition(b"\t") for row in result.stdout.split(b"\0") if row]
    return [(Path(os.fsdecode(path)), int(size)) for size, _, path in rows]
