"""Images on their way: pull, load, save, import."""

from __future__ import annotations

import os
import sys

from hypercontainer.hyperctl import flags, moot, progress
from hypercontainer.hyperctl.flags import Args, Command, Flag, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from hypercontainer.hyperctl.context import Context

PIECE = 1 << 18


def pull_image(context: Context, name: str, *, platform: str, quiet: bool, to_stderr: bool) -> list[dict[str, str]]:
    """Pull `name`, showing how it goes; the images that came of it ({"Id", "Name"})."""
    from hypercontainer.hyperctl import login

    body: dict[str, object] = {"name": name, **({"platform": platform} if platform else {})}
    if kept := login.kept(context, name):
        body["auth"] = kept
    lines = context.client.stream("POST", "/v1/images/pull", body)
    return progress.follow(lines, sys.stderr if to_stderr else sys.stdout, quiet=quiet)


def pull(context: Context, args: Args) -> int:
    moot.warn(args)
    images = pull_image(context, args.operands[0], platform=args.platform, quiet=args.quiet, to_stderr=False)
    for image in images:
        print(image["Name"] if args.quiet else f"Pulled: {image['Name']} ({image['Id']})")
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
    lines = context.client.stream("POST", "/v1/images/load", pieces(readable(args.input)))
    for image in progress.follow(lines, sys.stderr, quiet=args.quiet):  # stdout is for the names: scripts read them
        print(f"Loaded image: {image['Name']}" if image["Name"] else f"Loaded image ID: {image['Id']}")
    return 0


def save(context: Context, args: Args) -> int:
    if not args.output and os.isatty(1):
        raise UsageError("an archive does not go to a terminal: use -o, or redirect stdout", "save", status=1)
    chunks = context.client.download("/v1/images/save", name=args.operands, format=args.format)
    if not args.output:
        for data in chunks:
            _write(1, data)
        return 0
    temporary = f"{args.output}.{os.getpid()}.part"
    fd = _create(temporary)
    try:
        for data in chunks:
            _write(fd, data)
        os.replace(temporary, args.output)
    except BaseException:
        os.unlink(temporary)
        raise
    finally:
        os.close(fd)
    return 0


def _create(path: str) -> int:
    from hypercontainer.errors import InvalidInput

    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as e:
        raise InvalidInput(f"cannot write {path}: {e.strerror}") from e


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while len(view):
        view = view[os.write(fd, view) :]


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
    )
    print(image["Id"])
    return 0


QUIET = flags.switch("quiet", "Do not show how it goes", "q")
COMMANDS = {
    "pull": Command(
        pull, "[OPTIONS] NAME[:TAG|@DIGEST]", "hyperctl pull --platform linux/amd64 debian:12",
        Flag("platform", "os/architecture[/variant]"), QUIET, moot.TRUST, least=1, most=1,
        refused={"all-tags": "name the tags one by one"},
    ),
    "load": Command(
        load, "[OPTIONS]", "hyperctl load -i image.tar",
        Flag("input", "Read from this file instead of stdin", short="i", metavar="path"), QUIET,
    ),
    "save": Command(
        save, "[OPTIONS] IMAGE [IMAGE...]", "hyperctl save -o image.tar debian:12",
        Flag("output", "Write to this file instead of stdout", short="o", metavar="path"),
        Flag("format", "docker, oci", default="docker", words=("docker", "oci")),
        least=1, most=None, objects="images",
    ),
    "import": Command(
        import_, "[OPTIONS] FILE|- [NAME[:TAG]]", "hyperctl import -c 'CMD [\"/bin/sh\"]' rootfs.tar mine:1",
        flags.many("change", "A line of a Dockerfile: CMD, ENV, EXPOSE …", "c"),
        Flag("message", "A comment", short="m"), least=1, most=2,
    ),
}  # fmt: skip
