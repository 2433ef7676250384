"""docker compose, unchanged, against hyperd: a project comes up, is used, and goes without a trace."""

import os
import subprocess
from pathlib import Path

import pytest

from hypercontainer.testing.daemon import PrivateDaemon
from tests.interop.compose import EACH, Compose

pytestmark = [
    pytest.mark.interop,
    pytest.mark.docker,
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="hyperd is root's"),
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
    ipc: shareable
    environment: {A: b}
    healthcheck: {test: ["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1/"], interval: 1s, retries: 60}
  worker:
    image: busybox
    command: sh -c 'echo ready; exec sleep 1000'
    networks: [back]
    links: ["web:page"]
    volumes: ["data:/data:ro"]
    depends_on: {web: {condition: service_healthy}}
  side:
    image: busybox
    command: sleep 1000
    network_mode: "service:web"
    pid: "service:web"
    ipc: "service:web"
networks: {front: {}, back: {}}
volumes: {data: {}}
"""
IN_LINE = """
services:
  app:
    image: busybox
    command: sh -c 'cat /etc/app/config /run/secrets/token; echo; exec sleep 1000'
    configs: [{source: config, target: /etc/app/config, mode: 0440}]
    secrets: [token]
configs: {config: {content: "of the file\\n"}}
secrets: {token: {environment: TOKEN}}
"""


@pytest.mark.parametrize("kind", EACH)
def test_a_project(hyper: PrivateDaemon, tmp_path: Path, kind: str) -> None:
    (tmp_path / "docker-compose.yml").write_text(PROJECT)
    compose = Compose(kind, hyper, tmp_path, "project", tmp_path)
    try:
        compose.ok("up", "-d")
        names = hyper.ctl("ps", "--format", "{{.Names}}").out.split()
        assert sorted(names) == compose.names(["side", "web", "worker"])
        assert "virtual machine" in compose.ok("exec", "-T", "side", "wget", "-q", "-O", "-", "http://127.0.0.1/")
        compose.ok("exec", "-T", "web", "sh", "-c", "echo here > /dev/shm/file")
        assert compose.ok("exec", "-T", "side", "cat", "/dev/shm/file") == "here\n"
        assert "httpd -f -h /www" in compose.ok("exec", "-T", "side", "ps", "-o", "args")
        assert "(healthy)" in compose.ok("ps")
        compose.ok("exec", "-T", "web", "sh", "-c", "echo $A > /data/x")
        assert compose.ok("exec", "-T", "worker", "cat", "/data/x") == "b\n"
        page = subprocess.run(["curl", "-s", compose.url("web")], capture_output=True, text=True, timeout=60)
        assert "virtual machine" in page.stdout
        compose.ok("up", "-d", "--scale", "worker=2")
        assert len(compose.ok("ps", "-q", "worker").split()) == 2
        for name in ("web", "page", *compose.names(["web"])):
            assert "virtual machine" in compose.ok("exec", "-T", "worker", "wget", "-q", "-O", "-", f"http://{name}/")
        assert compose("exec", "-T", "web", "nslookup", "page").status != 0  # a link is for one alone
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


@pytest.mark.parametrize("kind", EACH[1:])
def test_configs_and_secrets_that_are_no_files(hyper: PrivateDaemon, tmp_path: Path, kind: str) -> None:
    """They are sent as archives, before the start."""
    (tmp_path / "docker-compose.yml").write_text(IN_LINE)
    compose = Compose(kind, hyper, tmp_path, "project", tmp_path)
    compose.env["TOKEN"] = "of the environment"
    try:
        compose.ok("up", "-d")
        assert compose.ok("exec", "-T", "app", "stat", "-c", "%a", "/etc/app/config") == "440\n"
        assert compose.ok("logs", "--no-log-prefix", "app") == "of the file\nof the environment\n"
    finally:
        compose.ok("down", "-t", "0")
