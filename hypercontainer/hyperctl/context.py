"""What every command is given: the way to hyperd, and the few words that all of them say."""

from __future__ import annotations

import sys

from hypercontainer.client.connection import Remote
from hypercontainer.client.http import Client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DEFAULT_ADDRESS = "/run/hyper.sock"


class Context:
    """`program` is the path that hyperctl was called by. Nothing connects before `client` is used."""

    def __init__(
        self, address: str | Remote, program: str = "hyperctl", environment: dict[str, str] | None = None
    ) -> None:
        self.address, self.program = address, program
        self.environment = environment or {}
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        if self._client is None:
            self._client = Client(self.address, self._start_hyperd if self.address == DEFAULT_ADDRESS else None)
        return self._client

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def _start_hyperd(self, cause: OSError) -> None:
        from hypercontainer.hyperctl import hyperd

        hyperd.start(self.program)


def parse_address(text: str, environment: Mapping[str, str]) -> str | Remote:
    """The socket's path of unix:///run/hyper.sock; or of tcp://HOST:PORT that place, with the certificates which the
    environment names. ValueError for another kind of address."""
    if not text:
        return DEFAULT_ADDRESS
    scheme, found, place = text.partition("://")
    if not found and text.startswith("/"):
        return text
    if scheme == "unix" and place.startswith("/"):
        return place
    host, _, port = place.rpartition(":")
    if scheme == "tcp" and host and port.isascii() and port.isdigit() and len(port) <= 5:
        folder = environment.get("HYPER_CERT_PATH") or f"{environment.get('HOME') or '/root'}/.docker"
        return Remote(host.removeprefix("[").removesuffix("]"), int(port), folder)
    raise ValueError(f"{text!r} is not an address of hyperd: use unix:///path/of/its.sock, or tcp://HOST:PORT")


def complain(message: object) -> None:
    """One line on stderr."""
    print(f"hyperctl: {' '.join(str(message).split())}", file=sys.stderr)


def each(names: list[str], act: Callable[[str], object], *, say: bool = True, absent_ok: bool = False) -> int:
    """Do `act` for every name; one that fails does not stop the others. Prints the names that worked.

    `absent_ok`: a thing that is not there is said, and is no failure, as with docker's rm -f."""
    status = 0
    for name in names:
        try:
            act(name)
        except Exception as e:
            from hypercontainer.errors import HyperError, NotFound  # only now: it imports `typing`

            if not isinstance(e, HyperError):
                raise
            complain(e)
            if not (absent_ok and isinstance(e, NotFound)):
                status = 1
        else:
            if say:
                print(name)
    return status
