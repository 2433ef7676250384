"""The guest's first file system: hyperstart, the modules it loads, nothing else. A newc cpio, uncompressed.

Uncompressed because the host would save 3 MB of reading and the guest would pay for unpacking, emulated.
"""

import gzip
import lzma
import stat
import struct
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from hypercontainer.kernel.modules import Module
from hypercontainer.kernel.slim import slim

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SIGNATURE = b"~Module signature appended~\n"
LAYOUT = 4  # raise it when the contents change shape: it is part of the cache's key


class Entry(NamedTuple):
    """A file, folder or device in an archive. `mode` includes its type, as in stat."""

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def cpio(entries: Iterable[Entry]) -> bytes:
    """Return a newc archive of `entries`, owned by root, without times: the same entries give the same bytes."""
    out = bytearray()
    for inode, entry in enumerate([*entries, Entry("TRAILER!!!", 0)], start=1):
        name = entry.name.encode() + b"\0"
        links = 2 if stat.S_ISDIR(entry.mode) else 1
        fields = (inode, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, *entry.device, len(name), 0)
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + name
        out += bytes(-len(out) % 4) + entry.data
        out += bytes(-len(out) % 4)
    return bytes(out)


def build(hyperstart: bytes, modules: Iterable[Module], network: Iterable[Module] = ()) -> bytes:
    """Return the initramfs, laid out as docs/initramfs.md says. `network`: loaded later."""
    lists = {"order": list(modules), "network": list(network)}
    every = [module for each in lists.values() for module in each]
    folders = [Entry(name, stat.S_IFDIR | 0o755) for name in ("dev", "modules", "proc", "sys")]
    return cpio(
        [
            *folders,
            Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),  # init's stdio, before devtmpfs is there
            Entry("init", stat.S_IFREG | 0o755, hyperstart),
            *(Entry(f"modules/{m.name}.ko", stat.S_IFREG | 0o644, slim(unsigned(m.path))) for m in every),
            *(
                Entry(f"modules/{name}", stat.S_IFREG | 0o644, "".join(f"{m.line}\n" for m in each).encode())
                for name, each in lists.items()
            ),
        ]
    )


def unsigned(path: Path) -> bytes:
    """Return the module at `path`, unpacked, without the signature at its end.

    The guest would hash each module and check an RSA signature: time, emulated, for nothing. The host that
    writes the initramfs is the one that the guest trusts; a kernel that insists on signatures (lockdown) is
    none that we boot.
    """
    data = _unpacked(path)
    if not data.endswith(SIGNATURE):
        return data
    end = len(data) - len(SIGNATURE)
    (length,) = struct.unpack_from(">I", data, end - 4)  # struct module_signature: 8 bytes, then the length
    begin = end - 12 - length
    return data[:begin] if begin > 0 else data


def _unpacked(path: Path) -> bytes:
    """Distributions pack modules: .ko, .ko.gz, .ko.xz, .ko.zst. The loader of our guests takes plain ones."""
    data = path.read_bytes()
    match path.suffix:
        case ".gz":
            return gzip.decompress(data)
        case ".xz":
            return lzma.decompress(data)
        case ".zst":
            return zstd.decompress(data)
    return data
