"""Names that are invented for whoever gives none."""

import secrets
from collections.abc import Callable

from hypercontainer.model import ids

LEFT = [
    "brave",
    "calm",
    "clever",
    "eager",
    "fair",
    "gentle",
    "happy",
    "keen",
    "kind",
    "merry",
    "nimble",
    "quick",
    "wise",
]
RIGHT = [
    "badger",
    "crane",
    "egret",
    "falcon",
    "heron",
    "ibis",
    "kestrel",
    "lynx",
    "newt",
    "otter",
    "puffin",
    "raven",
    "wren",
]


def invent(taken: Callable[[str], bool]) -> str:
    """A name such as docker invents: two words, and a number once they are used up."""
    for attempt in range(100):
        name = f"{secrets.choice(LEFT)}_{secrets.choice(RIGHT)}" + (str(secrets.randbelow(1000)) if attempt > 5 else "")
        if not taken(name):
            return name
    return f"container_{ids.new_pod_id()}"
