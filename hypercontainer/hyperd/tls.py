"""One TLS connection, of the server's side: what asyncio's own TLS has not is the end of one direction alone, by which
docker's clients say that there is no more stdin."""

import asyncio
import socket
import ssl
from contextlib import suppress
from typing import Any

from hypercontainer.errors import InvalidInput
from hypercontainer.model.settings import Door

PIECE = 1 << 16  # bytes at a time
ENOUGH = 2 * PIECE  # that wait to be sent
MAX_NAME = 64


def context(door: Door) -> ssl.SSLContext:
    """What `door` asks of its callers: TLS 1.2 or later, and a certificate of the door's own authority that is valid
    now. InvalidInput when its files cannot be read, or make no sense."""
    made = _usual()
    made.verify_mode = ssl.CERT_REQUIRED
    try:
        made.load_verify_locations(door.tls_ca)
    except (OSError, ssl.SSLError) as e:
        raise InvalidInput(f"cannot open {door.address}: tls_ca {door.tls_ca}: {_why(e)}") from e
    return _certified(made, door.address, door.tls_cert, door.tls_key)


def for_anybody(address: str, cert: str, key: str) -> ssl.SSLContext:
    """TLS 1.2 or later, with that certificate, of callers who prove by other means who they are. InvalidInput."""
    return _certified(_usual(), address, cert, key)


def _usual() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    made.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # who is gone has not said that there are no more bytes
    made.num_tickets = 0  # each connection shows its certificate: one that has expired does not come back by a ticket
    made.set_alpn_protocols(["http/1.1"])
    return made


def _certified(made: ssl.SSLContext, address: str, cert: str, key: str) -> ssl.SSLContext:
    try:
        made.load_cert_chain(cert, key, password=_no_password)
    except (OSError, ssl.SSLError, ValueError) as e:
        raise InvalidInput(f"cannot open {address}: tls_cert {cert}, tls_key {key}: {_why(e)}") from e
    return made


def _no_password() -> str:
    raise ValueError("the key has a password: nobody is there to type it")


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error)


def name(certificate: dict[str, Any] | None) -> str:
    """Whose it is: the common name of its subject, else its serial number."""
    words = {key: value for part in (certificate or {}).get("subject", ()) for key, value in part}
    said = str(words.get("commonName") or (certificate or {}).get("serialNumber", ""))
    return "".join(c if c.isprintable() else "?" for c in said[:MAX_NAME])


class Tls:
    """A connection over `sock`, which does not block and stays its owner's. OSError when it breaks: ssl.SSLError is
    one, also for a peer that is gone without having said so."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._sock = sock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl = context.wrap_bio(self._in, self._out, server_side=True)
        self._sending = asyncio.Lock()

    async def handshake(self) -> str:
        """Whose certificate the peer has, and has proved to have."""
        while True:
            try:
                self._ssl.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
            except ssl.SSLError:
                with suppress(OSError):
                    await self._flush()  # the alert that says why
                raise
            else:
                await self._flush()
                return name(self._ssl.getpeercert())

    async def read(self) -> bytes:
        """Some bytes; b"" when the peer has said that there are no more: it may go on reading.

        A peer that reads nothing stalls `write`, and not this: what it is to hear of (a new key) goes with the next."""
        while True:
            if self._out.pending > ENOUGH:
                await self._flush()  # it goes on asking for new keys
            try:
                return self._ssl.read(PIECE)
            except ssl.SSLWantReadError:
                await self._fill()
            except ssl.SSLZeroReturnError:  # and we have said so, too
                return b""

    async def write(self, data: bytes) -> None:
        while data:
            data = data[self._ssl.write(data) :]
        await self._flush()

    async def end(self) -> None:
        """Say that no more is written."""
        with suppress(ssl.SSLError):  # the peer has not said it yet
            self._ssl.unwrap()
        await self._flush()

    async def _flush(self) -> None:
        async with self._sending:
            while data := self._out.read(PIECE):
                await asyncio.get_running_loop().sock_sendall(self._sock, data)

    async def _fill(self) -> None:
        if data := await asyncio.get_running_loop().sock_recv(self._sock, PIECE):
            self._in.write(data)
        else:
            self._in.write_eof()
