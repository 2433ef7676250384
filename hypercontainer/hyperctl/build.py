"""hyperctl build: a folder and its Dockerfile become an image."""

from __future__ import annotations

import os
import sys

from hypercontainer.hyperctl import flags, pack, text
from hypercontainer.hyperctl.flags import Args, Command, Flag, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from hypercontainer.hyperctl.context import Context

PIECE = 1 << 18
OUTSIDE = ".dockerfile-of-the-caller"  # in the context, of one that is not in the folder
REMOTE = ("http://", "https://", "git://", "git@", "github.com/")


def build(context: Context, args: Args) -> int:
    source = args.operands[0]
    if args.squash:
        raise UsageError("layers are not squashed: use several stages, and COPY --from", "build", status=1)
    if source.startswith(REMOTE):
        raise UsageError("contexts are not fetched: clone it, and give the folder", "build", status=1)
    name, body = _stdin(args) if source == "-" else _folder(source, args.file)
    lines = context.client.stream(
        "POST",
        "/v1/build",
        body,
        dockerfile=name,
        name=args.tag,
        arg=[each if "=" in each else f"{each}={os.environ[each]}" for each in args.build_arg if _known(each)],
        label=[each if "=" in each else f"{each}=" for each in args.label],
        target=args.target or None,
        no_cache=args.no_cache or None,
        cache_from=args.cache_from,
        pull=args.pull or None,
        platform=args.platform or None,
        network="bridge" if args.network in ("", "default") else args.network,
    )
    return _show(lines, quiet=args.quiet)


def _known(arg: str) -> bool:
    """One without a value has that of the environment, and is left out where that has none."""
    return "=" in arg or arg in os.environ


def _show(lines: Iterator[dict[str, object]], *, quiet: bool) -> int:
    id, said = "", set()
    for line in lines:
        if "stage" in line:
            id = str(line["stage"])
        elif quiet:
            continue
        elif "stream" in line:
            print(line["stream"], end="", flush=True)  # as what a container prints
        elif (line["id"], line["action"]) not in said:
            said.add((line["id"], line["action"]))
            print(text.printable(f"{line['id']}: {line['action']}"), flush=True)
    if quiet:
        print(id)
    return 0


def _stdin(args: Args) -> tuple[str, Iterator[bytes]]:
    """A tar, or a Dockerfile alone."""
    stdin = sys.stdin.buffer
    head = stdin.read(PIECE)

    def rest() -> Iterator[bytes]:
        data = head
        while data:
            yield data
            data = stdin.read(PIECE)

    if _is_archive(head):
        return args.file or "Dockerfile", rest()
    if args.file:
        raise UsageError("with a Dockerfile on stdin there is no other one: leave out --file", "build")
    return "Dockerfile", pack.alone("Dockerfile", b"".join(rest()))


def _is_archive(head: bytes) -> bool:
    magic = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")
    return head.startswith(magic) or head[257:262] == b"ustar"


def _folder(folder: str, file: str) -> tuple[str, Iterator[bytes]]:
    """Its files, without what its .dockerignore leaves out."""
    from hypercontainer.errors import InvalidInput
    from hypercontainer.lib import dockerignore

    if not os.path.isdir(folder):
        raise InvalidInput(f"cannot build {folder}: it is no folder")
    own = b""
    inside = "Dockerfile"
    if file == "-":
        inside, own = OUTSIDE, sys.stdin.buffer.read()
    elif file:
        inside = os.path.relpath(os.path.realpath(file), os.path.realpath(folder))
        if inside.startswith("../"):
            with open(file, "rb") as f:
                inside, own = OUTSIDE, f.read()
    lines: list[str] = []
    try:
        with open(os.path.join(folder, ".dockerignore"), errors="replace") as f:
            lines = dockerignore.patterns(f.read())
        ignored = dockerignore.Ignored([*lines, "!.dockerignore", f"!{inside}"])
    except FileNotFoundError:
        ignored = dockerignore.Ignored([])
    except ValueError as e:
        raise InvalidInput(f"cannot read .dockerignore: {e}") from e
    return inside, pack.context(folder, ignored, {inside: own} if own else {})


COMMANDS = {
    "build": Command(
        build, "[OPTIONS] FOLDER | -", "hyperctl build -t mine:1 .",
        flags.many("build-arg", "NAME=VALUE for an ARG of the Dockerfile; NAME takes it from the environment"),
        flags.many("cache-from", "An image that was built here: only its steps are taken from the cache"),
        Flag("file", "The Dockerfile, else FOLDER/Dockerfile; - is stdin", short="f", metavar="path"),
        flags.many("label", "NAME=VALUE that the image says of itself"),
        Flag("network", "Of the commands that are run", default="bridge"),
        flags.switch("no-cache", "Make every step anew"),
        Flag("platform", "Of the images that it begins with"),
        flags.switch("pull", "Ask the registries even for images that are here"),
        flags.switch("quiet", "Print the image's id alone", "q"),
        flags.switch("squash", "Refused: use several stages"),
        flags.many("tag", "A name of the image: NAME[:TAG]", "t"),
        Flag("target", "The last stage that is wanted"),
        least=1, most=1,
        notes="- takes a tar from stdin, or a Dockerfile alone. Each stage runs in a virtual machine of its own.",
    ),
}  # fmt: skip
