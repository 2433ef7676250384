"""Commands that copy a container's VM, or put it on disk: fork, suspend, resume, restore, checkpoint create, ls, rm."""

from __future__ import annotations

from hypercontainer.client.http import segment
from hypercontainer.hyperctl import flags, ports, table, text
from hypercontainer.hyperctl.containers import SEVERAL, path
from hypercontainer.hyperctl.context import each
from hypercontainer.hyperctl.flags import Args, Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hypercontainer.hyperctl.context import Context

COLUMNS = (
    ("CHECKPOINT NAME", "Name"),
    ("CONTAINER ID", "ContainerID"),
    ("CONTAINER", "ContainerName"),
    ("IMAGE", "Image"),
    ("CREATED", "CreatedAt"),
    ("SIZE", "Size"),
)
WORKS_ON = "It needs a VM of its own (not one of a pod's containers), and no bind mounts or volumes."


def fork(context: Context, args: Args) -> int:
    published = [mapping for group in args.publish for mapping in group]
    body = {"count": args.number, "name": args.name, "ports": published}
    for made in context.client.post(path(args.operands[0], "fork"), body)["Ids"]:
        print(made)
    return 0


def suspend(context: Context, args: Args) -> int:
    return each(args.operands, lambda name: context.client.post(path(name, "suspend")))


def resume(context: Context, args: Args) -> int:
    return each(args.operands, lambda name: context.client.post(path(name, "resume")))


def checkpoint(container: str, name: str, verb: str = "") -> str:
    return path(container, f"checkpoints/{segment(name)}" + (f"/{verb}" if verb else ""))


def create(context: Context, args: Args) -> int:
    container, name = args.operands
    context.client.post(path(container, "checkpoints"), {"name": name, "leave_running": args.leave_running})
    print(name)
    return 0


def ls(context: Context, args: Args) -> int:
    found = context.client.get("/v1/checkpoints", container=args.operands[0] if args.operands else "")
    rows = [
        {
            "Name": entry["Name"],
            "ContainerID": entry["ContainerID"][:12],
            "ContainerName": entry["ContainerName"],
            "Image": entry["Image"],
            "CreatedAt": entry["CreatedAt"],
            "Size": text.size(entry["Size"]),
        }
        for entry in found
    ]
    return table.show(args, COLUMNS, rows, key="Name")


def remove(context: Context, args: Args) -> int:
    container, *names = args.operands
    return each(names, lambda name: context.client.delete(checkpoint(container, name)))


def restore(context: Context, args: Args) -> int:
    container, name = args.operands
    print(context.client.post(checkpoint(container, name, "restore"), name=args.name)["Id"])
    return 0


COMMANDS = {
    "fork": Command(
        fork, "[OPTIONS] CONTAINER", "hyperctl fork -n 3 --name worker trained",
        flags.Flag("number", "How many copies", short="n", default=1, metavar="int", parse=flags.count),
        flags.Flag("name", "The copy's name; of several NAME-1, NAME-2 and so on", default=""),
        flags.many("publish", "Publish ports of the copy: [[HOST_IP:]HOST_PORT:]PORT[/udp]", "p", parse=ports.parse),
        least=1, most=1, objects="running",
        notes=f"The copies go on where it is, and so does it. {WORKS_ON} Host ports that it has are not theirs.",
    ),
    "suspend": Command(
        suspend, SEVERAL, "hyperctl suspend web", least=1, most=None, objects="running",
        notes=f"Its VM goes to disk, and takes no memory until 'hyperctl resume'. {WORKS_ON}",
    ),
    "resume": Command(resume, SEVERAL, "hyperctl resume web", least=1, most=None, objects="containers"),
    "restore": Command(
        restore, "[OPTIONS] CONTAINER CHECKPOINT", "hyperctl restore --name web2 web before-the-upgrade",
        flags.Flag("name", "Go on as a new container of this name", default=""),
        least=2, most=2, objects="containers",
        notes="Without --name it is the container itself, which must not run; if it was removed it is there again.",
    ),
    "checkpoint create": Command(
        create, "[OPTIONS] CONTAINER CHECKPOINT", "hyperctl checkpoint create --leave-running web before-the-upgrade",
        flags.switch("leave-running", "Do not end the container"),
        least=2, most=2, objects="running", notes=WORKS_ON,
        refused={"checkpoint-dir": "checkpoints are kept by hyperd, below its root"},
    ),
    "checkpoint ls": Command(
        ls, "[OPTIONS] [CONTAINER]", "hyperctl checkpoint ls web",
        table.format_flag(), flags.switch("quiet", "Only names", "q"),
        most=1, objects="containers",
    ),
    "checkpoint rm": Command(
        remove, "CONTAINER CHECKPOINT [CHECKPOINT...]", "hyperctl checkpoint rm web before-the-upgrade",
        least=2, most=None, objects="containers",
    ),
}  # fmt: skip
