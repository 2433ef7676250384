"""update: other sizes and another restart policy for containers that exist."""

from __future__ import annotations

from hypercontainer.hyperctl import flags, moot, spec, text
from hypercontainer.hyperctl.containers import SEVERAL, path
from hypercontainer.hyperctl.context import complain, each
from hypercontainer.hyperctl.flags import Args, Command, Flag, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hypercontainer.hyperctl.context import Context


def update(context: Context, args: Args) -> int:
    wanted = document(args)
    if not wanted:
        raise UsageError(
            "say what shall be another: --cpus, --memory, --cpu-shares, --pids-limit or --restart", "update", status=1
        )

    def change(name: str) -> None:
        for warning in context.client.post(path(name, "update"), wanted)["Warnings"]:
            complain(f"warning: {warning}")

    return each(args.operands, change)


def document(args: Args) -> dict[str, Any]:
    """The ContainerUpdate (model/spec.py), of what was given."""
    values = {"cpus": args.cpus, "memory_mib": args.memory, "cpu_shares": args.cpu_shares, "restart": args.restart}
    wanted = {key: value for key, value in values.items() if key.removesuffix("_mib") in args.given}
    if args.cpu_quota:
        wanted["cpus"] = spec.processors(args)
    if "pids_limit" in args.given:
        wanted["pids"] = max(0, args.pids_limit)  # -1, as docker has it: without a limit
    return wanted


def cpus(word: str) -> float:
    return 0.0 if word == "0" else spec.cpus(word)


OF_A_HOST = ("blkio-weight", "cpuset-cpus", "cpuset-mems", "cpu-rt-period", "cpu-rt-runtime", "kernel-memory")
COMMANDS = {
    "update": Command(
        update, f"[OPTIONS] {SEVERAL}", "hyperctl update --cpus 2 --memory 512m web",
        Flag("cpus", "Processors of the VM, rounded up; in a pod: a limit inside, 0 for none", metavar="number",
             parse=cpus),
        Flag("memory", "Memory of the VM, such as 512m; in a pod: a limit inside, 0 for none", short="m",
             parse=text.parse_mib),
        Flag("cpu-shares", "Its weight among the containers of a pod, 0 for the usual one", short="c", metavar="int",
             parse=flags.count),
        Flag("cpu-quota", "Microseconds in each --cpu-period: another way to say --cpus", metavar="int",
             parse=flags.number),
        Flag("cpu-period", "Microseconds", metavar="int", usual="100000", parse=flags.count),
        Flag("pids-limit", "Most processes inside, -1 for no limit", metavar="int", parse=flags.number),
        Flag("restart", "no, always, on-failure[:N], unless-stopped", metavar="policy", parse=spec.restart,
             words=spec.RESTART),
        least=1, most=None, objects="containers",
        refused={
            **{name: spec.REFUSED[name] for name in OF_A_HOST},
            **{name: moot.REASONS[name] for name in ("memory-reservation", "memory-swap")},
        },
        notes="A container that runs is of the new size at once. Memory that its VM was started with stays the VM's "
        "until it is started again: the container may not use it.",
    ),
}  # fmt: skip
