"""Instructions that change how an image starts: its configuration before -> after, and what the history says. Pure.

`Config` is OCI's "config" of an image. Messages are docker's, to the letter: they are what the cache goes by.
"""

import copy
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from hypercontainer.engine.build import dockerfile, words
from hypercontainer.engine.build.dockerfile import Instruction
from hypercontainer.errors import InvalidInput, reason
from hypercontainer.model import signals

Config = dict[str, Any]
Env = Mapping[str, str]
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHELL = ["/bin/sh", "-c"]
MAX_CHANGES, MAX_CHANGED = 1000, 1 << 20  # lines, and characters that they come to
_PORT = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)
_DURATION_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ns|us|ms|s|m|h)")
_UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


def environment(config: Config) -> dict[str, str]:
    pairs = [entry.partition("=") for entry in config.get("Env") or []]
    return {name: value for name, _, value in pairs}


def shell(config: Config) -> list[str]:
    return config.get("Shell") or SHELL


def command(config: Config, each: Instruction) -> list[str]:
    """Its JSON form as it is; anything else is for the shell."""
    return each.exec_form if each.exec_form is not None else [*shell(config), each.rest]


def nop(config: Config, message: str) -> str:
    """What the history says of an instruction that runs nothing."""
    return " ".join([*shell(config), "#(nop) ", message])


def quoted(texts: list[str]) -> str:
    """As Go prints a list with %q."""
    return "[" + " ".join(_quoted(text) for text in texts) + "]"


def _quoted(text: str) -> str:
    escapes = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return '"' + "".join(escapes.get(c, c if c.isprintable() else f"\\u{ord(c):04x}") for c in text) + '"'


def _one(each: Instruction, env: Env) -> str:
    return words.expand(each.exec_form[0] if each.exec_form else each.rest, env, each.escape)


def _env(config: Config, each: Instruction, env: Env) -> str:
    entries: list[str] = list(config.get("Env") or [])
    said = "ENV"
    for pair in each.pairs():
        name = words.expand(pair.name, env, each.escape)
        entry = f"{name}={words.expand(pair.value or '', env, each.escape)}"
        said += f" {entry}"
        places = [n for n, old in enumerate(entries) if old.partition("=")[0] == name]
        if places:
            entries[places[0]] = entry
        else:
            entries.append(entry)
    config["Env"] = entries
    return said


def _label(config: Config, each: Instruction, env: Env) -> str:
    said = "LABEL"
    labels = dict(config.get("Labels") or {})
    for pair in each.pairs():
        name = words.expand(pair.name, env, each.escape)
        labels[name] = words.expand(pair.value or "", env, each.escape)
        said += f" {name}={labels[name]}"
    config["Labels"] = labels
    return said


def _cmd(config: Config, each: Instruction, env: Env) -> str:
    config["Cmd"] = command(config, each) if each.rest else []
    return f"CMD {quoted(config['Cmd'])}"


def _entrypoint(config: Config, each: Instruction, env: Env) -> str:
    config["Entrypoint"] = (command(config, each) or None) if each.rest else None
    return f"ENTRYPOINT {quoted(config['Entrypoint'] or [])}"


def _expose(config: Config, each: Instruction, env: Env) -> str:
    ports = [port for word in sorted(each.rest.split()) for port in words.expand_words(word, env, each.escape)]
    exposed: Config = {one: {} for port in ports for one in _ports(port)}
    config["ExposedPorts"] = {**(config.get("ExposedPorts") or {}), **exposed}
    return f"EXPOSE {' '.join(ports)}"


def _ports(text: str) -> list[str]:
    """Each of PORT[-PORT][/tcp|udp|sctp]."""
    match = _PORT.fullmatch(text)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not match or not 1 <= first <= last <= 65535:
        raise ValueError(f"invalid containerPort: {text[:60]}")
    return [f"{port}/{(match[3] or 'tcp').lower()}" for port in range(first, last + 1)]


def _user(config: Config, each: Instruction, env: Env) -> str:
    config["User"] = _one(each, env)
    return f"USER {config['User']}"


def workdir(config: Config, each: Instruction, env: Env) -> str:
    path = _one(each, env)
    if not path:
        raise ValueError("cannot normalize nothing")
    config["WorkingDir"] = absolute(config, path)
    return str(config["WorkingDir"])


def absolute(config: Config, path: str) -> str:
    """`path`, of an image whose working directory is that of `config`."""
    return "/" + posixpath.normpath(posixpath.join("/", config.get("WorkingDir") or "", path)).lstrip("/")


def _volume(config: Config, each: Instruction, env: Env) -> str:
    paths = [words.expand(word, env, each.escape) for word in each.words]
    if "" in paths:
        raise ValueError("VOLUME specified can not be an empty string")
    config["Volumes"] = {**(config.get("Volumes") or {}), **{path: {} for path in paths}}
    return f"VOLUME [{' '.join(paths)}]"


def _stop_signal(config: Config, each: Instruction, env: Env) -> str:
    text = _one(each, env)
    try:
        signals.number(text)
    except InvalidInput as e:
        raise ValueError(f"Invalid signal: {text[:60]}") from e
    config["StopSignal"] = text
    return f"STOPSIGNAL {text}"


def _shell(config: Config, each: Instruction, env: Env) -> str:
    config["Shell"] = each.exec_form
    return f"SHELL [{' '.join(each.exec_form or [])}]"


def _on_build(config: Config, each: Instruction, env: Env) -> str:
    config["OnBuild"] = [*(config.get("OnBuild") or []), each.rest]
    return f"ONBUILD {each.rest}"


def _healthcheck(config: Config, each: Instruction, env: Env) -> str:
    word, *rest = each.rest.split(None, 1)
    said: Config = {HEALTH[name][0]: HEALTH[name][1](value) for name, value in each.flags.items()}
    if word.upper() == "NONE":
        if said:
            raise ValueError("HEALTHCHECK NONE takes no flags")
        test = ["NONE"]
    else:
        listed = dockerfile.json_list(rest[0])
        test = ["CMD-SHELL", rest[0]] if listed is None else ["CMD", *listed]
    config["Healthcheck"] = {"Test": test, **said}
    times = [f'"{_duration(said.get(key, 0))}"' for key in ("Interval", "Timeout", "StartPeriod")]
    retries = said.get("Retries", 0)
    letter = chr(retries) if 32 <= retries < 127 and retries not in (39, 92) else f"\\x{retries:02x}"
    return f"HEALTHCHECK &{{{quoted(test)} {' '.join(times)} '{letter}'}}"


def _duration_ns(text: str) -> int:
    """Go's: 1m30s."""
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text[:60]!r} is no duration: write 30s or 1m30s")
    return round(sum(float(number) * _UNITS[unit] for number, unit in parts))


def _retries(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:10]) < 1 << 31:
        raise ValueError(f"{text[:60]!r} is no number of retries")
    return int(text)


HEALTH: Mapping[str, tuple[str, Callable[[str], int]]] = {
    "interval": ("Interval", _duration_ns),
    "timeout": ("Timeout", _duration_ns),
    "start-period": ("StartPeriod", _duration_ns),
    "retries": ("Retries", _retries),
}


def _duration(ns: int) -> str:
    """As Go prints one."""
    if not ns:
        return "0s"
    if ns < 10**9:
        unit, size = ("ms", 10**6) if ns >= 10**6 else ("µs", 10**3) if ns >= 10**3 else ("ns", 1)
        return f"{ns / size:.9g}{unit}"
    minutes, rest = divmod(ns, 60 * 10**9)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{rest / 10**9:.9g}s"
    return f"{hours}h{minutes}m{seconds}" if hours else f"{minutes}m{seconds}" if minutes else seconds


# Each changes the configuration, and says so; ValueError: it cannot.
CHANGES: Mapping[str, Callable[[Config, Instruction, Env], str]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _on_build,
    "SHELL": _shell,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
}
# What `commit` and `import` take of them.
OF_AN_IMAGE = sorted((*(word for word in CHANGES if word != "SHELL"), "WORKDIR"))


def apply(changes: Sequence[str], before: Mapping[str, Any] = MappingProxyType({})) -> Config:
    """The configuration that these lines of a Dockerfile make of the one `before`, as `--change` takes them.

    InvalidInput names the one that is wrong."""
    if len(changes) > MAX_CHANGES:
        raise InvalidInput(f"cannot apply {len(changes)} changes: {MAX_CHANGES} at most")
    config: Config = copy.deepcopy(dict(before))
    has_cmd, size = False, 0
    for change in changes:
        try:
            each = _change(change)
            size += len((CHANGES.get(each.word) or workdir)(config, each, environment(config)))
            if size > MAX_CHANGED:
                raise ValueError(f"together they make more than {MAX_CHANGED} characters")
        except (ValueError, InvalidInput) as e:
            raise InvalidInput(f"cannot apply change {change[:200]!r}: {reason(e)}") from e
        has_cmd = has_cmd or each.word == "CMD"
        if each.word == "ENTRYPOINT" and not has_cmd:
            config.pop("Cmd", None)  # it was of another entrypoint
    return config


def _change(text: str) -> Instruction:
    word = text.split(None, 1)[0].upper() if text.strip() else ""
    if word not in OF_AN_IMAGE or "\0" in text:
        raise ValueError(f"use one of {', '.join(OF_AN_IMAGE)}, and a value")
    each = dockerfile.instruction_of(text, 1, "\\")
    if not each.rest:
        raise ValueError(f"{word} needs a value")
    return each
