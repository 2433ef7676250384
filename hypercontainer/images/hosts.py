"""Hosts that are asked for what a registry has, mirrors and itself: by our settings, or by containerd's hosts.toml."""

import logging
import re
import ssl
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple, get_args

import msgspec
from yarl import URL

from hypercontainer.errors import InvalidInput
from hypercontainer.model import settings

log = logging.getLogger(__name__)

Capability = Literal["pull", "resolve", "push"]  # content by its digest, what a tag means, uploads
ALL = frozenset[Capability](get_args(Capability))
NAME, FALLBACK = "hosts.toml", "_default"
MAX_FILE = 64 << 10
OURS = {"Accept", "Content-Length", "Content-Range", "Content-Type", "Host", "Range", "Transfer-Encoding"}
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[\t\x20-\x7e]*")


class Tls(NamedTuple):
    """Whom a host may be, beside what this machine trusts, and who we are to it. `source` says so."""

    source: Path
    ca: Sequence[Path] = ()
    client: Sequence[tuple[Path, Path]] = ()  # certificate and key, which may be in one file
    skip_verify: bool = False

    def context(self) -> ssl.SSLContext:
        """InvalidInput names the file that is of no use. Reads files."""
        made, file = ssl.create_default_context(), self.source
        try:
            for file in self.ca:
                made.load_verify_locations(file)
            for file, key in self.client:
                made.load_cert_chain(file, key, password="")  # or OpenSSL asks for one on our terminal
        except (OSError, ValueError) as e:
            raise InvalidInput(f"cannot use {file}, which {self.source} names: {str(e)[:300]}") from e
        if self.skip_verify:
            made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
        return made


class Host(NamedTuple):
    """One of them. `url` is where its API begins, /v2 and all; None: where the registry's name says."""

    url: URL | None = None
    capabilities: Collection[Capability] = ALL
    insecure: bool = False  # plain http, or TLS without a certificate that verifies
    tls: Tls | None = None
    headers: Mapping[str, str] = MappingProxyType({})  # for it alone

    def __str__(self) -> str:
        """Where it is, as docker shows mirrors."""
        return f"{str(self.url or '').removesuffix('/v2')}/"

    @property
    def unverified(self) -> bool:
        """Anybody may be it."""
        return self.insecure or bool(self.tls and self.tls.skip_verify) or bool(self.url and self.url.scheme == "http")


class Registries(NamedTuple):
    """How registries are reached. Those that `own` names are reached as that says; of others `config_path` may tell:
    folders, with colons between, that have a folder for each."""

    own: Mapping[str, settings.Registry] = MappingProxyType({})
    config_path: str = ""

    def hosts(self, domain: str) -> list[Host]:
        """Whom to ask, one after the other, the registry itself last. Read anew each time. InvalidInput for what is
        wrong there."""
        if how := self.own.get(domain):
            return [*map(_mirror, how.mirrors), Host(insecure=how.insecure)]
        folder = self._folder(domain)
        if folder is None:
            return [Host()]
        path = folder / NAME
        try:
            with open(path, "rb") as f:
                return read(f.read(MAX_FILE + 1), path)
        except FileNotFoundError:
            log.warning("%s has no %s: it says nothing of %s", folder, NAME, domain)
            return [Host()]
        except OSError as e:
            raise InvalidInput(f"cannot read {path}: {e.strerror}") from e

    def _folder(self, domain: str) -> Path | None:
        """As containerd looks for it: the first that is there."""
        host, colon, port = domain.rpartition(":")
        of_port = [f"{host}_{port}_"] if colon and port.isdigit() else []  # where names have no colons
        for root in filter(None, self.config_path.split(":")):
            if not Path(root).is_dir():
                log.warning("%s, where mirrors of registries are to be, is no folder", root)
            for name in (*of_port, domain, FALLBACK):
                if (found := Path(root, name)).is_dir():
                    return found
        return None


class _Entry(msgspec.Struct):
    """What hosts.toml says of one host."""

    capabilities: list[Capability] = []
    ca: str | list[str] = []
    client: str | list[str | list[str]] = []
    skip_verify: bool = False
    header: dict[str, str | list[str]] = {}
    override_path: bool = False


class _File(_Entry):
    """All of it: of the registry itself, and of its mirrors."""

    server: str = ""
    host: dict[str, _Entry] = {}


def read(data: bytes, source: Path) -> list[Host]:
    """The hosts of a hosts.toml, the registry itself last. InvalidInput; what nobody knows is told in the log."""
    if len(data) > MAX_FILE:
        raise InvalidInput(f"cannot read {source}: it has more than {MAX_FILE} bytes")
    try:
        said = tomllib.loads(data.decode())
        file = msgspec.convert(said, _File)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError, RecursionError) as e:
        raise InvalidInput(f"cannot read {source}: {str(e)[:300]}") from e
    for unknown in _unknown(said):
        log.warning("%s: nobody knows %.100r: it is passed over", source, unknown)
    mirrors = [_host(url, entry, source) for url, entry in file.host.items()]
    return [*mirrors, _host(file.server, file, source)]


def _unknown(said: Mapping[str, object]) -> Iterator[str]:
    """Keys of the file, and of its hosts, that mean nothing."""
    of_file, of_host = set(_File.__struct_fields__), set(_Entry.__struct_fields__)
    yield from sorted(said.keys() - of_file)
    hosts = said.get("host")
    for url, entry in hosts.items() if isinstance(hosts, dict) else ():
        yield from (f"{url}: {key}" for key in sorted(entry.keys() - of_host))


def _host(text: str, entry: _Entry, source: Path) -> Host:
    folder, client = source.parent, [entry.client] if isinstance(entry.client, str) else entry.client
    tls = Tls(
        source,
        [folder / ca for ca in _list(entry.ca)],
        [_pair(each, source) for each in client],
        entry.skip_verify,
    )
    return Host(
        _url(text, source, override=entry.override_path) if text else None,
        frozenset(entry.capabilities) or ALL,
        tls=tls if entry.ca or entry.client or entry.skip_verify else None,
        headers=dict(_headers(entry, source)),
    )


def _list(said: str | list[str]) -> list[str]:
    return [said] if isinstance(said, str) else said


def _pair(said: str | list[str], source: Path) -> tuple[Path, Path]:
    """A file with both, or one of each."""
    names = [name for name in _list(said) if name]
    if not 1 <= len(names) <= 2:
        raise InvalidInput(f"cannot read {source}: `client` is a file, or pairs of a certificate and its key")
    return source.parent / names[0], source.parent / names[-1]


def _url(text: str, source: Path, *, override: bool) -> URL:
    """Where the API begins: /v2 below what the file says, unless it says that itself."""
    try:
        url = URL(text if "://" in text else f"https://{text}")
        url.origin()
    except ValueError:
        url = URL()
    if url.scheme not in ("http", "https") or url.user or url.raw_query_string or url.raw_fragment:
        raise InvalidInput(f"cannot read {source}: {text[:100]!r} is not http://HOST[:PORT] or https://HOST[:PORT]")
    path = url.path.rstrip("/")
    return url if override else url.with_path(path if path.endswith("/v2") else f"{path}/v2")


def _headers(entry: _Entry, source: Path) -> Iterator[tuple[str, str]]:
    for name, said in entry.header.items():
        value = ", ".join(_list(said))
        if not _HEADER.fullmatch(name) or not _VALUE.fullmatch(value):
            raise InvalidInput(f"cannot read {source}: header {name[:100]!r} is none that can be sent")
        if name.title() in OURS:
            log.warning("%s: header %s is ours to say: it is passed over", source, name)
        else:
            yield name.title(), value


def _mirror(text: str) -> Host:
    """One of our settings. InvalidInput for what is no URL."""
    try:
        url = URL(text)
        url.origin()
    except ValueError as e:
        raise InvalidInput(f"invalid mirror {text!r}: give http://HOST[:PORT] or https://HOST[:PORT]") from e
    return Host(url / "v2", frozenset[Capability](("pull", "resolve")))
