"""docker build beside Debian's dockerd with its classic builder: the same words, the same images, the same cache."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.testing.daemon import PrivateDaemon
from tests.interop.dockerd import Dockerd

pytestmark = [pytest.mark.interop, pytest.mark.skipif(os.geteuid() != 0, reason="dockerd and hyperd are root's")]

CLASSIC = {"DOCKER_BUILDKIT": "0"}
# What each run has of its own.
IDS = re.compile(r"\b[0-9a-f]{12}\b")
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

    def build(self, folder: Path, *words: str) -> list[tuple[int, str, str]]:
        """Of each: the status, what it printed without what is its own, and the errors."""
        done = []
        for argv in self.argvs:
            run = subprocess.run(
                [*argv, "build", *words, str(folder)], capture_output=True, env={**os.environ, **CLASSIC}, timeout=500
            )
            out = IDS.sub("ID", run.stdout.decode())
            kept = [
                line for line in out.splitlines() if not line.startswith(("Sending build", "Removing", " ---> Run"))
            ]
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
