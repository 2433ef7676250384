"""Files behind disks: what is opened is what the record says."""

import fcntl
import os
from pathlib import Path

import pytest

from hypercontainer.errors import HyperError, InUse, NotFound
from hypercontainer.hypervisor.host.disk import FLOCK, WRITERS, open_disk
from hypercontainer.model.record import DiskRecord


def test_a_file_is_opened_as_its_record_says(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(b"disk")
    for read_only, mode in ((True, os.O_RDONLY), (False, os.O_RDWR)):
        fd = open_disk(DiskRecord(target=0, path=str(tmp_path / "disk"), read_only=read_only))
        assert os.get_blocking(fd) and os.pread(fd, 9, 0) == b"disk"
        with open(f"/proc/self/fdinfo/{fd}") as info:
            assert int(info.read().split()[3], 8) & os.O_ACCMODE == mode
        os.close(fd)
    with pytest.raises(NotFound):
        open_disk(DiskRecord(target=0, path=str(tmp_path / "none"), read_only=True))


def test_no_link_leads_to_another_file(tmp_path: Path) -> None:
    (tmp_path / "disk").touch()
    (tmp_path / "link").symlink_to("disk")
    with pytest.raises(HyperError, match="cannot open disk"):
        open_disk(DiskRecord(target=0, path=str(tmp_path / "link"), read_only=True))


def test_what_is_no_device_is_not_opened_as_one(tmp_path: Path) -> None:
    """A name of a device may lead elsewhere by now."""
    (tmp_path / "disk").touch()
    (tmp_path / "link").symlink_to("disk")
    with pytest.raises(HyperError, match="it is no block device"):
        open_disk(DiskRecord(target=0, path=str(tmp_path / "link"), read_only=True, device=True))


def test_what_another_machine_writes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"disk")
    read, written = (DiskRecord(target=0, path=str(path), read_only=read_only) for read_only in (True, False))
    writer = open_disk(written)
    lock = FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, WRITERS, 1, 0)  # as each QEMU that writes has it
    fcntl.fcntl(writer, fcntl.F_OFD_SETLK, lock)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(InUse, match="another machine writes it"):
        open_disk(read)
    assert os.listdir("/proc/self/fd") == before
    os.close(writer)
    os.close(open_disk(read))
