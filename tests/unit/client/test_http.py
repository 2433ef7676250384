import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hypercontainer import errors
from hypercontainer.client import http
from hypercontainer.client.errors import error
from hypercontainer.client.http import Client, segment, target
from hypercontainer.errors import InvalidInput
from tests.unit.hyperctl.fake import FakeHyperd, Lines, Refusal


@pytest.fixture
def client(hyperd: FakeHyperd) -> Iterator[Client]:
    with Client(str(hyperd.path)) as made:
        yield made


def test_targets() -> None:
    assert target("/v1/x", {}) == "/v1/x"
    query: dict[str, object] = {
        "all": True,
        "off": False,
        "none": None,
        "n": 0,
        "filter": ["a=b&c", "d e"],
        "name": "ä/:",
    }
    assert target("/v1/x", query) == "/v1/x?all=1&n=0&filter=a%3Db%26c&filter=d%20e&name=%C3%A4/:"
    assert segment("../x") == "..%2Fx"
    assert segment("..") == "%2E%2E"
    with pytest.raises(InvalidInput, match="the name is empty"):
        segment("")


def test_documents_come_over_one_connection(client: Client, hyperd: FakeHyperd) -> None:
    hyperd.answers["GET", "/v1/a"] = {"n": 1}
    hyperd.answers["POST", "/v1/b"] = None
    assert client.get("/v1/a", all=True) == {"n": 1}
    assert client.post("/v1/b", {"x": "é"}) is None
    assert [(r.method, r.path, r.query, r.body, r.connection) for r in hyperd.requests] == [
        ("GET", "/v1/a", [("all", "1")], b"", 1),
        ("POST", "/v1/b", [], {"x": "é"}, 1),
    ]


@pytest.mark.parametrize(
    ("status", "kind", "expected"),
    [
        (400, "invalid", errors.InvalidInput),
        (409, "already-exists", errors.AlreadyExists),
        (409, "in-use", errors.InUse),
        (403, "permission", errors.Denied),
        (507, "exhausted", errors.Exhausted),
        (503, "unavailable", errors.Unavailable),
        (504, "timeout", errors.TimedOut),
        (502, "guest", errors.GuestError),
        (500, "internal", errors.HyperError),
        (418, "teapot", errors.HyperError),
        (404, "not-found", errors.HyperError),  # no facts: not ours
        (409, "failed-precondition", errors.HyperError),
        (501, "unsupported", errors.HyperError),
    ],
)
def test_refusals_are_the_engines_errors(
    client: Client, hyperd: FakeHyperd, status: int, kind: str, expected: type[errors.HyperError]
) -> None:
    hyperd.answers["GET", "/v1/a"] = Refusal(status, kind, "no such container: x", errno=2)
    with pytest.raises(errors.HyperError) as caught:
        client.get("/v1/a")
    assert type(caught.value) is expected
    assert str(caught.value) == "no such container: x"
    if isinstance(caught.value, errors.GuestError):
        assert caught.value.errno == 2
    hyperd.answers["GET", "/v1/b"] = {}
    assert client.get("/v1/b") == {}  # the connection is still good


def test_a_status_alone_tells_the_kind() -> None:
    assert isinstance(error({}, 403), errors.Denied)
    assert str(error("nonsense", 503)) == "hyperd answered with status 503 and no reason"


def test_lines_come_one_by_one_and_the_last_may_be_an_error(client: Client, hyperd: FakeHyperd) -> None:
    failure = {"error": {"message": "registry is away", "kind": "unavailable"}}
    hyperd.answers["POST", "/v1/images/pull"] = Lines({"id": "a", "action": "x"}, failure)
    lines = client.stream("POST", "/v1/images/pull", {"name": "x"})
    assert next(lines) == {"id": "a", "action": "x"}
    with pytest.raises(errors.Unavailable, match="registry is away"):
        next(lines)


def test_a_body_in_pieces(client: Client, hyperd: FakeHyperd) -> None:
    hyperd.answers["PUT", "/v1/x"] = None
    client.upload("PUT", "/v1/x", iter([b"ab", b"", b"c" * 100_000]), path="/a")
    assert hyperd.requests[0].body == b"ab" + b"c" * 100_000
    hyperd.answers["GET", "/v1/x"] = b"tar" * 100_000
    assert b"".join(client.download("/v1/x")) == b"tar" * 100_000


def test_a_stream_left_early_does_not_spoil_the_next_call(client: Client, hyperd: FakeHyperd) -> None:
    hyperd.answers["GET", "/v1/x"] = b"x" * 1000
    hyperd.answers["GET", "/v1/y"] = {"y": 1}
    pieces = client.download("/v1/x")
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert client.get("/v1/y") == {"y": 1}


class Raw:
    """A server that says what it is told to every connection, then closes it."""

    def __init__(self, path: Path, *answers: bytes) -> None:
        self.path = path
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        self._thread = threading.Thread(target=self._serve, args=(answers,))
        self._thread.start()

    def _serve(self, answers: tuple[bytes, ...]) -> None:
        for answer in answers:
            try:
                sock, _ = self._server.accept()
                with sock:
                    sock.recv(65536)
                    sock.sendall(answer)
            except OSError:
                pass  # the client has heard enough, or the test is over

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._server.close()


@pytest.fixture
def raw(tmp_path: Path) -> Iterator[Callable[..., Client]]:
    servers: list[Raw] = []
    clients: list[Client] = []

    def make(*answers: bytes) -> Client:
        servers.append(Raw(tmp_path / f"{len(servers)}.sock", *answers))
        clients.append(Client(str(servers[-1].path)))
        return clients[-1]

    yield make
    for client in clients:
        client.close()
    for server in servers:
        server.close()


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 2",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        OK + b"Content-Length: 10\r\n\r\n{}",
        OK + b"Content-Length: x\r\n\r\n{}",
        OK + b"Content-Length: 2\r\n\r\n{x",
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}",
        OK + b"X: " + b"x" * 300_000,
    ],
)
def test_a_server_that_talks_nonsense_is_unavailable(raw: Callable[..., Client], answer: bytes) -> None:
    with pytest.raises(errors.Unavailable):
        raw(answer).post("/v1/x")


def test_an_answer_without_a_length_ends_with_the_connection(raw: Callable[..., Client]) -> None:
    client = raw(OK + b'\r\n{"a":1}', OK + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}", OK + b"\r\n3")
    assert client.get("/v1/x") == {"a": 1}
    assert client.get("/v1/x") == {}
    assert client.get("/v1/x") == 3


def test_an_idle_connection_that_was_closed_is_replaced_for_a_get_only(raw: Callable[..., Client]) -> None:
    keeps = OK + b"Content-Length: 2\r\n\r\n{}"
    client = raw(keeps, keeps)
    assert client.get("/v1/x") == {}
    assert client.get("/v1/x") == {}
    client = raw(keeps, b"")
    assert client.get("/v1/x") == {}
    with pytest.raises(errors.Unavailable):
        client.post("/v1/x")  # sent once, by the old connection or by a new one: it may have been done


def test_a_refusal_before_the_body_was_read_is_heard(raw: Callable[..., Client]) -> None:
    refusal = b'HTTP/1.1 507 X\r\nContent-Length: 37\r\n\r\n{"message":"full","kind":"exhausted"}\n'
    client = raw(refusal)
    with pytest.raises(errors.HyperError):
        client.upload("POST", "/v1/images/load", (b"x" * 65536 for _ in range(1000)))


def test_a_document_has_a_largest_size(raw: Callable[..., Client], monkeypatch: pytest.MonkeyPatch) -> None:
    from hypercontainer.client import connection

    monkeypatch.setattr(connection.Response.read, "__defaults__", (100,))
    with pytest.raises(errors.Unavailable, match="more than 100 bytes"):
        raw(OK + b"\r\n" + b"[" + b"1," * 100 + b"1]").get("/v1/x")


def test_nobody_listens(tmp_path: Path) -> None:
    path = str(tmp_path / "none.sock")
    with pytest.raises(errors.Unavailable, match=f"no hyperd at unix://{path}: No such file"):
        Client(path).get("/v1/ping")


def test_absent_is_called_once(tmp_path: Path) -> None:
    calls: list[OSError] = []
    client = Client(str(tmp_path / "none.sock"), calls.append)
    for _ in range(2):
        with pytest.raises(errors.Unavailable):
            client.get("/v1/ping")
    assert [type(call) for call in calls] == [FileNotFoundError]


def test_a_server_that_says_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "QUICK_S", 0.01)
    path = tmp_path / "silent.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        with pytest.raises(errors.TimedOut, match="did not answer in time"), Client(str(path)) as client:
            client.get("/v1/ping")


def test_an_upgrade_hands_over_what_came_with_the_head(raw: Callable[..., Client]) -> None:
    client = raw(b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: hyper-stream\r\n\r\nrest")
    upgraded = client.upgrade("/v1/x")
    assert upgraded.rest == b"rest"
    upgraded.socket.close()
    client = raw(OK + b"Content-Length: 2\r\n\r\n{}")
    with pytest.raises(errors.Unavailable, match="hyperd answered 200"):
        client.upgrade("/v1/x")
