"""hyperctl top, port, events."""

from __future__ import annotations

from hypercontainer.hyperctl import table, text, times
from hypercontainer.hyperctl.flags import Args, Command, Flag
from hypercontainer.hyperctl.lifecycle import path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hypercontainer.hyperctl.context import Context


def top(context: Context, args: Args) -> int:
    name, *options = args.operands
    document = context.client.get(path(name, "top"), ps_args=" ".join(options) or None)
    table.write(document["Titles"], document["Processes"])
    return 0


def port(context: Context, args: Args) -> int:
    """All published ports, or the host's end of one."""
    name, *wanted = args.operands
    published = context.client.get(path(name))["NetworkSettings"]["Ports"]
    key = ""
    if wanted:
        key = wanted[0] if "/" in wanted[0] else f"{wanted[0]}/tcp"
        if not published.get(key):
            from hypercontainer.errors import NotFound

            raise NotFound("published port", f"{key} of {name}")
    for inside, outside in sorted(published.items(), key=_by_number):
        for binding in outside or ():
            host = binding["HostIp"] or "0.0.0.0"
            address = f"{f'[{host}]' if ':' in host else host}:{binding['HostPort']}"
            if not key:
                print(f"{inside} -> {address}")
            elif inside == key:
                print(address)
    return 0


def _by_number(item: tuple[str, Any]) -> tuple[int, str]:
    number, _, protocol = item[0].partition("/")
    return int(number), protocol


def event_line(event: dict[str, Any]) -> str:
    """TIME TYPE ACTION ID (key=value, …), as docker's."""
    actor = event["Actor"]
    attributes = ", ".join(f"{key}={value}" for key, value in sorted(actor["Attributes"].items()))
    stamp = times.rfc3339(event["timeNano"])
    return f"{stamp} {event['Type']} {event['Action']} {actor['ID']}" + (f" ({attributes})" if attributes else "")


def events(context: Context, args: Args) -> int:
    template = None
    if args.format not in ("", "json"):
        from hypercontainer.hyperctl.template import GoTemplate

        template = GoTemplate(args.format)
    stream = context.client.stream(
        "GET",
        "/v1/events",
        since=times.seconds(args.since) if args.since else None,
        until=times.seconds(args.until) if args.until else None,
        filter=args.filter,
    )
    for event in stream:
        if args.format == "json":
            from hypercontainer.client import fastjson

            print(fastjson.dumps(event), flush=True)
        else:
            print(text.printable(template.render(event) if template else event_line(event)), flush=True)
    return 0


TIME_HELP = "10m (ago), 2024-05-01T10:00:00Z, or seconds since 1970"
COMMANDS = {
    "top": Command(
        top, "CONTAINER [PS OPTIONS]", "hyperctl top web aux", least=1, most=None, in_order=True, objects="running",
        notes="Of ps there are -ef, aux, ax, -A and -o COLUMNS: the guest lists the processes itself.",
    ),
    "port": Command(
        port, "CONTAINER [PORT[/PROTOCOL]]", "hyperctl port web 80", least=1, most=2, objects="running",
    ),
    "events": Command(
        events, "[OPTIONS]", "hyperctl events --since 1h --filter type=container",
        table.filter_flag("Show only what matches, such as 'container=web'"),
        table.format_flag("json, or a template such as '{{.Action}} {{.Actor.ID}}'"),
        Flag("since", f"Begin with those of then: {TIME_HELP}", parse=times.parse_ns),
        Flag("until", "End with those of then", parse=times.parse_ns),
    ),
}  # fmt: skip
