"""Layers of EROFS below an overlay that writes to a folder of this host: all of that is made here."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.shim import disks
from hypercontainer.hyperd.shim.messages import Mount
from hypercontainer.lib import mount

FOLDER = "lowers"  # in a bundle
PASSED_OVER = ("ro", "loop")


@contextmanager
def mounted(bundle: str, mounts: Sequence[Mount]) -> Iterator[Sequence[Mount]]:
    """For the block, what is to be mounted in their place: the overlay, of layers that have a place for as long. It
    holds on to them. What has no layers stays as it is. InvalidInput, OSError."""
    if not mounts or not disks.is_below_a_folder(mounts):
        yield mounts
        return
    *lowers, overlay = mounts
    with ExitStack() as undo:
        places = [_mounted(os.path.join(bundle, FOLDER), n, lower, undo) for n, lower in enumerate(lowers)]
        options = [_resolved(option, places) for option in overlay.options]
        yield [Mount(type="overlay", source=overlay.source, target=overlay.target, options=options)]


def _mounted(folder: str, number: int, lower: Mount, undo: ExitStack) -> str:
    if unknown := [option for option in lower.options if option not in PASSED_OVER]:
        raise InvalidInput(f"cannot mount {lower.source[:200]} with option {unknown[0][:100]!r}: it is a layer")
    place = os.path.join(folder, str(number))
    os.makedirs(place, mode=0o711, exist_ok=True)
    undo.callback(_remove, folder, place)
    target = os.open(place, os.O_PATH | os.O_CLOEXEC)
    try:
        mount.mount(lower.source, target, "erofs", mount.RDONLY, "")
    except OSError as e:
        hint = "; have the snapshotter make disks (default_size), or a kernel from 6.12 on"
        raise InvalidInput(f"cannot mount {lower.source[:200]}: {e.strerror}{hint}") from e
    finally:
        os.close(target)
    return place


def _remove(folder: str, place: str) -> None:
    mount.unmount(place)
    for path in (place, folder):
        with suppress(OSError):  # the last of them removes the folder
            os.rmdir(path)


def _resolved(option: str, places: Sequence[str]) -> str:
    name, _, value = option.partition("=")
    if name != "lowerdir":
        return option
    if found := disks.before(value, "", len(places)):
        return f"{name}={':'.join(places[number] for number in found)}"
    raise InvalidInput(f"cannot lay layers over each other: {value[:200]!r} names none")
