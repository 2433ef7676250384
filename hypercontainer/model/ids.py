"""Names and ids: what is acceptable as one, and how new ones are made."""

import re
import secrets

from hypercontainer.errors import InvalidInput

MAX_NAME = 255  # as of a file: a volume's folder has its name. Docker bounds none, and programs make them of digests
NAME = re.compile(rf"[a-zA-Z0-9][a-zA-Z0-9_.-]{{0,{MAX_NAME - 1}}}")
MAX_LABEL = 63  # of names that are hostnames, or parts of paths
HOSTNAME = re.compile(r"(?=.{1,63}$)[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?)*")


def new_id() -> str:
    """64 hexadecimal digits, as docker's ids."""
    return secrets.token_hex(32)


def new_pod_id() -> str:
    """12 hexadecimal digits: short, because tap devices and socket paths are named after it."""
    return secrets.token_hex(6)


def check_name(what: str, name: str, longest: int = MAX_NAME) -> str:
    """Return `name` if it may name something of that kind; a path, an option or "" may not."""
    if not NAME.fullmatch(name) or len(name) > longest:
        words = f"use 1 to {longest} of [a-zA-Z0-9_.-], the first a letter or digit"
        raise InvalidInput(f"invalid {what} name {name[: MAX_NAME + 1]!r}: {words}")
    return name


def check_hostname(name: str) -> str:
    if not HOSTNAME.fullmatch(name):
        raise InvalidInput(f"invalid hostname {name!r}: use labels of [a-zA-Z0-9-], 63 characters at most")
    return name
