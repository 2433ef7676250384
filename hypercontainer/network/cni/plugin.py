"""Plugins of CNI: programs of the administrator's, one execution a request."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from hypercontainer.errors import HyperError, InvalidInput, TimedOut, Unavailable, reason
from hypercontainer.lib import foreign, proc
from hypercontainer.lib.tasks import in_thread
from hypercontainer.network.cni.config import SPOKEN, TYPE

MOST_BYTES = 1 << 20  # of an answer
LIMIT_S = 120.0  # for an answer: DHCP servers, APIs of clusters
WORDS = 1000  # characters of what went wrong
AGAIN = (11, 50, 51)  # codes of what may be otherwise later
MARK = "HYPER_CNI_OF"  # in a plugin's environment, and that of what it runs: whose it is


class _Failure(msgspec.Struct):
    code: int = 0
    msg: str = ""
    details: str = ""


class _Versions(msgspec.Struct, rename="camel"):
    supported_versions: list[str] = []


class Plugins:
    """Those in `folders`; of two that have a name, the one that is found first."""

    def __init__(self, folders: Sequence[Path], owner: Path, *, limit_s: float = LIMIT_S) -> None:
        """`owner`: a folder that one hyperd at a time has."""
        self.folders, self._owner, self._limit_s = list(folders), str(owner), limit_s
        self._spoken: dict[tuple[str, int, int], list[str]] = {}  # versions, by what tells a program from another

    def find(self, kind: str) -> Path:
        """Unavailable says where was looked."""
        for folder in self.folders if TYPE.fullmatch(kind) else ():
            path = folder / kind
            if path.is_file() and os.access(path, os.X_OK):
                return path
        raise Unavailable(f"there is no CNI plugin {kind[:100]} in {', '.join(map(str, self.folders))}")

    async def spoken(self, kind: str) -> list[str]:
        """Versions of CNI that it says it speaks. It is asked once, until there is another program."""
        path = self.find(kind)
        there = path.stat()
        key = str(path), there.st_ino, there.st_mtime_ns
        if key not in self._spoken:
            said = await self.call("VERSION", kind, {"cniVersion": SPOKEN[-1]}, {}, f"ask CNI plugin {path}")
            answer = foreign.read(said or b"{}", _Versions, f"the answer of CNI plugin {path}", MOST_BYTES)
            self._spoken[key] = answer.supported_versions[:100]
        return self._spoken[key]

    async def call(
        self, command: str, kind: str, config: Mapping[str, Any], env: Mapping[str, str], doing: str
    ) -> bytes:
        """What a plugin answers to `command`. `doing` is what that is for: "connect pod a to network b".

        Unavailable when it says that it could be so later, TimedOut, HyperError with its own words. When this is
        cancelled, or too late, it is killed, with what it runs."""
        path = self.find(kind)
        ours = {"CNI_COMMAND": command, "CNI_PATH": ":".join(map(str, self.folders)), MARK: self._owner, **env}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CNI_")}
        try:
            result = await proc.run(
                [path],
                stdin=msgspec.json.encode(config),
                env={**inherited, **ours},
                timeout_s=self._limit_s,
                check=False,
                most=MOST_BYTES,
            )
        except TimedOut as e:
            raise TimedOut(f"cannot {doing}: {e}") from e
        except (HyperError, OSError) as e:
            raise HyperError(f"cannot {doing}: CNI plugin {kind}: {reason(e)}") from e
        if result.status:
            raise failure(f"cannot {doing}: CNI plugin {kind}", result)
        return result.stdout

    async def end(self) -> None:
        """End those that another hyperd has begun, which was killed, with all that they run: they would go on making
        what the next call takes away."""
        while found := await in_thread(proc.told, MARK, self._owner):  # one that begins another is seen, or that is
            for pid, started in found:
                proc.kill(pid, started)
            for pid, started in found:
                await proc.gone(pid, started)


def failure(where: str, result: proc.Result) -> HyperError:
    """What a plugin says of why it failed: as CNI has it, or as it likes."""
    try:
        said = foreign.read(result.stdout, _Failure, "it", MOST_BYTES)
    except InvalidInput:
        said = _Failure()
    text = ": ".join(each for each in (said.msg, said.details) if each)
    if not text:
        raw = (result.stderr.strip() or result.stdout.strip())[-4 * WORDS :].decode(errors="replace")
        text = raw or "it said nothing"
    code = f"code {said.code}" if said.code else f"exit status {result.status}"
    words = " ".join(text.split())[-WORDS:]
    return (Unavailable if said.code in AGAIN else HyperError)(f"{where}: {words} ({code})")
