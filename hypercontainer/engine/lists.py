"""The lines of `ps` and `pod ls`: which there are, and what a `--filter` leaves of them. Pure."""

from collections.abc import Callable, Collection, Mapping
from typing import get_args

from hypercontainer.engine import describe, filters, links
from hypercontainer.engine.filters import Filters
from hypercontainer.engine.store import PodIndex
from hypercontainer.errors import InvalidInput
from hypercontainer.model import documents as doc
from hypercontainer.model.record import ContainerRecord, PodRecord
from hypercontainer.model.state import State
from hypercontainer.sandbox import size

Match = Callable[[PodRecord, ContainerRecord], bool]
ImageId = Callable[[str], str]  # of a name, a digest or the beginning of an id; "" when there is no such image

STATES = (*get_args(State), "dead")  # docker's last one: nothing here ever is
HEALTH = ("none", "starting", "healthy", "unhealthy")
SHOWN = ("running", "paused", "suspended", "restarting")


def containers(
    index: PodIndex,
    image_id: ImageId,
    *,
    all: bool,
    wanted: Filters,
    now_ns: int,
    unreached: Collection[str] = (),
    all_owners: bool = False,
) -> list[doc.ContainerEntry]:
    """The newest first; those that run, unless `all` or a filter speaks of states. `unreached`: pods whose guest does
    not answer. `all_owners`: other engines' too."""
    matches = _matches(index, image_id, wanted)
    wants_all = all or "status" in wanted or "exited" in wanted
    named = links.names(index)
    found = [
        (
            container.created_ns,
            describe.entry(pod, container, now_ns, named.get(container.id, ()), reached=pod.id not in unreached),
        )
        for pod, container in index.containers(None if all_owners else "")
        if (wants_all or container.state in SHOWN) and matches(pod, container)
    ]
    return [entry for _, entry in sorted(found, key=lambda pair: pair[0], reverse=True)]


def pods(
    index: PodIndex,
    *,
    all: bool,
    wanted: Filters,
    vcpus: Callable[[PodRecord], int],
    default_memory_mib: int,
    all_owners: bool = False,
) -> list[doc.PodEntry]:
    """The newest first; those that run, unless `all` or a filter speaks of states. `all_owners`: other engines' too."""
    filters.check("pods", wanted, ["id", "name", "label", "status"])
    filters.choice(wanted, "status", get_args(doc.PodState))
    ids = [filters.expression("id", value) for value in wanted.get("id", [])]
    names = [filters.expression("name", value) for value in wanted.get("name", [])]
    found = [
        pod
        for pod in index.pods.values()
        if (all_owners or not pod.owner)
        and (all or "status" in wanted or pod.guest or pod.suspended)
        and (not ids or any(pattern.search(pod.id) for pattern in ids))
        and (not names or any(pattern.search(pod.name) for pattern in names))
        and ("status" not in wanted or describe.pod_state(pod) in wanted["status"])
        and filters.has_label(pod.spec.labels, wanted.get("label", []))
    ]
    found.sort(key=lambda pod: pod.created_ns, reverse=True)
    return [
        describe.pod_entry(pod, vcpus=vcpus(pod), memory_mib=size.machine_mib(pod, default_memory_mib)) for pod in found
    ]


def _matches(index: PodIndex, image_id: ImageId, wanted: Filters) -> Match:
    """What a container has to be. Every value is judged here, whether or not there is a container to hold against."""
    makers: Mapping[str, Callable[[str], Match]] = {
        "id": _id,
        "name": _name,
        "exited": _exited,
        "ancestor": lambda value: _ancestor(image_id(value)),
        "pod": lambda value: lambda pod, _: value == pod.name or pod.id.startswith(value),
        "volume": lambda value: lambda _, c: any(value in (m.source, m.target) for m in c.mounts),
        "network": lambda value: lambda pod, c: value in describe.networks(pod, c),
        "publish": _publish,
        "expose": _expose,
        "status": lambda value: lambda _, c: c.state == value,
        "health": lambda value: lambda _, c: value == (c.health.status if c.health else "none"),
    }
    filters.check(
        "containers", wanted, [*makers, "label", "label!", "until", "before", "since", "is-task", "isolation"]
    )
    filters.choice(wanted, "status", STATES)
    filters.choice(wanted, "health", HEALTH)
    filters.choice(wanted, "isolation", ("default",))
    alternatives = [[make(value) for value in wanted[key]] for key, make in makers.items() if key in wanted]
    older, newer = _made(index, wanted, "before"), _made(index, wanted, "since")
    until, task = filters.until(wanted), filters.boolean(wanted, "is-task")

    def matches(pod: PodRecord, c: ContainerRecord) -> bool:
        return (
            all(any(test(pod, c) for test in tests) for tests in alternatives)
            and filters.labelled(c.labels, wanted)
            and (older is None or c.created_ns < older)
            and (newer is None or c.created_ns > newer)
            and (until is None or c.created_ns < until)
            and not task
        )

    return matches


def _made(index: PodIndex, wanted: Filters, key: str) -> int | None:
    """When the container was made that the filter names. NotFound."""
    name = filters.one(wanted, key)
    return None if name is None else index.find_container(name)[1].created_ns


def _id(value: str) -> Match:
    pattern = filters.expression("id", value)
    return lambda _, c: bool(pattern.search(c.id))


def _name(value: str) -> Match:
    """docker holds names against it with their slash and without."""
    pattern = filters.expression("name", value)
    return lambda _, c: bool(pattern.search(c.name) or pattern.search(f"/{c.name}"))


def _exited(value: str) -> Match:
    digits = value.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > 10:
        raise InvalidInput(f"invalid filter exited={value[:100]!r}: use an exit status, a whole number")
    return lambda _, c: c.state == "exited" and c.exit_code == int(value)


def _ancestor(image: str) -> Match:
    return lambda _, c: bool(image) and c.image_id == image


def _publish(value: str) -> Match:
    first, last, protocol = filters.ports("publish", value)
    return lambda pod, c: any(
        first <= port.host_port <= last and port.protocol == protocol
        for nic in describe.own_nics(pod, c)
        for port in nic.ports
    )


def _expose(value: str) -> Match:
    first, last, protocol = filters.ports("expose", value)

    def matches(pod: PodRecord, c: ContainerRecord) -> bool:
        return any(
            kind == protocol and first <= int(number) <= last
            for number, _, kind in (port.partition("/") for port in describe.exposed(pod, c))
        )

    return matches
