"""Readers of foreign bytes, and what they may cost.

`python -m tests.unit.budgets` reads names of readers, a line each, and says of each which of its bombs costs too much.
"""

import asyncio
import base64
import os
import resource
import sys
import tempfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast
from urllib.parse import parse_qsl

import aiohttp
from google.protobuf.message import DecodeError
from yarl import URL

from hypercontainer.engine.build import config as configs
from hypercontainer.engine.build import dockerfile
from hypercontainer.engine.build import words as build_words
from hypercontainer.engine.build.context import Context
from hypercontainer.engine.build.copy import gather
from hypercontainer.engine.checkpoint import Checkpoint
from hypercontainer.engine.store import PodStore
from hypercontainer.errors import HyperError
from hypercontainer.hyperctl import cp
from hypercontainer.hyperd.cri import container as cri_container
from hypercontainer.hyperd.cri import cri_pb2
from hypercontainer.hyperd.cri import image as cri_image
from hypercontainer.hyperd.cri import sandbox as cri_sandbox
from hypercontainer.hyperd.cri import seccomp as cri_seccomp
from hypercontainer.hyperd.cri.streaming import channels, mux, remote, spdy
from hypercontainer.hyperd.cri.streaming import headers as spdy_headers
from hypercontainer.hyperd.docker import archive as docker_archive
from hypercontainer.hyperd.docker import auth as docker_auth
from hypercontainer.hyperd.docker import build as docker_build
from hypercontainer.hyperd.docker import call as docker_call
from hypercontainer.hyperd.docker import commit as docker_commit
from hypercontainer.hyperd.docker import filters as docker_filters
from hypercontainer.hyperd.docker import spec as docker_spec
from hypercontainer.hyperd.docker.config import ContainerConfig
from hypercontainer.hyperd.http import params
from hypercontainer.hyperd.rest import frames
from hypercontainer.hyperd.rest.containers import ListQuery
from hypercontainer.hypervisor.host.rundir import VmmFile
from hypercontainer.images import (
    auth,
    challenge,
    compression,
    fetch,
    hosts,
    layout,
    reference,
    registry,
    spool,
    transport,
    upload,
)
from hypercontainer.images.index import Index
from hypercontainer.kernel.bundle import BundleFile
from hypercontainer.lib import document, fastjson, proc
from hypercontainer.model import stream
from hypercontainer.model.kube import KubePod
from hypercontainer.network import answers
from hypercontainer.network.cni import config as cni_config
from hypercontainer.network.cni import plugin as cni_plugin
from hypercontainer.network.cni import result as cni_result
from hypercontainer.sandbox import archive as sandbox_archive
from hypercontainer.sandbox import log as logs
from hypercontainer.sandbox import resolver
from hypercontainer.storage.volume import Volume
from hypercontainer.testing import layers as made
from tests.fuzz import targets
from tests.unit import bombs

Read = Callable[[bytes], object]

# The budget: what a reader may cost for n bytes. Generous: a cost that grows faster than its input passes any of them.
MEMORY, MEMORY_FOR_A_BYTE = 64 << 20, 100
CPU_S, CPU_FOR_A_BYTE_S = 30, 30e-6
UNPACKED = 160 << 20  # more of memory where bytes are unpacked: zstd's window may be 128 MiB


def each(*readers: Read) -> Read:
    def read(data: bytes) -> None:
        for one in readers:
            with suppress(HyperError):
                one(data)

    return read


def an_answer(data: bytes) -> None:
    """A small answer of a registry, with the gzip that nobody asked for."""
    said = SimpleNamespace(headers={"Content-Encoding": "gzip"}, url=URL("https://registry.example"))
    transport._plain(data, cast(aiohttp.ClientResponse, said), 1 << 20, "a manifest")


def headers(data: bytes) -> None:
    text = data.decode("latin-1")
    challenge.parse([text])
    transport.retry_after_s(text)
    registry.following(text)


def fetched(data: bytes) -> None:
    """What a server says of a file that a Dockerfile adds: its name, and how old it is."""
    said = dict.fromkeys(("Content-Disposition", "Last-Modified"), data.decode("latin-1"))
    response = cast(aiohttp.ClientResponse, SimpleNamespace(headers=said))
    fetch._name(URL("http://example"), response)
    fetch._modified(response)


def words(data: bytes) -> None:
    text = data.decode("latin-1")
    each(lambda _: reference.parse(text), lambda _: configs.apply([text]), lambda _: auth.decode(text))(data)


def kubelet(data: bytes) -> None:
    """What is asked of frakti."""
    pod = KubePod(name="web", uid="1", namespace="default", logs="/logs", request="")
    with suppress(DecodeError):
        asked = cri_pb2.PullImageRequest.FromString(data)
        each(lambda _: cri_image.given(asked.auth, asked.image.image))(data)
    with suppress(DecodeError):
        run = cri_pb2.RunPodSandboxRequest.FromString(data)
        each(lambda _: cri_sandbox.wanted(run))(data)
    with suppress(DecodeError):
        create = cri_pb2.CreateContainerRequest.FromString(data)
        each(lambda _: cri_container.wanted(create, pod))(data)


def profile(data: bytes) -> None:
    each(lambda _: cri_seccomp.resolved(data, ["CAP_CHOWN"]))(data)


def profiles() -> dict[str, bytes]:
    rule = b'{"action":"SCMP_ACT_ALLOW","names":["read"],"includes":{"minKernel":"4.8","arches":["amd64"]}},'
    return {
        "rules": b'{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[' + rule * 9000 + rule[:-1] + b"]}",
        **bombs.jsons(),
    }


def asked_of_frakti() -> dict[str, bytes]:
    auth = cri_pb2.AuthConfig(auth="bWU6" * (1 << 18))
    config = cri_pb2.PodSandboxConfig(metadata=cri_pb2.PodSandboxMetadata(name="a", uid="a", namespace="a"))
    config.labels.update({str(n): "x" for n in range(1 << 15)})
    container = cri_pb2.ContainerConfig(metadata=cri_pb2.ContainerMetadata(name="a"))
    container.image.image = "a"
    container.envs.extend(cri_pb2.KeyValue(key=str(n), value=b"x") for n in range(1 << 15))
    container.log_path = "../a" * (1 << 15)
    return {
        "credentials": cri_pb2.PullImageRequest(auth=auth).SerializeToString(),
        "labels": cri_pb2.RunPodSandboxRequest(config=config).SerializeToString(),
        "environment": cri_pb2.CreateContainerRequest(config=container).SerializeToString(),
        "nesting": b"\x0a\x7f" * (1 << 16),
    }


def docker_config(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "config.json")
        config.write_bytes(data)
        said = auth.read(auth._content(config), "config.json")
        auth.find(said, "registry.example")
        auth.helper_for(said, "registry.example")
        auth._document(config)


def hosts_toml(data: bytes) -> None:
    each(lambda text: hosts.read(text, Path("hosts.toml")))(data)


def hosts_bombs() -> Mapping[str, bytes]:
    """Of as many bytes as are read, and more."""

    def many(one: bytes, begin: bytes = b"") -> bytes:
        return begin + one * ((hosts.MAX_FILE - len(begin)) // len(one))

    return {
        "a long key": many(b"a.") + b"a=1",
        "nested": many(b"[", b"ca="),
        "nested tables": many(b"{a=", b"header="),
        "tables": b"".join(b"[host.%d]\n" % n for n in range(5000)),
        "long tables": b"".join(b"[%s%d]\n" % (b"a." * 300, n) for n in range(100)),
        "names": many(b"'https://a',", b"ca=[") + b"]",
        "lines": many(b"#\n"),
        "a string": many(b"\\u0041", b'server="') + b'"',
        "an address": many(b"@:/", b'server="http://') + b'"',
        **bombs.jsons(),
    }


def helper(data: bytes) -> None:
    """What a credential helper says, which is a program that somebody else wrote."""

    async def says(*_: object) -> bytes:
        return data

    real, auth._helper = auth._helper, says  # type: ignore[assignment]
    try:
        asyncio.run(auth._ask("x", "registry.example", None))
    finally:
        auth._helper = real


def archive(data: bytes) -> None:
    """What `load` reads, as far as the layers."""
    with tempfile.TemporaryDirectory() as folder:
        pieces = (data[at : at + compression.PIECE] for at in range(0, len(data), compression.PIECE))
        layout.read(spool.unpack(Path(folder), compression.plain(pieces), lambda *_: None))


def of_cni(data: bytes) -> None:
    """A network, what a plugin says of it, and why it does not."""
    config, result = cni_config.parse, cni_result.parse
    each(
        lambda text: config(text, Path("/nosuch/a.conflist")).chain({}),
        lambda text: config(text, Path("/nosuch/a.conf")),
        lambda text: result(text, "it")[1].addresses("eth0"),
        lambda text: result(text, "it")[1].resolver(),
        lambda text: str(cni_plugin.failure("it", proc.Result(1, text, text))),
    )(data)


def cni_bombs() -> Mapping[str, bytes]:
    def many(begin: bytes, one: bytes) -> bytes:
        return begin + one * 100_000 + one.rstrip(b",") + b"]}"

    return {
        **bombs.jsons(),
        "plugins": many(b'{"name":"a","cniVersion":"1.0.0","plugins":[', b'{"type":"x"},'),
        "versions": many(b'{"name":"a","plugins":[{"type":"x"}],"cniVersions":[', b'"1.0.0",'),
        "addresses": many(b'{"ips":[', b'{"address":"fd00::1/64"},'),
        "a long address": b'{"ips":[{"address":"' + b"1" * 900_000 + b'"}]}',
        "words": b'{"code":7,"msg":"' + b"x " * 400_000 + b'"}',
    }


def whole_question(data: bytes) -> None:
    for text in (data, resolver.LENGTH.pack(len(data) & 0xFFFF) + data):
        with suppress(OSError):
            resolver.whole(text)


def question(data: bytes) -> None:
    """What a guest asks, of somebody who knows every name."""
    known = SimpleNamespace(addresses=lambda _: [ip_address("10.0.0.2")] * 100, name=lambda _: "web.front")
    for most in (answers.MOST_UDP, 65535):
        with suppress(answers.Malformed):
            answers.answer(data, known, most=most)
            answers.refusal(data, answers.SERVFAIL)


def look(data: bytes) -> None:
    """How `hyperctl cp` asks what is at a place: the first entry of its tar."""
    client = SimpleNamespace(download=lambda *_, **__: iter([data]))
    client.another = lambda: nullcontext(client)
    cp.resolve(cast(Any, client), "c", "/x")


def requests(data: bytes) -> None:
    """Frames of a stream's client, and a query."""
    list(frames.HyperStream().read(data))


def docker_requests(data: bytes) -> None:
    """The body of a creation, filters, credentials."""
    each(
        lambda body: docker_spec.pod(docker_call.body(body, ContainerConfig, "application/json"), ""),
        lambda text: docker_filters.read(text.decode("latin-1")),
        docker_commit.check,
        lambda text: docker_auth.credentials(base64.urlsafe_b64encode(text).decode()),
    )(data)


def query(data: bytes) -> None:
    params.strict(parse_qsl(data.decode("latin-1"), keep_blank_values=True), ListQuery)


def steering(data: bytes) -> None:
    for kind in (stream.RESIZE, stream.SIGNAL):
        with suppress(HyperError):
            frames.word(kind, data)


def log(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        kept = logs.Log(Path(folder), max_bytes=1 << 30, files=2)
        kept.path.write_bytes(data)
        kept.open(1)
        for tail in (None, 1, 1_000_000):
            reader = logs.Reader(kept, logs.Wanted(), tail)
            for _ in reader.past():
                pass
            reader.close()
        kept.close()


def records(data: bytes) -> None:
    """What a hyperd finds on disk when it starts."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "pods", "a" * 64, "pod.json")
        place.parent.mkdir(parents=True)
        place.write_bytes(data)
        PodStore(place.parents[1]).load()
        for kind in (Checkpoint, Volume, Index, BundleFile, VmmFile):
            with suppress(HyperError):
                document.read(place, kind)


def dockerfiles(data: bytes) -> None:
    """And what comes beside one."""
    text = data.decode(errors="replace")
    for read in (
        lambda: dockerfile.parse(data),
        lambda: build_words.expand(text, {"A": "x" * 1000}),
        lambda: docker_build.texts(text, "labels"),
        lambda: docker_build.ulimits(text),
        lambda: docker_build.credentials(base64.urlsafe_b64encode(data).decode()),
    ):
        with suppress(HyperError, ValueError):
            read()


def dockerfile_bombs() -> Mapping[str, bytes]:
    return {
        **bombs.jsons(),
        "continued": b"FROM a\nRUN x\\\n" + b"y\\\n" * 100_000,
        "many": b"FROM a\n" * 100_000,
        "variables": b"$A" * 100_000,
        "nested": b"${A:-" * 20_000,
        "nested quotes": b'"${A:+' * 20_000,
        "one line": b"FROM a\nENV " + b"a=b " * 100_000,
    }


def contexts(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        context = Context(Path(folder, "content"))
        context.fill(compression.plain(iter([data])))
        gather(context, ["*", "a*/b*"])


def context_bombs() -> Mapping[str, bytes]:
    deep = [made.member("/".join([str(n), *"x" * 200]), b"") for n in range(200)]
    return {**bombs.tars(), **bombs.packed(), "deep": made.layer(deep)}


def answers_of_hyperd(data: bytes) -> None:
    with suppress(ValueError):
        fastjson.loads(data)
    decoder = stream.Decoder(stream.FROM_SERVER)
    with suppress(ValueError):
        for at in range(0, len(data), 4096):
            decoder.feed(data[at : at + 4096])
            for _ in decoder:
                pass


def streams(data: bytes) -> None:
    """What a client of exec, attach or port-forward says, by SPDY and by messages of a websocket."""

    async def start() -> Any:
        raise NotImplementedError

    connection = mux.Mux()
    for at in range(0, len(data), 4096):
        for event in connection.receive(data[at : at + 4096]):
            if isinstance(event, mux.Opened):
                connection.reply(event.stream)
        connection.out.clear()
    wanted = remote.Remote(verb="exec", start=start, stdin=True, stdout=True, stderr=False, tty=True)
    list(channels.Channels(wanted, channels.V5).read(data))


def stream_bombs() -> Mapping[str, bytes]:
    packer = zlib.compressobj(9, zdict=spdy_headers.DICTIONARY)
    block = packer.compress(bytes(8 << 20)) + packer.flush(zlib.Z_SYNC_FLUSH)
    encoder = spdy.Encoder()
    many = {f"n{n}": "x" * 200 for n in range(60)}
    return {
        "a large block": b"\x80\3\0\1" + (10 + len(block)).to_bytes(4, "big") + bytes(3) + b"\1" + bytes(6) + block,
        "a long frame": b"\0\0\0\1\0\xff\xff\xff" + bytes(1 << 20),
        "empty frames": b"\0\0\0\1\0\0\0\0" * 100_000,
        "one byte each": b"\0\0\0\1\0\0\0\1x" * 50_000,
        "pings": encoder.encode(spdy.Ping(1)) * 50_000,
        "streams": b"".join(encoder.encode(spdy.Open(n, many)) for n in range(1, 8000, 2)),
        "settings": encoder.encode(spdy.Settings({n: n for n in range(2000)})) * 50,
        "a size": b"\4" + b"[" * 200_000,
    }


class Reader(NamedTuple):
    """`modules` decode these bytes; `more` is memory that it may take besides."""

    modules: tuple[str, ...]
    read: Read
    bombs: Callable[[], Mapping[str, bytes]]
    more: int = 0


READERS: dict[str, Reader] = {
    "documents of a registry": Reader(
        ("lib.foreign", "images.distribution", "images.manifest", "images.registry", "images.token"),
        targets.documents,
        lambda: {**bombs.jsons(), **bombs.descriptors()},
    ),
    "its headers": Reader(("images.challenge",), headers, bombs.headers),
    "what a server says of a file": Reader(("images.fetch",), fetched, bombs.fetched),
    "its refusals": Reader(("images.upload",), upload.words, bombs.jsons),
    "small answers": Reader(("images.transport",), an_answer, bombs.packed, UNPACKED),
    "names, instructions, credentials": Reader(("engine.build.config",), words, bombs.words),
    "a kubelet's requests": Reader(("hyperd.cri.image",), kubelet, asked_of_frakti),
    "seccomp profiles of this host": Reader(("hyperd.cri.seccomp",), profile, profiles),
    "docker's config.json": Reader(("images.auth",), docker_config, bombs.jsons),
    "hosts.toml of a registry": Reader(("images.hosts",), hosts_toml, hosts_bombs),
    "a credential helper": Reader(("images.auth",), helper, bombs.jsons),
    "archives of images": Reader(
        ("images.archive", "images.compression", "images.layout", "images.legacy", "images.spool", "images.tar"),
        archive,
        lambda: {**bombs.tars(), **bombs.packed(), **bombs.archives()},
        UNPACKED,
    ),
    "questions for names": Reader(("network.answers", "network.nameserver"), question, bombs.questions),
    "networks and plugins of CNI": Reader(
        ("network.cni.config", "network.cni.plugin", "network.cni.result"), of_cni, cni_bombs
    ),
    "questions for an engine": Reader(("sandbox.resolver",), whole_question, bombs.questions),
    "Dockerfiles": Reader(("engine.build.dockerfile", "hyperd.docker.build"), dockerfiles, dockerfile_bombs),
    "contexts of builds": Reader(("engine.build.context", "engine.build.copy"), contexts, context_bombs, UNPACKED),
    "layers": Reader(("images.unpack",), targets.layers, lambda: {**bombs.tars(), **bombs.packed()}, UNPACKED),
    "tars that cp unpacks": Reader(("hyperctl.unpack",), targets.copies, bombs.tars),
    "tars that cp looks at": Reader(("hyperctl.cp",), look, bombs.tars),
    "frames of the agent": Reader(("agent.wire", "agent.control", "agent.client"), targets.frames, bombs.frames),
    "answers of the agent": Reader(("agent.messages",), targets.answers, bombs.jsons),
    "what an agent says was changed": Reader(
        ("sandbox.archive",),
        sandbox_archive.parse_changes,
        lambda: {"short": b"A/\0" * 100_000, "long": b"A/" + b"x" * 200_000 + b"\0", "none": bytes(100_000)},
    ),
    "QEMU's monitor": Reader(("hypervisor.qemu.qmp",), targets.monitor, bombs.jsons),
    "bodies of requests": Reader(("hyperd.http.params", "sandbox.agent_requests"), targets.bodies, bombs.jsons),
    "queries": Reader(
        ("hyperd.http.params",),
        query,
        lambda: {"repeated": b"filter=a&" * 20_000, "unknown": b"&".join(b"%d=" % n for n in range(50_000))},
    ),
    "what docker's clients send": Reader(
        (
            "hyperd.docker.call",
            "hyperd.docker.filters",
            "hyperd.docker.auth",
            "hyperd.docker.commit",
            "hyperd.docker.platform",
        ),
        docker_requests,
        bombs.jsons,
    ),
    "tars that docker's clients look at": Reader(
        ("hyperd.docker.archive",), lambda data: docker_archive.path_stat(data[: docker_archive.HEAD]), bombs.tars
    ),
    "frames of requests": Reader(
        ("hyperd.rest.frames",),
        requests,
        lambda: {
            "empty": bytes(8) * 100_000,
            "one byte": b"\0\0\0\0\0\0\0\1x" * 50_000,
            "1 GiB": b"\0\0\0\0\x40\0\0\0",
        },
    ),
    "streams of pods": Reader(
        (
            "hyperd.cri.streaming.channels",
            "hyperd.cri.streaming.headers",
            "hyperd.cri.streaming.mux",
            "hyperd.cri.streaming.remote",
            "hyperd.cri.streaming.spdy",
        ),
        streams,
        stream_bombs,
    ),
    "frames that steer": Reader(("hyperd.rest.frames",), steering, bombs.jsons),
    "logs": Reader(("sandbox.rows",), log, bombs.lines),
    "records": Reader(
        (
            "engine.accelerator",
            "engine.checkpoint",
            "engine.events",
            "engine.store",
            "hypervisor.host.rundir",
            "images.index",
            "kernel.bundle",
            "lib.document",
            "storage.volume",
        ),
        records,
        bombs.jsons,
    ),
    "what a kernel says of a network": Reader(
        ("lib.netlink", "network.redirect", "network.rtnetlink"), targets.kernel, bombs.netlink
    ),
    "answers of hyperd": Reader(
        ("client.connection", "client.http", "lib.fastjson", "model.stream"),
        answers_of_hyperd,
        lambda: {**bombs.jsons(), "empty frames": b"\1\0\0\0\0\0\0\0" * 100_000},
    ),
}


def measured(reader: Reader, data: bytes) -> int:
    """Bytes of memory that it takes to read `data`, in this process. The kernel ends us when it takes too long."""
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s(data), resource.RLIM_INFINITY))
    forget_peak()
    before = peak()
    with suppress(HyperError):
        reader.read(data)
    return peak() - before


def cpu_s(data: bytes) -> int:
    return int(CPU_S + CPU_FOR_A_BYTE_S * len(data))


def memory(reader: Reader, data: bytes) -> int:
    return MEMORY + reader.more + MEMORY_FOR_A_BYTE * len(data)


def peak(pid: int | str = "self") -> int:
    """The most memory that a process has had since `forget_peak`, in bytes."""
    words = Path(f"/proc/{pid}/status").read_text().split()
    return int(words[words.index("VmHWM:") + 1]) << 10


def forget_peak(pid: int | str = "self") -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def costs_too_much(reader: Reader) -> str:
    """The first bomb that does, in words, or "". Each in a child of its own, which has no memory from those before."""
    for name, data in reader.bombs().items():
        if (child := os.fork()) == 0:
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            took = measured(reader, data)
            os._exit(0 if took <= memory(reader, data) else 1)
        if status := os.waitpid(child, 0)[1]:
            return f"{name}: {len(data)} bytes, {memory(reader, data)} of memory and {cpu_s(data)} s allowed: {status=}"
    return ""


if __name__ == "__main__":
    for line in sys.stdin:
        print(costs_too_much(READERS[line.strip()]), flush=True)
