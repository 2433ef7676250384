"""What docker-py does with an engine that its environment names: `python with_docker_py.py NAME` does one of these.

The engine has the image busybox.
"""

import io
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager

import docker  # type: ignore[import-untyped]  # testcontainers brings it, in its own environment
from docker.models.containers import Container  # type: ignore[import-untyped]


@contextmanager
def running(client: docker.DockerClient, *command: str) -> Iterator[Container]:
    container = client.containers.run("busybox", list(command), detach=True)
    try:
        yield container
    finally:
        container.remove(force=True)


def a_run(client: docker.DockerClient) -> None:
    assert client.containers.run("busybox", ["echo", "out"], remove=True) == b"out\n"
    try:
        client.containers.run("busybox", ["sh", "-c", "echo why >&2; exit 7"], remove=True)
    except docker.errors.ContainerError as e:
        assert (e.exit_status, e.stderr) == (7, b"why\n")
    else:
        raise AssertionError("it ended well")


def an_exec(client: docker.DockerClient) -> None:
    with running(client, "sleep", "1000") as container:
        done = container.exec_run(["sh", "-c", "echo out; echo err >&2; exit 3"], demux=True)
        assert (done.exit_code, done.output) == (3, (b"out\n", b"err\n"))


def its_output_as_it_comes(client: docker.DockerClient) -> None:
    with running(client, "sh", "-c", "echo one; while [ ! -e /go ]; do sleep 0.1; done; echo two") as container:
        lines = container.logs(stream=True, follow=True)
        assert next(lines) == b"one\n"
        container.exec_run(["touch", "/go"])
        assert list(lines) == [b"two\n"]
        assert container.wait()["StatusCode"] == 0


def bytes_into_it(client: docker.DockerClient) -> None:
    """`attach_socket` is TLS's own socket there."""
    container = client.containers.create("busybox", ["head", "-c", "100000"], stdin_open=True)
    try:
        sock = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
        container.start()
        sock.sendall(b"x" * 100_000)
        assert container.wait()["StatusCode"] == 0
        sock.close()
        assert container.logs() == b"x" * 100_000
    finally:
        container.remove(force=True)


def files(client: docker.DockerClient) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        entry = tarfile.TarInfo("file")
        entry.size = 1 << 20
        tar.addfile(entry, io.BytesIO(bytes(1 << 20)))
    with running(client, "sleep", "1000") as container:
        assert container.put_archive("/tmp", packed.getvalue())
        chunks, stat = container.get_archive("/tmp/file")
        assert stat["size"] == 1 << 20
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
            assert [member.size for member in tar] == [1 << 20]


def events(client: docker.DockerClient) -> None:
    told = client.events(decode=True, filters={"type": "container"})
    client.containers.run("busybox", ["true"], remove=True)
    assert [event["Action"] for event, _ in zip(told, range(3), strict=False)][:1] == ["create"]
    told.close()


if __name__ == "__main__":
    globals()[sys.argv[1]](docker.from_env())
