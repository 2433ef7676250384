"""Xen's toolstack: `xl`, xenstore's programs, and what the kernel tells of the Xen below it."""

import re
import shutil
from pathlib import Path

from hypercontainer.errors import GuestDied, GuestError, Unavailable
from hypercontainer.hypervisor.base import Size
from hypercontainer.lib import proc

CREATE_S = 300.0  # of a call that makes a domain; xl itself gives up on what it waits for, after 10 to 60 s each
CALL_S = 60.0
WAYS = "/usr/sbin:/usr/bin:/sbin:/bin"

SYS, CAPABILITIES = Path("/sys/hypervisor"), Path("/proc/xen/capabilities")
STORE = Path("/run/xenstored/socket")
LOGS = Path("/var/log/xen")  # of xl's processes and of each domain's QEMU: fixed when Xen is built
OLDEST, NEWEST = (4, 17), (4, 19)  # what domains are described for: domain.py's channels
ARCH, PACKAGE = "x86_64", "xen-system-amd64"  # whose domains are described here, and what Debian has Xen in there

MARK = "HYPER_DOMAIN"  # in the environment of all that runs for a domain, what it is called
NO_DOMAIN = "Invalid domain|does not exist|is an invalid domain|Non-existant domain"


class Toolstack:
    def version(self) -> str:
        """Of Xen: "4.17.7". Unavailable in words when this is no dom0 of a Xen of use."""
        doing = "use Xen"
        xl(doing)
        if _read(SYS / "type") != "xen":
            raise Unavailable(f"cannot {doing}: this host does not run on it: boot it by Debian's {PACKAGE}")
        if "control_d" not in _read(CAPABILITIES):
            why = f"{CAPABILITIES} does not say that this is dom0: is xenfs mounted at /proc/xen?"
            raise Unavailable(f"cannot {doing}: {why}")
        if not STORE.exists():
            raise Unavailable(f"cannot {doing}: xenstored does not run: start the service `xen` of xen-utils-common")
        number = _read(SYS / "version/major"), _read(SYS / "version/minor")
        if not OLDEST <= tuple(map(int, number)) <= NEWEST:
            between = f"{OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]} are known"
            raise Unavailable(f"cannot {doing}: this is Xen {'.'.join(number)}, and {between}")
        return ".".join(number) + _read(SYS / "version/extra")

    async def create(self, name: str, text: Path, lock: int) -> None:
        """Have a domain of that name, as the file `text` describes it, stand at its beginning; and a process of xl's
        that waits for its end. All that runs for it has `MARK` in its environment, and `lock` open. GuestDied says why
        not."""
        argv = [xl("start the virtual machine"), "create", "-p", str(text)]
        env = {"PATH": WAYS, MARK: name}
        try:
            await proc.run(argv, timeout_s=CREATE_S, env=env, pass_fds=[lock])
        except proc.CommandFailed as e:
            words = "; ".join(_complaints(e.stderr)[-3:])
            raise GuestDied(f"cannot start the virtual machine: xl: {words or e}") from e

    async def pause(self, name: str) -> None:
        await self._call("pause the virtual machine", "pause", name)

    async def unpause(self, name: str) -> None:
        await self._call("resume the virtual machine", "unpause", name)

    async def destroy(self, name: str) -> None:
        """End the domain of that name, if there is one."""
        doing = "end the virtual machine"
        done = await proc.run([xl(doing), "destroy", name], timeout_s=CALL_S, env={"PATH": WAYS}, check=False)
        said = done.stderr.decode(errors="replace")
        if done.status and not re.search(NO_DOMAIN, said):
            raise GuestError(f"cannot {doing}: xl: {'; '.join(_complaints(said)[-3:])}")

    async def weigh(self, name: str, *, weight: int, cap: int) -> None:
        """What the domain may take of this host's processors: a weight among the others, per cent of one processor at
        most (0: no limit)."""
        words = ["-w", str(weight), "-c", str(cap)]
        await self._call("limit the virtual machine", "sched-credit2", "-d", name, *words)

    async def number(self, name: str) -> int:
        """Of the domain of that name. GuestError when there is none."""
        return int(await self._call("find the virtual machine", "domid", name))

    async def size(self, name: str) -> Size:
        said = await self._call("tell the size of the virtual machine", "list", name)
        words = said.splitlines()[-1].rsplit(maxsplit=4)  # name and number, MiB, processors, state, seconds
        return Size(vcpus=int(words[2]), memory_mib=int(words[1]), added_mib=0)

    async def read(self, path: str) -> str:
        """What xenstore has there. GuestError."""
        return await self._store("read", path)

    async def write(self, path: str, value: str) -> None:
        await self._store("write", path, value)

    async def _store(self, verb: str, *words: str) -> str:
        try:
            done = await proc.run([f"xenstore-{verb}", *words], timeout_s=CALL_S, env={"PATH": WAYS})
        except proc.CommandFailed as e:
            raise GuestError(f"cannot {verb} {words[0]} of xenstore: {e.stderr.strip() or e}") from e
        return done.stdout.decode(errors="replace").strip()

    async def _call(self, doing: str, *words: str) -> str:
        try:
            done = await proc.run([xl(doing), *words], timeout_s=CALL_S, env={"PATH": WAYS})
        except proc.CommandFailed as e:
            raise GuestError(f"cannot {doing}: xl: {'; '.join(_complaints(e.stderr)[-3:]) or e}") from e
        return done.stdout.decode(errors="replace").strip()


def xl(doing: str) -> str:
    """Its path. Unavailable."""
    found = shutil.which("xl", path=WAYS)
    if found is None:
        raise Unavailable(f"cannot {doing}: xl is not installed: Debian's package is {PACKAGE}")
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _complaints(text: str) -> list[str]:
    return [line for line in text.strip().splitlines() if "Parsing config" not in line]
