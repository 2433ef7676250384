"""Kernel images of every packing, and damaged ones."""

import bz2
import gzip
import lzma
import struct
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercontainer.errors import InvalidInput
from hypercontainer.kernel.vmlinuz import arch_of, check_pvh, extract

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ELF = b"\x7fELF" + bytes(range(256)) * 64
PVH = struct.pack("<III4sI", 4, 8, 18, b"Xen\0", 0x1000000)

PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "zstd": zstd.compress,
    "bzip2": bz2.compress,
}


def bzimage(payload: bytes, *, version: int = 0x20F, setup_sectors: int = 3) -> bytes:
    """As the kernel's build makes it: the length of the unpacked image after the packed one."""
    payload += struct.pack("<I", len(ELF))
    begin = ((setup_sectors or 4) + 1) * 512
    image = bytearray(begin + 64)
    image[0x1F1] = setup_sectors
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", image, 0x206, version)
    struct.pack_into("<II", image, 0x248, 64, len(payload))
    return bytes(image) + payload


@pytest.mark.parametrize("name", PACKINGS)
@pytest.mark.parametrize("setup_sectors", [0, 3, 30])
def test_the_elf_comes_out_of_every_packing(name: str, setup_sectors: int) -> None:
    assert extract(bzimage(PACKINGS[name](ELF), setup_sectors=setup_sectors)) == ELF


def test_what_boots_it_is_in_the_image() -> None:
    s390 = bytes(0x10008) + b"S390EP" + bytes(64)  # unpacks itself
    assert extract(s390) is s390 and arch_of(s390) == "s390x"
    arm = b"MZ" + bytes(54) + b"ARM\x64" + bytes(64)
    assert extract(arm) == arm
    assert (arch_of(arm), arch_of(ELF + PVH)) == ("aarch64", "x86_64")
    power = b"\x7fELF\2\1" + bytes(12) + b"\x15\0" + bytes(64)
    assert extract(power) == power and arch_of(power) == "ppc64le"
    for image in (b"", b"MZ" + bytes(100), ELF, arm[:58]):
        with pytest.raises(InvalidInput, match="no PVH entry"):
            arch_of(image)


def test_an_elf_is_returned_as_it_is() -> None:
    assert extract(ELF) == ELF


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (b"", "neither a bzImage nor an ELF"),
        (b"MZ" + bytes(4096), "neither a bzImage nor an ELF"),
        (bzimage(gzip.compress(ELF), version=0x0207), "boot protocol 0x0207"),
        (bzimage(gzip.compress(ELF))[:-100], "cut short"),
        (bzimage(b"\x89LZO" + bytes(100)), "packed with lzo"),
        (bzimage(b"\x02\x21\x4c\x18" + bytes(100)), "packed with lz4"),
        (bzimage(b"what is this"), "unknown packing"),
        (bzimage(gzip.compress(b"not an image")), "not an ELF"),
    ],
)
def test_what_cannot_be_unpacked_says_why(image: bytes, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        extract(image)


@pytest.mark.parametrize("name", PACKINGS)
def test_a_damaged_payload_says_so(name: str) -> None:
    packed = bytearray(PACKINGS[name](ELF))
    packed[len(packed) // 2 :] = b"\xff" * (len(packed) - len(packed) // 2)
    with pytest.raises(InvalidInput, match=r"damaged|not an ELF"):
        assert extract(bzimage(bytes(packed))) != ELF
        raise InvalidInput("damaged, unnoticed by this packing, which has no checksum")


@given(st.binary(max_size=2048))
def test_any_bytes_are_an_image_or_an_error(data: bytes) -> None:
    image = bytearray(data.ljust(0x260, b"\0"))
    image[0x202:0x206] = b"HdrS"
    try:
        extract(bytes(image))
    except InvalidInput:
        pass


@pytest.mark.parametrize("size", [4, 8])
def test_the_entry_that_qemu_needs_is_looked_for(size: int) -> None:
    check_pvh(ELF + struct.pack("<III4s", 4, size, 18, b"Xen\0"))
    with pytest.raises(InvalidInput, match="CONFIG_PVH"):
        check_pvh(ELF + struct.pack("<III4s", 4, size, 6, b"Xen\0"))
