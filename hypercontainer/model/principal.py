"""Who makes a call, and what it may."""

from enum import IntEnum
from typing import NamedTuple


class Role(IntEnum):
    """What a caller may; each includes those below it."""

    ANYONE = 0  # ask whether hyperd is there
    USER = 1  # have containers, images and volumes, with nothing of the host's own in them
    ADMIN = 2  # all


class Principal(NamedTuple):
    """A caller: the user and group of the process that connected, as the kernel says, or whose certificate it has; and
    the role that this gives."""

    role: Role
    uid: int
    gid: int
    pid: int
    certificate: str = ""  # the name in it

    def __str__(self) -> str:
        return f"certificate {self.certificate!r}" if self.certificate else f"uid {self.uid} pid {self.pid}"


UNKNOWN = Principal(Role.ANYONE, uid=-1, gid=-1, pid=0)
