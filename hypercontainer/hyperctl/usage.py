"""hyperctl system df, system prune: what is on this host's disk, and what of it nobody needs."""

from __future__ import annotations

from hypercontainer.hyperctl import flags, table, text
from hypercontainer.hyperctl.containers import PRUNE_FILTERS, STOPPED, confirmed, path
from hypercontainer.hyperctl.context import each
from hypercontainer.hyperctl.flags import Args, Command, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hypercontainer.hyperctl.context import Context

    Entries = list[dict[str, Any]]

COLUMNS = (
    ("TYPE", "Type"),
    ("TOTAL", "TotalCount"),
    ("ACTIVE", "Active"),
    ("SIZE", "Size"),
    ("RECLAIMABLE", "Reclaimable"),
)
RUNS = ("running", "paused", "restarting")  # docker's, of containers that are active


def df(context: Context, args: Args) -> int:
    images = context.client.get("/v1/images")
    containers = context.client.get("/v1/containers", all=True, size=True)
    volumes = context.client.get("/v1/volumes", size=True)
    used = {entry["ImageID"] for entry in containers}
    mounted = {mount["Name"] for entry in containers for mount in entry["Mounts"] if mount["Name"]}
    if args.verbose:
        _list(images, containers, volumes, mounted)
        return 0
    rows = [
        _row("Images", [(each["Size"], each["Id"] in used) for each in images]),
        _row("Containers", [(each["SizeRw"], each["State"] in RUNS) for each in containers]),
        _row("Local Volumes", [(each["Size"], each["Name"] in mounted) for each in volumes]),
    ]
    return table.show(args, COLUMNS, rows, key="Type")


def _row(kind: str, things: list[tuple[int, bool]]) -> dict[str, object]:
    """Of things of one kind: how large each is, and whether somebody needs it."""
    whole, free = sum(size for size, _ in things), sum(size for size, active in things if not active)
    share = f" ({100 * free // whole}%)" if whole else ""
    return {
        "Type": kind,
        "TotalCount": str(len(things)),
        "Active": str(sum(active for _, active in things)),
        "Size": text.size(whole),
        "Reclaimable": text.size(free) + share,
    }


def _list(images: Entries, containers: Entries, volumes: Entries, mounted: set[str]) -> None:
    print("Images space usage:\n")
    table.write(
        ["REPOSITORY:TAG", "IMAGE ID", "SIZE", "CONTAINERS"],
        [
            [
                ", ".join(each["RepoTags"]) or "<none>",
                text.short_id(each["Id"]),
                text.size(each["Size"]),
                str(sum(entry["ImageID"] == each["Id"] for entry in containers)),
            ]
            for each in images
        ],
    )
    print("\nContainers space usage:\n")
    table.write(
        ["CONTAINER ID", "IMAGE", "SIZE", "STATUS", "NAMES"],
        [
            [text.short_id(e["Id"]), e["Image"], text.size(e["SizeRw"]), e["Status"], e["Names"][0].removeprefix("/")]
            for e in containers
        ],
    )
    print("\nLocal Volumes space usage:\n")
    table.write(
        ["VOLUME NAME", "USED", "SIZE"],
        [[each["Name"], "yes" if each["Name"] in mounted else "no", text.size(each["Size"])] for each in volumes],
    )


def prune(context: Context, args: Args) -> int:
    """Containers first: what they alone need is free then."""
    for word in args.filter:
        if word.partition("=")[0] not in PRUNE_FILTERS:
            raise UsageError(f"invalid filter {word!r}: use one of {', '.join(PRUNE_FILTERS)}", "system prune")
    if args.volumes and any(word.startswith("until=") for word in args.filter):
        raise UsageError("volumes are of no time: leave out --volumes, or until=", "system prune")
    goes = ["all containers that do not run", "all networks that no container is in"]
    goes += ["all images that no container uses" if args.all else "all images without a name"]
    goes += ["all anonymous volumes that no container uses"] if args.volumes else []
    if not args.force and not confirmed(f"This removes {', '.join(goes)}{table.matching(args)}."):
        return 1
    client = context.client
    stopped = client.get("/v1/containers", all=True, size=True, filter=[*STOPPED, *args.filter])
    sizes = {entry["Id"]: entry["SizeRw"] for entry in stopped}
    freed = 0

    def remove(id: str) -> None:
        nonlocal freed
        client.delete(path(id))
        freed += sizes[id]

    if stopped:
        print("Deleted Containers:")
    status = each(list(sizes), remove)
    calls = [("Networks", "/v1/networks/prune", {}), ("Images", "/v1/images/prune", {"all": args.all})]
    calls += [("Volumes", "/v1/volumes/prune", {})] if args.volumes else []
    for title, place, how in calls:
        done = client.post(place, filter=args.filter, **how)
        freed += done["SpaceReclaimed"]
        if done["Deleted"]:
            print(f"Deleted {title}:", *done["Deleted"], sep="\n")
    print(f"Total reclaimed space: {text.size(freed)}")
    return status


COMMANDS = {
    "system df": Command(
        df, "[OPTIONS]", "hyperctl system df -v",
        table.format_flag("table, json, or a template such as '{{.Type}} {{.Size}}'"),
        flags.switch("verbose", "Each thing by itself", "v"),
    ),
    "system prune": Command(
        prune, "[OPTIONS]", "hyperctl system prune -f",
        flags.switch("all", "Also images that have a name, where no container uses them", "a"),
        flags.switch("volumes", "Also anonymous volumes"),
        flags.switch("force", "Do not ask", "f"),
        table.filter_flag("Remove only what matches: until=24h, label=…, label!=…", ""),
    ),
}  # fmt: skip
