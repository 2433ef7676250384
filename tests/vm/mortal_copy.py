"""An engine that dies at a step of a copy.

    python -m tests.vm.mortal_copy CONFIG STEP VERB

VERB is done to the container "source": fork, suspend, resume, checkpoint, restore (of the checkpoint "kept"). After
STEP of that it kills itself with SIGKILL; a step that never comes is an error.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from hypercontainer.engine.local import LocalEngine
from hypercontainer.model import settings
from tests.vm.mortal import tracing

BOOT = ["prepare", "vmm", "monitor", "clone", "agent", "pod", "identity", "thaw"]
TAKE = ["memory", "freeze", "dump"]
STEPS = {
    "fork": [*TAKE, "disks", "snapshot", *BOOT],
    "suspend": TAKE,
    "resume": BOOT,
    "checkpoint": TAKE,
    "restore": BOOT,
}
VERBS: dict[str, Callable[[LocalEngine], Awaitable[object]]] = {
    "fork": lambda engine: engine.snapshots.fork("source", count=2, name="copy", ports=[]),
    "suspend": lambda engine: engine.snapshots.suspend("source"),
    "resume": lambda engine: engine.snapshots.resume("source"),
    "checkpoint": lambda engine: engine.snapshots.create("source", "new", leave_running=True),
    "restore": lambda engine: engine.snapshots.restore("source", "kept", name=""),
}


async def main(config: str, step: str, verb: str) -> None:
    options = settings.load(Path(config))
    engine = LocalEngine(options, trace=tracing("self", step, Path(options.run)))
    await engine.open()
    await VERBS[verb](engine)
    await engine.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
