"""hyperstart as an ordinary process: in namespaces of its own, folders for disks, a unix socket for the port."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.model.arch import host_name
from hypercontainer.model.defaults import MASKED_PATHS, READONLY_PATHS
from tests.unit.guest.wire_client import Host

ROOT = Path(__file__).parents[3]
BUSYBOX = Path("/bin/busybox")
PASSWD = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n"
GROUP = "root:x:0:\nuser:x:1000:\nextra:x:2000:user\nother:x:3000:\n"
ENV = ["PATH=/bin:/usr/bin"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid():
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="hyperstart makes namespaces and mounts: run as root"))


@pytest.fixture(scope="session")
def hyperstart() -> Path:
    """The program, built anew if its sources changed."""
    subprocess.run([sys.executable, "hatch_build.py"], cwd=ROOT, check=True)
    return ROOT / "hypercontainer/_bin" / host_name() / "hyperstart"


@pytest.fixture(scope="session")
def lower(hyperstart: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image's root file system, with what guests rehearse with."""
    root = tmp_path_factory.mktemp("lower")
    for name in ("bin", "etc", "tmp", "home/user", "data/sub", "usr/bin", "var"):
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    os.chown(root / "home/user", 1000, 1000)
    (root / "bin/busybox").write_bytes(BUSYBOX.read_bytes())
    (root / "bin/busybox").chmod(0o755)
    shutil.copy(hyperstart, root / "bin")
    for applet in subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split():
        if not (root / "bin" / applet).exists():
            (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text(PASSWD)
    (root / "etc/group").write_text(GROUP)
    (root / "data/file").write_text("of the image\n")
    (root / "data/sub/deep").write_text("deeper\n")
    (root / "data/link").symlink_to("file")
    (root / "bin/notexec").write_text("no program")
    (root / "bin/wrong").write_bytes(b"\x7fELF but not really")
    (root / "bin/wrong").chmod(0o755)
    (root / "bin/badint").write_text("#!/no/such/interpreter\n")
    (root / "bin/badint").chmod(0o755)
    (root / "leads").mkdir()
    (root / "leads/out").symlink_to("/../../../../etc")
    (root / "leads/nowhere").symlink_to("/made/by/link")
    return root


class Guest:
    """A running hyperstart and one host that talks to it."""

    def __init__(self, program: Path, folder: Path, lower: Path) -> None:
        self.folder, self.lower = folder, lower
        self.path = folder / "agent.sock"
        self.log = (folder / "log").open("wb")
        self.process = subprocess.Popen([program, "--test", self.path, folder], stderr=self.log)
        self.host = Host(self.path)
        self.host.hello()
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
        unified = [Path(fields[1]) for fields in mounts if fields[2] == "cgroup2"]
        self.cgroup = unified[-1] / f"hyperstart-{self.process.pid}"

    def close(self) -> None:
        self.host.close()
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(10)
        self.log.close()

    def words(self) -> str:
        self.log.flush()
        return (self.folder / "log").read_text()

    def another_host(self) -> Host:
        self.host.close()
        host = Host(self.path)
        host.next_stream = self.host.next_stream
        self.host = host
        return host

    def created(self, name: str = "c1", **args: Any) -> dict[str, Any]:
        """What container.create asks for."""
        upper = self.folder / f"upper-{name}"
        upper.mkdir(exist_ok=True)
        rootfs = {"lower": {"path": str(self.lower)}, "upper": {"path": str(upper)}}
        none = args.get("privileged", False)  # as the engine does
        hidden = {"masked_paths": [] if none else MASKED_PATHS, "readonly_paths": [] if none else READONLY_PATHS}
        return {"id": name, "rootfs": rootfs, **hidden, **args}

    def container(self, name: str = "c1", **args: Any) -> str:
        self.host.call("container.create", **self.created(name, **args))
        return name

    def start(
        self, process: str, *words: str, container: str = "c1", stdin: bool = False, **args: Any
    ) -> dict[str, int]:
        """Start it and return its streams."""
        streams = self.host.streams(stdin=stdin, stderr=not args.get("tty", False))
        args.setdefault("env", ENV)
        self.host.call("process.start", id=process, container=container, args=list(words), streams=streams, **args)
        return streams

    def first(self, *words: str, **args: Any) -> dict[str, int]:
        return self.start("first", *(words or ("sleep", "1000")), first=True, **args)

    def sh(self, script: str, process: str = "sh", **args: Any) -> tuple[int, str, str]:
        """Run a script beside the first process: its status and what it wrote."""
        streams = self.start(process, "sh", "-c", script, **args)
        out = self.host.read_all(streams["stdout"]).decode()
        err = self.host.read_all(streams["stderr"]).decode() if streams["stderr"] else ""
        status = self.host.exit_of(process)["status"]
        self.host.events = [e for e in self.host.events if e.get("process") != process]
        self.host.call("process.forget", process=process)
        return status, out, err


def inside(guest: Guest, *argv: str) -> str:
    """A command of the machine in the guest's network namespace."""
    outer = guest.process.pid
    inner = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()[0]
    words = ["nsenter", f"--net=/proc/{inner}/ns/net", *argv]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def guest(hyperstart: Path, lower: Path, tmp_path: Path) -> Iterator[Guest]:
    guest = Guest(hyperstart, tmp_path, lower)
    yield guest
    guest.close()
    assert not guest.cgroup.exists()


@pytest.fixture
def running(guest: Guest) -> Guest:
    """With a container c1 whose first process sleeps."""
    guest.container()
    guest.first()
    return guest
