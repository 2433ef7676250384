"""A hyperd that kills itself with SIGKILL while it makes or removes a network.

python tests/vm/mortal_network.py STEP [hyperd's flags]
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from hypercontainer.hyperd import main
from hypercontainer.model.record import NetworkRecord
from hypercontainer.network import bridge
from hypercontainer.network.bridge_network import BridgeNetwork
from hypercontainer.network.nft import Nft
from hypercontainer.network.store import NetworkStore


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_after(owner: Any, name: str) -> None:
    before = getattr(owner, name)

    async def done(*args: object) -> None:
        await before(*args)
        die()

    setattr(owner, name, done)


def die_after_rules(self: Nft, lines: list[str]) -> None:
    apply(self, lines)
    die()


apply = Nft.apply
STEPS: dict[str, Callable[[], None]] = {
    "recorded": lambda: setattr(BridgeNetwork, "ensure", die),
    "bridge": lambda: setattr(bridge, "_sysctls", die),
    "rules": lambda: setattr(Nft, "apply", die_after_rules),
    "made": lambda: die_after(BridgeNetwork, "ensure"),
    "unbridged": lambda: die_after(bridge, "remove_link"),
    "destroyed": lambda: die_after(BridgeNetwork, "destroy"),
}


def armed(name: str, step: Callable[[], None]) -> None:
    """From the first call of this verb on that step is the last."""
    verb = getattr(NetworkStore, name)

    async def call(self: NetworkStore, record: NetworkRecord) -> None:
        step()
        await verb(self, record)

    setattr(NetworkStore, name, call)


if __name__ == "__main__":
    chosen = STEPS[sys.argv.pop(1)]
    for name in ("create", "remove"):
        armed(name, chosen)
    sys.exit(main.main())
