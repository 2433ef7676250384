"""Credentials as docker keeps them: ~/.docker/config.json and the credential helpers that it names."""

import base64
import binascii
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from hypercontainer.errors import HyperError, InvalidInput
from hypercontainer.images.reference import DEFAULT_DOMAIN
from hypercontainer.lib import proc
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


async def credentials(config: Path, domain: str, *, env: Mapping[str, str] | None = None) -> Credentials | None:
    """What the user's docker would use for registry `domain`; None when nothing is kept for it.

    `config` is the path of a config.json, which need not exist; `env` is for the helper. InvalidInput when the file
    or a helper's answer cannot be read.
    """
    try:
        with open(config, "rb") as f:
            data = f.read(MAX_FILE + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as e:
        raise InvalidInput(f"cannot read {config}: {e.strerror}") from e
    said = read(data, str(config))
    if helper := helper_for(said, domain):
        return await _ask(helper, domain, env)
    return find(said, domain)


def read(data: bytes, name: str = "config.json") -> DockerConfig:
    if len(data) > MAX_FILE:
        raise InvalidInput(f"cannot read {name}: it has more than {MAX_FILE} bytes")
    try:
        return msgspec.json.decode(data or b"{}", type=DockerConfig)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as e:
        raise InvalidInput(f"cannot read {name}: {e}") from e


def keys(domain: str) -> list[str]:
    """Under what a registry's credentials may be kept, the usual key first."""
    if domain == DEFAULT_DOMAIN:
        return [HUB_KEY, "index.docker.io", "docker.io", "registry-1.docker.io"]
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
    program = f"docker-credential-{helper}"
    key = keys(domain)[0]
    result = await proc.run([program, "get"], stdin=key.encode(), timeout_s=HELPER_S, check=False, env=env)
    if result.status:
        said = (result.stdout + result.stderr).decode(errors="replace").strip()
        if "credentials not found" in said:
            return None
        raise HyperError(f"cannot get credentials for {domain}: {program}: {said[-500:] or result.status}")
    try:
        answer = msgspec.json.decode(result.stdout, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise InvalidInput(f"cannot get credentials for {domain}: {program} answered nonsense") from e
    if answer.username == TOKEN_USER:
        return Credentials(identity_token=answer.secret)
    return Credentials(username=answer.username, password=answer.secret)
