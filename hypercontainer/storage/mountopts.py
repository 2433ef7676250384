"""The options of a mount, as mount(8) and docker write them: flags of mount(2) by their names, the rest is the file
system's. Pure."""

import re

from hypercontainer.errors import InvalidInput
from hypercontainer.lib.mount import NODEV, NOEXEC, NOSUID, RDONLY

SYNC, MAND, DIRSYNC = 0x10, 0x40, 0x80
NOATIME, NODIRATIME, RELATIME, STRICTATIME = 0x400, 0x800, 0x200000, 0x1000000

SET = {
    "ro": RDONLY, "nosuid": NOSUID, "nodev": NODEV, "noexec": NOEXEC, "sync": SYNC, "mand": MAND, "dirsync": DIRSYNC,
    "noatime": NOATIME, "nodiratime": NODIRATIME, "relatime": RELATIME, "strictatime": STRICTATIME,
}  # fmt: skip
CLEARED = {
    "rw": RDONLY, "suid": NOSUID, "dev": NODEV, "exec": NOEXEC, "async": SYNC, "nomand": MAND, "atime": NOATIME,
    "diratime": NODIRATIME, "norelatime": RELATIME, "nostrictatime": STRICTATIME, "defaults": 0,
}  # fmt: skip
# What would act on another mount than the one that is to be made.
OTHERS = (
    "remount", "move", "bind", "rbind", "shared", "rshared", "slave", "rslave", "private", "rprivate", "unbindable",
    "runbindable",
)  # fmt: skip
SECRET = re.compile(r"\b(password|pass)=[^,]*")


def parse(options: str) -> tuple[int, str]:
    """Flags of mount(2), and the file system's own options, in their order. Neither setuid bits nor devices count
    unless they are asked for. InvalidInput for what acts on other mounts."""
    flags, data = NOSUID | NODEV, []
    for option in options.split(",") if options else ():
        if option in OTHERS:
            raise InvalidInput(f"cannot mount a volume with o={option}: it acts on mounts that are there already")
        if option in SET:
            flags |= SET[option]
        elif option in CLEARED:
            flags &= ~CLEARED[option]
        elif option:
            data.append(option)
    return flags, ",".join(data)


def shown(data: str) -> str:
    """The file system's options, as they may be seen by whoever is told of an error."""
    return SECRET.sub(r"\1=********", data)
