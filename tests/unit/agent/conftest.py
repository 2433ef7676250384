"""An agent that is not in a guest, and a client for it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hypercontainer.agent.client import AgentClient
from hypercontainer.testing.fake_agent import FakeAgent


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
