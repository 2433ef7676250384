"""Where the clients are that `make interop` brings."""

from tests.conftest import CHECKOUT

CLIENTS = CHECKOUT / ".cache/clients"
