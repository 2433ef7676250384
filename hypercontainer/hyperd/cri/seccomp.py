"""Profiles of this host: a file as docker, containerd and CRI-O read it -> the filter that a guest's kernel runs."""

import re
from collections.abc import Collection
from pathlib import Path

import msgspec

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.oci import bundle, document
from hypercontainer.model import arch

LOCALHOST = "localhost/"  # before the name of a profile, in fields of before
MAX_BYTES = 1 << 20
OLDEST_KERNEL = (6, 1)  # of guests
KERNEL = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})", re.ASCII)


class Arch(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    architecture: str
    sub_architectures: list[str] | None = None


class Filter(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Of rules: where they are meant for."""

    caps: list[str] | None = None
    arches: list[str] | None = None
    min_kernel: str = ""


class Rule(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """With names, or with one, as old profiles have it."""

    action: str
    names: list[str] | None = None
    name: str = ""
    errno_ret: int | None = None
    args: list[document.SeccompArg] | None = None
    includes: Filter | None = None
    excludes: Filter | None = None


class Profile(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What OCI's runtime specification calls one is one, too."""

    default_action: str
    default_errno_ret: int | None = None
    architectures: list[str] | None = None
    arch_map: list[Arch] | None = None
    listener_path: str = ""
    syscalls: list[Rule] | None = None


def path(reference: str) -> str:
    """Of a profile. InvalidInput."""
    found = reference.removeprefix(LOCALHOST)
    if not found.startswith("/") or "\0" in found:
        words = f"cannot use seccomp profile {reference[:200]!r}"
        raise InvalidInput(f"{words}: a kubelet gives the absolute path of a file of this host")
    return found


def compiled(place: str, granted: Collection[str]) -> bytes:
    """The filter for a container with these capabilities. InvalidInput where there is no such file, or no profile."""
    try:
        with Path(place).open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as e:
        raise InvalidInput(f"cannot read seccomp profile {place[:200]}: {e.strerror}") from e
    try:
        return bundle.filter(resolved(text, granted))
    except InvalidInput as e:
        raise InvalidInput(f"seccomp profile {place[:200]}: {e}") from e


def resolved(text: bytes, granted: Collection[str]) -> document.Seccomp:
    """What of a profile holds for guests of this host, and for these capabilities. InvalidInput."""
    if len(text) > MAX_BYTES:
        raise InvalidInput(f"cannot read it: it has more than {MAX_BYTES} bytes")
    try:
        found = msgspec.json.decode(text, type=Profile)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise InvalidInput(f"cannot read it: {e}") from e
    here = arch.host()
    arches = list(found.architectures or [])
    for each in found.arch_map or []:
        if each.architecture == f"SCMP_ARCH_{here.name.upper()}":
            arches += [each.architecture, *(each.sub_architectures or [])]
    rules = [rule for rule in found.syscalls or [] if _holds(rule, here.docker, granted)]
    return document.Seccomp(
        default_action=found.default_action,
        default_errno_ret=found.default_errno_ret,
        architectures=list(dict.fromkeys(arches)),
        listener_path=found.listener_path,
        syscalls=[
            document.Syscall(
                names=[*(rule.names or []), *([rule.name] if rule.name else [])],
                action=rule.action,
                errno_ret=rule.errno_ret,
                args=rule.args,
            )
            for rule in rules
        ],
    )


def _holds(rule: Rule, here: str, granted: Collection[str]) -> bool:
    """As docker has it: all that it includes has to be so, and nothing that it excludes."""
    yes, no = rule.includes or Filter(), rule.excludes or Filter()
    wanted = all(cap in granted for cap in yes.caps or []) and here in (yes.arches or [here])
    unwanted = any(cap in granted for cap in no.caps or []) or here in (no.arches or [])
    return wanted and not unwanted and _is_new(yes.min_kernel) and not (no.min_kernel and _is_new(no.min_kernel))


def _is_new(kernel: str) -> bool:
    """Whether each guest's is: InvalidInput where nobody knows."""
    if not kernel:
        return True
    found = KERNEL.match(kernel)
    if not found or (int(found[1]), int(found[2])) > OLDEST_KERNEL:
        words = "nobody knows whether the kernel of each machine is that new"
        raise InvalidInput(f"cannot use it with minKernel {kernel[:20]!r}: {words}")
    return True
