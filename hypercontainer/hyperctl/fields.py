"""Reads documents that people write, key by key: what is unknown, of the wrong type or not supported is refused by
its path ("containers[0].volumes[1].path")."""

from __future__ import annotations

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperctl.flags import nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAMES = {str: "a text", int: "a whole number", bool: "true or false", list: "a list", dict: "a mapping"}


class Fields:
    """One mapping of the document. Take every key that is known, then `end()`."""

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise InvalidInput(f"{where or 'the document'}: expected a mapping, not {shown(value)}")
        self._rest: dict[str, Any] = {str(key): item for key, item in value.items()}
        self._known: list[str] = []
        self.where = where
        self.name = ""  # for those who give it one

    def at(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key

    def take(self, key: str, kind: type, default: Any = None, *, required: bool = False) -> Any:
        """The value of `key`, of type `kind`; `default` if it is missing or null."""
        self._known.append(key)
        value = self._rest.pop(key, None)
        if value is None:
            if required:
                raise InvalidInput(f"{self.at(key)}: is missing")
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise InvalidInput(f"{self.at(key)}: expected {NAMES[kind]}, not {shown(value)}")
        return value

    def texts(self, key: str) -> list[str]:
        items = self.take(key, list, [])
        for i, item in enumerate(items):
            if not isinstance(item, str):
                raise InvalidInput(f"{self.at(key)}[{i}]: expected a text, not {shown(item)}: quote it")
        return list(items)

    def pairs(self, key: str) -> dict[str, str]:
        """A mapping of texts."""
        items = self.take(key, dict, {})
        for name, value in items.items():
            if not isinstance(value, str) or not isinstance(name, str):
                raise InvalidInput(f"{self.at(key)}.{name}: expected a text, not {shown(value)}: quote it")
        return dict(items)

    def each(self, key: str) -> list[Fields]:
        """A list of mappings."""
        return [Fields(item, f"{self.at(key)}[{i}]") for i, item in enumerate(self.take(key, list, []))]

    def refuse(self, key: str, why: str) -> None:
        """`key` is known, and not supported: only an empty value passes."""
        self._known.append(key)
        if self._rest.pop(key, None) not in (None, "", 0, False, [], {}):
            raise InvalidInput(f"{self.at(key)}: is not supported: {why}")

    def end(self) -> None:
        """Refuse what nobody took."""
        for key in self._rest:
            near = nearest(key, self._known)
            hint = f" (did you mean {near}?)" if near else ""
            raise InvalidInput(f"{self.at(key)}: is not known{hint}")


def shown(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return NAMES[type(value)]
    return f"{value!r:.40}"
