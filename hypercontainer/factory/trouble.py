"""Failures in a row, and when to try again: at once at first, ever later then, but always some time."""

import time

LASTING = 3  # failures, after which nobody should wait for the next try
FIRST_S = 0.1  # until the second try; twice as long after each
MOST_S = 60.0


class Trouble:
    """Of one thing that is made again and again. A new one is without any."""

    def __init__(self) -> None:
        self.failures = 0
        self.why = ""
        self._again_s = 0.0  # of the monotonic clock

    @property
    def lasting(self) -> bool:
        return self.failures >= LASTING

    def failed(self, why: str) -> None:
        self.failures += 1
        self.why = why
        self._again_s = time.monotonic() + min(FIRST_S * 2.0 ** min(self.failures - 1, 64), MOST_S)

    def left_s(self) -> float:
        """Until it may be tried again; 0: now."""
        return max(self._again_s - time.monotonic(), 0.0)

    def words(self) -> str:
        if not self.failures:
            return ""
        again = f"in {left_s:.0f} s" if (left_s := self.left_s()) >= 1 else "now"
        often = "once" if self.failures == 1 else f"{self.failures} times in a row"
        return f"failed {often}, tried again {again}: {self.why}"
