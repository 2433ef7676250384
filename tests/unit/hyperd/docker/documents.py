"""What the fake engine answers: a container that runs, and its image."""

from pathlib import Path

from msgspec.structs import replace

from hypercontainer.engine import describe
from hypercontainer.engine.accelerator import Choice
from hypercontainer.engine.resolve import container, pod
from hypercontainer.model import documents as doc
from hypercontainer.model.documents import ProcessConfig
from hypercontainer.model.record import NicRecord
from hypercontainer.model.spec import ANY, ContainerSpec, EndpointSpec, PodSpec
from hypercontainer.sandbox.rootfs import image

ID = "0123456789ab" + "c" * 52
IMAGE_ID = "sha256:" + "d" * 64
CONFIG = ProcessConfig(cmd=["sh"], exposed_ports={"80/tcp": {}})


def made(spec: ContainerSpec, endpoint: EndpointSpec = ANY) -> doc.Container:
    """A container of `spec` that was never started, as the engine tells of it."""
    of = pod(PodSpec(networks=[endpoint]), name="web", implicit=True)
    record = container(spec, IMAGE_ID, CONFIG, image(Path("/rootfs")), name="web")
    record.id = ID
    of.containers.append(record)
    choice = Choice(accelerator="tcg", reason="there is no KVM")
    return describe.container(of, record, choice, log_path="/log", vcpus=1, memory_mib=256, volumes={})


def listed(nic: NicRecord) -> doc.ContainerEntry:
    """One with that interface, as a line of a list."""
    of = pod(PodSpec(networks=[EndpointSpec(network=nic.network, aliases=["site"])]), name="web", implicit=True)
    of.nics.append(nic)
    record = container(ContainerSpec(image="busybox"), IMAGE_ID, CONFIG, image(Path("/rootfs")), name="web")
    return describe.entry(of, record, 0)


def running(found: doc.Container) -> doc.Container:
    return replace(found, state=replace(found.state, status="running", running=True, pid=7))


CREATED = made(ContainerSpec(image="busybox", open_stdin=True, stdin_once=True))
CONTAINER = running(CREATED)
TERMINAL = running(made(ContainerSpec(image="busybox", open_stdin=True, tty=True)))
IMAGE = doc.Image(
    id=IMAGE_ID,
    repo_tags=["busybox:latest"],
    repo_digests=[],
    parent="",
    comment="",
    created="2026-01-01T00:00:00Z",
    author="",
    config=CONFIG,
    architecture="amd64",
    variant="",
    os="linux",
    size=1,
    root_fs=doc.RootFs(layers=[]),
)
