"""hyperd's API over its unix socket, or from another machine; blocking."""

from __future__ import annotations

from hypercontainer.client.connection import Closed, Connection, Remote, Response
from hypercontainer.lib import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    Query = dict[str, object]

QUICK_S = 60.0  # for what hyperd answers out of its head
SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/:@")


def quote(text: str) -> str:
    """Percent-encode `text` for a path segment (a "/" stays) or a query."""
    return "".join(chr(b) if b in SAFE else f"%{b:02X}" for b in text.encode("utf-8", "surrogateescape"))


def segment(text: str) -> str:
    """`text` as one segment of a path: whatever it holds, it stays one name, and never "." or "..".

    InvalidInput for the empty word: the path would be another call's."""
    if not text:
        from hypercontainer.errors import InvalidInput

        raise InvalidInput("the name is empty")
    quoted = quote(text).replace("/", "%2F")
    return quoted if quoted.strip(".") else quoted.replace(".", "%2E")


def target(path: str, query: Query) -> str:
    """`path` with `query`: lists repeat their key, True is 1, False and None are left out."""
    pairs = [(k, v) for k, many in query.items() for v in (many if isinstance(many, (list, tuple)) else (many,))]
    words = [f"{k}={quote('1' if v is True else str(v))}" for k, v in pairs if v is not None and v is not False]
    return f"{path}?{'&'.join(words)}" if words else path


def unavailable(what: str, cause: OSError | ValueError) -> Exception:
    from hypercontainer.errors import TimedOut, Unavailable

    if isinstance(cause, TimeoutError):
        return TimedOut(f"{what}: hyperd did not answer in time")
    return Unavailable(f"{what}: {getattr(cause, 'strerror', None) or cause}")


class Upgraded:
    """A connection that speaks frames now. `rest` came together with the answer's head."""

    def __init__(self, socket: _socket.socket, rest: bytes) -> None:
        self.socket, self.rest = socket, rest


class Client:
    """A caller of hyperd. Every method raises the engine's errors (client/errors.py), Unavailable if hyperd is gone.

    `address` is the socket's path, or a Remote. `absent` is called once when nobody listens there: it may start a
    hyperd.
    """

    def __init__(self, address: str | Remote, absent: Callable[[OSError], None] | None = None) -> None:
        self.address = address
        self.where = f"unix://{address}" if isinstance(address, str) else str(address)
        self._absent = absent
        self._connection: Connection | None = None
        self.idle: Callable[[int], None] | None = None  # of the connection, see there: of requests from now on

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def another(self) -> Client:
        """A client of the same hyperd with a connection of its own."""
        return Client(self.address)

    def _connect(self) -> Connection:
        try:
            try:
                return Connection(self.address)
            except (FileNotFoundError, ConnectionRefusedError) as e:
                if self._absent is None:
                    raise unavailable(f"no hyperd at {self.where}", e) from e
                start, self._absent = self._absent, None
                start(e)
                return Connection(self.address)
        except OSError as e:
            raise unavailable(f"cannot reach hyperd at {self.where}", e) from e

    def _send(self, head: bytes, body: bytes | Iterable[bytes], timeout_s: float | None) -> Response:
        """Send one request. A connection that hyperd closed while it was idle is replaced, once, for a GET."""
        if self._connection is not None and self._connection.gone():
            self.close()
        while True:
            used = self._connection is not None
            connection = self._connection = self._connection or self._connect()
            connection.socket.settimeout(timeout_s)
            connection.idle = self.idle
            try:
                return self._exchange(connection, head, body)
            except (Closed, BrokenPipeError, ConnectionResetError):
                self.close()
                if not used or not head.startswith(b"GET "):
                    raise

    def _exchange(self, connection: Connection, head: bytes, body: bytes | Iterable[bytes]) -> Response:
        if isinstance(body, bytes):
            connection.send(head + body)
            return Response(connection)
        connection.send(head)
        try:
            for data in body:
                if data:
                    connection.send(b"%x\r\n%b\r\n" % (len(data), data))
            connection.send(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass  # hyperd refused before it had read everything: its answer says why
        return Response(connection)

    def open(
        self,
        method: str,
        path: str,
        query: Query,
        *,
        body: object = None,
        upgrade: bool = False,
        timeout_s: float | None = None,
    ) -> Response:
        """Send a request and return its answer, the body unread. `body`: a document, or an iterable of bytes.

        `timeout_s` bounds each wait for bytes; None: as long as hyperd takes, which bounds its own work.
        """
        streaming = body is not None and not isinstance(body, (dict, list))
        payload = b"" if body is None or streaming else fastjson.dumps(body).encode()
        words = [f"{method} {target(path, query)} HTTP/1.1", "Host: hyperd"]
        if upgrade:
            words += ["Connection: Upgrade", "Upgrade: hyper-stream"]
        if streaming:
            words += ["Content-Type: application/x-tar", "Transfer-Encoding: chunked"]
        elif payload or method in ("POST", "PUT"):
            words += ["Content-Type: application/json", f"Content-Length: {len(payload)}"]
        head = "\r\n".join([*words, "", ""]).encode()
        try:
            response = self._send(head, body if streaming else payload, timeout_s)  # type: ignore[arg-type]
            if response.status < 400:
                return response
            refusal = response.read(1 << 20)
        except (OSError, ValueError) as e:
            self.close()
            raise unavailable(f"cannot {method} {path} at {self.where}", e) from e
        self._settle(response)
        raise self._error(refusal, response.status)

    def _error(self, body: bytes, status: int) -> Exception:
        from hypercontainer.client import errors

        try:
            document = fastjson.loads(body)
        except ValueError:
            document = {"message": f"hyperd answered {status}: {body[:200].decode(errors='replace').strip()}"}
        return errors.error(document, status)

    def _settle(self, response: Response) -> None:
        """Keep the connection only if the answer is off it."""
        if not (response.done and response.keep):
            self.close()

    def call(self, method: str, path: str, query: Query, body: object = None, timeout_s: float | None = None) -> Any:
        """A request that is answered by one document."""
        response = self.open(method, path, query, body=body, timeout_s=timeout_s)
        try:
            document = response.document()
        except (OSError, ValueError) as e:
            self.close()
            raise unavailable(f"cannot {method} {path} at {self.where}", e) from e
        self._settle(response)
        return document

    def get(self, path: str, /, **query: object) -> Any:
        return self.call("GET", path, query, timeout_s=QUICK_S)

    def post(self, path: str, /, body: object = None, **query: object) -> Any:
        return self.call("POST", path, query, body)

    def delete(self, path: str, /, **query: object) -> Any:
        return self.call("DELETE", path, query)

    def _body(self, path: str, response: Response, pieces: Iterator[Any]) -> Iterator[Any]:
        try:
            yield from pieces
            self._settle(response)
        except (OSError, ValueError) as e:
            raise unavailable(f"cannot read {path} from {self.where}", e) from e
        finally:
            if not response.done:
                self.close()

    def stream(self, method: str, path: str, /, body: object = None, **query: object) -> Iterator[Any]:
        """A request that is answered by documents as they come, without a time limit.

        Raises at once what hyperd refuses at once, later what it says as its last line ({"error": {…}})."""
        response = self.open(method, path, query, body=body)
        return self._raising(self._body(path, response, response.documents()))

    def _raising(self, documents: Iterator[Any]) -> Iterator[Any]:
        for document in documents:
            if isinstance(document, dict) and document.get("error"):
                from hypercontainer.client import errors

                error = document["error"]
                raise errors.error(error if isinstance(error, dict) else {"message": error})
            yield document

    def download(self, path: str, /, **query: object) -> Iterator[bytes]:
        """The body of a GET, in pieces."""
        response = self.open("GET", path, query)
        return self._body(path, response, response.chunks())

    def upload(self, method: str, path: str, chunks: Iterable[bytes], /, **query: object) -> Any:
        """Send `chunks` as the body; the document that answers, if any."""
        return self.call(method, path, query, chunks)

    def upgrade(self, path: str, /, body: object = None, **query: object) -> Upgraded:
        """POST and take the connection over. The caller closes its socket."""
        response = self.open("POST", path, query, body=body, upgrade=True)
        connection = self._connection
        assert connection is not None  # noqa: S101  open() has used it
        self._connection = None
        if response.status != 101:
            connection.close()
            raise unavailable(f"cannot attach at {path}", ValueError(f"hyperd answered {response.status}"))
        connection.socket.settimeout(None)
        return Upgraded(connection.socket, connection.rest)
