"""`--filter key=value`, as docker has it: values of one key are alternatives, keys add up, unknown ones are refused."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from hypercontainer.errors import InvalidInput
from hypercontainer.model.record import ContainerRecord, PodRecord

Filters = Mapping[str, Sequence[str]]


def check(what: str, filters: Filters, known: Iterable[str]) -> None:
    """InvalidInput names the key that `what` has no filter for."""
    allowed = sorted(known)
    for key in filters:
        if key not in allowed:
            raise InvalidInput(f"invalid filter {key!r} for {what}: use one of {', '.join(allowed)}")


def has_label(labels: Mapping[str, str], wanted: Sequence[str]) -> bool:
    """Every `name` or `name=value` of `wanted` is there: labels alone add up, as docker's do."""
    for label in wanted:
        name, equals, value = label.partition("=")
        if name not in labels or (equals and labels[name] != value):
            return False
    return True


Match = Callable[[PodRecord, ContainerRecord, str], bool]

CONTAINER: dict[str, Match] = {
    "id": lambda _, c, value: c.id.startswith(value),
    "name": lambda _, c, value: value.lstrip("/") in c.name,
    "status": lambda _, c, value: c.state == value,
    "exited": lambda _, c, value: c.state == "exited" and str(c.exit_code) == value,
    "ancestor": lambda _, c, value: value in (c.image_name, c.image_id, c.image_name.partition(":")[0]),
    "pod": lambda p, _, value: value == p.name or p.id.startswith(value),
    "volume": lambda _, c, value: any(value in (m.source, m.target) for m in c.mounts),
}


def container(pod: PodRecord, record: ContainerRecord, filters: Filters) -> bool:
    for key, values in filters.items():
        if key == "label":
            if not has_label(record.labels, values):
                return False
        elif not any(CONTAINER[key](pod, record, value) for value in values):
            return False
    return True
