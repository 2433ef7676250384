"""docker's flags that ask a virtual machine for what is true anyway, or for nothing that matters in one.

A script that says them works: each is a warning on stderr, and no more. A value that asks for something else, which
the machine cannot give, is refused as any other flag.
"""

from __future__ import annotations

from hypercontainer.hyperctl import flags, text
from hypercontainer.hyperctl.context import complain
from hypercontainer.hyperctl.flags import Args, Flag, switch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

NO_SWAP = "VMs have no swap"


def only(words: tuple[str, ...], otherwise: str) -> Callable[[str], str]:
    """The parser that takes `words` alone."""

    def parse(word: str) -> str:
        if word not in words:
            raise ValueError(otherwise)
        return word

    return parse


def swap(word: str) -> str:
    if word != "-1":
        text.parse_bytes(word)
    return word


# What is warned of, beside the flag: why the flag changes nothing.
REASONS = {
    "cgroupns": "a VM has cgroups of its own",
    "disable-content-trust": "no signatures are checked",
    "isolation": "every container here runs in a VM",
    "memory-reservation": "a VM has all of its memory: see --memory",
    "memory-swap": NO_SWAP,
    "memory-swappiness": NO_SWAP,
    "userns": "the VM keeps its users apart from the host's",
}
TRUST = switch("disable-content-trust", "")  # of pull too
FLAGS = (
    Flag("cgroupns", "", parse=only(("", "host", "private"), "use private or host")),
    TRUST,
    Flag("isolation", "", parse=only(("", "default"), "every container here runs in a VM")),
    Flag("memory-reservation", "", parse=text.parse_mib),
    Flag("memory-swap", "", parse=swap),
    Flag("memory-swappiness", "", parse=flags.number),
    Flag("userns", "", parse=only(("", "host"), "the VM keeps its users apart from the host's")),
)
SECURITY = ("unconfined", "label")  # kinds of --security-opt that confine a process on the host: here a VM does


def warn(args: Args) -> None:
    """One line for each that was given."""
    for name, reason in REASONS.items():
        if name.replace("-", "_") in args.given:
            complain(f"warning: --{name} changes nothing: {reason}")
    for kind, word in args.values.get("security_opt", []):
        if kind in SECURITY:
            complain(f"warning: --security-opt {word} changes nothing: the VM confines the container")
