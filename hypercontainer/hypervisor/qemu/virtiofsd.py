"""The server of a pod's shared folder: one virtiofsd, which ends with its QEMU."""

import socket
from collections.abc import Sequence
from pathlib import Path

from hypercontainer.errors import InvalidInput
from hypercontainer.hypervisor.qemu import jail
from hypercontainer.hypervisor.qemu.rundir import RunDir
from hypercontainer.model.record import ProcessRef


def command(virtiofsd: str, fd: int, share: Path) -> list[str]:
    """Its argv; `fd` is a listening socket."""
    if "," in str(share):
        raise InvalidInput(f"cannot share {share}: virtiofsd takes no comma in a path")
    return [
        virtiofsd,
        f"--fd={fd}",
        "--rlimit-nofile=0",  # hyper-jail has set it
        *("-o", f"source={share}"),
        *("-o", "sandbox=namespace"),
        *("-o", "modcaps=-mknod:-setfcap"),  # see jail.SHARE_CAPS
        *("-o", "log_level=warn"),
    ]


async def start(
    program: str, hyper_jail: Path, run: RunDir, share: Path, *, lock: int, cgroups: Sequence[Path]
) -> tuple[ProcessRef, socket.socket]:
    """Start it, and return it with the connection that QEMU is to inherit."""
    path = run.path / "share.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(path))  # waits in the queue until virtiofsd takes it: both start at once
            path.unlink()  # one client, ours
            what = jail.Start(
                program="virtiofsd",
                command=command(program, listener.fileno(), share),
                options=jail.share_options(),
                fds=[listener.fileno()],
                lock=lock,
                cgroups=cgroups,
            )
            return await jail.start(hyper_jail, run, what), connection
        except BaseException:
            connection.close()
            raise
