"""From a distribution's kernel to the image that a VMM enters directly: an ELF file on x86 and Power, Linux' own form
on ARM and s390.

A kernel that unpacks itself spends over a second on it when it is emulated; the host does it once.
"""

import bz2
import lzma
import re
import struct
import sys
import zlib
from collections.abc import Callable
from typing import Protocol

from hypercontainer.errors import InvalidInput, reason

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAX_IMAGE = 512 << 20  # bytes: several times the largest distribution kernel
BOOT_MAGIC = b"HdrS"  # Linux' boot protocol, Documentation/arch/x86/boot.rst
ARM64_MAGIC, ARM64_AT = b"ARM\x64", 56  # Documentation/arm64/booting.rst; Debian's is not packed
S390_MAGIC, S390_AT = b"S390EP", 0x10008  # Documentation/s390: behind the entry; it unpacks itself
PPC64LE_MACHINE, MACHINE_AT = b"\x15\0", 18  # of an ELF file, in its own byte order; Debian's is not packed
PVH_NOTE = re.compile(rb"\x04\0\0\0[\x04\x08]\0\0\0\x12\0\0\0Xen\0")  # XEN_ELFNOTE_PHYS32_ENTRY: where QEMU jumps to


class _Decompressor(Protocol):
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


_FORMATS: list[tuple[bytes, str, Callable[[], _Decompressor] | None]] = [
    (b"\x1f\x8b", "gzip", lambda: zlib.decompressobj(31)),
    (b"\xfd7zXZ\0", "xz", lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ)),
    (b"(\xb5/\xfd", "zstd", lambda: zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: 31})),
    (b"BZh", "bzip2", bz2.BZ2Decompressor),
    (b"\x5d\x00\x00", "lzma", lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE)),
    (b"\x89LZO", "lzo", None),
    (b"\x02\x21\x4c\x18", "lz4", None),
]


def extract(image: bytes) -> bytes:
    """Return the ELF image inside the bzImage `image` (an ELF image, and one for ARM or s390, is returned as it is).

    Raises InvalidInput when `image` is none of these, is cut short, or is packed in a way we cannot undo.
    """
    if _is_arm64(image) or _is_s390(image):
        return image
    elf = image if image.startswith(b"\x7fELF") else _unpack(_payload(image))
    if not elf.startswith(b"\x7fELF"):
        raise InvalidInput("cannot unpack the kernel: its payload is not an ELF image")
    return elf


def arch_of(image: bytes) -> str:
    """The architecture whose guests boot it, by the name in model/arch.py. InvalidInput where none can."""
    if _is_arm64(image):
        return "aarch64"
    if _is_s390(image):
        return "s390x"
    if image.startswith(b"\x7fELF") and image[MACHINE_AT : MACHINE_AT + len(PPC64LE_MACHINE)] == PPC64LE_MACHINE:
        return "ppc64le"
    check_pvh(image)
    return "x86_64"


def _is_arm64(image: bytes) -> bool:
    return image[ARM64_AT : ARM64_AT + len(ARM64_MAGIC)] == ARM64_MAGIC


def _is_s390(image: bytes) -> bool:
    return image[S390_AT : S390_AT + len(S390_MAGIC)] == S390_MAGIC


def check_pvh(elf: bytes) -> None:
    """Raise InvalidInput unless the kernel `elf` has the entry point that QEMU needs to start it directly."""
    if not PVH_NOTE.search(elf):
        raise InvalidInput("cannot use this kernel: it has no PVH entry (build it with CONFIG_PVH=y)")


def _payload(image: bytes) -> bytes:
    if len(image) < 0x260 or image[0x202:0x206] != BOOT_MAGIC:
        raise InvalidInput("cannot unpack the kernel: it is neither a bzImage nor an ELF image")
    (version,) = struct.unpack_from("<H", image, 0x206)
    if version < 0x0208:
        raise InvalidInput(f"cannot unpack the kernel: boot protocol {version:#06x} does not say where its payload is")
    begin = ((image[0x1F1] or 4) + 1) * 512  # after the real-mode sectors; 0 means 4, for history's sake
    offset, length = struct.unpack_from("<II", image, 0x248)
    payload = image[begin + offset : begin + offset + length]
    if not length or len(payload) < length:
        raise InvalidInput("cannot unpack the kernel: the file is cut short")
    return payload


def _unpack(payload: bytes) -> bytes:
    for magic, name, opener in _FORMATS:
        if payload.startswith(magic):
            if opener is None:
                raise InvalidInput(f"cannot unpack the kernel: it is packed with {name}; give the vmlinux itself")
            break
    else:
        raise InvalidInput(f"cannot unpack the kernel: unknown packing (it begins with {payload[:6].hex()})")
    try:
        image = opener().decompress(payload, MAX_IMAGE + 1)  # stops at its own end: the kernel's build appends a length
    except (zlib.error, lzma.LZMAError, zstd.ZstdError, OSError, EOFError) as e:
        raise InvalidInput(f"cannot unpack the kernel: its {name} payload is damaged: {reason(e)}") from e
    if len(image) > MAX_IMAGE:
        raise InvalidInput(f"cannot unpack the kernel: it is larger than {MAX_IMAGE >> 20} MiB")
    return image
