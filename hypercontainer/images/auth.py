"""Credentials as docker keeps them: ~/.docker/config.json and the credential helpers that it names.

The file is the caller's: hyperctl reads and writes that of its user, hyperd reads that of its own.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from hypercontainer.errors import HyperError, InvalidInput
from hypercontainer.images import reference
from hypercontainer.images.reference import DEFAULT_DOMAIN, HUB
from hypercontainer.lib import files, foreign, proc
from hypercontainer.model.api import Credentials

HUB_KEY = "https://index.docker.io/v1/"
MAX_FILE = 4 << 20
HELPER_S = 30.0
TOKEN_USER = "<token>"  # noqa: S105  what a helper says in place of a name when the secret is an identity token
_HELPER = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}")


class _Auth(msgspec.Struct):
    auth: str = ""
    username: str = ""
    password: str = ""
    identitytoken: str = ""


class DockerConfig(msgspec.Struct, rename={"creds_store": "credsStore", "cred_helpers": "credHelpers"}):
    """What config.json says of credentials; its other keys are none of our business."""

    auths: dict[str, _Auth] = {}
    creds_store: str = ""
    cred_helpers: dict[str, str] = {}


class _Answer(msgspec.Struct, rename="pascal"):
    username: str = ""
    secret: str = ""


def domain_of(server: str) -> str:
    """The registry that a person names at login: HOST[:PORT], or a URL of it; "" is Docker Hub. InvalidInput."""
    domain = host(server) or DEFAULT_DOMAIN
    if domain in keys(DEFAULT_DOMAIN):
        return DEFAULT_DOMAIN
    if reference.parse(f"{domain}/name").domain != domain:
        raise InvalidInput(f"invalid registry {server!r}: give its HOST:PORT, or a host name with a dot in it")
    return domain


async def credentials(config: Path, domain: str, *, env: Mapping[str, str] | None = None) -> Credentials | None:
    """What the user's docker would use for registry `domain`; None when nothing is kept for it.

    `config` is the path of a config.json, which need not exist; `env` is for the helper. InvalidInput when the file
    or a helper's answer cannot be read.
    """
    said = read(_content(config), str(config))
    if helper := helper_for(said, domain):
        return await _ask(helper, domain, env)
    return find(said, domain)


async def keep(config: Path, domain: str, given: Credentials, *, env: Mapping[str, str] | None = None) -> bool:
    """Keep the user's credentials for registry `domain`. True: in the file, where they can be read; False: a helper
    has them. HyperError when that fails."""
    document, key = _document(config), keys(domain)[0]
    auths = document["auths"] = document.get("auths") or {}
    if helper := helper_for(read(_content(config), str(config)), domain):
        secret = {"ServerURL": key, "Username": given.username, "Secret": given.password}
        await _helper(helper, "store", msgspec.json.encode(secret), domain, env)
        auths[key] = {}
    else:
        auths[key] = {"auth": base64.b64encode(f"{given.username}:{given.password}".encode()).decode()}
    _write(config, document)
    return not helper


async def forget(config: Path, domain: str, *, env: Mapping[str, str] | None = None) -> bool:
    """Keep nothing for registry `domain` any more. False: nothing was kept."""
    document, wanted = _document(config), keys(domain)
    auths = document.get("auths") or {}
    found = [key for key in auths if key in wanted or host(key) in wanted]
    if helper := helper_for(read(_content(config), str(config)), domain):
        if not found and await _ask(helper, domain, env) is None:
            return False
        await _helper(helper, "erase", wanted[0].encode(), domain, env)
    for key in found:
        del auths[key]
    if found:
        _write(config, document)
    return bool(found or helper)


def _content(config: Path) -> bytes:
    """The file's; b"" where there is none."""
    try:
        return files.beginning(config, MAX_FILE + 1)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as e:
        raise InvalidInput(f"cannot read {config}: {e.strerror}") from e


def _document(config: Path) -> dict[str, Any]:
    """All of it, to be written again: docker keeps more in there than we know of."""
    data = _content(config)
    read(data, str(config))
    document = foreign.loose(data or b"{}", str(config), MAX_FILE)
    return document if isinstance(document, dict) else {}  # null


def _write(config: Path, document: dict[str, Any]) -> None:
    path = config.resolve()  # people keep it elsewhere, behind a link
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.replace(path, msgspec.json.format(msgspec.json.encode(document), indent=4) + b"\n")
    except OSError as e:
        raise HyperError(f"cannot write {config}: {e.strerror}") from e


def read(data: bytes, name: str = "config.json") -> DockerConfig:
    return foreign.read(data or b"{}", DockerConfig, name, MAX_FILE)


def keys(domain: str) -> list[str]:
    """Under what a registry's credentials may be kept, the usual key first."""
    if domain == DEFAULT_DOMAIN:
        return [HUB_KEY, "index.docker.io", DEFAULT_DOMAIN, HUB]
    return [domain]


def helper_for(said: DockerConfig, domain: str) -> str:
    """The name of the program docker-credential-NAME that keeps this registry's; "" when none does."""
    name = next((said.cred_helpers[k] for k in keys(domain) if k in said.cred_helpers), said.creds_store)
    if name and not _HELPER.fullmatch(name):
        raise InvalidInput(f"cannot use credential helper {name[:80]!r}: that is no program's name")
    return name


def host(key: str) -> str:
    """The registry that a key of `auths` stands for: docker wrote URLs at times."""
    return key.removeprefix("https://").removeprefix("http://").partition("/")[0]


def find(said: DockerConfig, domain: str) -> Credentials | None:
    """What `auths` keeps for the registry."""
    wanted = keys(domain)
    entry = next((said.auths[k] for k in wanted if k in said.auths), None)
    if entry is None:
        entry = next((auth for key, auth in said.auths.items() if host(key) in wanted), None)
    if entry is None:
        return None
    username, password = entry.username, entry.password
    if entry.auth:
        username, password = decode(entry.auth)
    if not username and not entry.identitytoken:
        return None
    return Credentials(username=username, password=password, identity_token=entry.identitytoken)


def decode(auth: str) -> tuple[str, str]:
    """(name, password) out of base64 of "name:password"."""
    try:
        text = base64.b64decode(auth, validate=True).decode()
    except (binascii.Error, ValueError) as e:
        raise InvalidInput("cannot read the kept credentials: an auth is not base64 of text") from e
    username, colon, password = text.partition(":")
    if not colon:
        raise InvalidInput("cannot read the kept credentials: an auth has no colon in it")
    return username, password.strip("\0")  # docker pads with NULs


async def _ask(helper: str, domain: str, env: Mapping[str, str] | None) -> Credentials | None:
    said = await _helper(helper, "get", keys(domain)[0].encode(), domain, env)
    if said is None:
        return None
    try:
        answer = foreign.read(said, _Answer, "its answer", MAX_FILE)
    except InvalidInput as e:
        raise InvalidInput(f"cannot get credentials for {domain}: docker-credential-{helper} answered nonsense") from e
    if answer.username == TOKEN_USER:
        return Credentials(identity_token=answer.secret)
    return Credentials(username=answer.username, password=answer.secret)


async def _helper(helper: str, verb: str, stdin: bytes, domain: str, env: Mapping[str, str] | None) -> bytes | None:
    """What the program says; None: that it keeps nothing for this registry."""
    program = f"docker-credential-{helper}"
    result = await proc.run([program, verb], stdin=stdin, timeout_s=HELPER_S, check=False, env=env)
    if not result.status:
        return result.stdout
    said = (result.stdout + result.stderr).decode(errors="replace").strip()
    if "credentials not found" in said:
        return None
    raise HyperError(f"cannot {verb} credentials for {domain}: {program}: {said[-500:] or result.status}")
