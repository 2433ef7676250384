"""A guest's clock: told again while the guest was slow to hear, and never in the way."""

import logging
import time

import pytest

from hypercontainer.agent.client import AgentClient
from hypercontainer.sandbox import clock
from hypercontainer.testing.fake_agent import FakeAgent


def told_ns(agent: FakeAgent) -> list[int]:
    return [int(str(args["time_ns"])) for op, args in agent.requests if op == "time.set"]


async def test_it_is_told_our_time(agent: FakeAgent, client: AgentClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "NEAR_S", 60)
    before = time.time_ns()
    await clock.set_clock(client)
    (told,) = told_ns(agent)
    assert before <= told <= time.time_ns()


async def test_a_slow_guest_is_told_again_and_it_is_said(
    agent: FakeAgent, client: AgentClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(clock, "NEAR_S", -1)
    with caplog.at_level(logging.WARNING):
        await clock.set_clock(client)
    told = told_ns(agent)
    assert len(told) == clock.ATTEMPTS and told == sorted(told)
    assert "clock may be wrong" in caplog.text


async def test_a_silent_guest_is_no_error(
    agent: FakeAgent, client: AgentClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(clock, "ANSWER_S", 0.05)
    agent.unanswered.add("time.set")
    with caplog.at_level(logging.WARNING):
        await clock.set_clock(client)
    assert "cannot set a guest's clock" in caplog.text


def test_near_is_how_long_ago_it_was_asked() -> None:
    assert clock.near(time.monotonic())
    assert not clock.near(time.monotonic() - 2 * clock.NEAR_S)
