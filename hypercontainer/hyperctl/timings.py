"""hyperctl run --timings: where a start's time went."""

from __future__ import annotations

import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BAR = 30


def show(info: list[dict[str, Any]], *, create_ms: float, attach_ms: float) -> None:
    """Print hyperd's steps (its info frames) and our own share to stderr."""
    steps = [step for document in info for step in document.get("timings") or []]
    cpu_ms = time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID) * 1e3
    total = max((step["begin_ms"] + step["took_ms"] for step in steps), default=0.0)
    lines = [f"{'STEP':<28}{'BEGIN':>10}{'TOOK':>10}"]
    for step in steps:
        before = int(BAR * step["begin_ms"] / total) if total else 0
        length = max(1, round(BAR * step["took_ms"] / total)) if total else 0
        bar = " " * before + "▇" * length
        lines.append(f"{step['name'][:27]:<28}{step['begin_ms']:>7.1f} ms{step['took_ms']:>7.1f} ms  {bar}".rstrip())
    lines += [
        f"{'start in hyperd, together':<38}{total:>7.1f} ms",
        f"{'hyperctl: create':<38}{create_ms:>7.1f} ms",
        f"{'hyperctl: start to end':<38}{attach_ms:>7.1f} ms",
        f"{'hyperctl: its own CPU':<38}{cpu_ms:>7.1f} ms",
    ]
    print("\n".join(lines), file=sys.stderr)
