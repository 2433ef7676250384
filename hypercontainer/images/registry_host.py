"""A host that serves a registry: the registry itself, or a mirror of it, and what it wants for authorization."""

import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import aiohttp
from yarl import URL

from hypercontainer.errors import Denied, HyperError, InvalidInput
from hypercontainer.images import transport
from hypercontainer.images.reference import DEFAULT_DOMAIN, HUB
from hypercontainer.images.token import Tokens
from hypercontainer.images.transport import Request, Retry, TryAgain
from hypercontainer.model import settings
from hypercontainer.model.api import Credentials


class RegistryHost(NamedTuple):
    """One way to reach a registry."""

    session: aiohttp.ClientSession
    base: URL
    insecure: bool
    tokens: Tokens

    def url(self, repository: str, path: str) -> URL:
        """Of what is at `path` in a repository."""
        return self.base.joinpath("v2", *repository.split("/"), *path.split("/"))

    @asynccontextmanager
    async def ask(self, request: Request, scope: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer, whatever its status, to a request with the authorization that is wanted. Denied when none will
        do. Credentials go to this host alone, wherever a request is sent to."""
        ours = request.url.origin() == self.base.origin()
        authorization = await self.tokens.header(scope) if ours else ""
        for _ in range(3):
            async with transport.send(
                self.session, request, insecure=self.insecure, authorization=authorization
            ) as response:
                if response.status != 401 or not ours:
                    yield response
                    return
                offered = response.headers.getall("WWW-Authenticate", [])
            authorization = await self.tokens.answer(offered, scope, authorization, self.base)
        raise Denied(f"{transport.address(self.base)} refuses every token that it gave")


@asynccontextmanager
async def connect(
    domain: str, how: settings.Registry, credentials: Credentials | None, retry: Retry
) -> AsyncIterator[RegistryHost]:
    """A connection to the registry itself, no mirror of it."""
    async with transport.session() as session:
        host = HUB if domain == DEFAULT_DOMAIN else domain
        insecure = how.insecure or is_loopback(host)
        scheme = await _scheme(session, host, insecure)
        tokens = Tokens(session, credentials, retry, insecure=insecure)
        yield RegistryHost(session, URL(f"{scheme}://{host}"), insecure, tokens)


def mirror(session: aiohttp.ClientSession, text: str, retry: Retry) -> RegistryHost:
    """Mirrors get no credentials. InvalidInput for what is no URL."""
    try:
        url = URL(text)
        plain = url.origin().scheme == "http"
    except ValueError as e:
        raise InvalidInput(f"invalid mirror {text!r}: give http://HOST[:PORT] or https://HOST[:PORT]") from e
    return RegistryHost(session, url, plain, Tokens(session, None, retry, insecure=plain))


async def _scheme(session: aiohttp.ClientSession, host: str, insecure: bool) -> str:
    """https; for an insecure registry http instead when it does not speak TLS."""
    if not insecure:
        return "https"
    try:
        async with transport.get(session, URL(f"https://{host}/v2/"), {}, insecure=True):
            return "https"
    except (TryAgain, HyperError) as e:
        answered = isinstance(e, TryAgain) and e.__cause__ is None  # a 5xx, by TLS
        return "https" if answered else "http"


def is_loopback(host: str) -> bool:
    """This machine: docker asks for no TLS here."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return name == "localhost"
