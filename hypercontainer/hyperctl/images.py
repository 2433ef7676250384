"""hyperctl images, tag, rmi, history, pull, push, load, save, import, image prune."""

from __future__ import annotations

import os
import sys

from hypercontainer.hyperctl import download, flags, moot, progress, table, text, times
from hypercontainer.hyperctl.containers import confirmed
from hypercontainer.hyperctl.context import each
from hypercontainer.hyperctl.flags import Args, Command, Flag, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from hypercontainer.hyperctl.context import Context

PIECE = 1 << 18
NONE = "<none>"
COLUMNS = (
    ("REPOSITORY", "Repository"),
    ("TAG", "Tag"),
    ("IMAGE ID", "ID"),
    ("CREATED", "CreatedSince"),
    ("SIZE", "Size"),
)
DIGEST, PLATFORM = ("DIGEST", "Digest"), ("PLATFORM", "Platform")
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
            "Platform": entry.get("Platform", ""),
            "Size": text.size(entry["Size"]),
            "Containers": str(entry.get("Containers", "N/A")),
            "VirtualSize": text.size(entry["Size"], 4),
            "SharedSize": "N/A",  # docker's too: nobody counted it
            "UniqueSize": "N/A",
        }


def images(context: Context, args: Args) -> int:
    filters = [*args.filter, *(f"reference={name}" for name in args.operands)]
    entries = context.client.get("/v1/images", filter=filters, all=args.all)
    columns = [*COLUMNS[:2], *([DIGEST] if args.digests else []), *COLUMNS[2:]]
    if len({entry.get("Platform") for entry in entries}) > 1:  # as docker's, while all are for one
        columns.insert(2, PLATFORM)
    lines = [row for entry in entries for row in rows(entry, full=args.no_trunc)]
    if args.quiet:
        lines = list({row["ID"]: row for row in lines}.values())
    return table.show(args, columns, lines)


def several(args: Args) -> list[str]:
    """The platforms of --platform, which takes several with commas, as docker's does."""
    return [platform for word in args.platform for platform in word.split(",")]


def tag(context: Context, args: Args) -> int:
    name, target = args.operands
    context.client.post("/v1/images/tag", name=name, target=target, platform=args.platform or None)
    return 0


def remove(context: Context, args: Args) -> int:
    def one(name: str) -> None:
        words = {"name": name, "force": args.force, "no_prune": args.no_prune, "platform": several(args)}
        for step in context.client.delete("/v1/images", **words):
            print(f"Untagged: {step['Untagged']}" if step.get("Untagged") else f"Deleted: {step['Deleted']}")

    return each(args.operands, one, say=False, absent_ok=args.force)


def history(context: Context, args: Args) -> int:
    lines = []
    name, platform = args.operands[0], args.platform or None
    for entry in context.client.get("/v1/images/history", name=name, platform=platform):
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


def pull_image(
    context: Context, name: str, *, platform: str, quiet: bool, to_stderr: bool, all_tags: bool = False
) -> list[dict[str, str]]:
    """Pull `name`, showing how it goes; the images that came of it ({"Id", "Name"})."""
    from hypercontainer.hyperctl import login

    body: dict[str, object] = {"name": name, **({"platform": platform} if platform else {})}
    if all_tags:
        body["all_tags"] = True
    if kept := login.kept(context, name):
        body["auth"] = kept
    lines = context.client.stream("POST", "/v1/images/pull", body)
    return progress.follow(lines, sys.stderr if to_stderr else sys.stdout, quiet=quiet)


def has_tag(name: str) -> bool:
    """Or a digest."""
    return split_tag(name)[1] != NONE or "@" in name


def pull(context: Context, args: Args) -> int:
    moot.warn(args)
    name = args.operands[0]
    if args.all_tags and has_tag(name):
        raise UsageError("tag can't be used with --all-tags/-a", "pull", status=1)
    images = pull_image(
        context, name, platform=args.platform, quiet=args.quiet, to_stderr=False, all_tags=args.all_tags
    )
    for image in images:
        print(image["Name"] if args.quiet else f"Pulled: {image['Name']} ({image['Id']})")
    return 0


def push(context: Context, args: Args) -> int:
    from hypercontainer.hyperctl import login

    moot.warn(args)
    name = args.operands[0]
    if args.all_tags and has_tag(name):
        raise UsageError("tag can't be used with --all-tags/-a", "push", status=1)
    if not (args.all_tags or has_tag(name) or args.quiet):
        print("Using default tag: latest")
    body: dict[str, object] = {"name": name, "all_tags": args.all_tags}
    if args.platform:
        body["platform"] = args.platform
    if kept := login.kept(context, name):
        body["auth"] = kept
    lines = context.client.stream("POST", "/v1/images/push", body)
    for one in progress.follow(lines, sys.stdout, quiet=args.quiet):
        if args.quiet:
            print(f"{one['Name']}:{one['Tag']}")
    return 0


def pieces(path: str) -> Iterator[bytes]:
    """What is in file `path`; "-" and "" are stdin."""
    if path in ("", "-"):
        while data := os.read(0, PIECE):
            yield data
        return
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while data := os.read(fd, PIECE):
            yield data
    finally:
        os.close(fd)


def readable(path: str) -> str:
    """`path`, if it can be read: before anything is sent."""
    from hypercontainer.errors import InvalidInput

    if path in ("", "-"):
        if os.isatty(0):
            raise InvalidInput("stdin is a terminal: name a file with -i, or pipe the archive in")
        return path
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as e:
        raise InvalidInput(f"cannot read {path}: {e.strerror}") from e
    if os.path.isdir(path):
        raise InvalidInput(f"cannot read {path}: it is a folder, not an archive")
    return path


def load(context: Context, args: Args) -> int:
    lines = context.client.stream("POST", "/v1/images/load", pieces(readable(args.input)), platform=several(args))
    for image in progress.follow(lines, sys.stderr, quiet=args.quiet):  # stdout is for the names: scripts read them
        print(f"Loaded image: {image['Name']}" if image["Name"] else f"Loaded image ID: {image['Id']}")
    return 0


def save(context: Context, args: Args) -> int:
    download.check(args.output)
    words = {"name": args.operands, "format": args.format, "platform": several(args)}
    download.to(args.output, context.client.download("/v1/images/save", **words))
    return 0


def import_(context: Context, args: Args) -> int:
    source, *name = args.operands
    if "://" in source:
        raise UsageError("hyperctl import does not download: fetch the archive first", "import", status=1)
    image = context.client.upload(
        "POST",
        "/v1/images/import",
        pieces(readable(source)),
        name=name[0] if name else None,
        change=args.change,
        message=args.message or None,
        platform=args.platform or None,
    )
    print(image["Id"])
    return 0


ONE = Flag("platform", "Of several images of a name, that for os/architecture[/variant]")
SEVERAL = flags.many("platform", "Of several images of a name, those for os/architecture[/variant],…")
ALL_TAGS = flags.switch("all-tags", "All tags of the repository", "a")
QUIET = flags.switch("quiet", "Do not show how it goes", "q")
COMMANDS = {
    "images": Command(
        images, "[OPTIONS] [REPOSITORY[:TAG]]", "hyperctl images --format '{{.Repository}}:{{.Tag}} {{.Size}}'",
        flags.switch("all", "Also steps of builds", "a"),
        flags.switch("digests", "Show digests"),
        *table.list_flags(), most=1, objects="images",
    ),
    "tag": Command(
        tag, "[OPTIONS] IMAGE NAME[:TAG]", "hyperctl tag web:1 web:latest", ONE, least=2, most=2, objects="images",
    ),
    "rmi": Command(
        remove, "[OPTIONS] IMAGE [IMAGE...]", "hyperctl rmi web:1",
        flags.switch("force", "Even if stopped containers use it", "f"),
        flags.switch("no-prune", "Keep the steps of its build"), SEVERAL,
        least=1, most=None, objects="images",
    ),
    "history": Command(
        history, "[OPTIONS] IMAGE", "hyperctl history web:1", ONE, *table.list_flags()[1:],
        least=1, most=1, objects="images",
    ),
    "pull": Command(
        pull, "[OPTIONS] NAME[:TAG|@DIGEST]", "hyperctl pull --platform linux/arm64 debian:12",
        Flag("platform", "os/architecture[/variant]"), ALL_TAGS, QUIET, moot.TRUST, least=1, most=1,
    ),
    "push": Command(
        push, "[OPTIONS] NAME[:TAG]", "hyperctl push registry.example.com:5000/mine:1", ALL_TAGS, ONE,
        flags.switch("quiet", "Do not show how it goes", "q"), moot.TRUST, least=1, most=1, objects="images",
    ),
    "load": Command(
        load, "[OPTIONS]", "hyperctl load -i image.tar",
        Flag("input", "Read from this file instead of stdin", short="i", metavar="path"), QUIET, SEVERAL,
    ),
    "save": Command(
        save, "[OPTIONS] IMAGE [IMAGE...]", "hyperctl save -o image.tar debian:12",
        Flag("output", "Write to this file instead of stdout", short="o", metavar="path"),
        Flag("format", "docker, oci", default="docker", words=("docker", "oci")), SEVERAL,
        least=1, most=None, objects="images",
    ),
    "import": Command(
        import_, "[OPTIONS] FILE|- [NAME[:TAG]]", "hyperctl import -c 'CMD [\"/bin/sh\"]' rootfs.tar mine:1",
        flags.many("change", "A line of a Dockerfile: CMD, ENV, EXPOSE …", "c"),
        Flag("message", "A comment", short="m"), Flag("platform", "os/architecture[/variant]"), least=1, most=2,
    ),
    "image prune": Command(
        prune, "[OPTIONS]", "hyperctl image prune -a",
        flags.switch("all", "Also those with names that no container uses", "a"),
        flags.switch("force", "Do not ask", "f"),
        table.filter_flag("Remove only what matches: until=24h, label=…, label!=…", ""),
    ),
}  # fmt: skip
