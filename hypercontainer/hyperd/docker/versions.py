"""Versions of docker's API: which are spoken here, and how a request says which one its client speaks."""

import re
from typing import Any, NamedTuple

from hypercontainer import __version__
from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.http.call import Call


class Version(NamedTuple):
    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


# docker-py takes a server's newest whatever it is, and 1.52 has no NetworkSettings.IPAddress any more, which programs
# read; a low oldest one costs nothing, and others' high ones broke their users.
OLDEST, NEWEST = Version(1, 24), Version(1, 51)
PREFIX = r"/{version:(v[0-9]{1,3}[.][0-9]{1,3}/)?}"  # of every path: "/v1.41/" or "/", which is the newest
PATTERN = re.compile(r"v(\d+)\.(\d+)/", re.ASCII)
# What every answer says. Builder-Version 2 would be BuildKit.
HEADERS = {
    "Api-Version": str(NEWEST),
    "Docker-Experimental": "false",
    "Ostype": "linux",
    "Server": f"Docker/{__version__} (linux)",
}


def of(call: Call[Any, Any]) -> Version:
    """The one that the client speaks. InvalidInput, in the words that clients know, for one that we do not."""
    found = PATTERN.fullmatch(call.names.get("version", ""))
    version = Version(int(found[1]), int(found[2])) if found else NEWEST
    if version > NEWEST:
        raise InvalidInput(f"client version {version} is too new. Maximum supported API version is {NEWEST}")
    if version < OLDEST:
        raise InvalidInput(
            f"client version {version} is too old. Minimum supported API version is {OLDEST}, "
            "please upgrade your client to a newer version"
        )
    return version
