"""What the processes of a virtual machine may do on the host, read back from /proc while a guest runs."""

import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.errors import InvalidInput
from hypercontainer.hypervisor.base import SharedFolder
from hypercontainer.hypervisor.host import limits
from hypercontainer.hypervisor.host.jail import JailedProgram, start, vmm_options
from hypercontainer.hypervisor.host.tap import open_tap
from hypercontainer.hypervisor.qemu.argv import HOT_MEMORY_MIB
from hypercontainer.hypervisor.qemu.driver import QemuHypervisor
from hypercontainer.hypervisor.qemu.guest import QemuGuest
from hypercontainer.hypervisor.qemu.rundir import qemu_run
from hypercontainer.lib import cgroup, proc
from hypercontainer.model.record import DiskRecord
from tests.conftest import ACCELERATOR
from tests.vm.conftest import UID

pytestmark = pytest.mark.vm

Booted = Callable[..., AbstractAsyncContextManager[QemuGuest]]
Lines = Callable[[QemuGuest], AbstractAsyncContextManager[Callable[[str], Any]]]

KVM = ACCELERATOR == "kvm"
NO_CAPS = "0" * 16
SHARE_CAPS = {"chown": 0, "dac_override": 1, "fowner": 3, "setgid": 6, "setuid": 7}


class Process:
    """A process as /proc shows it."""

    def __init__(self, pid: int) -> None:
        self.pid, self.path = pid, Path(f"/proc/{pid}")
        lines = (self.path / "status").read_text().splitlines()
        self.status = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}

    def word(self, key: str) -> str:
        return self.status[key][0]

    def shares(self) -> set[str]:
        """The kinds of namespaces that it is in together with us."""
        kinds = ("mnt", "pid", "ipc", "uts", "net", "user", "cgroup")
        return {kind for kind in kinds if os.readlink(self.path / "ns" / kind) == os.readlink(f"/proc/self/ns/{kind}")}

    def files(self) -> list[str]:
        """What its descriptors are open on, without numbers."""
        links = [os.readlink(fd) for fd in (self.path / "fd").iterdir()]
        return sorted({re.sub(r":\[\d+\]", "", link) for link in links})

    def mounts(self) -> Iterator[tuple[str, set[str], str]]:
        """Mount point, its options, the file system's type."""
        for line in (self.path / "mountinfo").read_text().splitlines():
            left, _, right = line.partition(" - ")
            yield left.split()[4], set(left.split()[5].split(",")), right.split()[0]

    def limit(self, name: str) -> tuple[str, str]:
        line = next(line for line in (self.path / "limits").read_text().splitlines() if line.startswith(name))
        soft, hard = line.removeprefix(name).split()[:2]
        return soft, hard

    def children(self) -> list["Process"]:
        pids = (self.path / f"task/{self.pid}/children").read_text().split()
        return [Process(int(pid)) for pid in pids]


def without_privileges(process: Process, uid: int) -> None:
    assert process.status["Uid"] == process.status["Gid"] == [str(uid)] * 4
    assert process.status["Groups"] == []
    assert {process.word(f"Cap{kind}") for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {NO_CAPS}
    assert process.word("NoNewPrivs") == "1"


async def test_qemu_has_no_privileges_and_sees_nothing_of_the_host(booted: Booted, run_dir: Path) -> None:
    async with booted() as guest:
        qemu = Process(guest.record.process.pid)
        without_privileges(qemu, guest.record.uid)
        assert qemu.word("Seccomp") == "2"
        assert qemu.status["NSpid"] == [str(qemu.pid), "1"]
        assert qemu.shares() == {"user", "cgroup"}
        assert qemu.limit("Max core file size") == ("0", "0")
        assert (qemu.path / "environ").read_bytes() == b""


async def test_qemus_root_holds_the_system_and_what_it_boots_read_only(booted: Booted) -> None:
    async with booted() as guest:
        qemu = Process(guest.record.process.pid)
        assert os.readlink(qemu.path / "cwd") == os.readlink(qemu.path / "root") == "/"
        root = qemu.path / "root"
        system = {name for name in ("bin", "lib", "lib32", "lib64", "libx32") if Path("/", name).exists()}
        program = Path(os.readlink(qemu.path / "exe"))
        own = {program.name} if program.parent == Path("/") else set()  # of --qemu
        assert {path.name for path in root.iterdir()} == {"usr", "boot", "dev", "etc"} | system | own
        assert {path.name for path in (root / "boot").iterdir()} == {"vmlinux", "initrd"}
        assert {path.name for path in (root / "etc").iterdir()} == {"ld.so.cache"}
        assert {path.name for path in (root / "dev").iterdir()} == {"null", "urandom"} | ({"kvm"} if KVM else set())
        for point, options, kind in qemu.mounts():
            assert {"ro", "nosuid"} <= options, point
            assert point == "/" or "nodev" in options, point
            assert (kind == "tmpfs") == (point == "/"), point


async def test_qemu_holds_only_the_files_it_was_given(booted: Booted, run_dir: Path, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    async with booted(disks=[DiskRecord(target=0, path=str(image), read_only=True)]) as guest:
        qemu = Process(guest.record.process.pid)
        # its stdin, until it has read the end of that; and what it waits by, where it was built without io_uring
        assert set(qemu.files()) - {"/dev/null", "anon_inode:[eventpoll]"} == {
            "/dev/urandom",
            "/memfd:memory-backend-memfd (deleted)",
            "anon_inode:[eventfd]",
            "anon_inode:[signalfd]",
            str(image),
            f"{run_dir}/lock",
            "pipe",
            "socket",
            *(("/dev/kvm", "anon_inode:kvm-vm", "anon_inode:kvm-vcpu:0") if KVM else ()),
        }
        links = {fd.name: os.readlink(fd) for fd in (qemu.path / "fd").iterdir()}
        for number, link in links.items():
            if link == str(image):
                flags = int(re.search(r"flags:\s+(\d+)", (qemu.path / "fdinfo" / number).read_text())[1], 8)  # type: ignore[index]
                assert flags & os.O_ACCMODE == os.O_RDONLY


async def test_qemu_cannot_write_to_its_lock(booted: Booted, run_dir: Path) -> None:
    async with booted() as guest:
        qemu = Process(guest.record.process.pid)
        [lock] = [fd.name for fd in (qemu.path / "fd").iterdir() if os.readlink(fd) == f"{run_dir}/lock"]
        flags = re.search(r"flags:\s+(\d+)", (qemu.path / "fdinfo" / lock).read_text())
        assert flags and int(flags[1], 8) & os.O_ACCMODE == os.O_RDONLY


async def in_jail(run_dir: Path, *command: str, fd: int, largest_file: int) -> list[str]:
    """What `command` says, which is QEMU's stead in the jail and has `fd`; it has ended, and so has its keeper."""
    run = qemu_run(run_dir)
    lock = run.lock()
    assert lock is not None
    try:
        what = JailedProgram(
            program="qemu",
            command=list(command),
            options=vmm_options(run, uid=UID, binds={}, kvm=False, proc=False, largest_file=largest_file),
            fds=[fd],
            lock=lock,
        )
        keeper = await start(run, what)
        for one in (keeper, run.processes("qemu")[0]):
            await proc.gone(one.pid, one.start_time)
    finally:
        os.close(lock)
        os.close(fd)
    assert run.status("qemu") == "exit 0"
    return run.read_tail("qemu.out", 4096).decode().splitlines()


TAP_CALLS = """
import fcntl, os, struct, sys
for name, call, value in (
    ("persist", 0x400454CB, 1), ("owner", 0x400454CC, 0), ("group", 0x400454CE, 0), ("down", 0x400454E2, 0),
    ("sndbuf", 0x400454D4, struct.pack("i", 1 << 30)), ("offload", 0x400454D0, 0),
):
    try:
        fcntl.ioctl(int(sys.argv[1]), call, value)
        print(name, "is allowed", flush=True)
    except OSError as e:
        print(name, e.strerror, flush=True)
"""


async def test_a_tap_can_be_used_and_not_kept(driver: QemuHypervisor, run_dir: Path, tmp_path: Path) -> None:
    tap = open_tap("hyt-jail-test", UID)
    said = await in_jail(run_dir, "/usr/bin/python3", "-c", TAP_CALLS, str(tap), fd=tap, largest_file=1 << 30)
    refused = [f"{name} Operation not permitted" for name in ("persist", "owner", "group", "down")]
    assert said == [*refused, "sndbuf is allowed", "offload is allowed"]
    assert not Path("/sys/class/net/hyt-jail-test").exists()
    await driver.reap(run_dir)


FILE_CALLS = """
import os, resource, sys
fd, most = int(sys.argv[1]), int(sys.argv[2])
memory = os.memfd_create("memory")
for name, call in (
    ("limit", lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most + 1, most + 1))),
    ("past", lambda: os.pwrite(fd, b"x", most)),
    ("truncate", lambda: os.truncate(fd, most + 1)),
    ("allocate", lambda: os.posix_fallocate(fd, 0, most + 1)),
    ("memory", lambda: os.truncate(memory, most + 1)),
    ("within", lambda: os.pwrite(fd, b"x", most - 1)),
):
    try:
        call()
        print(name, "is allowed", flush=True)
    except (OSError, ValueError) as e:
        print(name, e, flush=True)
"""


async def test_no_file_grows_beyond_what_qemu_may_write(driver: QemuHypervisor, run_dir: Path, tmp_path: Path) -> None:
    """Whoever has taken it over has the scratch disks open, and room on the host's disk is everybody's."""
    scratch, most = os.open(tmp_path / "scratch", os.O_RDWR | os.O_CREAT), 1 << 30
    words = ("/usr/bin/python3", "-c", FILE_CALLS, str(scratch), str(most))
    limit, *calls, within = await in_jail(run_dir, *words, fd=scratch, largest_file=most)
    assert limit == "limit not allowed to raise maximum limit"
    assert calls == [f"{name} [Errno 27] File too large" for name in ("past", "truncate", "allocate", "memory")]
    assert within == "within is allowed"
    await driver.reap(run_dir)


async def test_qemu_may_write_its_largest_disk_and_no_larger_one_comes_later(booted: Booted, tmp_path: Path) -> None:
    def scratch(name: str, gib: int, target: int) -> DiskRecord:
        with open(tmp_path / name, "wb") as f:
            f.truncate(gib << 30)
        return DiskRecord(target=target, path=str(tmp_path / name), read_only=False)

    async with booted() as guest:  # the memory that may be added is in a file too
        assert Process(guest.record.process.pid).limit("Max file size") == (str(HOT_MEMORY_MIB << 20),) * 2
    async with booted(disks=[scratch("first", 20, 1)], disk_mib=30 << 10) as guest:
        assert Process(guest.record.process.pid).limit("Max file size") == (str(30 << 30),) * 2
        await guest.add_disk(scratch("later", 30, 2))
        with pytest.raises(InvalidInput, match="of 40960 MiB, and the virtual machine was started for disks of 30720"):
            await guest.add_disk(scratch("larger", 40, 3))
        await guest.add_disk(scratch("other", 1, 3))  # nothing of that one is in the way


async def test_the_keeper_has_no_privileges_and_only_its_logs(booted: Booted, run_dir: Path) -> None:
    async with booted() as guest:
        keeper = Process(int(Process(guest.record.process.pid).word("PPid")))
        without_privileges(keeper, guest.record.uid)
        logs = [f"{run_dir}/qemu.{suffix}" for suffix in ("log", "log.old", "out", "out.old", "status")]
        assert keeper.files() == sorted(["/dev/null", "anon_inode:[pidfd]", "pipe", f"{run_dir}/lock", *logs])
        assert os.readlink(keeper.path / "cwd") == "/"
        assert os.getsid(keeper.pid) == keeper.pid


async def test_its_memory_and_threads_are_limited_on_the_host(booted: Booted, run_dir: Path) -> None:
    async with booted(memory_mib=128) as guest:
        folders = [
            line.split(":") for line in Path(f"/proc/{guest.record.process.pid}/cgroup").read_text().splitlines()
        ]
        ours = {
            controllers: path
            for _, controllers, path in folders
            if path.startswith(f"/{cgroup.PARENT}/{run_dir.name}-")
        }
        if not any(os.access(root, os.W_OK) for root in (cgroup.CGROUPS, cgroup.CGROUPS / "memory")):
            pytest.skip("the cgroups of this host are not ours to use")
        values: dict[str, int] = {}
        for controllers, path in ours.items():
            for name in ("memory.max", "memory.limit_in_bytes", "pids.max"):
                file = cgroup.CGROUPS / controllers / path[1:] / name
                if file.exists():
                    values[name.split(".")[0]] = int(file.read_text())
        assert values == {"memory": (128 + limits.OVERHEAD_MIB) << 20, "pids": limits.TASKS}


async def test_virtiofsd_has_few_privileges_and_sees_the_share_alone(
    booted: Booted, tmp_path: Path, line: Lines
) -> None:
    share = tmp_path / "share"
    share.mkdir()
    (share / "hello").write_text("from the host\n")
    async with booted(share=SharedFolder(folder=share)) as guest, line(guest) as ask:
        assert await ask("share") == "hello"
        assert await ask("get /share/hello") == "from the host"
        [helper] = guest.record.helpers
        outer = Process(helper.pid)
        [server] = outer.children()
        assert {outer.word(f"Cap{kind}") for kind in ("Inh", "Prm", "Eff", "Amb")} == {NO_CAPS}  # it only waits
        for kind in ("Prm", "Eff"):
            assert int(server.word(f"Cap{kind}"), 16) == sum(1 << n for n in SHARE_CAPS.values())
        assert server.word("NoNewPrivs") == "1"
        assert server.word("Seccomp") == "2"
        assert server.shares() == {"user", "cgroup"}
        assert [path.name for path in (server.path / "root").iterdir()] == ["hello"]


async def test_a_guest_that_was_told_to_end_uses_its_share_no_more(booted: Booted, tmp_path: Path, line: Lines) -> None:
    share = tmp_path / "share"
    share.mkdir()
    async with booted(share=SharedFolder(folder=share)) as guest, line(guest) as ask:
        await ask("share")
        [helper] = guest.record.helpers
        servers = [helper.pid, *(server.pid for server in Process(helper.pid).children())]
        assert len(servers) == 2
        await guest.tell_end()
        assert [proc.start_time(pid) for pid in servers] == [None, None]


async def test_a_guest_makes_files_in_the_share_for_any_user_but_no_devices(
    booted: Booted, tmp_path: Path, line: Lines
) -> None:
    share = tmp_path / "share"
    share.mkdir()
    async with booted(share=SharedFolder(folder=share)) as guest, line(guest) as ask:
        await ask("share")
        assert await ask("touch /share/made") == "ok"
        assert await ask("mknod /share/null") == "Operation not permitted"
    status = (share / "made").stat()
    assert (status.st_uid, status.st_gid, stat.S_ISREG(status.st_mode)) == (1234, 5678, True)
    assert [path.name for path in share.iterdir()] == ["made"]
