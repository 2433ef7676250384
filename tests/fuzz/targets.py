"""The targets: each takes bytes, and raises HyperError or nothing."""

import asyncio
import hashlib
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast

import dns.flags
import dns.message
import msgspec
from qemu.qmp import QMPError
from qemu.qmp.message import Message

from hypercontainer.agent import messages, wire
from hypercontainer.agent.control import Control
from hypercontainer.errors import HyperError
from hypercontainer.hyperctl import unpack as copy
from hypercontainer.hyperd.docker import auth as docker_auth
from hypercontainer.hyperd.docker import call as docker_call
from hypercontainer.hyperd.docker import commit as docker_commit
from hypercontainer.hyperd.docker import detach
from hypercontainer.hyperd.docker import filters as docker_filters
from hypercontainer.hyperd.docker import networks as docker_networks
from hypercontainer.hyperd.docker import platform as docker_platform
from hypercontainer.hyperd.docker import spec as docker_spec
from hypercontainer.hyperd.docker.config import ContainerConfig, Sizes
from hypercontainer.hyperd.docker.routes import ROUTES as DOCKER
from hypercontainer.hyperd.http import params
from hypercontainer.hyperd.http.call import Raw
from hypercontainer.hyperd.rest.routes import ROUTES
from hypercontainer.hypervisor.qemu import resize, snapshot
from hypercontainer.hypervisor.qemu.machines import Q35
from hypercontainer.hypervisor.qemu.qmp import Monitor
from hypercontainer.images import challenge, compression, distribution, manifest, reference, registry, token, unpack
from hypercontainer.lib import netlink
from hypercontainer.network import answers as answers_of
from hypercontainer.network import redirect, rtnetlink

NONCE = 7
JSON = "application/json"
DOCKER_BODIES = {route.body for route in DOCKER if isinstance(route.body, type)}
BODIES = {route.body for route in ROUTES} - {None, Raw.TAR}
ANSWERS = messages.Answer.__subclasses__()


def frames(data: bytes) -> None:
    """The agent's frames, and what its stream 0 says in them."""
    control = Control(lambda line: None, lambda event: None, lambda event: None)
    decoder = wire.Decoder(NONCE)
    for at in range(0, len(data), 1 + len(data) // 3):
        for frame in decoder.feed(data[at : at + 1 + len(data) // 3]):
            if frame.kind == wire.Kind.DATA and frame.stream == 0:
                control.take(bytes(frame.payload))


def answers(data: bytes) -> None:
    """The agent's answers to each request."""
    for kind in ANSWERS:
        with suppress(HyperError):
            messages.decode("op", msgspec.Raw(data), kind)
    messages.decode_any("op", msgspec.Raw(data))


class _Said:
    """A monitor whose QEMU answers everything with one value."""

    def __init__(self, value: object) -> None:
        self._value = value

    async def execute(self, *_: object, **__: object) -> object:
        return self._value


def monitor(data: bytes) -> None:
    """QEMU's events and answers."""
    try:
        message = Message(data)
    except (QMPError, ValueError, RecursionError):
        return  # the end of the connection: see Monitor.close
    if "event" in message:
        Monitor()._note(message)
    said = cast(Monitor, _Said(message.get("return")))
    for ask in (partial(resize.size, machine=Q35), snapshot.ram_bytes):
        with suppress(HyperError):
            asyncio.run(ask(said))


def bodies(data: bytes) -> None:
    """The bodies of API requests."""
    for kind in BODIES:
        with suppress(HyperError):
            params.body(data, cast(Any, kind))


def docker(data: bytes) -> None:
    """What docker's clients send: each body, and what becomes of a container's; filters, credentials, detach keys."""
    readers: list[Callable[[bytes], object]] = [
        *(partial(_docker_body, kind) for kind in DOCKER_BODIES),
        lambda body: docker_spec.pod(docker_call.body(body, ContainerConfig, JSON), ""),
        lambda body: docker_spec.update(docker_call.body(body, Sizes, JSON)),
        lambda body: docker_networks.wanted(docker_call.body(body, docker_networks.NetworkConfig, JSON)),
        lambda text: docker_filters.read(text.decode("latin-1")),
        lambda text: docker_auth.credentials(text.decode("latin-1")),
        lambda text: docker_platform.words(text.decode("latin-1")),
        lambda text: detach.keys(text.decode("latin-1")),
        docker_commit.check,
    ]
    for read in readers:
        with suppress(HyperError):
            read(data)


def _docker_body(kind: type[Any], data: bytes) -> None:
    docker_call.body(data, kind, JSON)


def layers(data: bytes) -> None:
    """A layer, as far as its EROFS file."""
    digest = hashlib.sha256()
    for piece in compression.plain(iter([data])):
        digest.update(piece)
    with tempfile.TemporaryDirectory() as folder:
        blob = Path(folder, "layer")
        blob.write_bytes(data)
        unpack.unpack(f"{folder}/image", [unpack.Layer(str(blob), f"sha256:{digest.hexdigest()}")])


def copies(data: bytes) -> None:
    """What `hyperctl cp` unpacks on the host: nothing of it may be elsewhere."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "target")
        target.mkdir()
        try:
            copy.extract(iter([data]), str(target), "", "", keep_owner=False)
        finally:
            assert [path.name for path in Path(folder).iterdir()] == ["target"]


def documents(data: bytes) -> None:
    """What a registry says."""
    readers: list[Callable[[bytes], object]] = [
        manifest.kind_of,
        manifest.read_manifest,
        manifest.to_oci,
        manifest.read_index,
        manifest.read_config,
        registry.read_tags,
        distribution.platform_of,
        lambda said: token._read(said, "registry.example"),
    ]
    for read in readers:
        with suppress(HyperError):
            read(data)


def words(data: bytes) -> None:
    """A registry's challenge, and names of images."""
    text = data.decode("latin-1")
    challenge.parse([text])
    with suppress(HyperError):
        reference.parse(text)
    reference.bare(text)


KNOWN: Sequence[answers_of.Address] = [ip_address(f"10.0.{n >> 8}.{n & 255}") for n in range(4096)]
KNOWN_6: Sequence[answers_of.Address] = [ip_address(f"fd00::{n:x}") for n in range(1, 9)]


class Everybody:
    """Asks for names, and knows each of them: some as many have it as there may be."""

    def addresses(self, name: str) -> Sequence[answers_of.Address] | None:
        return None if name == "nobody" else KNOWN if name == "many" else [*KNOWN[:2], *KNOWN_6]

    def name(self, address: answers_of.Address) -> str:
        return "web.front" if address.version == 4 else ""


def questions(data: bytes) -> None:
    """What a container asks for names: whatever it is, its answer is one to that question, and fits."""
    for most in (answers_of.MOST_UDP, 65535):
        with suppress(answers_of.Malformed):
            for said in (
                answers_of.answer(data, Everybody(), most=most),
                answers_of.refusal(data, answers_of.SERVFAIL),
            ):
                assert said is None or _answers(data, said, most)


def _answers(data: bytes, said: bytes, most: int) -> bool:
    """Resolvers look at the number and the question, and take nothing else."""
    message = dns.message.from_wire(said)
    assert len(said) <= most or not message.answer
    assert said[:2] == data[:2] and message.flags & dns.flags.QR
    return not message.question or message.question == dns.message.from_wire(data, question_only=True).question


def kernel(data: bytes) -> None:
    """What a network namespace's kernel says of what is in it: messages, and each of them as any kind."""
    readers = (
        rtnetlink.link_of,
        rtnetlink.address_of,
        partial(rtnetlink.route_of, names={1: "lo"}),
        redirect.qdisc_of,
        redirect.filter_of,
    )
    for body in [data, *(message.body for message in netlink.messages(data))]:
        for read in readers:
            with suppress(HyperError):
                read(body)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (frames, answers, monitor, bodies, docker, layers, copies, documents, words, questions, kernel)
}
