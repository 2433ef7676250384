"""What an image says of itself, in docker's documents."""

from collections.abc import Iterable
from itertools import chain

import msgspec

from hypercontainer.images.index import Image
from hypercontainer.images.manifest import Config, Healthcheck, History, Process, time_ns
from hypercontainer.lib import clock
from hypercontainer.model import documents as doc

MOST = 365 * 86400 * 10**9  # a year
MISSING = "<missing>"  # docker's word for a layer that is no image of its own


def process(config: Config) -> doc.ProcessConfig:
    """How a container of the image starts. What the image leaves open has docker's empty value."""
    said = config.config or Process()
    return doc.ProcessConfig(
        hostname=said.hostname or "",
        user=said.user or "",
        env=said.env or [],
        cmd=said.cmd,
        entrypoint=said.entrypoint,
        working_dir=said.working_dir or "",
        labels=said.labels or {},
        exposed_ports={port: {} for port in said.exposed_ports or {}},
        volumes={volume: {} for volume in said.volumes or {}},
        stop_signal=said.stop_signal or "",
        healthcheck=_healthcheck(said.healthcheck),
        on_build=said.on_build or [],
        shell=said.shell or [],
    )


def _healthcheck(said: Healthcheck | None) -> doc.HealthConfig | None:
    """Whatever numbers it has: they are bounded, and docker's default where they make no sense."""
    if said is None:
        return None
    return doc.HealthConfig(
        test=said.test or [],
        interval=_bounded(said.interval),
        timeout=_bounded(said.timeout),
        start_period=_bounded(said.start_period),
        start_interval=_bounded(said.start_interval),
        retries=_bounded(said.retries),
    )


def _bounded(number: int | None) -> int:
    return min(max(number or 0, 0), MOST)


def image(image: Image, whole: Config, parent: str = "") -> doc.Image:
    """`hyperctl inspect`. `parent`: the image that it was made of here, while that is there."""
    history = whole.history or []
    return doc.Image(
        id=image.id,
        repo_tags=image.names,
        repo_digests=image.digests,
        parent=parent,
        comment=whole.comment or (history[-1].comment if history else "") or "",
        created=whole.created or clock.rfc3339(0),
        author=whole.author or "",
        config=process(whole),
        architecture=whole.architecture,
        variant=whole.variant or "",
        os=whole.os,
        size=image.size,
        root_fs=doc.RootFs(layers=whole.diff_ids),
        container=whole.container or "",
        container_config=whole.container_config or {},
    )


def entry(image: Image, whole: Config, containers: int) -> doc.ImageEntry:
    """A line of `hyperctl images`; `containers` is docker's -1 when nobody counted them."""
    return doc.ImageEntry(
        id=image.id,
        repo_tags=image.names,
        repo_digests=image.digests,
        created=image.record.created_ns // 1_000_000_000,
        size=image.size,
        labels=process(whole).labels,
        containers=containers,
        platform=str(image.record.platform),
    )


def history(image: Image, whole: Config, parents: Iterable[Image] = ()) -> list[doc.HistoryEntry]:
    """`hyperctl history`: the newest first, instructions that made no layer with size 0.

    `parents`: those that it was made of here, the next one first, each by one instruction less."""
    steps = whole.history or [History() for _ in whole.diff_ids]
    sizes = iter(image.record.sizes)
    made = [(step, 0 if step.empty_layer else next(sizes, 0)) for step in steps]
    out = [
        doc.HistoryEntry(
            id=MISSING,
            created=time_ns(step.created) // 1_000_000_000,
            created_by=step.created_by or "",
            comment=step.comment or "",
            size=size,
            tags=[],
        )
        for step, size in reversed(made)
    ]
    for n, each in zip(range(len(out)), chain([image], parents), strict=False):
        out[n] = msgspec.structs.replace(out[n], id=each.id, tags=each.names)
    return out
