"""A kubelet for the whole run, in namespaces of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubelet.apart import apart
from tests.kubelet.node import PROGRAM, Kubelet, node


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.interop)
            if not PROGRAM.is_file():
                item.add_marker(pytest.mark.skip("there is no kubelet: run `make kubelet`"))


@pytest.fixture(scope="session")
def one_kubelet(kernels: Path, busybox_archive: Path) -> Iterator[Kubelet]:
    with apart() as there, node(busybox_archive, there) as kubelet:
        yield kubelet


@pytest.fixture
def kubelet(one_kubelet: Kubelet) -> Iterator[Kubelet]:
    """What a test leaves is removed after it; that all of them have left nothing else is seen at the end."""
    yield one_kubelet
    if one_kubelet.process is None or one_kubelet.process.poll() is not None:
        one_kubelet.start()
    one_kubelet.clear()
