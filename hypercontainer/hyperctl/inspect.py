"""hyperctl inspect, and container|image|pod|volume|network inspect."""

from __future__ import annotations

from hypercontainer.client.http import segment
from hypercontainer.hyperctl import flags, table
from hypercontainer.hyperctl.context import complain
from hypercontainer.hyperctl.flags import Args, Command, Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from hypercontainer.client.http import Client
    from hypercontainer.hyperctl.context import Context

TYPES = ("container", "image", "pod", "volume", "network")
HEX = frozenset("0123456789abcdef")


def fetch(client: Client, kind: str, name: str, *, size: bool = False, platform: str = "") -> Any:
    if kind == "image":
        return client.get("/v1/images/inspect", name=name, platform=platform or None)
    return client.get(f"/v1/{kind}s/{segment(name)}", size=size)


def find(client: Client, kinds: Sequence[str], name: str, *, size: bool = False, platform: str = "") -> Any:
    """The document of the first kind that has `name`. NotFound if none has."""
    from hypercontainer.errors import InvalidInput, NotFound

    for kind in kinds:
        try:
            return fetch(client, kind, name, size=size and kind == "container", platform=platform)
        except NotFound:
            if platform:  # it says for which ones there are images
                raise
        except InvalidInput:  # the beginning of several ids, or a name that only images can have
            if kind == "image" or "image" not in kinds or HEX.issuperset(name):
                raise
    raise NotFound(kinds[0] if len(kinds) == 1 else "object", name)


def inspect(context: Context, args: Args, kinds: Sequence[str] = TYPES) -> int:
    from hypercontainer.errors import HyperError

    if getattr(args, "type", ""):
        kinds = (args.type,)
    size, platform = args.values.get("size", False), args.values.get("platform", "")
    if platform:
        kinds = ("image",)
    found, status = [], 0
    for name in args.operands:
        try:
            found.append(find(context.client, kinds, name, size=size, platform=platform))
        except HyperError as e:
            complain(e)
            status = 1
    show(found, args.format)
    return status


def show(documents: list[Any], chosen: str) -> None:
    if chosen in ("", "json"):
        import json

        print(json.dumps(documents, indent=4 if not chosen else None, ensure_ascii=False))
        return
    from hypercontainer.hyperctl.template import GoTemplate

    template = GoTemplate(chosen)
    for document in documents:
        print(template.render(document))


def parse_type(word: str) -> str:
    if word not in TYPES:
        raise ValueError(f"use one of {', '.join(TYPES)}")
    return word


FORMAT = Flag("format", table.format_flag("json, or a template such as '{{.State.Status}}'").help, short="f")
TYPE = Flag("type", "container, image, pod, volume, network", parse=parse_type, words=TYPES)
PLATFORM = Flag("platform", "Of several images of a name, that for os/architecture[/variant]")
SIZE = flags.switch("size", "Of containers, what they have written: SizeRw, SizeRootFs", "s")


def _of(kind: str, example: str) -> Command:
    def run(context: Context, args: Args) -> int:
        return inspect(context, args, (kind,))

    name = kind.upper()
    more = {"container": (SIZE,), "image": (PLATFORM,)}.get(kind, ())
    return Command(run, f"[OPTIONS] {name} [{name}...]", example, FORMAT, *more, least=1, most=None, objects=f"{kind}s")


COMMANDS = {
    "inspect": Command(
        inspect,
        "[OPTIONS] NAME [NAME...]",
        "hyperctl inspect -f '{{.NetworkSettings.IPAddress}}' web",
        FORMAT,
        TYPE,
        SIZE,
        PLATFORM,
        least=1,
        most=None,
        objects="containers",
    ),
    "container inspect": _of("container", "hyperctl container inspect web"),
    "image inspect": _of("image", "hyperctl image inspect -f '{{json .Config.Env}}' busybox"),
    "pod inspect": _of("pod", "hyperctl pod inspect -f '{{.State}}' web"),
    "network inspect": _of("network", "hyperctl network inspect -f '{{json .Containers}}' db"),
    "volume inspect": _of("volume", "hyperctl volume inspect -f '{{.Mountpoint}}' data"),
}
