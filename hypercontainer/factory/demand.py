"""How many guests of a pool would have been enough lately."""

import time
from collections import deque

KEPT_S = 1800.0  # how long what was once needed is reckoned with


class Demand:
    """Of one pool. A new one knows of none."""

    def __init__(self) -> None:
        self._behind = 0  # starts since all that are wanted waited, but for guests made since
        self._peaks: deque[tuple[float, int]] = deque()  # when that was how much: later ones are smaller

    def asked(self) -> None:
        """A start has taken a guest, or would have."""
        self._behind += 1
        while self._peaks and self._peaks[-1][1] <= self._behind:
            self._peaks.pop()
        self._peaks.append((time.monotonic(), self._behind))

    def made(self) -> None:
        """One more waits."""
        self._behind = max(self._behind - 1, 0)

    def met(self) -> None:
        """All that may wait do."""
        self._behind = 0

    def needed(self) -> int:
        """So many would have been enough for all starts of the last half hour."""
        while self._peaks and self._peaks[0][0] < time.monotonic() - KEPT_S:
            self._peaks.popleft()
        return self._peaks[0][1] if self._peaks else 0
