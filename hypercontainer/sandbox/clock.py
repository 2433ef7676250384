"""The guest's clock: it goes at the rate of the host's, from the moment that it was set, but not while the guest is
stopped."""

import logging
import time

from hypercontainer.agent.client import AgentClient
from hypercontainer.errors import HyperError

log = logging.getLogger(__name__)

NEAR_S = 0.04  # how far behind ours it may be
ATTEMPTS = 10  # on a busy host most answers are late: each takes longer then, and only then
ANSWER_S = 2.0  # a guest that is silent longer has other troubles


def near(asked_s: float) -> bool:
    """Whether a clock set by a request of `time.monotonic()` = `asked_s`, answered now, is right: it was told our
    time of the request, so it is behind by what that took to arrive."""
    return time.monotonic() - asked_s <= NEAR_S


async def set_clock(agent: AgentClient) -> None:
    """Set it to ours, again while the guest took long to hear of it. A clock that stays wrong is a warning in the
    log, not an error: its guest runs, and what comes next finds out whether it answers."""
    for _ in range(ATTEMPTS):
        asked_s = time.monotonic()
        try:
            await agent.set_time(time.time_ns(), timeout_s=ANSWER_S)
        except HyperError as e:
            log.warning("cannot set a guest's clock: %s", e)
            return
        if near(asked_s):
            return
    log.warning("a guest's clock may be wrong by more than %d ms: the guest is slow to answer", NEAR_S * 1000)
