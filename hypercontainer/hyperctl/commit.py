"""hyperctl commit, diff, export: what a container has made of its image."""

from __future__ import annotations

from hypercontainer.hyperctl import download, flags
from hypercontainer.hyperctl.containers import path
from hypercontainer.hyperctl.flags import Args, Command, Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hypercontainer.hyperctl.context import Context

KINDS = "CAD"  # docker's numbers


def commit(context: Context, args: Args) -> int:
    container, *name = args.operands
    body = {
        "name": name[0] if name else "",
        "changes": args.change,
        "author": args.author,
        "message": args.message,
        "pause": args.pause,
    }
    print(context.client.post(path(container, "commit"), body)["Id"])
    return 0


def diff(context: Context, args: Args) -> int:
    changes = context.client.call("GET", path(args.operands[0], "changes"), {})
    print("".join(f"{KINDS[change['Kind']]} {change['Path']}\n" for change in changes), end="")
    return 0


def export(context: Context, args: Args) -> int:
    download.check(args.output)
    download.to(args.output, context.client.download(path(args.operands[0], "export")))
    return 0


COMMANDS = {
    "commit": Command(
        commit, "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]", "hyperctl commit -c 'CMD [\"nginx\"]' web mine:1",
        Flag("author", "Who made it", short="a"),
        flags.many("change", "A line of a Dockerfile: CMD, ENV, EXPOSE …", "c"),
        Flag("message", "A comment", short="m"),
        flags.switch("pause", "The container stands still meanwhile", "p", default=True),
        least=1, most=2, objects="containers",
        notes="What is mounted in it, volumes too, is not part of the image.",
    ),
    "diff": Command(
        diff, "CONTAINER", "hyperctl diff web", least=1, most=1, objects="containers",
        notes="A: added, C: changed, D: deleted. The VM of a container that does not run is booted for that.",
    ),
    "export": Command(
        export, "[OPTIONS] CONTAINER", "hyperctl export -o web.tar web",
        Flag("output", "Write to this file instead of stdout", short="o", metavar="path"),
        least=1, most=1, objects="containers",
    ),
}  # fmt: skip
