"""hyperctl ps"""

from __future__ import annotations

from hypercontainer.hyperctl import flags, table, text
from hypercontainer.hyperctl.flags import Args, Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hypercontainer.hyperctl.context import Context

COMMAND_WIDTH = 20
COLUMNS = (
    ("CONTAINER ID", "ID"),
    ("IMAGE", "Image"),
    ("COMMAND", "Command"),
    ("CREATED", "RunningFor"),
    ("STATUS", "Status"),
    ("PORTS", "Ports"),
    ("NAMES", "Names"),
)
SIZE = ("SIZE", "Size")
OWNER = ("OWNER", "Owner")


def ports(documents: list[dict[str, Any]]) -> str:
    """0.0.0.0:8000-8002->80-82/tcp, as docker writes them: runs are joined."""
    runs: list[list[Any]] = []  # [ip, first public, last public, first private, type]
    for port in sorted(documents, key=lambda p: (p["Type"], p.get("IP") or "", p.get("PublicPort") or 0)):
        public, private = port.get("PublicPort") or 0, port["PrivatePort"]
        ip, kind = port.get("IP") or "", port["Type"]
        last = runs[-1] if runs else None
        joins = last and last[0] == ip and last[4] == kind and public and last[2] + 1 == public
        if last and joins and private - last[3] == public - last[1]:
            last[2] = public
        else:
            runs.append([ip, public, public, private, kind])
    return ", ".join(_run(*run) for run in runs)


def _run(ip: str, first: int, last: int, private: int, kind: str) -> str:
    inside = f"{private}/{kind}" if first == last else f"{private}-{private + last - first}/{kind}"
    if not first:
        return inside
    host = f"[{ip}]" if ":" in ip else ip or "0.0.0.0"
    return f"{host}:{first}->{inside}" if first == last else f"{host}:{first}-{last}->{inside}"


def size(entry: dict[str, Any]) -> str:
    """What it has written, and with its image; "" when nobody asked hyperd for it."""
    own, image = entry.get("SizeRw"), entry.get("SizeRootFs")
    return "" if own is None else f"{text.size(own)} (virtual {text.size(image or 0)})"


def row(entry: dict[str, Any], *, full: bool) -> dict[str, object]:
    """The fields of docker's `ps --format`, Pod and Owner."""
    labels, mounts = entry.get("Labels") or {}, entry.get("Mounts") or []
    command = entry.get("Command", "")
    if not full and len(command) > COMMAND_WIDTH:
        command = command[: COMMAND_WIDTH - 1] + "…"
    return {
        "ID": entry["Id"] if full else text.short_id(entry["Id"]),
        "Image": entry["Image"],
        "Command": f'"{command}"',
        "CreatedAt": text.moment(entry["Created"]),
        "RunningFor": text.ago(entry["Created"]),
        "Status": entry["Status"],
        "State": entry["State"],
        "Ports": ports(entry.get("Ports") or []),
        "Names": ",".join(name.removeprefix("/") for name in entry["Names"]),
        "Labels": ",".join(f"{key}={value}" for key, value in labels.items()),
        "Mounts": ",".join(mount.get("Name") or mount.get("Source", "") for mount in mounts),
        "LocalVolumes": str(sum(mount.get("Type") == "volume" for mount in mounts)),
        "Networks": ",".join(entry.get("Networks") or {}),
        "Size": size(entry),
        "Label": lambda name: labels.get(name, ""),
        "Pod": (entry.get("Pod") or {}).get("Name", ""),
        "Owner": entry.get("Owner", ""),
    }


def ps(context: Context, args: Args) -> int:
    last = 1 if args.latest else args.last
    sized = args.size or table.names(args.format, "Size") or args.format == "json" or table.names(args.format, "")
    entries = context.client.get(
        "/v1/containers", all=args.all or last > 0, size=sized, filter=args.filter, all_owners=args.all_owners
    )
    if last > 0:
        entries = entries[:last]
    columns = [*COLUMNS, *([OWNER] if args.all_owners else []), *([SIZE] if args.size else [])]
    return table.show(args, columns, [row(entry, full=args.no_trunc) for entry in entries])


COMMANDS = {
    "ps": Command(
        ps,
        "[OPTIONS]",
        "hyperctl ps -a --filter status=exited --format '{{.ID}} {{.Names}}'",
        flags.switch("all", "Also those that do not run", "a"),
        flags.switch("all-owners", "Also those of other engines, by runv or containerd's shim, with whose they are"),
        *table.list_flags(),
        flags.Flag(
            "last", "The n newest, whatever their state", short="n", metavar="int", default=0, parse=flags.count
        ),
        flags.switch("latest", "The newest, whatever its state", "l"),
        flags.switch("size", "What each has written, and with its image", "s"),
    )
}
