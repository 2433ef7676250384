"""`docker build` without BuildKit and without cache, by one client of dockerd and of hyperd: steps that change nothing,
and steps of one file each."""

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.measure import CommandFailed, Series, wall_ms

STEPS = 10
DOCKERFILES = {
    f"{STEPS} x RUN true": "FROM busybox\n" + "RUN true\n" * STEPS,
    f"{STEPS} x RUN echo > file": "FROM busybox\n" + "".join(f"RUN echo {n} > /file{n}\n" for n in range(STEPS)),
}
CLASSIC = {**os.environ, "DOCKER_BUILDKIT": "0"}


class Builds:
    """Of one daemon. `client`: docker's words before any verb; `ready`: waited for before each build."""

    def __init__(
        self, name: str, client: Sequence[str], folder: Path, ready: Callable[[], object] = lambda: None
    ) -> None:
        self._client, self._ready = client, ready
        self._of: dict[Path, Series] = {}
        for number, (what, text) in enumerate(DOCKERFILES.items()):
            context = folder / f"context{number}"
            context.mkdir(parents=True, exist_ok=True)
            (context / "Dockerfile").write_text(text)
            self._of[context] = Series(f"{name} build, {what}")

    def run(self) -> None:
        for context, series in self._of.items():
            self._ready()
            series.samples.append(wall_ms([*self._client, "build", "--no-cache", "-q", str(context)], env=CLASSIC))
        prune = subprocess.run([*self._client, "image", "prune", "-f"], capture_output=True, timeout=120)
        if prune.returncode:
            raise CommandFailed(f"image prune: {prune.stderr.decode(errors='replace')}")

    @property
    def series(self) -> list[Series]:
        return list(self._of.values())
