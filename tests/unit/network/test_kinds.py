"""The kinds of networks that need no root."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hypercontainer.errors import HyperError, InvalidInput
from hypercontainer.model.record import NicRecord
from hypercontainer.model.spec import PortMapping
from hypercontainer.network.none import NoNetwork
from hypercontainer.testing.fake_network import FakeNetwork
from hypercontainer.testing.network_contract import NetworkContract, Seen, Vmm


@contextmanager
def a_vmm(nic: NicRecord) -> Iterator[None]:
    yield


@pytest.fixture
def vmm() -> Vmm:
    return a_vmm


class TestFakeNetwork(NetworkContract):
    @pytest.fixture
    def network(self) -> FakeNetwork:
        return FakeNetwork()

    @pytest.fixture
    def seen(self, network: FakeNetwork) -> Seen:
        return lambda: (network.there, dict(network.nics), set(network.plugged))


class TestNoNetwork(NetworkContract):
    @pytest.fixture
    def network(self) -> NoNetwork:
        return NoNetwork()

    @pytest.fixture
    def seen(self) -> Seen:
        return lambda: None


async def test_a_pod_without_a_network_has_no_interface_and_no_port() -> None:
    network = NoNetwork()
    assert await network.plan("p1", [], []) == []
    with pytest.raises(InvalidInput, match="cannot publish ports of a pod without a network"):
        await network.plan("p1", [PortMapping(host_port=80, container_port=80)], [])
    [stranger] = await FakeNetwork().plan("p1", [], [])
    for refused in (network.create, network.plug, network.remove):
        with pytest.raises(HyperError, match="cannot use network interface hyp1"):
            await refused(stranger)
