"""What to put into Authorization: basic credentials, or bearer tokens from the server that the registry names."""

import asyncio
import base64
import time
from typing import NamedTuple

import aiohttp
import msgspec
from yarl import URL

from hypercontainer.errors import Denied, InvalidInput, Unavailable
from hypercontainer.images import challenge, transport
from hypercontainer.images.reference import HUB
from hypercontainer.images.transport import Retry
from hypercontainer.lib import foreign
from hypercontainer.model.api import Credentials

MAX_ANSWER = 1 << 20
DEFAULT_S = 60.0  # how long a token lives when its server does not say
MARGIN_S = 5.0
CLIENT = "hypercontainer"


class Key(NamedTuple):
    """What a token is for."""

    realm: str
    service: str
    scope: str


class _Answer(msgspec.Struct):
    token: str = ""
    access_token: str = ""
    expires_in: float | None = None


class Tokens:
    """Authorizations of one registry, each asked for once and kept until it ends."""

    def __init__(
        self, session: aiohttp.ClientSession, credentials: Credentials | None, retry: Retry, *, insecure: bool
    ) -> None:
        self._session, self._credentials, self._retry, self._insecure = session, credentials, retry, insecure
        self._tokens: dict[Key, tuple[str, float]] = {}
        self._known: dict[str, Key | str] = {}  # scope -> what the registry asked for last; a str is a whole header
        self._lock = asyncio.Lock()

    async def header(self, scope: str) -> str:
        """What is known to be wanted for `scope`; "" before the first challenge."""
        known = self._known.get(scope, "")
        return known if isinstance(known, str) else f"Bearer {await self._token(known)}"

    async def answer(self, headers: list[str], scope: str, used: str, url: URL) -> str:
        """The Authorization for a 401 from `url` with these WWW-Authenticate headers, other than the one `used`.

        Denied when there is no other: the credentials are missing or wrong.
        """
        offered = {c.scheme: c.parameters for c in reversed(challenge.parse(headers))}
        if "bearer" in offered and (realm := offered["bearer"].get("realm")):
            self._check(realm, url)
            said = offered["bearer"]
            key = Key(realm, said.get("service", ""), said.get("scope", scope))
            if used == f"Bearer {self._tokens.get(key, ('', 0.0))[0]}":
                del self._tokens[key]  # it has been taken back; one new one is asked for
            self._known[scope] = key
        elif "basic" in offered and self._credentials and self._credentials.username:
            self._known[scope] = basic(self._credentials)
        else:
            where = transport.address(url)
            raise Denied(f"{where} wants credentials: log in first ({_login(url)}), or give them with the request")
        header = await self.header(scope)
        if header == used:
            raise Denied(f"{transport.address(url)} refuses these credentials")
        return header

    def _check(self, realm: str, url: URL) -> None:
        """Credentials travel to the realm: no worse protected than to the registry itself."""
        try:
            scheme, inside = URL(realm).origin().scheme, transport.leads_inside(url, URL(realm))
        except ValueError:
            scheme, inside = "", False
        if inside or (scheme != "https" and not (scheme == "http" and (self._insecure or url.scheme == "http"))):
            raise Unavailable(f"cannot log in to {transport.address(url)}: it sends us to {realm[:100]!r} for a token")

    async def _token(self, key: Key) -> str:
        async with self._lock:
            token, ends = self._tokens.get(key, ("", 0.0))
            if time.monotonic() < ends:
                return token
            token, lives_s = await transport.retrying(
                f"get a token from {transport.address(URL(key.realm))}", self._retry, lambda: self._fetch(key)
            )
            self._tokens[key] = token, time.monotonic() + max(lives_s, DEFAULT_S) - MARGIN_S
            return token

    async def _fetch(self, key: Key) -> tuple[str, float]:
        who = self._credentials
        asked = {"service": key.service, "scope": key.scope}
        url, authorization = URL(key.realm), ""
        request = transport.Request("GET", url)
        if who and who.identity_token:
            form = {"grant_type": "refresh_token", "client_id": CLIENT, "refresh_token": who.identity_token, **asked}
            request = transport.Request("POST", url, body=lambda: form)
        else:
            scopes = [("scope", scope) for scope in key.scope.split()]  # of two repositories: one each
            service = [("service", key.service)] if key.service else []
            request = transport.Request("GET", url.update_query([*service, *scopes]))
            authorization = basic(who) if who and who.username else ""
        async with transport.send(
            self._session, request, insecure=self._insecure, authorization=authorization
        ) as response:
            if response.status in (400, 401, 403):
                raise Denied(
                    f"{transport.address(url)} gives no token for {key.scope or 'this'}: wrong or missing credentials"
                )
            data = await transport.body(response, MAX_ANSWER, "a token")
            if not response.ok:
                raise Unavailable(f"cannot get a token from {transport.address(url)}: it answers {response.status}")
        return _read(data, transport.address(url))


def _read(data: bytes, host: str) -> tuple[str, float]:
    try:
        answer = foreign.read(data, _Answer, "a token", MAX_ANSWER)
    except InvalidInput as e:
        raise Unavailable(f"cannot get a token from {host}: its answer makes no sense") from e
    token = answer.token or answer.access_token
    if not token or not token.isascii() or not token.isprintable():
        raise Unavailable(f"cannot get a token from {host}: there is none in its answer")
    return token, min(answer.expires_in or DEFAULT_S, 86400.0)


def _login(url: URL) -> str:
    """The command that a person gives."""
    return "hyperctl login" if url.host == HUB else f"hyperctl login {transport.address(url)}"


def basic(who: Credentials) -> str:
    return "Basic " + base64.b64encode(f"{who.username}:{who.password}".encode()).decode()
