"""What docker ends with and prints, verb by verb: tests/vectors/statuses.jsonl, recorded from a real one.

The first line names the engine. Each other is a command in docker's words, its exit status, stdout and stderr, in the
order in which they are called: the first ones make the things that the others are about. `@` is a folder of the host,
`AMBIGUOUS` the beginning of two containers' ids. `tools/statuses.py` records the table again."""

import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from hypercontainer.testing.daemon import Result

TABLE = Path(__file__).with_name("vectors") / "statuses.jsonl"
FEW = 17  # containers: with so many, two ids begin with the same digit
ID = re.compile(r"\b(sha256:)?([0-9a-f]{64}|[0-9a-f]{12})\b")
DATA = re.compile(r"/tmp/hyd\w+/data")
PID = re.compile(r"^\d+ +(?=[a-z])", re.MULTILINE)

Call = Callable[..., Result]


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A command, and what an engine answered. Ids and the host's folder are not in `out` and `err`."""

    do: str
    status: int = 0
    out: str = ""
    err: str = ""


def read() -> tuple[str, list[Step]]:
    """The engine, and the steps."""
    head, *lines = TABLE.read_text().splitlines()
    return json.loads(head)["engine"], [msgspec.json.decode(line, type=Step) for line in lines]


def write(engine: str, steps: list[Step]) -> None:
    lines = [json.dumps({"engine": engine}), *(json.dumps(msgspec.structs.asdict(step)) for step in steps)]
    TABLE.write_text("\n".join(lines) + "\n")


def walk(call: Call, folder: Path, steps: list[Step]) -> Iterator[Step]:
    """Have an engine that knows nothing but busybox take the steps, and give each with what it answered."""
    (folder / "file").write_text("x")
    prefix = ""
    for step in steps:
        if "AMBIGUOUS" in step.do and not prefix:
            prefix = _ambiguous(call)
        words = [word.replace("@", str(folder)).replace("AMBIGUOUS", prefix) for word in shlex.split(step.do)]
        status, *texts = call(*words)
        out, err = (ID.sub("ID", text.replace(str(folder), "@")) for text in texts)
        err = (
            DATA.sub("/var/lib/docker", err).partition("\n\n")[0].replace(f"prefix: {prefix}", "prefix: AMBIGUOUS")
        )  # without a page of help
        yield Step(step.do, status, re.sub(r" +\n", "\n", PID.sub("PID ", out)), err)


def _ambiguous(call: Call) -> str:
    """Make containers until the ids of two begin alike."""
    firsts: set[str] = set()
    for _ in range(FEW):
        first = call("create", "busybox").out[0]
        if first in firsts:
            return first
        firsts.add(first)
    raise AssertionError(firsts)
