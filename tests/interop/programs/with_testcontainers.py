"""What people do with testcontainers, a function each: `python with_testcontainers.py NAME`.

The daemon is DOCKER_HOST's, the image busybox.
"""

import os
import sys
import tempfile
import urllib.request
from pathlib import Path

from docker.errors import NotFound  # type: ignore[import-untyped]  # testcontainers brings it, in its own environment
from testcontainers.core.container import DockerContainer, ExecConfig  # type: ignore[import-not-found]
from testcontainers.core.network import Network  # type: ignore[import-not-found]
from testcontainers.core.wait_strategies import (  # type: ignore[import-not-found]
    ContainerStatusWaitStrategy,
    ExecWaitStrategy,
    HealthcheckWaitStrategy,
    HttpWaitStrategy,
    LogMessageWaitStrategy,
    PortWaitStrategy,
)

ROOM_S = 600
SLEEP = ["sleep", "1000"]


def ready_by_its_log() -> None:
    command = ["sh", "-c", "echo begin; echo failing >&2; echo ready to serve; exec sleep 1000"]
    log = LogMessageWaitStrategy("ready to serve").with_startup_timeout(ROOM_S)
    with DockerContainer("busybox").with_command(command).waiting_for(log) as container:
        assert container.get_logs() == (b"begin\nready to serve\n", b"failing\n")
        id = container.get_container_id()
    try:
        container.get_docker_client().client.containers.get(id)
    except NotFound:
        return
    raise AssertionError("it is there after its end")


def ready_by_its_port() -> None:
    """By http, at the port, and at the address of the container itself."""
    server = DockerContainer("busybox").with_command(["httpd", "-f", "-h", "/www"]).with_exposed_ports(80)
    with server.waiting_for(HttpWaitStrategy(80).with_startup_timeout(ROOM_S)) as container:
        PortWaitStrategy(80).with_startup_timeout(ROOM_S).wait_until_ready(container)
        for host, port in (
            (container.get_container_host_ip(), container.get_exposed_port(80)),
            (container.get_docker_client().bridge_ip(container.get_container_id()), 80),
        ):
            with urllib.request.urlopen(f"http://{host}:{port}/", timeout=60) as page:
                assert b"virtual machine" in page.read()


def ready_by_its_health() -> None:
    check = {"test": ["CMD", "test", "-e", "/tmp/well"], "interval": 200_000_000, "retries": 1000}
    command = ["sh", "-c", "sleep 1; touch /tmp/well; exec sleep 1000"]
    wait = HealthcheckWaitStrategy().with_startup_timeout(ROOM_S)
    with DockerContainer("busybox").with_command(command).with_kwargs(healthcheck=check).waiting_for(wait) as container:
        assert container.get_wrapped_container().attrs["State"]["Health"]["Status"] == "healthy"


def ready_by_a_command() -> None:
    command = ["sh", "-c", "sleep 1; touch /tmp/well; exec sleep 1000"]
    wait = ExecWaitStrategy(["test", "-e", "/tmp/well"]).with_startup_timeout(ROOM_S)
    with DockerContainer("busybox").with_command(command).waiting_for(wait) as container:
        ContainerStatusWaitStrategy().wait_until_ready(container)
        assert container.status == "running"


def commands() -> None:
    with DockerContainer("busybox").with_command(SLEEP).with_env("A", "of the container") as container:
        assert container.exec("sh -c 'echo $A; exit 3'") == (3, b"of the container\n")
        config = ExecConfig(["sh", "-c", "id -un; pwd; echo $B"], user="www", environment={"B": "b"}, workdir="/tmp")
        assert container.exec(config) == (0, b"www\n/tmp\nb\n")


def files() -> None:
    """Before the start and after it, from bytes and from a folder; and back."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "a").write_text("of a folder")
        container = DockerContainer("busybox").with_command(["sh", "-c", "cat /etc/app/config; exec sleep 1000"])
        container.with_copy_into_container(b"before", "/etc/app/config", 0o600)
        container.waiting_for(LogMessageWaitStrategy("before").with_startup_timeout(ROOM_S))
        with container:
            assert container.exec(["stat", "-c", "%a %U", "/etc/app/config"]) == (0, b"600 root\n")
            container.copy_into_container(folder, "/copied")
            container.copy_into_container(b"after", "/copied/b")
            assert (
                container.exec(["sh", "-c", f"cat /copied/{folder.name}/a /copied/b"]).output
                == b"of a folder" + b"after"
            )
            container.copy_from_container("/copied/b", folder / "back")
            assert (folder / "back").read_text() == "after"


def folders_and_tmpfs() -> None:
    with tempfile.TemporaryDirectory() as read, tempfile.TemporaryDirectory() as write:
        Path(read, "a").write_text("of the host")
        container = DockerContainer("busybox").with_command(SLEEP)
        container.with_volume_mapping(read, "/read").with_volume_mapping(write, "/write", "rw")
        with container.with_tmpfs_mount("/scratch", "size=8m"):
            assert container.exec(["cat", "/read/a"]).output == b"of the host"
            assert container.exec(["touch", "/read/b"]).exit_code != 0
            assert container.exec(["sh", "-c", "echo of the guest >/write/b"]).exit_code == 0
            assert Path(write, "b").read_text() == "of the guest\n"
            assert b"8.0M" in container.exec(["df", "-h", "/scratch"]).output


def networks() -> None:
    with Network() as network:
        server = DockerContainer("busybox").with_command(["httpd", "-f", "-h", "/www"])
        with server.with_network(network).with_network_aliases("site", "web"):
            address = server.get_docker_client().bridge_ip(server.get_container_id())
            wget = f"until wget -q -O - http://{address}/; do sleep 0.2; done"
            client = DockerContainer("busybox").with_command(["sh", "-c", wget]).with_network(network)
            with client.waiting_for(LogMessageWaitStrategy("virtual machine").with_startup_timeout(ROOM_S)):
                assert client.wait() == 0
        left = network._unwrap_network
        left.reload()
        assert left.containers == []


if __name__ == "__main__":
    assert os.environ["TESTCONTAINERS_RYUK_DISABLED"] == "true"  # its image is of a registry of the world
    globals()[sys.argv[1]]()
