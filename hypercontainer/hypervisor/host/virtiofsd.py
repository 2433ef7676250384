"""The server of a pod's shared folder: one virtiofsd, which ends with its VMM."""

import socket

from hypercontainer.errors import InvalidInput
from hypercontainer.hypervisor.base import SharedFolder
from hypercontainer.hypervisor.host.rundir import RunDir

# A user's attributes pass as they are. So do file capabilities, for virtiofsd cannot change owners where it maps them
# elsewhere; nobody in it can set any. Others are not supported, as on many file systems.
XATTRS = ":ok:all:security.capability:security.capability::ok:all:user.:user.::unsupported:all:::"


def command(virtiofsd: str, fd: int, share: SharedFolder) -> list[str]:
    """Its argv; `fd` is a listening socket."""
    if "," in str(share.folder):
        raise InvalidInput(f"cannot share {share.folder}: virtiofsd takes no comma in a path")
    return [
        virtiofsd,
        f"--fd={fd}",
        "--rlimit-nofile=0",  # hyper-jail has set it
        *("-o", f"source={share.folder}"),
        *("-o", "sandbox=namespace"),
        *("-o", "modcaps=-mknod:-setfcap:-fsetid"),  # see jail.SHARE_CAPS
        *("-o", "flock" if share.host_locks else "no_flock"),
        *("-o", "posix_lock" if share.host_locks else "no_posix_lock"),
        *("-o", f"xattrmap={XATTRS}"),
        *("-o", f"cache={'always' if share.keep else 'auto'}"),  # always: an open leaves the pages that are there
        *("-o", f"timeout={share.cache_s:g}"),
        *("-o", "log_level=warn"),
    ]


def channel(run: RunDir) -> tuple[socket.socket, socket.socket]:
    """The socket that virtiofsd listens on, and the connection to it that the VMM inherits; both to be closed."""
    path = run.path / "share.sock"
    listener, connection = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(path))
        listener.listen(1)
        connection.connect(str(path))  # waits in the queue until virtiofsd takes it: both start at once
        path.unlink()  # one client, ours
    except BaseException:
        listener.close()
        connection.close()
        raise
    return listener, connection
