"""What compiles a kernel: which tools and headers it takes, and `make`, bounded and never left running."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

from hypercontainer.errors import HyperError, TimedOut, Unavailable
from hypercontainer.lib import proc
from hypercontainer.lib.proc import CommandFailed

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
TAIL = 1500  # characters of the log that an error carries
EVERY_S = 1.0  # how often the log is looked at

# Command or header -> Debian's package. Listed in debian-packages-kernel.txt too: a test compares them.
TOOLS = {
    "gcc": "gcc",
    "ld": "binutils",
    "make": "make",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "perl": "perl",
    "tar": "tar",
    "xz": "xz-utils",
    "setpriv": "util-linux",
    "/usr/include/stdio.h": "libc6-dev",
    "/usr/include/gelf.h": "libelf-dev",  # objtool
}

# Ends with us: the first word's death signal ends the second, whose death ends every process below it.
LEASH = ("setpriv", "--pdeathsig", "KILL", "unshare", "--fork", "--pid", "--kill-child=KILL")

Say = Callable[[str], None]


def check_tools(path: str = PATH) -> None:
    """Raise Unavailable naming the packages to install, unless all is here."""
    missing = {
        package
        for tool, package in TOOLS.items()
        if not (Path(tool).exists() if tool.startswith("/") else shutil.which(tool, path=path))
    }
    if missing:
        raise Unavailable(f"cannot build a kernel: tools are missing: apt-get install {' '.join(sorted(missing))}")


async def compiler_version() -> str:
    """One line that changes whenever the compiler or the linker does."""
    lines = []
    for tool in ("gcc", "ld"):
        said = await proc.run([tool, "--version"], timeout_s=20, env=environment())
        lines.append(said.stdout.decode(errors="replace").partition("\n")[0])
    return "; ".join(lines)


def environment(**more: str) -> dict[str, str]:
    """All that a build sees of ours. Time, user and host are fixed, so that the same source gives the same bytes."""
    return {
        "PATH": PATH,
        "LC_ALL": "C",
        "TZ": "UTC",
        "KBUILD_BUILD_USER": "hyper",
        "KBUILD_BUILD_HOST": "hyper",
        "KBUILD_BUILD_TIMESTAMP": "Thu Jan  1 00:00:00 UTC 1970",
        **more,
    }


class Make:
    """`make` in a kernel's source tree, its output at the end of the file `log`, at low priority."""

    def __init__(self, source: Path, output: Path, log: Path, *, jobs: int, say: Say) -> None:
        self.source, self.output, self.log, self.jobs, self.say = source, output, log, jobs, say

    async def run(self, *words: str, timeout_s: float, step: str = "", env: Mapping[str, str] = {}) -> None:
        """Make `words`. With `step`, tell how many files that step has done.

        InvalidInput never: what fails here is the build's, so HyperError with the log's tail; TimedOut."""
        argv = [*leash(), "nice", "-n", "10", "make", f"O={self.output}", f"-j{self.jobs}", *words]
        with open(self.log, "ab") as log:
            try:
                async with _told(self.log, self.say if step else None, step):
                    environ = environment(**env)
                    await proc.run(argv, timeout_s=timeout_s, cwd=self.source, env=environ, log=log.fileno())
            except CommandFailed as e:
                raise HyperError(f"cannot build the kernel: make {words[-1]} failed: {self._tail()}") from e
            except TimedOut as e:
                raise TimedOut(f"cannot build the kernel: make {words[-1]} took over {timeout_s:g} s") from e

    def _tail(self) -> str:
        return f"{self.log.read_text(errors='replace').strip()[-TAIL:]} (all of it is in {self.log})"


def leash() -> list[str]:
    """As anyone but root, a user namespace allows the process namespace."""
    return [*LEASH, *(() if os.geteuid() == 0 else ("--map-root-user",))]


@asynccontextmanager
async def _told(log: Path, say: Say | None, step: str) -> AsyncIterator[None]:
    """Tell `say` how many lines the log has, as it grows, while the block runs."""
    if say is None:
        yield
        return
    with open(log, "rb") as file:
        file.seek(0, os.SEEK_END)  # now: the task may begin when there are lines already
        task = asyncio.create_task(_follow(file, say, step))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _follow(log: BinaryIO, say: Say, step: str, every: int = 250) -> None:
    files = told = 0
    while True:
        files += log.read(1 << 20).count(b"\n")
        if files - told >= every:
            told = files - files % every
            say(f"{step}: {told} files")
        await asyncio.sleep(EVERY_S)
