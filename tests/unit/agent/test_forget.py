"""Forgetting a process ends its streams, and no others: stdin 0 means that it has none, not stream 0."""

from pathlib import Path

from hypercontainer.agent import messages as m
from hypercontainer.agent.client import AgentClient
from hypercontainer.testing.fakes import FakeAgent


async def test_the_conversation_goes_on_after_a_process_without_stdin_is_forgotten(tmp_path: Path) -> None:
    agent = FakeAgent()
    agent.add_container("c")
    await agent.serve(tmp_path / "agent.sock")
    client = await AgentClient.connect(tmp_path / "agent.sock", timeout_s=10)
    first = client.new_streams(2)
    streams = m.StreamSet(stdout=first, stderr=first + 1)
    await client.start_process(m.ProcessStart(id="p", container="c", args=["true"], streams=streams))
    assert await client.output(first).read() == b""
    while (await client.list()).processes[0].running:
        pass
    await client.forget_process("p")
    await client.ping(timeout_s=5)
    await client.close()
    await agent.close()
