"""The table: every path of the API, who may call it, what it takes and what it answers.

Parsing, checks and OpenAPI come from it.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from hypercontainer.hyperd.http.call import Call, Lines, Raw, Route
from hypercontainer.hyperd.rest import (
    containers,
    execs,
    factory,
    images,
    kernels,
    pods,
    snapshots,
    streams,
    system,
    volumes,
)
from hypercontainer.hyperd.rest.call import FilterQuery, Nothing, PruneQuery
from hypercontainer.hyperd.rest.containers import ListQuery, RemoveQuery, ResizeQuery, StopQuery
from hypercontainer.hyperd.rest.images import ImageQuery
from hypercontainer.model import documents as doc
from hypercontainer.model.principal import Role
from hypercontainer.model.spec import Commit, ContainerSpec, ContainerUpdate, ExecSpec, PodSpec


async def openapi(call: Call[Nothing, None]) -> msgspec.Raw:
    from hypercontainer.hyperd.rest.openapi import document  # only those who ask pay for it

    return msgspec.Raw(msgspec.json.encode(document(ROUTES)))


ANYONE, USER, ADMIN = Role

# fmt: off
ROUTES: Sequence[Route[Any, Any]] = (
    # the system
    Route(method="GET", path="/v1/ping", access=ANYONE, handler=system.ping, query=Nothing, answer=system.Pong,
          summary="Is the daemon able to work?"),
    Route(method="GET", path="/v1/version", access=ANYONE, handler=system.version, query=Nothing, answer=doc.Version,
          summary="Versions of the daemon, its API and its surroundings"),
    Route(method="GET", path="/v1/info", access=USER, handler=system.info, query=Nothing, answer=doc.Info,
          summary="The host, the engine's counts, and the isolation level"),
    Route(method="GET", path="/v1/openapi.json", access=ANYONE, handler=openapi, query=Nothing, answer=dict[str, Any],
          summary="This API, described by OpenAPI 3.1"),
    Route(method="GET", path="/v1/doctor", access=USER, handler=system.doctor, query=Nothing, answer=doc.Doctor,
          lasting=True, summary="Prove by running what works on this host"),
    Route(method="GET", path="/v1/events", access=USER, handler=system.events, query=system.EventsQuery,
          answer=Lines(doc.Event), lasting=True, summary="What happens, as it happens"),
    # containers
    Route(method="GET", path="/v1/containers", access=USER, handler=containers.entries,
          query=containers.ContainersQuery, answer=list[doc.ContainerEntry], summary="List containers"),
    Route(method="POST", path="/v1/containers", access=USER, handler=containers.create, query=Nothing, body=PodSpec,
          answer=doc.Created, summary="Create a container with a VM of its own"),
    Route(method="GET", path="/v1/containers/{c}", access=USER, handler=containers.inspect, query=containers.SizeQuery,
          answer=doc.Container, summary="Inspect a container"),
    Route(method="DELETE", path="/v1/containers/{c}", access=USER, handler=containers.remove, query=RemoveQuery,
          summary="Remove a container"),
    Route(method="POST", path="/v1/containers/{c}/start", access=USER, handler=containers.start, query=Nothing,
          summary="Start a container; boots its VM if need be"),
    Route(method="POST", path="/v1/containers/{c}/stop", access=USER, handler=containers.stop, query=StopQuery,
          summary="Stop a container: its stop signal, the time-out in seconds, SIGKILL"),
    Route(method="POST", path="/v1/containers/{c}/restart", access=USER, handler=containers.restart, query=StopQuery,
          summary="Stop and start a container"),
    Route(method="POST", path="/v1/containers/{c}/kill", access=USER, handler=containers.kill,
          query=containers.KillQuery, summary="Signal a container's first process"),
    Route(method="POST", path="/v1/containers/{c}/pause", access=USER, handler=containers.pause, query=Nothing,
          summary="Stop the VM's CPUs"),
    Route(method="POST", path="/v1/containers/{c}/unpause", access=USER, handler=containers.unpause, query=Nothing,
          summary="Let the VM's CPUs go on"),
    Route(method="POST", path="/v1/containers/{c}/fork", access=USER, handler=snapshots.fork, query=Nothing,
          body=snapshots.ForkBody, body_optional=True, answer=doc.Forked,
          summary="Make running copies of a container that go on where it is"),
    Route(method="POST", path="/v1/containers/{c}/suspend", access=USER, handler=snapshots.suspend, query=Nothing,
          summary="Put a container's VM on disk, and free its memory"),
    Route(method="POST", path="/v1/containers/{c}/resume", access=USER, handler=snapshots.resume, query=Nothing,
          summary="Let a suspended container go on"),
    Route(method="GET", path="/v1/checkpoints", access=USER, handler=snapshots.entries,
          query=snapshots.CheckpointsQuery, answer=list[doc.Checkpoint],
          summary="List checkpoints, of one container or of all"),
    Route(method="POST", path="/v1/containers/{c}/checkpoints", access=USER, handler=snapshots.create, query=Nothing,
          body=snapshots.CheckpointBody, summary="Keep a container's VM and disk as they are now"),
    Route(method="DELETE", path="/v1/containers/{c}/checkpoints/{k}", access=USER, handler=snapshots.remove,
          query=Nothing, summary="Remove a checkpoint"),
    Route(method="POST", path="/v1/containers/{c}/checkpoints/{k}/restore", access=USER, handler=snapshots.restore,
          query=snapshots.RestoreQuery, answer=doc.Created,
          summary="Have a container go on from a checkpoint: itself, or with ?name a new one"),
    Route(method="POST", path="/v1/containers/{c}/rename", access=USER, handler=containers.rename,
          query=containers.RenameQuery, summary="Give a container another name"),
    Route(method="POST", path="/v1/containers/{c}/update", access=USER, handler=containers.update, query=Nothing,
          body=ContainerUpdate, answer=doc.Updated, summary="Give a container other sizes or another restart policy"),
    Route(method="POST", path="/v1/containers/{c}/wait", access=USER, handler=containers.wait,
          query=containers.WaitQuery,
          answer=doc.WaitResult, lasting=True,
          summary="Wait until a container does not run, or has been removed; its exit status"),
    Route(method="POST", path="/v1/containers/{c}/resize", access=USER, handler=containers.resize, query=ResizeQuery,
          summary="Set the size of a container's terminal"),
    Route(method="GET", path="/v1/containers/{c}/top", access=USER, handler=containers.top, query=containers.TopQuery,
          answer=doc.Top, summary="Processes of a container"),
    Route(method="GET", path="/v1/containers/{c}/logs", access=USER, handler=streams.logs, query=streams.LogsQuery,
          answer=Lines(doc.LogEntry), lasting=True, summary="What a container wrote"),
    Route(method="GET", path="/v1/containers/{c}/stats", access=USER, handler=streams.stats, query=streams.StatsQuery,
          answer=Lines(doc.Stats), lasting=True, summary="What a container uses: one sample, or one a second"),
    Route(method="POST", path="/v1/containers/{c}/attach", access=USER, handler=streams.attach,
          query=streams.AttachQuery, answer=Raw.STREAM,
          summary="Tie to the streams of a container's first process; may start it"),
    Route(method="POST", path="/v1/containers/{c}/exec", access=USER, handler=execs.run, query=Nothing,
          body=ExecSpec, answer=Raw.STREAM,
          summary="Start one more process in a container: a stream, or its id when detached"),
    Route(method="GET", path="/v1/exec/{id}", access=USER, handler=execs.inspect, query=Nothing, answer=doc.Exec,
          summary="Inspect an exec"),
    Route(method="POST", path="/v1/exec/{id}/resize", access=USER, handler=execs.resize, query=ResizeQuery,
          summary="Set the size of an exec's terminal"),
    Route(method="GET", path="/v1/containers/{c}/archive", access=USER, handler=streams.archive_get,
          query=streams.ArchiveQuery, answer=Raw.TAR, lasting=True, summary="A tar of a path in a container"),
    Route(method="PUT", path="/v1/containers/{c}/archive", access=USER, handler=streams.archive_put,
          query=streams.ArchiveQuery, body=Raw.TAR, lasting=True, summary="Unpack a tar below a folder of a container"),
    Route(method="POST", path="/v1/containers/{c}/commit", access=USER, handler=containers.commit, query=Nothing,
          body=Commit, body_optional=True, answer=doc.ImageRef, lasting=True,
          summary="Make an image of a container and what it has made of its files"),
    Route(method="GET", path="/v1/containers/{c}/changes", access=USER, handler=containers.changes, query=Nothing,
          answer=list[doc.Change], lasting=True, summary="What a container has made of its image"),
    Route(method="GET", path="/v1/containers/{c}/export", access=USER, handler=streams.export, query=Nothing,
          answer=Raw.TAR, lasting=True, summary="A tar of a container's whole file system"),
    # pods
    Route(method="GET", path="/v1/pods", access=USER, handler=pods.entries, query=ListQuery, answer=list[doc.PodEntry],
          summary="List pods"),
    Route(method="POST", path="/v1/pods", access=USER, handler=pods.create, query=Nothing, body=PodSpec,
          answer=doc.Created, summary="Create a pod and its containers"),
    Route(method="GET", path="/v1/pods/{p}", access=USER, handler=pods.inspect, query=Nothing, answer=doc.Pod,
          summary="Inspect a pod"),
    Route(method="DELETE", path="/v1/pods/{p}", access=USER, handler=pods.remove, query=RemoveQuery,
          summary="Remove a pod and its containers"),
    Route(method="POST", path="/v1/pods/{p}/containers", access=USER, handler=pods.add, query=Nothing,
          body=ContainerSpec, answer=doc.Created, summary="Create a container in a pod"),
    Route(method="POST", path="/v1/pods/{p}/start", access=USER, handler=pods.start, query=Nothing,
          summary="Boot a pod and start its containers, in order"),
    Route(method="POST", path="/v1/pods/{p}/stop", access=USER, handler=pods.stop, query=StopQuery,
          summary="Stop a pod's containers and its VM"),
    Route(method="POST", path="/v1/pods/{p}/pause", access=USER, handler=pods.pause, query=Nothing,
          summary="Stop the VM's CPUs"),
    Route(method="POST", path="/v1/pods/{p}/unpause", access=USER, handler=pods.unpause, query=Nothing,
          summary="Let the VM's CPUs go on"),
    # images
    Route(method="GET", path="/v1/images", access=USER, handler=images.entries, query=FilterQuery,
          answer=list[doc.ImageEntry], summary="List images"),
    Route(method="DELETE", path="/v1/images", access=USER, handler=images.remove, query=images.RemoveImageQuery,
          answer=list[doc.ImageRemoved], summary="Remove a name of an image, and the image with its last one"),
    Route(method="GET", path="/v1/images/inspect", access=USER, handler=images.inspect, query=ImageQuery,
          answer=doc.Image, summary="Inspect an image"),
    Route(method="GET", path="/v1/images/history", access=USER, handler=images.history, query=ImageQuery,
          answer=list[doc.HistoryEntry], summary="How an image was made"),
    Route(method="POST", path="/v1/images/pull", access=USER, handler=images.pull, query=Nothing, body=images.PullBody,
          answer=Lines(doc.Progress, doc.ImagesDone), lasting=True, summary="Fetch an image from a registry"),
    Route(method="POST", path="/v1/login", access=USER, handler=images.login, query=Nothing, body=images.LoginBody,
          lasting=True, summary="Does a registry take these credentials? Nothing is kept"),
    Route(method="POST", path="/v1/images/load", access=USER, handler=images.load, query=Nothing, body=Raw.TAR,
          answer=Lines(doc.Progress, doc.ImagesDone), lasting=True,
          summary="Take images out of a tar (docker archive or OCI layout, compressed or not)"),
    Route(method="GET", path="/v1/images/save", access=USER, handler=images.save, query=images.SaveQuery,
          answer=Raw.TAR, lasting=True, summary="Images as a tar"),
    Route(method="POST", path="/v1/images/import", access=USER, handler=images.import_, query=images.ImportQuery,
          body=Raw.TAR, answer=doc.ImageRef, lasting=True, summary="Make an image of a root file system's tar"),
    Route(method="POST", path="/v1/images/tag", access=USER, handler=images.tag, query=images.TagQuery,
          summary="Give an image one more name"),
    Route(method="POST", path="/v1/images/prune", access=USER, handler=images.prune, query=PruneQuery,
          answer=doc.Pruned, summary="Remove images that have no name, or with `all` no container"),
    # volumes
    Route(method="GET", path="/v1/volumes", access=USER, handler=volumes.entries, query=FilterQuery,
          answer=list[doc.Volume], summary="List volumes"),
    Route(method="POST", path="/v1/volumes", access=USER, handler=volumes.create, query=Nothing,
          body=volumes.VolumeBody, body_optional=True, answer=doc.Volume, summary="Create a volume"),
    Route(method="GET", path="/v1/volumes/{v}", access=USER, handler=volumes.inspect, query=Nothing, answer=doc.Volume,
          summary="Inspect a volume"),
    Route(method="DELETE", path="/v1/volumes/{v}", access=USER, handler=volumes.remove, query=volumes.RemoveVolumeQuery,
          summary="Remove a volume"),
    Route(method="POST", path="/v1/volumes/prune", access=USER, handler=volumes.prune, query=PruneQuery,
          answer=doc.Pruned, summary="Remove anonymous volumes, or with `all` every one, that no container has"),
    # kernels
    Route(method="GET", path="/v1/kernels", access=USER, handler=kernels.entries, query=Nothing,
          answer=list[doc.Kernel], summary="List kernel bundles"),
    Route(method="POST", path="/v1/kernels/fetch", access=ADMIN, handler=kernels.fetch, query=Nothing,
          answer=Lines(doc.Progress, doc.KernelDone), lasting=True,
          summary="Fetch the distribution's kernel and make a bundle of it"),
    Route(method="POST", path="/v1/kernels/build", access=ADMIN, handler=kernels.build, query=kernels.BuildQuery,
          answer=Lines(doc.Progress, doc.KernelDone), lasting=True,
          summary="Build our own kernel from the distribution's source and make a bundle of it"),
    Route(method="POST", path="/v1/kernels/use", access=ADMIN, handler=kernels.use, query=kernels.UseQuery,
          summary="Choose the kernel bundle that new VMs boot"),
    # templates
    Route(method="GET", path="/v1/factory", access=USER, handler=factory.show, query=Nothing, answer=doc.Factory,
          summary="Where guests come from: the templates that are kept, the guests that wait"),
    Route(method="POST", path="/v1/factory", access=ADMIN, handler=factory.init, query=Nothing, lasting=True,
          summary="Make the templates and the waiting guests that the settings want; answers when they are there"),
    Route(method="DELETE", path="/v1/factory", access=ADMIN, handler=factory.clear, query=Nothing,
          summary="Let go of all templates and of what waits; guests that are somebody's stay"),
)
# fmt: on
