"""hyperctl info, version, doctor, events."""

from __future__ import annotations

from hypercontainer import __version__
from hypercontainer.hyperctl import flags, table, text, times
from hypercontainer.hyperctl.context import complain
from hypercontainer.hyperctl.flags import Args, Command, Flag
from hypercontainer.lib import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hypercontainer.hyperctl.context import Context

FORMAT = table.format_flag("json, or a template such as '{{.Isolation.Level}}'")
MARKS = {"ok": "ok", "warning": "warning", "failed": "FAILED"}


def formatted(document: Any, chosen: str) -> bool:
    """Print `document` as --format says; False if it says nothing."""
    if not chosen:
        return False
    if chosen == "json":
        print(fastjson.dumps(document))
        return True
    from hypercontainer.hyperctl.template import GoTemplate

    print(GoTemplate(chosen).render(document))
    return True


def isolation(document: dict[str, Any]) -> str:
    """Never silent about emulation."""
    words = f"{document['Level']} ({document['Accelerator']}: {document['Reason']})"
    return words + (", not a security boundary" if document["Level"] == "emulated" else "")


def guests(document: dict[str, Any]) -> list[str]:
    """Architectures whose images can be run, the host's first."""
    return [
        each["Platform"] + (" (emulated)" if each["Isolation"]["Level"] == "emulated" else "")
        for each in document.get("Guests") or []
        if not each.get("Lacks")
    ]


def info(context: Context, args: Args) -> int:
    document = context.client.get("/v1/info")
    if formatted(document, args.format):
        return 0
    hypervisor = document["Hypervisor"]
    fields = (
        ("Containers", document["Containers"]),
        (" Running", document["ContainersRunning"]),
        (" Paused", document["ContainersPaused"]),
        (" Stopped", document["ContainersStopped"]),
        ("Pods", document["Pods"]),
        ("Images", document["Images"]),
        ("Isolation", isolation(document["Isolation"])),
        ("Hypervisor", f"{hypervisor['Name']} {hypervisor['Version']}"),
        ("Guests", ", ".join(guests(document)) or "none"),
        ("Guest kernel", document["GuestKernel"] or "none: run 'hyperctl kernel fetch'"),
        ("Server version", document["ServerVersion"]),
        ("Host", document["Name"]),
        ("Host kernel", document["KernelVersion"]),
        ("Operating system", document["OperatingSystem"]),
        ("Architecture", document["Architecture"]),
        ("CPUs", document["NCPU"]),
        ("Total memory", text.memory(document["MemTotal"])),
        ("Root", document["Root"]),
        ("Run", document["Run"]),
    )
    for name, value in fields:
        print(f"{name}: {value}")
    for warning in document.get("Warnings") or []:
        complain(f"warning: {warning}")
    return 0


def version(context: Context, args: Args) -> int:
    if args.short:
        print(f"hyperctl {__version__}")
        return 0
    from hypercontainer.client.http import Client
    from hypercontainer.errors import Unavailable

    try:
        with Client(context.address) as client:  # asking for a version starts no hyperd
            server = client.get("/v1/version")
    except Unavailable as e:
        if not args.format:
            print(f"Client:\n Version: {__version__}")
        complain(e)
        return 1
    if formatted({"Client": {"Version": __version__}, "Server": server}, args.format):
        return 0
    print(f"Client:\n Version: {__version__}\nServer:")
    for name, value in server.items():
        print(f" {name}: {value}")
    return 0


def doctor(context: Context, args: Args) -> int:
    complain("finding out what works on this machine: that may take some seconds")
    document = context.client.call("GET", "/v1/doctor", {})
    if not formatted(document, args.format):
        for check in document["Checks"]:
            print(f"{MARKS.get(check['Status'], check['Status']):<9}{check['Name']}: {check['Detail']}")
            if check.get("Advice") and check["Status"] != "ok":
                print(f"{'':<9}-> {check['Advice']}")
        print(f"Isolation: {isolation(document['Isolation'])}")
    return 1 if any(check["Status"] == "failed" for check in document["Checks"]) else 0


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
            from hypercontainer.lib import fastjson

            print(fastjson.dumps(event), flush=True)
        else:
            print(text.printable(template.render(event) if template else event_line(event)), flush=True)
    return 0


TIME_HELP = "10m (ago), 2024-05-01T10:00:00Z, or seconds since 1970"
COMMANDS = {
    "info": Command(info, "[OPTIONS]", "hyperctl info --format '{{.Isolation.Level}}'", FORMAT),
    "version": Command(
        version, "[OPTIONS]", "hyperctl version --format '{{.Server.Version}}'",
        FORMAT, flags.switch("short", "Only hyperctl's, on one line; asks nobody"),
    ),
    "doctor": Command(
        doctor, "[OPTIONS]", "hyperctl doctor", FORMAT,
        notes="It proves by running and may take some seconds. Its exit status is 1 if a check failed.",
    ),
    "events": Command(
        events, "[OPTIONS]", "hyperctl events --since 1h --filter type=container",
        table.filter_flag("Show only what matches, such as 'container=web'"),
        table.format_flag("json, or a template such as '{{.Action}} {{.Actor.ID}}'"),
        Flag("since", f"Begin with those of then: {TIME_HELP}", parse=times.parse_ns),
        Flag("until", "End with those of then", parse=times.parse_ns),
    ),
}  # fmt: skip
