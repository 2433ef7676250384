"""Annotations of a bundle that are for us: what whoever describes a pod asks of its machine, by names that begin with
`io.hypercontainer.`. The settings say which he may use. All others are for others."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import msgspec

from hypercontainer.engine.resolve import MAX_MEMORY_MIB, MAX_VCPUS
from hypercontainer.errors import InvalidInput
from hypercontainer.model.settings import Annotation
from hypercontainer.model.spec import PodSpec

PREFIX = "io.hypercontainer."
FACTORIES = ("cache", "template", "direct")


def asked(said: Mapping[str, str], allowed: Collection[Annotation]) -> dict[str, Any]:
    """Fields of a PodSpec. InvalidInput names an annotation that nobody knows, or that the settings do not allow, or
    whose value makes no sense."""
    found: dict[str, Any] = {}
    for name, text in said.items():
        if not name.startswith(PREFIX):
            continue
        word = name.removeprefix(PREFIX)
        if word not in KNOWN:
            known = ", ".join(PREFIX + word for word in KNOWN)
            raise InvalidInput(f"cannot use annotation {name[:100]}: nobody knows it; known are {known}")
        if word not in allowed:
            raise InvalidInput(
                f"cannot use annotation {name}: hyperd's settings do not allow it; "
                f'"{word}" among `annotations` in config.toml does'
            )
        found[word] = KNOWN[word](name, text)
    return found


def sized(spec: PodSpec, said: Mapping[str, Any], usual_mib: int) -> PodSpec:
    """`spec` with what was asked for. A machine is never smaller than its containers need, nor than is usual."""
    memory_mib = said.get("memory_mib", 0)
    return msgspec.structs.replace(
        spec,
        vcpus=max(spec.vcpus, said.get("vcpus", 0)),
        memory_mib=memory_mib if memory_mib > max(spec.memory_mib, usual_mib) else spec.memory_mib,
        factory=said.get("factory", spec.factory),
    )


def _number(most: int) -> Callable[[str, str], int]:
    def read(name: str, text: str) -> int:
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
        if not 1 <= number <= most:
            raise InvalidInput(f"invalid annotation {name}: {text[:40]!r} is no number of 1 to {most}")
        return number

    return read


def _factory(name: str, text: str) -> str:
    if text not in FACTORIES:
        raise InvalidInput(f"invalid annotation {name}: {text[:40]!r} is none of {', '.join(FACTORIES)}")
    return text


KNOWN: Mapping[str, Callable[[str, str], Any]] = {
    "vcpus": _number(MAX_VCPUS),
    "memory_mib": _number(MAX_MEMORY_MIB),
    "factory": _factory,
}
