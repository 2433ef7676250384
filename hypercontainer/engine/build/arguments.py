"""Build arguments: what the caller gave, what ARG allows where, what is always allowed. By docker's rules, pure."""

from collections.abc import Mapping, Sequence

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
PREDEFINED = frozenset((*_PROXIES, *(name.lower() for name in _PROXIES)))


class Arguments:
    """Those of one build. An ARG before the first stage has a value for stages that name it again."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self._given = dict(given)
        self._global: dict[str, str | None] = {}
        self._allowed: dict[str, str | None] = {}
        self._named: set[str] = set()  # by any ARG

    def declare_global(self, name: str, default: str | None) -> None:
        self._global[name] = default
        self._named.add(name)

    def declare(self, name: str, default: str | None) -> None:
        self._allowed[name] = default
        self._named.add(name)

    def begin_stage(self) -> None:
        """What stages before have declared is not this one's."""
        self._allowed = {}

    def globals(self) -> dict[str, str]:
        """For FROM, and for the ARGs before it."""
        return self._values(self._global)

    def beside(self, env: Mapping[str, str]) -> dict[str, str]:
        """Those that a step of the stage has; what is in the image's environment hides them."""
        return {name: value for name, value in self._values(self._allowed).items() if name not in env}

    def recorded(self, values: Mapping[str, str]) -> list[str]:
        """Of `values` those that the history and the cache are told of: the usual proxies are not, unless named."""
        return sorted(f"{name}={value}" for name, value in values.items() if self._tells(name))

    def _tells(self, name: str) -> bool:
        return name not in PREDEFINED or name in self._named

    def unused(self) -> Sequence[str]:
        """Those that were given and nothing ever named."""
        return sorted(name for name in self._given if name not in self._named and name not in PREDEFINED)

    def _values(self, declared: Mapping[str, str | None]) -> dict[str, str]:
        found = {}
        for name in {**declared, **dict.fromkeys(sorted(PREDEFINED))}:
            value = self._given.get(name, declared.get(name))
            value = self._global.get(name) if value is None else value
            if value is not None:
                found[name] = value
        return found
