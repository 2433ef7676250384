"""Records of what plugins of CNI have made for pods: a file each, which is there before they begin."""

from pathlib import Path

import msgspec

from hypercontainer.errors import HyperError
from hypercontainer.lib import document, files
from hypercontainer.model import upgrade
from hypercontainer.model.record import AttachmentRecord

VERSION = document.version(upgrade.ATTACHMENT)


class Attachments:
    """Those in the folder `root`. They outlive a reboot: so do the addresses that plugins have noted as taken."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def find(self, id: str) -> AttachmentRecord | None:
        """HyperError for one that cannot be read."""
        try:
            return document.read_versioned(self._path(id), AttachmentRecord, upgrade.ATTACHMENT)
        except FileNotFoundError:
            return None
        except OSError as e:
            raise HyperError(f"cannot read {self._path(id)}: {e.strerror}") from e

    def ids(self) -> list[str]:
        return sorted(path.stem for path in self._root.glob("*.json"))

    def save(self, record: AttachmentRecord, *, durable: bool = True) -> None:
        """Exhausted when the disk takes no more: the old one is there. `durable`: so that it outlives a power cut."""
        with files.telling(f"write what CNI plugins make for pod {record.id}"):
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            files.replace(self._path(record.id), msgspec.json.encode(record), durable=durable)

    def remove(self, id: str) -> None:
        with files.telling(f"forget what CNI plugins made for pod {id}"):
            self._path(id).unlink(missing_ok=True)
            files.fsync(self._root)

    def _path(self, id: str) -> Path:
        return self._root / f"{id}.json"
