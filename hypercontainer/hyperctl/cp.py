"""hyperctl cp: docker's rules for where things land; the tars are made and taken apart in pack.py and unpack.py."""

from __future__ import annotations

import errno
import os

from hypercontainer.hyperctl import flags
from hypercontainer.hyperctl.containers import path
from hypercontainer.hyperctl.flags import Args, Command, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from hypercontainer.client.http import Client
    from hypercontainer.hyperctl.context import Context

PIECE = 1 << 18
MAX_LINKS = 10
ABSENT = (errno.ENOENT, errno.ENOTDIR)
NOTHING, FOLDER, LINK, OTHER = "", "folder", "link", "other"


def split(word: str) -> tuple[str, str]:
    """(container, path): ("", path) for a path of the host, which ./ or / in front of it makes sure of."""
    if word.startswith(("/", ".")) or ":" not in word:
        return "", word
    container, _, inside = word.partition(":")
    return (container, inside) if container else ("", word)


def copy(context: Context, args: Args) -> int:
    source, target = split(args.operands[0]), split(args.operands[1])
    if bool(source[0]) == bool(target[0]):
        what = "between containers" if source[0] else "on the host alone: name a container, CONTAINER:PATH"
        raise UsageError(f"cp does not copy {what}", "cp", status=1)
    if source[0]:
        return _out(context.client, source[0], source[1], target[1], args)
    return _in(context.client, source[1], target[0], target[1], args)


def inside(name: str) -> str:
    """A path in a container begins at its root, and is cleaned by its letters, as docker does it."""
    return os.path.normpath("/" + name.lstrip("/"))


def contents_only(name: str) -> bool:
    """DIR/. means what is in it."""
    return name in (".", "./") or name.rstrip("/").endswith("/.")


def _out(client: Client, container: str, source: str, target: str, args: Args) -> int:
    where, contents = inside(source), contents_only(source)
    name = os.path.basename(where)  # what was asked for; where its links lead is the container's business
    if contents:
        where = f"{where.rstrip('/')}/."
    elif args.follow_link:
        where = resolve(client, container, where)
    chunks = client.download(path(container, "archive"), path=where)
    if target == "-":
        for data in chunks:
            view = memoryview(data)
            while len(view):
                view = view[os.write(1, view) :]
        return 0
    from hypercontainer.hyperctl import unpack

    top = "" if contents else os.path.basename(where)
    unpack.extract(chunks, target, top, "" if contents else name, keep_owner=args.archive)
    return 0


def _in(client: Client, source: str, container: str, target: str, args: Args) -> int:
    from hypercontainer.errors import InvalidInput

    if source != "-" and not os.path.lexists(source):
        raise InvalidInput(f"cannot copy {source}: no such file or folder")
    folder, name = _landing(client, container, target, source)
    if source == "-":
        chunks: Iterator[bytes] = iter(lambda: os.read(0, PIECE), b"")
    else:
        from hypercontainer.hyperctl import pack

        chunks = pack.tar(source, name, follow=args.follow_link, keep_owner=args.archive)
    client.upload("PUT", path(container, "archive"), chunks, path=folder)
    return 0


def _landing(client: Client, container: str, target: str, source: str) -> tuple[str, str]:
    """(folder to unpack in, name that the source gets there; "" to put a folder's contents there)."""
    from hypercontainer.errors import InvalidInput

    place = resolve(client, container, inside(target))
    kind = stat(client, container, place)[0]
    folder, _, name = place.rstrip("/").rpartition("/")
    is_folder = source != "-" and os.path.isdir(source)
    if source == "-":
        if kind != FOLDER:
            raise InvalidInput(f"cannot copy to {container}:{target}: it is not a folder")
        return place, ""
    if kind == FOLDER:
        return place, "" if is_folder and contents_only(source) else os.path.basename(os.path.abspath(source))
    if is_folder and kind:
        raise InvalidInput(f"cannot copy folder {source} to {container}:{target}: it is a file")
    if target.endswith("/") and not (is_folder and not kind):
        raise InvalidInput(f"cannot copy to {container}:{target}: there is no such folder")
    return folder or "/", name


def stat(client: Client, container: str, where: str) -> tuple[str, str]:
    """(FOLDER, LINK, OTHER or NOTHING; a link's target): the head of its tar says it, and no more is read."""
    from hypercontainer.errors import GuestError
    from hypercontainer.images import tar

    try:
        with client.another() as asking:
            entry = next(iter(tar.Reader(tar.Stream(asking.download(path(container, "archive"), path=where)))), None)
    except GuestError as e:
        if e.errno not in ABSENT:
            raise
        return NOTHING, ""
    if entry is None or entry.kind == tar.FOLDER:
        return FOLDER, ""
    return (LINK, os.fsdecode(entry.link)) if entry.kind == tar.SYMLINK else (OTHER, "")


def resolve(client: Client, container: str, where: str) -> str:
    """Where the link at the end of `where` leads, if it is one."""
    from hypercontainer.errors import InvalidInput

    for _ in range(MAX_LINKS):
        kind, link = stat(client, container, where)
        if kind != LINK:
            return where
        where = os.path.normpath(os.path.join(os.path.dirname(where.rstrip("/")), link))
    raise InvalidInput(f"cannot copy {container}:{where}: too many links")


COMMANDS = {
    "cp": Command(
        copy,
        "[OPTIONS] CONTAINER:PATH PATH|-\n        hyperctl cp [OPTIONS] PATH|- CONTAINER:PATH",
        "hyperctl cp web:/etc/nginx/nginx.conf .",
        flags.switch("archive", "Keep owners", "a"),
        flags.switch("follow-link", "Copy what a link at PATH leads to", "L"),
        flags.switch("quiet", "No meaning here: cp says nothing", "q"),
        least=2,
        most=2,
        objects="containers",
        notes="As with cp -r: into a folder that exists, else under the new name; DIR/. copies what is in DIR.\n"
        "- is a tar on stdin or stdout.",
    )
}
