"""Building a kernel: the whole way on a package of some lines, and all the ways that it ends early."""

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from hypercontainer.errors import AlreadyExists, Exhausted, HyperError, InvalidInput, TimedOut, Unavailable
from hypercontainer.kernel import build, config, toolchain
from hypercontainer.kernel.apt import Apt
from hypercontainer.kernel.bundle import BUILD, BUILD_LOCK, KernelStore
from hypercontainer.lib import proc

ROOT = Path(__file__).parents[3]
REAL = "sh make nice tar xz dpkg-deb setpriv unshare cp mkdir printf cat sleep echo touch sed"  # the rest is made up
MAKEFILE = r"""
allnoconfig:
	sed s/64BIT=y/64BIT=y/ $(KCONFIG_ALLCONFIG) > $(O)/.config
	$(SPOIL)
vmlinux:
	mkdir -p $(O)/include/config
	echo 6.1.0$(LOCALVERSION) > $(O)/include/config/kernel.release
	printf '\177ELF\004\000\000\000\010\000\000\000\022\000\000\000Xen\000' > $(O)/vmlinux
	printf 'kernel/%s.ko\n' $(BUILTIN) > $(O)/modules.builtin
	COMPILE
"""
BUILTIN = (
    "virtio_pci virtio_console virtio_scsi sd_mod crc32c_intel crc32c_generic erofs ext4 overlay virtio_net virtio_mem "
    "virtio_balloon virtio_rng fuse virtiofs"
)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH of real tools, and of compilers that only say who they are."""
    path = tmp_path / "tools"
    path.mkdir()
    for name in REAL.split():
        real = shutil.which(name)
        assert real, f"{name} is not installed"
        (path / name).symlink_to(real)
    for name, script in {
        "gcc": "echo gcc 12",
        "ld": "echo ld 2",
        "strip": 'cp "$4" "$3"',
        "bc": "",
        "perl": "",
    }.items():
        (path / name).write_text(f"#!{path}/sh\n{script}\n")
        (path / name).chmod(0o755)
    for name in ("flex", "bison"):
        (path / name).symlink_to("bc")
    monkeypatch.setattr(toolchain, "PATH", str(path))
    return path


Package = Callable[..., None]


@pytest.fixture
def package(tmp_path: Path, tools: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """package(compile="…"): what apt would download has this as the last line of its Makefile."""
    monkeypatch.setattr(toolchain, "TOOLS", {k: v for k, v in toolchain.TOOLS.items() if not k.startswith("/")})
    monkeypatch.setattr(build, "ROOM", 1)

    def make(*, compile: str = "echo done", spoil: str = "") -> None:
        tree, deb = tmp_path / "source" / build.SOURCE, tmp_path / "deb"
        (deb / "DEBIAN").mkdir(parents=True, exist_ok=True)
        (deb / "usr/src").mkdir(parents=True, exist_ok=True)
        tree.mkdir(parents=True, exist_ok=True)
        text = MAKEFILE.replace("COMPILE", compile).replace("$(SPOIL)", spoil).replace("$(BUILTIN)", BUILTIN)
        (tree / "Makefile").write_text(text)
        archive = deb / "usr/src" / f"{build.SOURCE}.tar.xz"
        subprocess.run(["tar", "-cJf", archive, "-C", tree.parent, build.SOURCE], check=True)
        control = f"Package: {build.SOURCE}\nVersion: 1\nArchitecture: all\nMaintainer: x <x@y>\nDescription: x\n"
        (deb / "DEBIAN/control").write_text(control)

        async def candidate(_: Apt, __: str) -> tuple[str, int]:
            return "6.1.0-1", 1_000_000

        async def download(_: Apt, __: str, ___: str, work: Path) -> Path:
            await proc.run(["dpkg-deb", "-b", deb, work / "x.deb"], timeout_s=60)
            return work / "x.deb"

        monkeypatch.setattr(Apt, "candidate", candidate)
        monkeypatch.setattr(Apt, "download", download)

    return make


@pytest.fixture
def store(tmp_path: Path) -> KernelStore:
    return KernelStore(tmp_path / "root")


def names(store: KernelStore) -> set[str]:
    return {path.name for path in store.path.iterdir()}


LEFT = {".lock", ".build.lock", ".build.log"}


async def test_a_kernel_is_built_and_kept(store: KernelStore, package: Package) -> None:
    package()
    steps: list[str] = []
    bundle = await build.build(store, steps.append, jobs=1)
    assert (bundle.release, bundle.package_version) == ("6.1.0-hyper", "6.1.0-1")
    assert bundle.name == f"hyper-6.1.0-{bundle.source[:8]}"
    assert [step.split()[0] for step in steps] == ["downloading", "unpacking", "configuring", "compiling,"]
    assert names(store) == {*LEFT, bundle.name}
    assert stat.S_IMODE(bundle.path.stat().st_mode) == 0o755
    init = store.path.parent / "hyperstart"
    init.write_bytes(b"init")
    _, initrd = store.boot_files(bundle, init)
    assert b".ko" not in initrd.read_bytes()
    steps.clear()
    assert await build.build(store, steps.append) == bundle
    assert await build.build(store, steps.append, name=bundle.name) == bundle
    assert steps == []


async def test_two_builds_at_once_do_the_work_once(store: KernelStore, package: Package) -> None:
    package()
    steps: list[str] = []
    first, second = await asyncio.gather(build.build(store, steps.append), build.build(store, steps.append))
    assert first == second
    assert len(steps) == 4


async def test_a_name_of_another_kernel_is_refused_before_any_work(store: KernelStore, package: Package) -> None:
    package()
    bundle = await build.build(store, lambda _: None, name="small")
    assert bundle.name == "small"
    os.rename(store.path / "small", store.path / "other")
    (store.path / "small").mkdir()
    text = (store.path / "other/bundle.json").read_text().replace(bundle.source, "")
    (store.path / "small/bundle.json").write_text(text)
    with pytest.raises(AlreadyExists, match="small"):
        await build.build(store, lambda _: None, name="small")
    with pytest.raises(InvalidInput, match="invalid kernel name"):
        await build.build(store, lambda _: None, name="../up")


async def test_an_option_that_cannot_be_had_is_named(store: KernelStore, package: Package) -> None:
    package(spoil="sed -i -e /PVH/d -e s/NR_CPUS=64/NR_CPUS=8/ $(O)/.config")
    with pytest.raises(InvalidInput, match=r"(?s)CONFIG_NR_CPUS=64 .* became 8.*CONFIG_PVH=y .* became n"):
        await build.build(store, lambda _: None)
    assert names(store) == LEFT - {".lock"}


async def test_a_failed_compiler_speaks(store: KernelStore, package: Package) -> None:
    package(compile="@echo main.c: no such luck; exit 1")
    with pytest.raises(
        HyperError, match=r"(?s)make vmlinux failed.*main\.c: no such luck.*all of it is in .*build\.log"
    ):
        await build.build(store, lambda _: None)
    assert names(store) == LEFT - {".lock"}
    assert "no such luck" in (store.path / build.LOG).read_text()


async def test_a_kernel_that_cannot_boot_is_not_kept(store: KernelStore, package: Package) -> None:
    package(compile="echo nothing > $(O)/vmlinux")
    with pytest.raises(InvalidInput, match="PVH"):
        await build.build(store, lambda _: None)
    package(compile="echo kernel/ext4.ko > $(O)/modules.builtin")
    with pytest.raises(InvalidInput, match="no module virtio_pci"):
        await build.build(store, lambda _: None)
    assert names(store) == LEFT


SLEEPER = "echo $$$$ > {pid}; exec sleep 600"


def alive(pid_file: Path) -> bool:
    """Is the sleeper's folder still anyone's? Its pid is one of its own namespace."""
    return any(
        b"\0600\0" in (entry / "cmdline").read_bytes() and str(pid_file.parent) in (entry / "environ").read_text()
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and readable(entry)
    )


def readable(entry: Path) -> bool:
    try:
        return bool((entry / "environ").read_text() and (entry / "cmdline").read_bytes())
    except OSError:
        return False


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  another process' doing
            await asyncio.sleep(0.02)


async def test_cancelled_it_leaves_no_process_and_no_file(store: KernelStore, package: Package, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    package(compile=SLEEPER.format(pid=pid))
    task = asyncio.create_task(build.build(store, lambda _: None))
    await until(pid.exists)
    assert alive(pid)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not alive(pid))
    assert names(store) == LEFT - {".lock"}


async def test_it_does_not_last_for_ever(
    store: KernelStore, package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(compile="sleep 600")
    monkeypatch.setattr(build, "COMPILE_S", 0.5)
    with pytest.raises(TimedOut, match=r"make vmlinux took over 0\.5 s"):
        await build.build(store, lambda _: None)
    assert names(store) == LEFT - {".lock"}


KILLED = """
    import asyncio, sys
    from pathlib import Path
    from hypercontainer.kernel import toolchain
    from hypercontainer.kernel.build import _folder
    from hypercontainer.kernel.bundle import BUILD_LOCK, KernelStore

    async def main():
        store = KernelStore(Path(sys.argv[1]))
        toolchain.PATH = sys.argv[2]
        async with store.claimed(BUILD_LOCK), _folder(store) as work:
            (work / "Makefile").write_text(sys.argv[3])
            make = toolchain.Make(work, work / "obj", store.path / "log", jobs=1, say=print)
            await make.run("vmlinux", timeout_s=600)

    asyncio.run(main())
"""


async def test_killed_it_takes_its_compilers_along_and_is_swept(
    store: KernelStore, tools: Path, tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    makefile = "vmlinux:\n\t" + SLEEPER.format(pid=pid) + "\n"
    argv = [sys.executable, "-c", textwrap.dedent(KILLED), str(store.path.parent), str(tools), makefile]
    with subprocess.Popen(argv, cwd=ROOT) as process:  # noqa: ASYNC220
        await until(pid.exists)
        store.sweep()
        assert (store.path / BUILD).exists(), "somebody builds there"
        process.send_signal(signal.SIGKILL)
    await until(lambda: not alive(pid))
    assert (store.path / BUILD).exists()
    store.sweep()
    assert not (store.path / BUILD).exists()
    store.sweep()


def test_sweeping_where_nothing_was_built_makes_nothing(store: KernelStore) -> None:
    store.sweep()
    assert not store.path.exists()


def test_missing_tools_are_named_by_their_packages(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"apt-get install .*bc .*bison flex gcc .*xz-utils"):
        toolchain.check_tools(str(tmp_path))


def test_the_list_of_packages_is_the_one_that_make_kernel_installs() -> None:
    lines = (ROOT / "debian-packages-kernel.txt").read_text().splitlines()
    assert {line for line in lines if line and not line.startswith("#")} == set(toolchain.TOOLS.values())


def test_a_full_disk_is_noticed_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "ROOM", 1 << 60)
    with pytest.raises(Exhausted, match="GB are free"):
        build.check_room(tmp_path)


def test_what_a_kernel_is_made_of_is_its_key() -> None:
    options = config.fragments()
    key = build.source_key("1", options, "gcc 12")
    others = [
        build.source_key("2", options, "gcc 12"),
        build.source_key("1", options[1:], "gcc 12"),
        build.source_key("1", options, "gcc 13"),
    ]
    assert len({key, *others}) == 4
    assert key == build.source_key("1", [o._replace(reason="other words") for o in options], "gcc 12")


async def test_progress_is_told_by_the_log(tmp_path: Path, tools: Path) -> None:
    """Make ends when it has been told."""
    told, said = tmp_path / "told", list[str]()
    lines = "seq=0; while [ $$seq -lt 600 ]; do echo CC; seq=$$((seq+1)); done"
    (tmp_path / "Makefile").write_text(f"all:\n\t@{lines}; until [ -e {told} ]; do sleep 0.1; done\n")

    def say(line: str) -> None:
        said.append(line)
        if said[-1] == "compiling: 500 files":
            told.touch()

    make = toolchain.Make(tmp_path, tmp_path / "obj", tmp_path / "log", jobs=1, say=say)
    await make.run("all", timeout_s=100, step="compiling")
    assert said[-1] == "compiling: 500 files"


def test_the_lock_is_beside_the_bundles(store: KernelStore) -> None:
    assert BUILD_LOCK.startswith(".")
