"""Profiles of AppArmor of this host -> what a guest's kernel takes. Compiled by Debian's `apparmor_parser`."""

import asyncio
import os
import re
import shutil
from importlib import resources
from pathlib import Path

from hypercontainer.errors import InvalidInput, Unavailable
from hypercontainer.lib import proc

# None, and those that engines give whom nobody has said anything of. They keep a container from its host's kernel.
USUAL = re.compile(r"unconfined|docker-default|crio-default|cri-containerd\.apparmor\.d|containers-default-.*")
NAME = re.compile(r"[!-~][ -~]{0,254}")
PATH = "/usr/sbin:/sbin:/usr/bin:/bin"
# Of Linux 6.1, the oldest kernel of guests, in the words of its /sys/kernel/security/apparmor/features. Newer ones take
# what was compiled for it.
FEATURES = "lib/apparmor.features"
MAX_FILES, MAX_SOURCE_BYTES = 4096, 1 << 20
MAX_POLICY_BYTES = 512 << 10  # the guest's bound, too
NAMES_S, COMPILE_S = 10.0, 60.0  # one with many rules takes seconds
COMPLAINT = 600  # characters of what it says that an error has


def meant(name: str) -> str:
    """The profile that a process is to have of which an engine says that; "": none. InvalidInput."""
    if USUAL.fullmatch(name):
        return ""
    if name and not NAME.fullmatch(name):
        raise InvalidInput(f"invalid AppArmor profile {name[:60]!r}: a name has up to 255 characters of ASCII")
    return name


def compiler() -> str | None:
    """The program; None when it is not installed."""
    return shutil.which("apparmor_parser", path=PATH)


async def policy(folder: Path, name: str) -> bytes:
    """All profiles of the file in `folder` that has `name`. InvalidInput when there is none, or it cannot be compiled;
    Unavailable without the program that does."""
    program = compiler()
    doing = f"confine a process by AppArmor profile {name[:60]!r}"
    if not program:
        raise Unavailable(f"cannot {doing}: apparmor_parser is not installed: it is in Debian's package apparmor")
    why = f"no file in {folder} has one of that name"
    for file in await asyncio.to_thread(_mentioning, folder, name):
        told = await proc.run(
            [program, "--config-file", "/dev/null", "--quiet", "--names", "-I", folder, file],
            timeout_s=NAMES_S, check=False, most=MAX_SOURCE_BYTES,
        )  # fmt: skip
        if name in told.stdout.decode(errors="replace").splitlines():
            return await _compiled(program, folder, file, doing)
        if told.status:  # this may be it
            why = _said(told.stderr) or why
    raise InvalidInput(f"cannot {doing}: {why}")


def _said(stderr: bytes) -> str:
    return " ".join(stderr.decode(errors="replace").split())[-COMPLAINT:]


def _mentioning(folder: Path, name: str) -> list[Path]:
    """Files that may have it: each profile's name is written in its own."""
    try:
        found = sorted(entry.path for entry in os.scandir(folder) if entry.is_file() and not _passed_over(entry.name))
    except FileNotFoundError:
        return []
    except OSError as e:
        raise InvalidInput(f"cannot read AppArmor's profiles in {folder}: {e.strerror}") from e
    return [Path(path) for path in found[:MAX_FILES] if name.encode() in _source(path)]


def _passed_over(name: str) -> bool:
    """What editors and dpkg leave, as AppArmor's own tools have it."""
    return name.startswith(".") or name.endswith(("~", ".bak", ".rpmnew", ".rpmsave")) or ".dpkg-" in name


def _source(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(MAX_SOURCE_BYTES)
    except OSError:
        return b""  # gone, or nobody's to read: it has none


async def _compiled(program: str, folder: Path, file: Path, doing: str) -> bytes:
    features = Path(str(resources.files("hypercontainer"))) / FEATURES
    made = await proc.run(
        [
            program,
            *("--config-file", "/dev/null"),
            *("--features-file", features),
            *("-I", folder),
            "--skip-kernel-load",
            "--skip-cache",
            "--quiet",
            "--stdout",
            file,
        ],
        timeout_s=COMPILE_S,
        check=False,
        most=MAX_POLICY_BYTES,
    )
    if made.status or not made.stdout:
        raise InvalidInput(f"cannot {doing}: {_said(made.stderr) or f'apparmor_parser made nothing of {file}'}")
    return made.stdout
