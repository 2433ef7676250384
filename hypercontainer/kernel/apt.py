"""apt as whoever downloads kernels needs it: the lists that this host has, or private ones of another architecture.

Those are this host's sources, asked by its own apt for another architecture's packages, in a folder of ours: what this
host has installed, and may install, stays as it is.
"""

import re
from pathlib import Path
from typing import NamedTuple

from hypercontainer.errors import Unavailable, reason
from hypercontainer.kernel.ports import Port
from hypercontainer.lib import proc
from hypercontainer.lib.proc import CommandFailed

VERSION = re.compile(r"^Version: (\S+)$", re.MULTILINE)
SIZE = re.compile(r"^Size: (\d+)$", re.MULTILINE)
TAIL = 300  # characters of what apt said, for an error

HINT = "run `apt-get update`; docs/howto/kernel.md says how to use a kernel from elsewhere"

# Read after this host's own. `root` needs no other user, whom our folders are closed to.
CONFIGURATION = """\
APT::Architecture "{debian}";
#clear APT::Architectures;
APT::Architectures {{ "{debian}"; }};
APT::Sandbox::User "root";
Dir::State "{folder}/state";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
#clear Acquire::Languages;
Acquire::Languages {{ "none"; }};
Acquire::GzipIndexes "true";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::CNF::DefaultEnabled "false";
"""


class Apt(NamedTuple):
    options: tuple[str, ...] = ()
    hint: str = HINT

    async def depends(self, package: str, on: re.Pattern[str]) -> str:
        """The first of its dependencies that `on` finds, its first group. Unavailable."""
        found = on.search(await self._cache("depends", package))
        if not found:
            raise Unavailable(f"cannot find a kernel to fetch: apt knows no {package}: {self.hint}")
        return found[1]

    async def candidate(self, package: str) -> tuple[str, int]:
        """Version and size in bytes of `package` as apt would install it. Unavailable."""
        shown = await self._cache("show", "--no-all-versions", package)
        version, size = VERSION.search(shown), SIZE.search(shown)
        if not version or not size:
            raise Unavailable(f"cannot find {package}: apt says nothing of it: {self.hint}")
        return version[1], int(size[1])

    async def _cache(self, *words: str) -> str:
        try:
            return (await proc.run(["apt-cache", *self.options, *words], timeout_s=60)).stdout.decode()
        except CommandFailed as e:
            raise Unavailable(f"cannot find {words[-1]}: {reason(e)}: {self.hint}") from e

    async def download(self, package: str, version: str, work: Path) -> Path:
        """apt checks what it downloads against the signed index; as root it needs no lock and installs nothing.

        Its sandbox user could not write into our private folder, so apt would warn and do without: say so instead."""
        argv = ["apt-get", *self.options, "download", "-o", "APT::Sandbox::User=root", f"{package}={version}"]
        try:
            await proc.run(argv, timeout_s=1800, cwd=work)
        except CommandFailed as e:
            raise Unavailable(f"cannot download {package} {version}: {_errors(e)}") from e
        return next(work.glob("*.deb"))


HOST = Apt()


async def foreign(port: Port, folder: Path) -> Apt:
    """That of another architecture, its lists in `folder` as they are now. The caller sees to it that nobody else does
    this there at the same time. Unavailable when they cannot be had."""
    folder = folder.absolute()
    for below in ("state/lists/partial", "cache/archives/partial"):
        (folder / below).mkdir(parents=True, exist_ok=True)
    (folder / "status").touch()  # nothing is installed
    configuration = folder / "apt.conf"
    configuration.write_text(CONFIGURATION.format(debian=port.debian, folder=folder))
    options = ("-c", str(configuration))
    try:
        said = await proc.run(["apt-get", *options, "-q", "update"], timeout_s=600)
    except CommandFailed as e:
        raise Unavailable(f"cannot list packages of {port.debian}: {_errors(e)}") from e
    complaint = said.stderr.decode(errors="replace").strip()[-TAIL:]
    hint = f"no source in /etc/apt has it for {port.debian}; docs/howto/kernel.md says how to use one from elsewhere"
    return Apt(options, f"{hint}; apt-get says: {complaint}" if complaint else hint)


def _errors(failed: CommandFailed) -> str:
    """The first of apt's errors, each of which begins a line with E: and may have more below."""
    said = failed.stderr.strip()
    return said[max(0, said.find("E: ")) :][:TAIL].replace("\n", " ")
