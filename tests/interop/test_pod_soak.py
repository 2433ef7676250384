"""A death of hyperd in each call of a pod's life, and pods that come and go together; `python -m
tests.interop.pod_soak` has as many as one likes."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop import pod_soak
from tests.interop.cri import WAITS, calling, of_hyperd
from tests.interop.pod_soak import CALLS, PLUGINS, Deaths, Node, many

pytestmark = [
    pytest.mark.interop,
    pytest.mark.docker,
    pytest.mark.vm,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not Path(PLUGINS).exists(), reason="needs the package containernetworking-plugins"),
]

PODS = int(os.environ.get("PODS", "6"))


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with pod_soak.node() as made:
        yield made


async def test_a_death_in_each_call(node: Node) -> None:
    deaths = Deaths(node, 11)
    await deaths.begin()
    for method in CALLS:
        await deaths.round(method)


async def test_a_pod_that_an_administrator_removes_is_off_its_network(node: Node) -> None:
    async with calling(of_hyperd(node.hyper), node.folder) as cri:
        pod = await cri.pod()
        await cri.started(pod, "one", *WAITS)
        done = node.hyper.ctl("pod", "rm", "-f", "--all-owners", pod)
        assert done.status == 0, done
        assert not (await cri("ListPodSandbox")).items
    node.check_nothing_left()


async def test_pods_that_come_and_go_together_leave_nothing(node: Node) -> None:
    await many(node, PODS)
