"""Credentials that come with a request: X-Registry-Auth, base64 of a JSON document."""

import base64
import binascii

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.docker.call import Body
from hypercontainer.lib import foreign
from hypercontainer.model.api import Credentials

MAX = 1 << 16


class RegistryAuth(Body, frozen=True, kw_only=True):
    username: str = ""
    password: str = ""
    identitytoken: str = ""


def credentials(header: str) -> Credentials | None:
    """None where there are none, and where nobody can read them: dockerd pulls as anybody then."""
    try:
        data = base64.b64decode(header + "=" * (-len(header) % 4), altchars=b"-_")
        said = foreign.read(data or b"{}", RegistryAuth, "X-Registry-Auth", MAX)
    except (binascii.Error, ValueError, InvalidInput):
        return None
    if not (said.username or said.identitytoken):
        return None
    return Credentials(username=said.username, password=said.password, identity_token=said.identitytoken)
