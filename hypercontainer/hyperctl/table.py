"""Lists: docker's columns, JSON, or a template of the user's."""

from __future__ import annotations

import sys

from hypercontainer.hyperctl import flags, text
from hypercontainer.lib import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hypercontainer.hyperctl.flags import Args, Flag

    Row = dict[str, object]

GAP = 3
NARROWEST = 10
TITLES = {"LocalVolumes": "LOCAL VOLUMES", "CreatedAt": "CREATED AT"}  # of fields that are in no table by themselves


def format_flag(what: str = "table, json, or a template such as '{{.ID}} {{.Names}}'") -> Flag:
    return flags.Flag("format", f"Output: {what}", words=("table", "json"))


def parse_filter(word: str) -> str:
    """`key=value`; a moment is told to hyperd as one: what 10m and local time are is this machine's word."""
    key, equals, value = word.partition("=")
    key, value = key.strip().lower(), value.strip()
    if not key or not equals:
        raise ValueError("use name=value")
    if key == "until":
        from hypercontainer.hyperctl import times

        value = times.seconds(times.parse_ns(value))
    return f"{key}={value}"


def filter_flag(what: str, short: str = "f") -> Flag:
    return flags.many("filter", what, short, metavar="filter", parse=parse_filter)


def matching(args: Args) -> str:
    """What the filters of a prune say, for its warning."""
    return f", and match {', '.join(args.filter)}" if args.filter else ""


def list_flags() -> tuple[Flag, ...]:
    """What every list takes."""
    return (
        filter_flag("Show only what matches, such as 'name=web'"),
        format_flag(),
        flags.switch("no-trunc", "Do not shorten ids and commands"),
        flags.switch("quiet", "Only ids", "q"),
    )


def show(args: Args, columns: Sequence[tuple[str, str]], rows: Iterable[Row], *, key: str = "ID") -> int:
    """Print `rows` as --format and --quiet say. `columns`: (title, field); `key`: what --quiet prints."""
    chosen = args.format
    if args.values.get("quiet") and not chosen:
        for row in rows:
            print(row[key])
    elif chosen in ("", "table"):
        write([title for title, _ in columns], [[str(row[field]) for _, field in columns] for row in rows])
    elif chosen == "json":
        for row in rows:
            print(fastjson.dumps({key: value for key, value in row.items() if not callable(value)}))
    else:
        _template(chosen, columns, rows)
    return 0


def names(chosen: str, field: str) -> bool:
    """Whether the template asks for `field`; "" is the whole row."""
    if "{{" not in chosen:
        return False
    from hypercontainer.hyperctl.template import GoTemplate

    fields = GoTemplate(chosen.removeprefix("table ")).fields()
    return field in fields if field else "." in fields


def _template(chosen: str, columns: Sequence[tuple[str, str]], rows: Iterable[Row]) -> None:
    from hypercontainer.hyperctl.template import GoTemplate

    tabular = chosen.startswith("table ")
    template = GoTemplate(chosen.removeprefix("table ").replace("\\t", "\t").replace("\\n", "\n"))
    lines = [template.render(row) for row in rows]
    if not tabular:
        for line in lines:
            print(line)
        return
    titles = {field: title for title, field in columns}
    fields = template.fields()
    named = {field: titles.get(field, TITLES.get(field, field.upper())) for field in fields - {"."}}
    head = template.render(
        {**named, **({"Label": str} if "Label" in fields else {})}
    )  # {{.Label "k"}}: the column is k
    write(head.split("\t"), [line.split("\t") for line in lines])


def write(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their widest cell, as docker's."""
    clean = [list(titles), *([text.printable(cell) for cell in row] for row in rows)]
    widths = [0] * max(len(row) for row in clean)
    for row in clean:
        for i, cell in enumerate(row):
            widths[i] = max(widths[i], len(cell))
    out = []
    for row in clean:
        cells = [cell.ljust(max(widths[i], NARROWEST) + GAP) for i, cell in enumerate(row[:-1])]
        out.append("".join([*cells, row[-1]]).rstrip() + "\n")
    sys.stdout.write("".join(out))
