"""The sweep of a hyperd that comes back, while pods end."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from hypercontainer.model.record import NicRecord
from hypercontainer.model.settings import Settings
from hypercontainer.network import bridge, ipam, tap
from hypercontainer.network.bridge_network import BridgeNetwork
from hypercontainer.network.nft import Tables
from hypercontainer.network.store import default


class FakeNft:
    """Knows the chains by the lines that make and delete them."""

    def __init__(self) -> None:
        self.chains: set[str] = set()

    def tables(self, net: object) -> Tables:
        return Tables(frozenset(), frozenset(self.chains), frozenset(self.chains))

    def apply(self, lines: Sequence[str]) -> None:
        for line in lines:
            verb, noun, *_, name = line.split()[:5] if " chain " in line else ("", "", "")
            if (verb, noun) == ("add", "chain"):
                self.chains.add(name)
            elif (verb, noun) == ("delete", "chain"):
                self.chains.discard(name)


async def test_a_pod_that_ends_meanwhile_leaves_no_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, nft = BridgeNetwork(ipam.plan(default(Settings())), tmp_path), FakeNft()
    network._nft = nft  # type: ignore[assignment]
    monkeypatch.setattr(tap, "cut", lambda name: None)
    nics = [
        NicRecord(tap=f"hy{n}", mac=f"02:00:00:00:00:0{n}", addresses=[f"10.0.0.{n}/24"])
        for n in (2, 3)
    ]  # fmt: skip
    nft.chains = {nic.tap for nic in nics}

    async def ports(net: object) -> list[str]:
        await network.remove(nics.pop())  # its guest has ended while we were away
        return []

    monkeypatch.setattr(bridge, "ports", ports)
    await network.sweep(lambda: list(nics))
    assert nft.chains == {"hy2"}
    network.close()
