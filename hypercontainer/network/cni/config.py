"""Configurations of CNI networks, as administrators write them: files in a folder, of which the first one counts."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from hypercontainer.errors import InvalidInput, NotFound
from hypercontainer.lib import files, foreign
from hypercontainer.model.record import ChainRecord

SPOKEN = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")  # versions of CNI's specification, the newest last
SUFFIXES = (".conf", ".conflist", ".json")
MOST_BYTES, MOST_PLUGINS = 1 << 20, 32
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}")
TYPE = re.compile(r"[^/\\\0]{1,255}")  # of a plugin: the name of its file


class _File(msgspec.Struct, kw_only=True, rename="camel"):
    cni_version: str = ""
    cni_versions: list[str] = []
    name: str = ""
    disable_check: bool = False
    disable_gc: bool = msgspec.field(default=False, name="disableGC")
    load_only_inlined_plugins: bool = False
    plugins: list[dict[str, Any]] | None = None


class Config(NamedTuple):
    """A network of one file, and of the folder beside that which has the network's name."""

    path: Path
    name: str
    versions: Sequence[str]  # that it is written for
    plugins: Sequence[Mapping[str, Any]]
    disable_check: bool = False
    disable_gc: bool = False

    def chain(self, spoken: Mapping[str, Sequence[str]]) -> ChainRecord:
        """The network, in the newest version that it, all of its plugins and we speak. `spoken`: versions of each
        plugin, by type. InvalidInput when there is none."""
        ours = [version for version in SPOKEN if version in self.versions]
        if not ours:
            known = f"we speak {SPOKEN[0]} to {SPOKEN[-1]}"
            raise _refused(self.path, f"its cniVersion is {', '.join(self.versions) or 'missing'}: {known}")
        common = [version for version in ours if all(version in said for said in spoken.values())]
        if not common:
            theirs = "; ".join(f"{kind} speaks {', '.join(said) or 'nothing'}" for kind, said in spoken.items())
            raise _refused(self.path, f"it is of CNI {', '.join(ours)}, and of its plugins {theirs}")
        return ChainRecord(
            name=self.name,
            source=str(self.path),
            cni_version=common[-1],
            plugins=[dict(plugin) for plugin in self.plugins],
            disable_check=self.disable_check,
            disable_gc=self.disable_gc,
        )


def first(folder: Path) -> Config:
    """The network of pods. NotFound when there is none, InvalidInput when it cannot be used: the next file is nobody's
    choice. Read anew each time: so what has changed counts at once."""
    try:
        names = sorted(path.name for path in folder.iterdir() if path.suffix in SUFFIXES and not path.is_dir())
    except FileNotFoundError:
        names = []
    except OSError as e:
        raise InvalidInput(f"cannot read {folder}: {e.strerror}") from e
    if not names:
        raise NotFound("CNI network", str(folder), "put a .conflist there")
    return read(folder / names[0])


def read(path: Path) -> Config:
    """InvalidInput names the file, and what is wrong with it."""
    config = parse(_content(path), path)
    beside = path.parent / config.name
    if not config.plugins and not beside.is_dir():
        raise _refused(path, "it has no plugins")
    return config


def parse(data: bytes, path: Path) -> Config:
    """The same of what is in the file. Of a single plugin, as they were before version 1.0.0, it is a chain of one."""
    said = foreign.read(data, _File, str(path), MOST_BYTES)
    inline = said.plugins
    if inline is None and path.suffix != ".conflist":
        inline = [foreign.read(data, dict[str, Any], str(path), MOST_BYTES)]
    plugins = [*(inline or []), *([] if said.load_only_inlined_plugins else _beside(path, said))]
    if not NAME.fullmatch(said.name):
        raise _refused(path, f"its name {said.name[:40]!r} is none: use letters, digits, _, . and -")
    if len(plugins) > MOST_PLUGINS:
        raise _refused(path, f"it has more than {MOST_PLUGINS} plugins")
    for plugin in plugins:
        _check(plugin, path)
    versions = [version for version in dict.fromkeys([said.cni_version, *said.cni_versions]) if version]
    return Config(path, said.name, versions, plugins, said.disable_check, said.disable_gc)


def _beside(path: Path, said: _File) -> list[dict[str, Any]]:
    """Plugins that others have added to a list, in a folder beside it that has its name."""
    folder = path.parent / said.name
    lone = said.plugins is None and path.suffix != ".conflist"
    if lone or not NAME.fullmatch(said.name) or not folder.is_dir():
        return []
    found = sorted(each for each in folder.iterdir() if each.suffix == ".conf")[: MOST_PLUGINS + 1]
    return [foreign.read(_content(each), dict[str, Any], str(each), MOST_BYTES) for each in found]


def _check(plugin: Mapping[str, Any], path: Path) -> None:
    kind = plugin.get("type")
    if not isinstance(kind, str) or not TYPE.fullmatch(kind) or kind in (".", ".."):
        raise _refused(path, f"{str(kind)[:40]!r} is no type of a plugin")
    if not isinstance(plugin.get("capabilities") or {}, dict):
        raise _refused(path, f"capabilities of {kind[:40]} are no object")


def _content(path: Path) -> bytes:
    with files.telling(f"read {path}", InvalidInput):
        return files.beginning(path, MOST_BYTES + 1)


def _refused(path: Path, why: str) -> InvalidInput:
    return InvalidInput(f"cannot use CNI network {path}: {why}")
