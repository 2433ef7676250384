"""hyperctl volume create, ls, rm, prune."""

from __future__ import annotations

from hypercontainer.client.http import segment
from hypercontainer.hyperctl import environment, flags, spec, table, text
from hypercontainer.hyperctl.containers import confirmed
from hypercontainer.hyperctl.context import each
from hypercontainer.hyperctl.flags import Args, Command, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hypercontainer.hyperctl.context import Context

COLUMNS = (("DRIVER", "Driver"), ("VOLUME NAME", "Name"))


def create(context: Context, args: Args) -> int:
    name = args.operands[0] if args.operands else ""
    if args.driver not in ("", "local"):
        raise UsageError(f"there is no driver {args.driver}: volumes are folders of this host", "volume create")
    body = {"name": name, "labels": environment.labels((), args.label), "options": dict(args.opt)}
    print(context.client.post("/v1/volumes", {key: value for key, value in body.items() if value})["Name"])
    return 0


def ls(context: Context, args: Args) -> int:
    rows = [
        {
            "Name": volume["Name"],
            "Driver": volume["Driver"],
            "Mountpoint": volume["Mountpoint"],
            "CreatedAt": volume["CreatedAt"],
            "Scope": volume["Scope"],
            "Size": "N/A",  # docker's two: nobody counted them
            "Links": "N/A",
            "Labels": ",".join(f"{key}={value}" for key, value in volume["Labels"].items()),
        }
        for volume in context.client.get("/v1/volumes", filter=args.filter)
    ]
    return table.show(args, COLUMNS, rows, key="Name")


def remove(context: Context, args: Args) -> int:
    return each(args.operands, lambda name: context.client.delete(f"/v1/volumes/{segment(name)}", force=args.force))


def prune(context: Context, args: Args) -> int:
    what = "all volumes" if args.all else "all anonymous volumes"
    if not args.force and not confirmed(f"This removes {what} that no container uses{table.matching(args)}."):
        return 1
    done = context.client.post("/v1/volumes/prune", all=args.all, filter=args.filter)
    for name in done["Deleted"]:
        print(f"Deleted: {name}")
    print(f"Total reclaimed space: {text.size(done['SpaceReclaimed'])}")
    return 0


FORCE = flags.switch("force", "Do not ask", "f")
COMMANDS = {
    "volume create": Command(
        create, "[OPTIONS] [NAME]", "hyperctl volume create --label keep=yes data",
        flags.many("label", "NAME=VALUE", "l"),
        flags.Flag("driver", "local: there is no other one", short="d", metavar="name", default="local"),
        flags.many("opt", "type=, device=, o=: what the host mounts when the volume is used", "o",
                   metavar="option", parse=spec.pair),
        most=1,
    ),
    "volume ls": Command(ls, "[OPTIONS]", "hyperctl volume ls -q", *table.list_flags()),
    "volume rm": Command(
        remove, "[OPTIONS] VOLUME [VOLUME...]", "hyperctl volume rm data",
        flags.switch("force", "One that does not exist is no error", "f"), least=1, most=None, objects="volumes",
    ),
    "volume prune": Command(
        prune, "[OPTIONS]", "hyperctl volume prune -f",
        flags.switch("all", "Also those with a name", "a"), FORCE,
        table.filter_flag("Remove only what matches: label=…, label!=…", ""),
    ),
}  # fmt: skip
