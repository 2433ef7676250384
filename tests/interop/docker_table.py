"""Tables of docker's commands: what such a file holds, and how two engines answer a chapter of it."""

import hashlib
import os
import signal
import subprocess
import tarfile
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.interop.differ import Answer, Normaliser, differences
from tests.interop.dockerd import DOCKER, DOCKERD, Dockerd, dockerd

TABLE = Path(__file__).with_suffix(".toml")
RUNTIMES = Path(__file__).with_name("runtime_table.toml")
VERSION = "docker 20.10"  # which the tables are about
MARKS = [
    pytest.mark.interop,
    pytest.mark.docker,
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="dockerd and hyperd are root's"),
    pytest.mark.skipif(not (DOCKERD.exists() and DOCKER.exists()), reason="docker.io is not installed"),
]
LIMIT_S = 300  # of one row, on a busy machine
LATE = 124
# What `docker` and `api` are in a row; bash reads it before the row.
WORDS = """
api() {
    local method=$1 path=$2; shift 2
    case $path in /v1*) ;; *) path=/v1.41$path ;; esac
    case $method in HEAD) set -- -I "$@" ;; *) set -- -X "$method" "$@" ;; esac
    case " $*" in *Content-Type*) ;; *' -d '*) set -- -H 'Content-Type: application/json' "$@" ;; esac
    curl -s -g --path-as-is --unix-socket "$socket" -w '%{stderr}%{http_code} %{content_type}\\n' "$@" "http://d$path"
}
"""
CLEAR = """
docker rm -fv $(docker ps -aq)
docker volume rm -f $(docker volume ls -q)
docker network rm $(docker network ls -q --filter type=custom)
docker image prune -af
docker load -qi "$image"
"""


def daemon(stack: ExitStack, *, flags: Sequence[str] = (), env: Mapping[str, str] = {}) -> Dockerd:
    """A dockerd for a table until `stack` ends; a test is skipped where none runs, or another one."""
    try:
        made = stack.enter_context(dockerd(network=True, flags=flags, env=env))
    except OSError as e:
        pytest.skip(f"dockerd does not run here: {e}")
    if not made.version().startswith(VERSION):
        pytest.skip(f"{made.version()} is not {VERSION}, which the table is about")
    return made


class Row(NamedTuple):
    """A line for bash, and the reasons for which the engines may answer it in two ways."""

    chapter: str
    name: str
    do: str
    differs: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.chapter}: {self.name}"


class Table(NamedTuple):
    """`places` are patterns of where answers may differ, by the reason; `names` those of the two who answer."""

    places: Mapping[str, Sequence[str]]
    rows: Sequence[Row]
    names: tuple[str, str] = ("docker", "here")

    def chapter(self, name: str) -> list[Row]:
        return [row for row in self.rows if row.chapter == name]

    def faults(self, row: Row, theirs: Answer, ours: Answer) -> list[str]:
        """What differs for no reason, and the reasons for which nothing does."""
        found = differences(theirs, ours)
        unused, faults = set(row.differs), []
        for place, (a, b) in found.items():
            reasons = {reason for reason in row.differs if _is_at(place, self.places[reason])}
            unused -= reasons
            if not reasons:
                one, other = (f"{name}:" for name in self.names)
                faults.append(f"{place}:\n  {one:8}{a!r}\n  {other:8}{b!r}")
        return faults + [f"nothing differs any more for this reason: {reason}" for reason in sorted(unused)]


def _is_at(place: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(place, pattern) for pattern in patterns)


def read(path: Path = TABLE, names: tuple[str, str] = ("docker", "here")) -> Table:
    chapters = tomllib.loads(path.read_text())
    places = chapters.pop("differs")
    rows = [
        Row(chapter, name, said) if isinstance(said, str) else Row(chapter, name, said["do"], tuple(said["differs"]))
        for chapter, named in chapters.items()
        for name, said in named.items()
    ]
    return Table(places, rows, names)


class Engine(NamedTuple):
    """Docker's API at `socket`. Its commands run by way of `inside`; `paths` are those of its own, and what they are
    called here."""

    name: str
    socket: Path
    paths: Mapping[str, str]
    inside: Sequence[str] = ()

    def env(self, folder: Path, image: Path) -> dict[str, str]:
        words = folder / ".words"
        words.write_text(WORDS)
        return {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",  # Debian's docker, whatever else is there
            "HOME": str(folder),
            "DOCKER_CONFIG": str(folder / ".docker"),
            "DOCKER_HOST": f"unix://{self.socket}",
            "BASH_ENV": str(words),
            "LC_ALL": "C",
            "TZ": "UTC",
            "socket": str(self.socket),
            "image": str(image),
            "since": f"{time.time():.9f}",
        }

    def answers(self, rows: Sequence[Row], image: Path) -> Iterator[Answer]:
        """Of a chapter, row by row, without what is another on every run. Then the engine is as it was."""
        with tempfile.TemporaryDirectory(prefix="hyt") as home:
            folder = Path(home, "folder")
            folder.mkdir()
            env = self.env(Path(home), image)
            same = "\n".join([*(row.do for row in rows), *digests(image)])
            normal = Normaliser(same, {**self.paths, str(folder): "<folder>"})
            try:
                for row in rows:
                    yield normal.answer(self._bash(row.do, folder, env), row.name)
            finally:
                self._bash(CLEAR, folder, env)

    def _bash(self, do: str, folder: Path, env: Mapping[str, str]) -> Answer:
        argv, pipe = [*self.inside, "bash", "-c", do], subprocess.PIPE
        with subprocess.Popen(
            argv, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, start_new_session=True
        ) as shell:
            try:
                out, err = shell.communicate(timeout=LIMIT_S)
                status = shell.returncode
            except subprocess.TimeoutExpired:
                os.killpg(shell.pid, signal.SIGKILL)  # also what passes signals on
                out, err = shell.communicate()
                status = LATE
        return Answer(status, out.decode(errors="replace"), err.decode(errors="replace"))


class Both:
    """Two engines. A chapter is walked through with both at once, when its first row is asked for."""

    def __init__(self, table: Table, theirs: Engine, ours: Engine, image: Path) -> None:
        self._table, self._engines, self._image = table, (theirs, ours), image
        self.chapter = cache(self._chapter)

    def _chapter(self, name: str) -> dict[Row, tuple[Answer, Answer]]:
        rows = self._table.chapter(name)
        with ThreadPoolExecutor(2) as pool:
            walks = pool.map(lambda engine: list(engine.answers(rows, self._image)), self._engines)
            return dict(zip(rows, zip(*walks, strict=True), strict=True))

    def check(self, row: Row) -> None:
        """AssertionError where answers differ for no reason."""
        faults = self._table.faults(row, *self.chapter(row.chapter)[row])
        assert not faults, "\n".join([row.do, *faults])


def digests(image: Path) -> list[str]:
    """What engines call an archive's image and its layers, which is the same everywhere."""
    with tarfile.open(image) as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    return [hashlib.sha256(content).hexdigest() for content in files.values()]
