"""docker build beside Debian's dockerd with its classic builder: the same words, the same images, the same cache."""

import asyncio
import functools
import http.server
import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.testing.daemon import PrivateDaemon
from tests.interop.dockerd import Dockerd
from tests.interop.registries import docker_registry

pytestmark = [
    pytest.mark.interop,
    pytest.mark.docker,
    pytest.mark.skipif(os.geteuid() != 0, reason="dockerd and hyperd are root's"),
]

CLASSIC = {"DOCKER_BUILDKIT": "0"}
# What each run has of its own.
IDS = re.compile(r"\b[0-9a-f]{12}\b")
OWN = ("Sending build", "Removing", " ---> Run", "Downloading")
HASHES = re.compile(r"(file|dir|multi):[0-9a-f]{64}")

LOOK = """find / -xdev -not -path '/proc*' -not -path '/sys*' -not -path '/dev*' \\
    -not -name .dockerenv -not -name mtab -exec stat -c '%n %F %a %u:%g %N' {} + | sort"""
DOCKERFILES = {
    "starts": 'FROM busybox\nMAINTAINER me\nENV A=1 B="two words"\nENV A=${B:-x}!\nLABEL l=$A "a b"=c\n'
    'EXPOSE 80 53/udp\nVOLUME /v /w\nUSER nobody\nWORKDIR /deep/er\nWORKDIR more\nSHELL ["/bin/ash", "-c"]\n'
    'CMD run $A\nENTRYPOINT ["start", "it"]\nSTOPSIGNAL INT\n'
    "HEALTHCHECK --interval=5s --retries=3 CMD true\nONBUILD RUN later\n",
    "runs": "FROM busybox\nARG WHO=me\nRUN echo $WHO > /who; mkdir -p /a/b; chmod 700 /a; rm -r /www\nUSER nobody\n"
    'RUN ["id", "-u"]\nWORKDIR /tmp\nRUN pwd > here\n',
    "copies": "FROM busybox\nCOPY one /\nCOPY one two* /new/deep/\nCOPY tree /there/\nCOPY tree /www\n"
    "COPY --chown=nobody one /owned/by\n"
    "COPY --chown=12:34 tree/in /x\nWORKDIR /w\nCOPY one .\nCOPY one two.txt ./sub/\nCOPY link /linked\n"
    "RUN ln -s /w /to\nCOPY one /to/\nCOPY one /to\nADD archive.tar /un/packed\nCOPY archive.tar /kept\n",
    "stages": "ARG BASE=busybox\nFROM ${BASE} AS first\nRUN echo 1 > /one; mkdir /d; echo 2 > /d/two; chown -R 5:6 /d\n"
    "FROM scratch\nCOPY --from=first /one /d /in/\nCOPY --from=0 --chown=7 /d/t* /other/\n"
    "COPY --from=busybox /etc/passwd /etc/\nENV X=1\n",
    "fails": "FROM busybox\nRUN echo err >&2; exit 7\n",
    "unknown": "FROM busybox\nFOO bar\n",
    "missing": "FROM busybox\nCOPY nosuch /\n",
    "several": "FROM busybox\nCOPY one two.txt /nodir\n",
    "unused": "FROM busybox\nENV A=1\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    context = tmp_path / "context"
    (context / "tree" / "in").mkdir(parents=True)
    for name, text in {"one": "1\n", "two.txt": "2\n", "tree/a": "a\n", "tree/in/b": "b\n", "ignored": "x"}.items():
        (context / name).write_text(text)
    (context / "tree/a").chmod(0o750)
    (context / "link").symlink_to("one")
    (context / "tree" / "link").symlink_to("/etc/passwd")
    (context / ".dockerignore").write_text("ignored\n")
    subprocess.run(["tar", "-C", context / "tree", "-cf", context / "archive.tar", "in"], check=True)
    yield context


class Both:
    def __init__(self, docker: Dockerd, hyper: PrivateDaemon) -> None:
        [program, *_] = theirs = docker.argv()
        self.argvs = [theirs, [program, "--host", f"unix://{hyper.folder}/hyper-docker.sock"]]

    def build(self, context: Path | str, *words: str, stdin: bytes = b"") -> list[tuple[int, str, str]]:
        """Of each: the status, what it printed without what is its own, and the errors."""
        done = []
        for argv in self.argvs:
            run = subprocess.run(
                [*argv, "build", *words, str(context)],
                input=stdin,
                capture_output=True,
                env={**os.environ, **CLASSIC},
                timeout=500,
            )
            out = IDS.sub("ID", run.stdout.decode())
            kept = [line for line in out.splitlines() if line and not line.startswith(OWN)]
            done.append((run.returncode, "\n".join(kept), run.stderr.decode()))
        return done

    def call(self, *words: str) -> list[str]:
        return [subprocess.run([*argv, *words], capture_output=True, check=True).stdout.decode() for argv in self.argvs]


@pytest.fixture
def both(docker: Dockerd, hyper: PrivateDaemon) -> Both:
    return Both(docker, hyper)


def document(text: str) -> dict[str, Any]:
    """What an image says of how it starts."""
    config = json.loads(text)[0]["Config"]
    if check := config.get("Healthcheck"):
        config["Healthcheck"] = {key: value for key, value in check.items() if value}
    return {key: config.get(key) or None for key in (
        "User", "Env", "Cmd", "Entrypoint", "WorkingDir", "Labels", "ExposedPorts", "Volumes", "StopSignal",
        "OnBuild", "Healthcheck", "Shell",
    )}  # fmt: skip


@pytest.mark.parametrize("name", DOCKERFILES)
def test_a_build(both: Both, folder: Path, name: str) -> None:
    (folder / "Dockerfile").write_text(DOCKERFILES[name])
    words = ("-t", f"built-{name}:1", "--build-arg", "NOPE=1") if name == "unused" else ("-t", f"built-{name}:1")
    theirs, ours = both.build(folder, *words)
    assert ours == theirs
    if ours[0]:
        return
    theirs, ours = both.build(folder, *words)
    assert ours == theirs and "Using cache" in ours[1]
    inspected = [document(text) for text in both.call("image", "inspect", f"built-{name}:1")]
    assert inspected[1] == inspected[0]
    said = both.call("history", "--no-trunc", "--format", "{{.CreatedBy}}", f"built-{name}:1")
    histories = [HASHES.sub(r"\1", text).splitlines()[: DOCKERFILES[name].count("\n") - 1] for text in said]
    assert histories[1] == histories[0]
    if name in ("runs", "copies"):
        run = ("run", "--rm", "-u", "0", "--network", "none", f"built-{name}:1", "sh", "-c", LOOK)
        theirs_in_it, ours_in_it = (set(text.splitlines()) for text in both.call(*run))
        assert (ours_in_it - theirs_in_it, theirs_in_it - ours_in_it) == (set(), set())


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """A server's address, with an archive and a file in it."""
    files = tmp_path / "served"
    files.mkdir()
    (files / "plain.txt").write_text("fetched\n")
    os.utime(files / "plain.txt", (981173106, 981173106))
    subprocess.run(["tar", "-C", files, "-czf", files / "packed.tar.gz", "plain.txt"], check=True)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(files))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield "http://{}:{}".format(*server.server_address[:2])
        server.shutdown()
        thread.join()


def test_urls_are_added(both: Both, folder: Path, served: str) -> None:
    (folder / "Dockerfile").write_text(
        f"FROM busybox\nADD {served}/plain.txt {served}/packed.tar.gz one /to/\nADD {served}/plain.txt /as\n"
        f"ADD --chown=5:6 {served}/plain.txt /to/own\nRUN cat /as > /copy\n"
    )
    for again in False, True:
        theirs, ours = both.build(folder, "-t", "urls:1")
        assert ours == theirs and ours[0] == 0
        assert ("Using cache" in ours[1]) is again
    look = "stat -c '%n %a %u:%g %s' /to/* /as /copy; stat -c %Y /as; cat /to/plain.txt"
    theirs_in_it, ours_in_it = both.call("run", "--rm", "--network", "none", "urls:1", "sh", "-c", look)
    assert ours_in_it == theirs_in_it
    said = both.call("history", "--no-trunc", "--format", "{{.CreatedBy}}", "urls:1")
    histories = [re.sub("[0-9a-f]{64}(?= in )", "", text).splitlines()[:4] for text in said]
    assert histories[1] == histories[0]
    for url, status in (f"{served}/nosuch", 404), (f"{served}/", 200):
        (folder / "Dockerfile").write_text(f"FROM busybox\nADD {url} /to/\n")
        theirs, ours = both.build(folder)
        assert (ours[0], theirs[0]) == (1, 1)
        assert str(status) in ours[2] or "cannot determine filename" in ours[2], ours


def test_names_labels_networks_and_targets(both: Both, folder: Path) -> None:
    text = "FROM busybox AS first\nRUN ls /sys/class/net | wc -l > /nets\nFROM first\nENV B=1\n"
    (folder / "Dockerfile").write_text(text)
    words = ("-t", "one:1", "-t", "two", "--label", "a=b c", "--label", "x", "--network", "none", "--target", "first")
    theirs, ours = both.build(folder, *words, "--platform", "linux/amd64")
    assert ours == theirs and "Successfully tagged two:latest" in ours[1]
    for name in "one:1", "two:latest":
        inspected = [document(text) for text in both.call("image", "inspect", name)]
        assert inspected[1] == inspected[0] and inspected[1]["Labels"] == {"a": "b c", "x": ""}
        assert both.call("run", "--rm", "--network", "none", name, "cat", "/nets") == ["1\n", "1\n"]
    theirs, ours = both.build(folder, "--platform", "linux/s390x")
    assert (ours[0], theirs[0]) == (1, 1)


def test_contexts_from_stdin(both: Both, folder: Path) -> None:
    theirs, ours = both.build("-", "-t", "piped:1", stdin=b"FROM busybox\nENV A=piped\n")
    assert ours == theirs and ours[0] == 0
    (folder / "Own").write_text("FROM busybox\nCOPY one /one\n")
    packed = subprocess.run(["tar", "-C", folder, "-cz", "."], capture_output=True, check=True).stdout
    theirs, ours = both.build("-", "-f", "Own", stdin=packed)
    assert ours == theirs and ours[0] == 0
    theirs, ours = both.build("-", stdin=b"")
    assert (ours[0], theirs[0]) == (1, 1)


def built_and_pushed(both: Both, name: str, text: str) -> None:
    """By dockerd."""
    docker = both.argvs[0]
    for words, stdin in (["build", "-t", name, "-"], text.encode()), (["push", name], b""):
        subprocess.run(
            [*docker, *words], input=stdin, capture_output=True, check=True, env={**os.environ, **CLASSIC}, timeout=500
        )


async def test_pull_asks_the_registry(both: Both, folder: Path, tmp_path: Path) -> None:
    """And without it what is here is enough."""
    said = []
    async with docker_registry(tmp_path / "registry") as host:
        (folder / "Dockerfile").write_text(f"FROM {host}/base:1\nRUN cat /version\n")
        for version in "1", "2":
            text = f"FROM busybox\nRUN echo version {version} > /version\n"
            await asyncio.to_thread(built_and_pushed, both, f"{host}/base:1", text)
            for words in [], ["--pull"]:
                _, (status, out, _) = await asyncio.to_thread(both.build, folder, *words)
                said.append((status, re.findall("^version .", out, re.MULTILINE)))
    assert said == [(0, ["version 1"]), (0, []), (0, []), (0, ["version 2"])]


def test_git_is_refused_in_words(hyper: PrivateDaemon) -> None:
    """The client clones those that it can; this one is the daemon's to fetch."""
    done = hyper.ctl("build", "https://example.invalid/x.git")
    assert (done.status, "contexts are not fetched: clone it" in done.err) == (1, True)
