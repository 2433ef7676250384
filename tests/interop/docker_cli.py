"""The docker CLI against a hyperd, unchanged: Debian's, and the new one that `make interop` builds."""

import fcntl
import http.client
import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from hypercontainer.testing.daemon import PrivateDaemon, Result
from tests.interop.clients import CLIENTS

CLIS = [path for path in (Path("/usr/bin/docker"), CLIENTS / "docker/docker") if path.exists()]
WAIT_S = 120.0  # for what a terminal shows


class DockerCli:
    """docker, with a configuration of its own, that talks to `daemon`."""

    def __init__(self, docker: Path, daemon: PrivateDaemon, config: Path) -> None:
        self.docker, self.daemon = docker, daemon
        self.env = {
            **os.environ,
            "DOCKER_HOST": f"unix://{daemon.folder}/hyper-docker.sock",
            "DOCKER_CONFIG": str(config),
        }

    def __call__(self, *words: str, stdin: bytes = b"", timeout_s: float = 300) -> Result:
        """Run docker with `words` to its end."""
        done = subprocess.run(self.argv(*words), env=self.env, input=stdin, capture_output=True, timeout=timeout_s)
        return Result(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def ok(self, *words: str, stdin: bytes = b"") -> str:
        """What it prints; it has to succeed."""
        done = self(*words, stdin=stdin)
        assert done.status == 0, (words, done)
        return done.out.strip()

    def get(self, path: str) -> Any:
        """The document that the API has there, for what the CLI has no command."""
        connection = http.client.HTTPConnection("docker", timeout=WAIT_S)
        connection.sock = socket.socket(socket.AF_UNIX)
        with closing(connection):
            connection.sock.connect(self.env["DOCKER_HOST"].removeprefix("unix://"))
            connection.request("GET", path)
            return json.load(connection.getresponse())

    def argv(self, *words: str) -> list[str]:
        return [str(self.docker), *words]

    def start(self, *words: str) -> "subprocess.Popen[bytes]":
        """docker with pipes, that runs on."""
        return subprocess.Popen(
            self.argv(*words), env=self.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def terminal(self, *words: str, rows: int = 24, columns: int = 80) -> "Terminal":
        return Terminal(self.argv(*words), self.env, rows, columns)


class Terminal:
    """A program at a terminal of ours."""

    def __init__(self, argv: Sequence[str], env: dict[str, str], rows: int, columns: int) -> None:
        self._ours, theirs = pty.openpty()
        self.resize(rows, columns)
        self._process = subprocess.Popen(
            argv, env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, preexec_fn=_controlling
        )
        os.close(theirs)
        self._seen = b""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, data: bytes) -> None:
        os.write(self._ours, data)

    def expect(self, words: bytes) -> bytes:
        """Read until `words` have been shown; what came before them and with them."""
        deadline = time.monotonic() + WAIT_S
        while words not in self._seen:
            readable, _, _ = select.select([self._ours], [], [], max(0.0, deadline - time.monotonic()))
            assert readable, (words, self._seen)
            self._seen += os.read(self._ours, 65536)
        found, words, self._seen = self._seen.partition(words)
        return found + words

    def end(self) -> tuple[int, bytes]:
        """Its status, once it has ended, and the last of what it showed."""
        status = self._process.wait(WAIT_S)
        try:
            while data := os.read(self._ours, 65536):
                self._seen += data
        except OSError:  # EIO: nobody is at the other end
            pass
        return status, self._seen

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait(WAIT_S)
        os.close(self._ours)


def _controlling() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
