"""Lines of a Dockerfile that change how an image starts, as `docker import --change` takes them. Pure."""

import json
import posixpath
import re
import shlex
from collections.abc import Callable, Sequence
from typing import Any

from hypercontainer.errors import InvalidInput

MAX_CHANGES = 1000
_PORT = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)

Config = dict[str, Any]  # the "config" of an image's configuration


def apply(changes: Sequence[str]) -> Config:
    """The configuration that these instructions make. InvalidInput names the one that is wrong."""
    if len(changes) > MAX_CHANGES:
        raise InvalidInput(f"cannot apply {len(changes)} changes: {MAX_CHANGES} at most")
    config: Config = {}
    for change in changes:
        word, _, rest = change.strip().partition(" ")
        instruction = INSTRUCTIONS.get(word.upper())
        rest = rest.strip()
        if instruction is None or not rest or "\0" in rest:
            raise InvalidInput(
                f"cannot apply change {change[:200]!r}: use one of {', '.join(INSTRUCTIONS)}, and a value"
            )
        try:
            instruction(config, rest)
        except ValueError as e:
            raise InvalidInput(f"cannot apply change {change[:200]!r}: {e}") from e
    return config


def _command(text: str) -> list[str]:
    """A JSON list as it is; anything else is for the shell."""
    return _list(text) or ["/bin/sh", "-c", text]


def _list(text: str) -> list[str]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return value if isinstance(value, list) and all(isinstance(word, str) for word in value) else []


def _pairs(text: str) -> dict[str, str]:
    """K=v K2="v w", or the old form: K and the rest of the line."""
    words = shlex.split(text)
    if "=" not in words[0]:
        key, _, value = text.partition(" ")
        if not value:
            raise ValueError("give NAME=VALUE")
        return {key: value.strip()}
    pairs = [word.partition("=") for word in words]
    if bad := [word for word, (key, equals, _) in zip(words, pairs, strict=True) if not key or not equals]:
        raise ValueError(f"{bad[0]!r} is not NAME=VALUE")
    return {key: value for key, _, value in pairs}


def _cmd(config: Config, text: str) -> None:
    config["Cmd"] = _command(text)


def _entrypoint(config: Config, text: str) -> None:
    config["Entrypoint"] = _command(text)


def _env(config: Config, text: str) -> None:
    known = dict(entry.split("=", 1) for entry in config.get("Env", []))
    config["Env"] = [f"{key}={value}" for key, value in {**known, **_pairs(text)}.items()]


def _label(config: Config, text: str) -> None:
    config.setdefault("Labels", {}).update(_pairs(text))


def _expose(config: Config, text: str) -> None:
    for word in text.split():
        match = _PORT.fullmatch(word)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not match or not 1 <= first <= last <= 65535:
            raise ValueError(f"{word!r} is not PORT[-PORT][/tcp|udp]")
        ports: Config = {f"{port}/{(match[3] or 'tcp').lower()}": {} for port in range(first, last + 1)}
        config.setdefault("ExposedPorts", {}).update(ports)


def _volume(config: Config, text: str) -> None:
    config.setdefault("Volumes", {}).update({path: {} for path in _list(text) or text.split()})


def _user(config: Config, text: str) -> None:
    config["User"] = text


def _workdir(config: Config, text: str) -> None:
    config["WorkingDir"] = posixpath.normpath(posixpath.join("/", config.get("WorkingDir", ""), text))


def _stop_signal(config: Config, text: str) -> None:
    config["StopSignal"] = text


def _on_build(config: Config, text: str) -> None:
    config.setdefault("OnBuild", []).append(text)


INSTRUCTIONS: dict[str, Callable[[Config, str], None]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "LABEL": _label,
    "ONBUILD": _on_build,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
