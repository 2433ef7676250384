"""hyperctl images, tag, rmi, history, image prune."""

from __future__ import annotations

from hypercontainer.hyperctl import flags, table, text, times
from hypercontainer.hyperctl.context import each
from hypercontainer.hyperctl.flags import Args, Command
from hypercontainer.hyperctl.lifecycle import confirmed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from hypercontainer.hyperctl.context import Context

NONE = "<none>"
COLUMNS = (
    ("REPOSITORY", "Repository"),
    ("TAG", "Tag"),
    ("IMAGE ID", "ID"),
    ("CREATED", "CreatedSince"),
    ("SIZE", "Size"),
)
WITH_DIGESTS = (*COLUMNS[:2], ("DIGEST", "Digest"), *COLUMNS[2:])
HISTORY = (
    ("IMAGE", "ID"),
    ("CREATED", "CreatedSince"),
    ("CREATED BY", "CreatedBy"),
    ("SIZE", "Size"),
    ("COMMENT", "Comment"),
)
CREATED_BY_WIDTH = 45


def split_tag(name: str) -> tuple[str, str]:
    """("host:5000/a", "1") of host:5000/a:1"""
    repository, colon, tag = name.rpartition(":")
    return (repository, tag) if colon and "/" not in tag else (name, NONE)


def rows(entry: dict[str, Any], *, full: bool) -> Iterator[dict[str, object]]:
    """A row a name: an image without one has one row of <none>."""
    digests = {name.partition("@")[0]: name.partition("@")[2] for name in entry.get("RepoDigests") or []}
    for name in entry.get("RepoTags") or [f"{next(iter(digests), NONE)}:{NONE}"]:
        repository, tag = split_tag(name)
        yield {
            "ID": entry["Id"] if full else text.short_id(entry["Id"]),
            "Repository": repository,
            "Tag": tag,
            "Digest": digests.get(repository, NONE),
            "CreatedAt": text.moment(entry["Created"]),
            "CreatedSince": text.ago(entry["Created"]) or "N/A",
            "Size": text.size(entry["Size"]),
            "Containers": str(entry.get("Containers", "N/A")),
            "VirtualSize": text.size(entry["Size"], 4),
            "SharedSize": "N/A",  # docker's too: nobody counted it
            "UniqueSize": "N/A",
        }


def images(context: Context, args: Args) -> int:
    filters = [*args.filter, *(f"reference={name}" for name in args.operands)]
    entries = context.client.get("/v1/images", filter=filters)
    columns = WITH_DIGESTS if args.digests else COLUMNS
    lines = [row for entry in entries for row in rows(entry, full=args.no_trunc)]
    if args.quiet:
        lines = list({row["ID"]: row for row in lines}.values())
    return table.show(args, columns, lines)


def tag(context: Context, args: Args) -> int:
    name, target = args.operands
    context.client.post("/v1/images/tag", name=name, target=target)
    return 0


def remove(context: Context, args: Args) -> int:
    def one(name: str) -> None:
        for step in context.client.delete("/v1/images", name=name, force=args.force):
            print(f"Untagged: {step['Untagged']}" if step.get("Untagged") else f"Deleted: {step['Deleted']}")

    return each(args.operands, one, say=False, absent_ok=args.force)


def history(context: Context, args: Args) -> int:
    lines = []
    for entry in context.client.get("/v1/images/history", name=args.operands[0]):
        created_by = " ".join(entry.get("CreatedBy", "").split())
        if not args.no_trunc and len(created_by) > CREATED_BY_WIDTH:
            created_by = created_by[: CREATED_BY_WIDTH - 1] + "…"
        lines.append(
            {
                "ID": entry["Id"] if args.no_trunc else text.short_id(entry["Id"]),
                "CreatedSince": text.ago(entry["Created"]) or "N/A",
                "CreatedAt": times.rfc3339(entry["Created"] * 1_000_000_000).replace(".000000000", ""),
                "CreatedBy": created_by,
                "Size": text.size(entry["Size"]),
                "Comment": entry.get("Comment", ""),
            }
        )
    return table.show(args, HISTORY, lines)


def prune(context: Context, args: Args) -> int:
    what = "all images that no container uses" if args.all else "all images without a name"
    if not args.force and not confirmed(f"This removes {what}{table.matching(args)}."):
        return 1
    done = context.client.post("/v1/images/prune", all=args.all, filter=args.filter)
    for name in done["Deleted"]:
        print(f"Deleted: {name}")
    print(f"Total reclaimed space: {text.size(done['SpaceReclaimed'])}")
    return 0


COMMANDS = {
    "images": Command(
        images, "[OPTIONS] [REPOSITORY[:TAG]]", "hyperctl images --format '{{.Repository}}:{{.Tag}} {{.Size}}'",
        flags.switch("all", "No meaning here: there are no intermediate images", "a"),
        flags.switch("digests", "Show digests"),
        *table.list_flags(), most=1, objects="images",
    ),
    "tag": Command(tag, "IMAGE NAME[:TAG]", "hyperctl tag web:1 web:latest", least=2, most=2, objects="images"),
    "rmi": Command(
        remove, "[OPTIONS] IMAGE [IMAGE...]", "hyperctl rmi web:1",
        flags.switch("force", "Even if stopped containers use it", "f"),
        flags.switch("no-prune", "No meaning here: an image is one thing here, with no parents to keep"),
        least=1, most=None, objects="images",
    ),
    "history": Command(
        history, "[OPTIONS] IMAGE", "hyperctl history web:1", *table.list_flags()[1:],
        least=1, most=1, objects="images",
    ),
    "image prune": Command(
        prune, "[OPTIONS]", "hyperctl image prune -a",
        flags.switch("all", "Also those with names that no container uses", "a"),
        flags.switch("force", "Do not ask", "f"),
        table.filter_flag("Remove only what matches: until=24h, label=…, label!=…", ""),
    ),
}  # fmt: skip
