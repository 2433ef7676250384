"""Fakes that the tests of several storeys stand on."""

import os
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest

from hypercontainer.agent.client import AgentClient
from hypercontainer.testing.fakes import FakeAgent, FakeHypervisor
from tests.unit.hyperctl.fake import FakeHyperd

EMULATED = os.environ.get("EMULATED")  # by QEMU, program by program: `make unit-arm64`
UNKNOWN = ("function not implemented", "what is there is none")  # system calls, an ioctl (NS_GET_NSTYPE)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What needs a system call that the emulation does not know is listed, and no failure."""
    report = yield
    if EMULATED and report.failed:
        for words in UNKNOWN:
            if words in (report.longreprtext + report.caplog).lower():
                report.outcome, report.wasxfail = "skipped", f"the emulation: {words}"
    return report


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[FakeAgent]:
    """Serving on tmp_path/"agent", with a container "c"."""
    agent = FakeAgent()
    agent.add_container("c")
    await agent.serve(tmp_path / "agent")
    yield agent
    await agent.close()


@pytest.fixture
async def client(agent: FakeAgent, tmp_path: Path) -> AsyncIterator[AgentClient]:
    client = await AgentClient.connect(tmp_path / "agent", timeout_s=10)
    yield client
    await client.close()


@pytest.fixture
async def hypervisor() -> AsyncIterator[FakeHypervisor]:
    hypervisor = FakeHypervisor()
    yield hypervisor
    assert hypervisor.alive == []


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


@pytest.fixture
def hyperd(tmp_path: Path) -> Iterator[FakeHyperd]:
    fake = FakeHyperd(tmp_path / "hyper.sock")
    yield fake
    fake.close()
