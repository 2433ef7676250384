"""hyperctl kernel ls, fetch, build, use."""

from __future__ import annotations

import sys

from hypercontainer.hyperctl import flags, progress, table, text
from hypercontainer.hyperctl.flags import Args, Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from hypercontainer.hyperctl.context import Context

COLUMNS = (
    ("CURRENT", "Current"),
    ("NAME", "Name"),
    ("VERSION", "Version"),
    ("ARCHITECTURE", "Architecture"),
    ("DIGEST", "Digest"),
    ("SIZE", "Size"),
)


def ls(context: Context, args: Args) -> int:
    rows = [
        {
            "Current": "*" if kernel["Current"] else "",
            "Name": kernel["Name"],
            "Version": kernel["Version"],
            "Architecture": kernel["Architecture"],
            "Digest": kernel["Digest"] if args.no_trunc else text.short_id(kernel["Digest"]),
            "Size": text.size(kernel["Size"]),
        }
        for kernel in context.client.get("/v1/kernels")
    ]
    return table.show(args, COLUMNS, rows, key="Name")


def fetch(context: Context, args: Args) -> int:
    return _made(args, context.client.stream("POST", "/v1/kernels/fetch", arch=args.arch or None))


def build(context: Context, args: Args) -> int:
    return _made(args, context.client.stream("POST", "/v1/kernels/build", name=args.name, jobs=args.jobs))


def _made(args: Args, lines: Iterable[dict[str, Any]]) -> int:
    for kernel in progress.follow(lines, sys.stdout, quiet=args.quiet):
        print(f"Kernel: {kernel['Name']} {kernel['Version']}" + (" (current)" if kernel["Current"] else ""))
    return 0


def use(context: Context, args: Args) -> int:
    context.client.post("/v1/kernels/use", name=args.operands[0])
    return 0


COMMANDS = {
    "kernel ls": Command(ls, "[OPTIONS]", "hyperctl kernel ls", *table.list_flags()[1:]),
    "kernel fetch": Command(
        fetch, "[OPTIONS]", "hyperctl kernel fetch --arch arm64",
        flags.Flag("arch", "Of which architecture, as docker calls it (default: the host's)"),
        flags.switch("quiet", "Do not show how it goes", "q"),
    ),
    "kernel build": Command(
        build, "[OPTIONS]", "hyperctl kernel build --name small",
        flags.Flag("name", "Name of the new kernel (default: its version and a digest)"),
        flags.Flag("jobs", "Compilers at once (default: one a CPU)", short="j", metavar="int", default=0,
                   parse=flags.count),
        flags.switch("quiet", "Do not show how it goes", "q"),
        notes="Takes some minutes, 3 GB of disk, and the packages of debian-packages-kernel.txt. ^C ends it.\n"
              "VMs boot the new kernel after 'hyperctl kernel use'.",
    ),
    "kernel use": Command(
        use, "KERNEL", "hyperctl kernel use debian-6.1.0-28", least=1, most=1, objects="kernels",
        notes="VMs that run keep theirs.",
    ),
}  # fmt: skip
