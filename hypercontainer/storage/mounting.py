"""Mounts one file system, in a process of its own: `python -I -m hypercontainer.storage.mounting`, a Job on stdin.

Of its own, for a server that does not answer lets mount(2) wait for minutes: such a process can be killed. It ends with
the hyperd that has started it, so that nothing is mounted later which that one's successor has not seen. Its status is
0, or FAILED with the errno on stdout.
"""

import ctypes
import os
import signal
import sys

import msgspec

from hypercontainer.lib import mount

PR_SET_PDEATHSIG = 1
FAILED = 3


class Job(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What mount(2) is asked. `target`: the descriptor of the folder that it is mounted over."""

    source: str
    target: int
    type: str
    flags: int
    data: str
    parent: int  # the pid of who asks


def main() -> int:
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    mount.libc().prctl(ctypes.c_int(PR_SET_PDEATHSIG), ctypes.c_ulong(signal.SIGKILL))
    if os.getppid() != job.parent:
        return 1  # it has ended before that counted
    try:
        mount.mount(job.source, job.target, job.type, job.flags, job.data)
    except OSError as e:
        sys.stdout.write(str(e.errno))
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
