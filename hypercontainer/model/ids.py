"""Names and ids: what is acceptable as one, and how new ones are made."""

import re
import secrets

from hypercontainer.errors import InvalidInput

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")
HOSTNAME = re.compile(r"(?=.{1,63}$)[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?)*")
HEX = re.compile(r"[0-9a-f]+")


def new_id() -> str:
    """64 hexadecimal digits, as docker's ids."""
    return secrets.token_hex(32)


def new_pod_id() -> str:
    """12 hexadecimal digits: short, because tap devices and socket paths are named after it."""
    return secrets.token_hex(6)


def check_name(what: str, name: str) -> str:
    """Return `name` if it may name a container, pod or volume; a path, an option or "" may not."""
    if not NAME.fullmatch(name):
        raise InvalidInput(f"invalid {what} name {name!r}: use 1 to 63 of [a-zA-Z0-9_.-], the first a letter or digit")
    return name


def check_hostname(name: str) -> str:
    if not HOSTNAME.fullmatch(name):
        raise InvalidInput(f"invalid hostname {name!r}: use labels of [a-zA-Z0-9-], 63 characters at most")
    return name
