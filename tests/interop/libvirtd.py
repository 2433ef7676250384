"""Debian's libvirtd of one's own: its folders, socket and domains are nobody else's."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import ACCELERATOR

LIBVIRTD = Path("/usr/sbin/libvirtd")
READY_S = 60.0
# What it has below these is in its folder; in its mount namespace alone.
PLACES = {"etc": "/etc/libvirt", "lib": "/var/lib/libvirt", "log": "/var/log/libvirt", "run": "/run/libvirt"}
PLACES["cache"] = "/var/cache/libvirt"
# Its package's scripts make this user where there is systemd; without the user it does not start.
USER, NUMBER = "libvirt-qemu", 64055
QEMU_CONF = """
user = "nobody"
group = "{group}"
stdio_handler = "file"
cgroup_controllers = []
namespaces = []
"""
# A socket of its own, whose callers are whom the kernel says.
LIBVIRTD_CONF = """
unix_sock_dir = "{folder}"
auth_unix_rw = "none"
auth_unix_ro = "none"
log_outputs = "3:stderr"
"""


class Libvirtd:
    """libvirtd with everything below `folder`. Domains outlive it, as with any."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.socket = folder, folder / "libvirt-sock"
        self.uri = f"qemu+unix:///system?socket={self.socket}"
        self.process: subprocess.Popen[bytes] | None = None
        for name in PLACES:
            (folder / name).mkdir()
        group = "kvm" if ACCELERATOR == "kvm" else "nogroup"  # of whom it asks what QEMU can do
        (folder / "etc/qemu.conf").write_text(QEMU_CONF.format(group=group))
        (folder / "libvirtd.conf").write_text(LIBVIRTD_CONF.format(folder=folder))
        (folder / "passwd").write_text(f"{Path('/etc/passwd').read_text()}{USER}:x:{NUMBER}:{NUMBER}::/:/bin/false\n")
        (folder / "group").write_text(f"{Path('/etc/group').read_text()}{USER}:x:{NUMBER}:\nlibvirt:x:{NUMBER + 1}:\n")
        # Where tests are without KVM. One that it may open, and that does not work, it asks at each start of a domain
        (folder / "kvm").touch(mode=0)

    def start(self) -> None:
        """Start it and wait until it answers. OSError, with its last words, when it does not."""
        self.socket.unlink(missing_ok=True)  # of one that was killed
        binds = {str(self.folder / name): place for name, place in PLACES.items()}
        binds |= {str(self.folder / name): f"/etc/{name}" for name in ("passwd", "group")}
        if Path("/dev/kvm").exists() and ACCELERATOR != "kvm":
            binds[str(self.folder / "kvm")] = "/dev/kvm"
        for place in PLACES.values():
            os.makedirs(place, exist_ok=True)
        mounts = " && ".join(f"mount --bind {source} {place}" for source, place in binds.items())
        argv = [str(LIBVIRTD), "-f", str(self.folder / "libvirtd.conf"), "-p", str(self.folder / "pid")]
        # descriptors: it closes all that there may be, one by one, whenever it starts something
        script = f'{mounts} && ulimit -n 1024 && exec "$@"'
        with open(self.folder / "libvirtd.log", "ab") as log:
            self.process = subprocess.Popen(
                ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *argv],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + READY_S
        while not self.socket.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise OSError(f"libvirtd does not answer:\n{self.log()[-2000:]}")
            time.sleep(0.02)

    def kill(self) -> None:
        """As a crash would."""
        assert self.process
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(60)
        (self.folder / "pid").unlink(missing_ok=True)

    def domains(self) -> list[str]:
        """Names of all that it knows, running or only described."""
        import libvirt  # where the tests are skipped that need it, this file is read all the same

        connection = libvirt.open(self.uri)
        try:
            return sorted(domain.name() for domain in connection.listAllDomains())
        finally:
            connection.close()

    def log(self) -> str:
        return (self.folder / "libvirtd.log").read_text(errors="replace")

    def close(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)
        shutil.rmtree(self.folder)


@contextmanager
def libvirtd() -> Iterator[Libvirtd]:
    """A running one, gone with the block."""
    folder = Path(tempfile.mkdtemp(prefix="hylv"))
    folder.chmod(0o711)  # QEMU passes through to what libvirtd has there for it
    made = Libvirtd(folder)
    try:
        made.start()
        yield made
    finally:
        made.close()
