"""Bytes that are HTTP no more: what was well-formed, mutated; and what is wrong in one known way."""

import random
from collections.abc import Iterator

from tests.fuzz.__main__ import mutated
from tests.fuzz.door import Request

TCP = {"Connection": "Upgrade", "Upgrade": "tcp"}
STREAM = {**TCP, "Upgrade": "hyper-stream"}
JSON = {"Content-Type": "application/json"}
TAR = {"Content-Type": "application/x-tar"}
WEBSOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}
CHUNK = 9  # bytes

# Well-formed, as clients send it.
SEEDS = {
    "docker": [
        Request("POST", "/v1.41/containers/create?name=other", JSON, b'{"Image":"busybox","HostConfig":{"Memory":0}}'),
        Request("POST", "/containers/box/attach?stream=1&stdin=1&stdout=1&logs=1", TCP, after=b"\0\0\0\0\0\0\0\1x"),
        Request("GET", "/containers/box/attach/ws?stream=1&stdin=1&stdout=1", WEBSOCKET, after=b"\x82\x81abcdx"),
        Request("POST", "/containers/box/exec", JSON, b'{"Cmd":["cat"],"AttachStdin":true,"AttachStdout":true}'),
        Request("POST", "/exec/an-exec/start", {**JSON, **TCP}, b'{"Detach":false,"Tty":false}', after=b"x" * 40),
        Request("PUT", "/containers/box/archive?path=/tmp", TAR, b"a/b".ljust(512, b"\0")),
        Request("GET", "/containers/box/logs?follow=1&stdout=1&since=1.5&tail=3"),
        Request("GET", '/events?filters={"type":{"container":true}}'),
        Request("POST", "/build?t=x&buildargs={}&networkmode=none", TAR, b"Dockerfile".ljust(512, b"\0")),
        Request("POST", "/images/load", TAR, b"\x1f\x8b\x08\0\0\0\0\0\0\3"),
        Request("POST", "/images/create?fromImage=127.0.0.1:1/none&tag=1", {"X-Registry-Auth": "e30="}),
        Request("POST", "/networks/net/connect", JSON, b'{"Container":"made","EndpointConfig":{"Aliases":["a"]}}'),
        Request("POST", "/containers/box/wait?condition=next-exit"),
        Request("HEAD", "/_ping"),
    ],
    "rest": [
        Request("POST", "/v1/containers", JSON, b'{"containers":[{"image":"busybox","command":["true"]}]}'),
        Request(
            "POST", "/v1/containers/box/attach?stdin=true", {**TCP, "Upgrade": "hyper-stream"}, after=b"\0" * 7 + b"\1x"
        ),
        Request(
            "POST",
            "/v1/containers/box/exec",
            {**JSON, **STREAM},
            b'{"command":["cat"],"stdin":true}',
            after=b"\x09" * 30,
        ),
        Request("PUT", "/v1/containers/box/archive?path=/tmp", TAR, b"a/b".ljust(512, b"\0")),
        Request("GET", "/v1/events?since=0&filter=type=container"),
        Request("GET", "/v1/containers?all=true"),
        Request("POST", "/v1/build?tag=x", TAR, b"Dockerfile".ljust(512, b"\0")),
    ],
}


def _head(line: str, *headers: str) -> bytes:
    return "\r\n".join([f"{line} HTTP/1.1", "Host: hyper", *headers, "", ""]).encode()


CREATE = "POST /containers/create"
CHUNKED = ("Content-Type: application/json", "Transfer-Encoding: chunked")
# Each is answered with a 4xx and a message.
REFUSED = {
    "docker": [
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"G\0T /version HTTP/1.1\r\n\r\n",
        _head("FOO /version"),
        _head("GET /version", "no colon"),
        _head("GET /version", "X: a\0b"),
        _head("GET /version", "X: " + "a" * 100_000),
        _head("GET /" + "a" * 100_000),
        _head(CREATE, "Content-Length: x"),
        _head(CREATE, "Content-Length: -1"),
        _head(CREATE, "Content-Length: 1", "Content-Length: 2"),
        _head(CREATE, "Content-Length: 1", "Transfer-Encoding: chunked"),
        _head(CREATE, "Transfer-Encoding: what") + b"{}",
        _head(CREATE, *CHUNKED) + b"xyz\r\n{}\r\n0\r\n\r\n",
        _head(CREATE, *CHUNKED) + b"-1\r\n{}\r\n0\r\n\r\n",
        *map(
            Request.written,
            [
                Request("GET", "/v1.23/version"),
                Request("GET", "/v9.99/info"),
                Request("GET", "/nothing/like/it"),
                Request("POST", "/containers/create", JSON, b'{"Image":'),
                Request("POST", "/containers/create", JSON, b"[" * 100_000),
                Request("POST", "/containers/create", JSON, b"\xff\xfe"),
                Request("POST", "/containers/create", JSON, b'{"Image":"\\ud800"}'),
                Request("POST", "/containers/create", JSON, b'{"Image":"busybox","Cmd":1}'),
                Request("POST", "/containers/create", JSON, b'{"Image":"busybox","HostConfig":{"Memory":1e400}}'),
                Request("POST", "/containers/create", {"Content-Type": "text/plain"}, b'{"Image":"busybox"}'),
                Request("POST", "/containers/create", {**JSON, "Content-Encoding": "gzip"}, b"\x1f\x8b\x08\0"),
                Request("POST", "/containers/create", JSON, b'{"Image":"' + b"a" * (1 << 21) + b'"}'),
                Request("GET", "/containers/box/attach/ws"),
                Request("GET", "/containers/box/attach/ws", {**WEBSOCKET, "Sec-WebSocket-Key": "~"}),
                Request("GET", "/containers/box/attach/ws", {**WEBSOCKET, "Sec-WebSocket-Version": "99"}),
                Request("POST", "/build", TAR, b"no tar" * 200),
                Request("POST", "/build?buildargs=[", TAR, bytes(1024)),
                Request("GET", "/events?filters=[1]"),
                Request("GET", "/containers/json?filters=%ff"),
                Request("GET", "/containers/%00/json"),
            ],
        ),
    ],
    "rest": [
        _head("POST /v1/containers", *CHUNKED) + b"xyz\r\n{}\r\n0\r\n\r\n",
        *map(
            Request.written,
            [
                Request("GET", "/v2/containers"),
                Request("PUT", "/v1/containers"),
                Request("POST", "/v1/containers", JSON),
                Request("POST", "/v1/containers", JSON, b"{}"),
                Request("POST", "/v1/containers", JSON, b"[" * 100_000),
                Request("POST", "/v1/containers", JSON, b'{"containers":[{"image":"busybox","what":1}]}'),
                Request("POST", "/v1/containers/box/start", JSON, b"{}"),
                Request("GET", "/v1/containers?all=true&all=true"),
                Request("GET", "/v1/containers/%2e%2e"),
                Request("POST", "/v1/build", TAR, b"no tar" * 200),
                Request("POST", "/v1/containers/box/attach?what=1", TCP),
            ],
        ),
    ],
}


def inputs(seeds: list[Request], rng: random.Random) -> Iterator[bytes]:
    """For ever what becomes of `seeds`; their heads suffer as often as what follows."""
    written = [request.written() for request in seeds]
    while True:
        request = rng.choice(seeds)
        head, end, body = request.written().partition(b"\r\n\r\n")
        match rng.randrange(4):
            case 0:
                yield bytes(mutated(bytearray(head), rng, written)) + end + body
            case 1:
                yield head + end + bytes(mutated(bytearray(body), rng, written))
            case 2:
                yield _chunked(head) + bytes(mutated(bytearray(_chunks(body)), rng, written))
            case _:
                yield bytes(mutated(bytearray(head + end + body + request.after), rng, written))


def _chunked(head: bytes) -> bytes:
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
    return b"\r\n".join([*lines, b"Transfer-Encoding: chunked", b"", b""])


def _chunks(body: bytes) -> bytes:
    pieces = [body[at : at + CHUNK] for at in range(0, len(body), CHUNK)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
