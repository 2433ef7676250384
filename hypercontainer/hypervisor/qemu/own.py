"""A QEMU that was built here of Debian's source (tools/qemu.sh), which says so in what `--version` prints."""

import re

from hypercontainer.lib import proc
from hypercontainer.lib.proc import CommandFailed

OWN = re.compile(r"\(HyperContainer, of Debian (\S+)\)")  # --with-pkgversion
NUMBER = re.compile(r"version (\S+)")
SUFFIX = "-hyper"  # of its version: nothing that the other one saved goes on with it
BUILD = "run `make qemu`, and restart hyperd with what it has built: docs/howto/qemu.md"


def version(said: str) -> str:
    """Of what prints this; "" if that tells none."""
    number = NUMBER.search(said)
    return (number[1] + (SUFFIX if OWN.search(said) else "")) if number else ""


async def behind(said: str, package: str) -> str:
    """Why what prints this is to be built again: the distribution's `package` is newer than the source that it is of.
    "" when that is not so, and of the distribution's own."""
    own = OWN.search(said)
    if not own:
        return ""
    try:
        found = await proc.run(["dpkg-query", "-W", "-f", "${source:Version}", package], timeout_s=20)
        newer = found.stdout.decode().strip()
        await proc.run(["dpkg", "--compare-versions", own[1], "lt", newer], timeout_s=20)
    except CommandFailed:  # it is not installed, or not newer
        return ""
    return f"it was built of {own[1]}, and {package} is {newer}: {BUILD}"
