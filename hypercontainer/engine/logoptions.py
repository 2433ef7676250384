"""docker's options of a log: what each of its lines says of its container (labels, parts of its environment, a tag),
and what changes nothing here."""

import re
from collections.abc import Callable, Mapping

from hypercontainer.engine import filters
from hypercontainer.errors import InvalidInput
from hypercontainer.model.record import ContainerRecord

ATTRIBUTES = ("labels", "labels-regex", "env", "env-regex", "tag")
# Options that change nothing, if they have another value than this: why.
VOID = {
    "compress": ("false", "whoever reads a log reads its files from their ends, as they are"),
    "mode": ("blocking", "no process waits for its log while the disk has room"),
    "max-buffer-size": ("", "no process waits for its log while the disk has room"),
}
WORDS = {"compress": ("true", "false", "1", "0"), "mode": ("blocking", "non-blocking")}
MAX_OPTION = 4096
FIELD = re.compile(r"\{\{\s*\.(\w+)\s*\}\}", re.ASCII)  # of Go's templates
FIELDS: Mapping[str, Callable[[ContainerRecord], str]] = {
    "ID": lambda record: record.id[:12],
    "FullID": lambda record: record.id,
    "Name": lambda record: record.name,
    "ImageID": lambda record: record.image_id.partition(":")[2][:12],
    "ImageFullID": lambda record: record.image_id,
    "ImageName": lambda record: record.image_name,
    "Command": lambda record: " ".join(record.config.process.args),
    "DaemonName": lambda record: "docker",
}


def check(options: Mapping[str, str]) -> None:
    """InvalidInput, as docker words it where clients are shown it."""
    for name, value in options.items():
        if name not in (*ATTRIBUTES, *VOID):
            raise InvalidInput(f"unknown log opt {name[:60]!r}: use {', '.join([*ATTRIBUTES, *VOID])}")
        if len(value) > MAX_OPTION:
            raise InvalidInput(f"invalid log opt {name}: it is longer than {MAX_OPTION} characters")
        if name in WORDS and value not in WORDS[name]:
            raise InvalidInput(f"invalid log opt {name}={value[:60]!r}: use {' or '.join(WORDS[name][:2])}")
        if name.endswith("-regex") and value:
            filters.expression(name, value)
    if "max-buffer-size" in options and options.get("mode") != "non-blocking":
        raise InvalidInput("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
    _check_tag(options.get("tag", ""))


def _check_tag(tag: str) -> None:
    known = ", ".join(f".{field}" for field in FIELDS)
    if unknown := [field for field in FIELD.findall(tag) if field not in FIELDS]:
        raise InvalidInput(f"invalid tag {tag[:200]!r}: there is no .{unknown[0][:60]}; use {known}")
    if "{{" in FIELD.sub("", tag):
        raise InvalidInput(f"invalid tag {tag[:200]!r}: of templates there are the fields {known} alone")


def warnings(options: Mapping[str, str]) -> list[str]:
    """Of those that change nothing."""
    void = {name: why for name, (usual, why) in VOID.items() if options.get(name, usual) not in (usual, "0")}
    return [f"log opt {name}={options[name]} changes nothing: {why}" for name, why in void.items()]


def attributes(record: ContainerRecord) -> dict[str, str]:
    """What the lines of its log say of `record`, by name."""
    options = record.spec.log_options
    env = dict(entry.split("=", 1) for entry in record.config.process.env)
    found = _chosen(record.labels, options, "labels") | _chosen(env, options, "env")
    if tag := options.get("tag", ""):
        found["tag"] = FIELD.sub(lambda field: FIELDS[field[1]](record), tag)
    return found


def _chosen(values: Mapping[str, str], options: Mapping[str, str], name: str) -> dict[str, str]:
    wanted = options.get(name, "").split(",")
    pattern = options.get(f"{name}-regex", "")
    regular = filters.expression(name, pattern) if pattern else None
    return {key: value for key, value in values.items() if key in wanted or (regular and regular.search(key))}
