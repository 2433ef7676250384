"""A host that serves a registry: the registry itself, or a mirror of it, and what it wants for authorization."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

import aiohttp
from yarl import URL

from hypercontainer.errors import Denied, HyperError
from hypercontainer.images import transport
from hypercontainer.images.hosts import Capability, Host, Registries
from hypercontainer.images.reference import DEFAULT_DOMAIN, HUB
from hypercontainer.images.token import Tokens
from hypercontainer.images.transport import Request, Retry, TryAgain
from hypercontainer.model.api import Credentials

MIRROR_ATTEMPTS = 2  # of what may be had elsewhere


class RegistryHost(NamedTuple):
    """One way to reach a registry. `base` is where its API begins."""

    session: aiohttp.ClientSession
    base: URL
    insecure: bool
    tokens: Tokens
    retry: Retry
    capabilities: Collection[Capability]
    headers: Mapping[str, str]
    namespace: str  # "": it is the registry itself; a mirror may be one of several, and is told of which

    def url(self, repository: str, path: str) -> URL:
        """Of what is at `path` in a repository."""
        url = self.base.joinpath(*repository.split("/"), *path.split("/"))
        return url.with_query(ns=self.namespace) if self.namespace else url

    @asynccontextmanager
    async def ask(self, request: Request, scope: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer, whatever its status, to a request with the authorization that is wanted. Denied when none will
        do. Credentials and headers of its own go to this host alone, wherever a request is sent to."""
        ours = request.url.origin() == self.base.origin()
        authorization = await self.tokens.header(scope) if ours else ""
        request = request._replace(private=self.headers) if ours else request
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
    domain: str, host: Host, credentials: Credentials | None, retry: Retry
) -> AsyncIterator[RegistryHost]:
    """A connection to one of the hosts of the registry `domain`."""
    tls = await asyncio.to_thread(host.tls.context) if host.tls else None
    name = HUB if domain == DEFAULT_DOMAIN else domain
    async with transport.session(tls) as session:
        url, insecure = host.url, host.insecure
        if url is None:
            insecure = insecure or (is_loopback(name) and tls is None)
            url = URL(f"{await _scheme(session, name, insecure)}://{name}/v2")
        insecure = insecure or url.scheme == "http"
        namespace = "" if url.authority == name else domain
        tokens = Tokens(session, credentials, retry, insecure=insecure)
        yield RegistryHost(session, url, insecure, tokens, retry, host.capabilities, host.headers, namespace)


@asynccontextmanager
async def connect_all(
    domain: str, registries: Registries | None, credentials: Credentials | None, retry: Retry
) -> AsyncIterator[list[RegistryHost]]:
    """Connections to all hosts of the registry `domain`, in the order in which they are asked. Credentials go to the
    registry itself alone, which is the last; a mirror before it is not waited for as long."""
    async with AsyncExitStack() as stack:
        *mirrors, itself = await find(domain, registries)
        soon = retry._replace(attempts=min(retry.attempts, MIRROR_ATTEMPTS))
        ways = [*(connect(domain, host, None, soon) for host in mirrors), connect(domain, itself, credentials, retry)]
        yield [await stack.enter_async_context(way) for way in ways]


async def find(domain: str, registries: Registries | None) -> list[Host]:
    """Hosts of the registry `domain`, itself last."""
    return await asyncio.to_thread((registries or Registries()).hosts, domain)


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
