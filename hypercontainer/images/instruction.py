"""Lines of a Dockerfile that change how an image starts, as `docker import|commit --change` take them. Pure."""

import copy
import json
import posixpath
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from hypercontainer.errors import InvalidInput

MAX_CHANGES = 1000
_PORT = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)

_DURATION_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ns|us|ms|s|m|h)")
_UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}

Config = dict[str, Any]  # the "config" of an image's configuration


def apply(changes: Sequence[str], before: Mapping[str, Any] = MappingProxyType({})) -> Config:
    """The configuration that these instructions make of the one `before`. InvalidInput names the one that is wrong."""
    if len(changes) > MAX_CHANGES:
        raise InvalidInput(f"cannot apply {len(changes)} changes: {MAX_CHANGES} at most")
    config: Config = copy.deepcopy(dict(before))
    words: set[str] = set()
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
        words.add(word.upper())
        if word.upper() == "ENTRYPOINT" and "CMD" not in words:
            config.pop("Cmd", None)  # it was of another entrypoint
    return config


def _command(text: str) -> list[str]:
    """A JSON list as it is; anything else is for the shell."""
    words = _list(text)
    return ["/bin/sh", "-c", text] if words is None else words


def _list(text: str) -> list[str] | None:
    """Of words, in JSON; None for anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, list) and all(isinstance(word, str) for word in value) else None


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


def _healthcheck(config: Config, text: str) -> None:
    """NONE, or options and CMD with what is to be run."""
    said: Config = {}
    word, _, rest = text.partition(" ")
    while word.startswith("--"):
        name, _, value = word.removeprefix("--").partition("=")
        if name not in HEALTH:
            raise ValueError(f"{word!r} is not one of {', '.join(f'--{n}=' for n in HEALTH)}")
        key, read = HEALTH[name]
        said[key] = read(value)
        word, _, rest = rest.strip().partition(" ")
    if word.upper() == "NONE" and not said and not rest:
        config["Healthcheck"] = {"Test": ["NONE"]}
        return
    if word.upper() != "CMD" or not rest.strip():
        raise ValueError("say NONE, or CMD and a command")
    words = _list(rest.strip())
    config["Healthcheck"] = {"Test": ["CMD-SHELL", rest.strip()] if words is None else ["CMD", *words], **said}


def _duration_ns(text: str) -> int:
    """Go's: 1m30s."""
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is no duration: write 30s or 1m30s")
    return round(sum(float(number) * _UNITS[unit] for number, unit in parts))


def _retries(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:10]) < 1 << 31:
        raise ValueError(f"{text!r} is no number of retries")
    return int(text)


HEALTH: dict[str, tuple[str, Callable[[str], int]]] = {
    "interval": ("Interval", _duration_ns),
    "timeout": ("Timeout", _duration_ns),
    "start-period": ("StartPeriod", _duration_ns),
    "retries": ("Retries", _retries),
}


def _on_build(config: Config, text: str) -> None:
    config.setdefault("OnBuild", []).append(text)


INSTRUCTIONS: dict[str, Callable[[Config, str], None]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _on_build,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
