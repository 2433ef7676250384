"""docker-compose, unchanged, against hyperd: a project comes up, is used, and goes without a trace."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from hypercontainer.testing.daemon import PrivateDaemon, Result

COMPOSE = shutil.which("docker-compose")
pytestmark = [
    pytest.mark.interop,
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="hyperd is root's"),
    pytest.mark.skipif(not COMPOSE, reason="there is no docker-compose"),
]
PROJECT = """
version: "2.4"
services:
  web:
    image: busybox
    command: httpd -f -h /www
    ports: ["127.0.0.1::80"]
    networks: {back: {}, front: {aliases: [site]}}
    volumes: ["data:/data"]
    environment: {A: b}
    healthcheck: {test: ["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1/"], interval: 1s, retries: 60}
  worker:
    image: busybox
    command: sh -c 'echo ready; exec sleep 1000'
    networks: [back]
    volumes: ["data:/data:ro"]
    depends_on: {web: {condition: service_healthy}}
  side:
    image: busybox
    command: sleep 1000
    network_mode: "service:web"
networks: {front: {}, back: {}}
volumes: {data: {}}
"""


class Compose:
    def __init__(self, hyper: PrivateDaemon, folder: Path) -> None:
        self.folder, self.env = folder, {**os.environ, "DOCKER_HOST": f"unix://{hyper.folder}/hyper-docker.sock"}
        (folder / "docker-compose.yml").write_text(PROJECT)

    def __call__(self, *words: str) -> Result:
        argv = [str(COMPOSE), "-p", "project", *words]
        done = subprocess.run(
            argv, cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def ok(self, *words: str) -> str:
        done = self(*words)
        assert done.status == 0, (words, done)
        return done.out


def test_a_project(hyper: PrivateDaemon, tmp_path: Path) -> None:
    compose = Compose(hyper, tmp_path)
    try:
        compose.ok("up", "-d")
        names = hyper.ctl("ps", "--format", "{{.Names}}").out.split()
        assert sorted(names) == ["project_side_1", "project_web_1", "project_worker_1"]
        assert "virtual machine" in compose.ok("exec", "-T", "side", "wget", "-q", "-O", "-", "http://127.0.0.1/")
        assert "Up (healthy)" in compose.ok("ps")
        compose.ok("exec", "-T", "web", "sh", "-c", "echo $A > /data/x")
        assert compose.ok("exec", "-T", "worker", "cat", "/data/x") == "b\n"
        host, _, port = compose.ok("port", "web", "80").strip().partition(":")
        page = subprocess.run(["curl", "-s", f"http://{host}:{port}/"], capture_output=True, text=True, timeout=60)
        assert "virtual machine" in page.stdout
        compose.ok("up", "-d", "--scale", "worker=2")
        assert len(compose.ok("ps", "-q", "worker").split()) == 2
        for name in ("web", "project_web_1"):
            assert "virtual machine" in compose.ok("exec", "-T", "worker", "wget", "-q", "-O", "-", f"http://{name}/")
        compose.ok("restart", "-t", "0", "worker")
        assert "ready" in compose.ok("logs", "worker")
        compose.ok("stop", "-t", "0")
        assert hyper.ctl("ps", "-q").out == ""
        compose.ok("start")
    finally:
        compose.ok("down", "-v", "-t", "0")
    assert hyper.ctl("ps", "-a", "-q").out == ""
    assert hyper.ctl("volume", "ls", "-q").out == ""
    assert hyper.ctl("network", "ls", "-q", "--filter", "type=custom").out == ""
