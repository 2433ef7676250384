"""WWW-Authenticate, as registries send it (RFC 9110, section 11.6.1). Pure."""

import re
from collections.abc import Iterable
from typing import NamedTuple

MAX_HEADER = 8192
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"[\s,]*({_WORD})(?:[ \t]+|$|(?=,))")
_PARAMETER = re.compile(rf'[\s,]*({_WORD})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|({_WORD}))(?=[\s,]|$)')


class Challenge(NamedTuple):
    """What a server wants: `scheme` in lower case, parameters by their names in lower case."""

    scheme: str
    parameters: dict[str, str]


def parse(headers: Iterable[str]) -> list[Challenge]:
    """Every challenge that can be read; what cannot ends its header."""
    found: list[Challenge] = []
    for header in headers:
        text, at = header[:MAX_HEADER], 0
        while scheme := _SCHEME.match(text, at):
            challenge = Challenge(scheme[1].lower(), {})
            at = scheme.end()
            while parameter := _PARAMETER.match(text, at):
                quoted, token = parameter[2], parameter[3]
                value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else token
                challenge.parameters.setdefault(parameter[1].lower(), value)
                at = parameter.end()
            found.append(challenge)
    return found
