"""Every call of this dialect, as docker has them; without the version that a path may begin with."""

from typing import Any

from hypercontainer.hyperd.docker import (
    archive,
    attach,
    build,
    commit,
    config,
    containers,
    events,
    execs,
    images,
    logs,
    missing,
    networks,
    stats,
    system,
    volumes,
)
from hypercontainer.hyperd.docker.call import Nothing
from hypercontainer.hyperd.docker.filters import Filtered
from hypercontainer.hyperd.http.call import Lines, Raw, Route
from hypercontainer.model import documents as doc
from hypercontainer.model.principal import Role

ANYONE, USER = Role.ANYONE, Role.USER
C = "/containers/{c:.+}"  # a name may begin with a slash
I = "/images/{i:.+}"  # noqa: E741  names have slashes
ROWS = Lines(dict, end=b"\r\n")


def get(path: str, handler: Any, query: Any = Nothing, *, answer: object = dict, **named: Any) -> Route[Any, Any]:
    return Route(method="GET", path=path, handler=handler, query=query, answer=answer, summary="", access=USER, **named)


def post(path: str, handler: Any, query: Any = Nothing, body: object = Raw.BYTES, **named: Any) -> Route[Any, Any]:
    """Without a document of its own a body is not looked at: clients send some."""
    return Route(method="POST", path=path, handler=handler, query=query, body=body, summary="", access=USER, **named)


def delete(path: str, handler: Any, query: Any = Nothing, **named: Any) -> Route[Any, Any]:
    return Route(
        method="DELETE", path=path, handler=handler, query=query, body=Raw.BYTES, summary="", access=USER, **named
    )


def anything(path: str, handler: Any, access: Role = USER) -> Route[Any, Any]:
    """Whatever the method is: a refusal."""
    return Route(method="*", path=path, handler=handler, query=Nothing, body=Raw.TAR, summary="", access=access)


def ping(method: Any) -> Route[Any, Any]:
    return Route(method=method, path="/_ping", handler=system.ping, query=Nothing, summary="", access=ANYONE)


# fmt: off
ROUTES: tuple[Route[Any, Any], ...] = (
    ping("HEAD"),
    ping("GET"),
    get("/version", system.version),
    get("/info", system.info),
    get("/events", events.events, events.EventsQuery, answer=Lines(doc.Event), lasting=True),
    get("/system/df", system.df, system.DfQuery),
    post("/auth", system.auth, body=system.AuthConfig, lasting=True),
    get("/plugins", system.no_plugins),
    anything("/{_:(swarm|nodes|services|secrets|configs|tasks)(/.*)?}", system.no_swarm),
    # containers: those without a name first
    post("/containers/create", containers.create, containers.CreateQuery, config.ContainerConfig, status=201),
    get("/containers/json", containers.entries, containers.ListQuery),
    post("/containers/prune", containers.prune, Filtered),
    get(f"{C}/json", containers.show, containers.SizeQuery),
    post(f"{C}/start", containers.start, containers.StartQuery),
    post(f"{C}/stop", containers.stop, containers.StopQuery),
    post(f"{C}/restart", containers.restart, containers.StopQuery),
    post(f"{C}/kill", containers.kill, containers.KillQuery),
    post(f"{C}/wait", containers.wait, containers.WaitQuery, answer=Lines(containers.Ended), lasting=True),
    post(f"{C}/attach", attach.attach, attach.AttachQuery, answer=Raw.STREAM),
    get(f"{C}/attach/ws", attach.websocket, attach.AttachQuery, answer=Raw.WEBSOCKET),
    post(f"{C}/resize", containers.resize, containers.ResizeQuery),
    get(f"{C}/logs", logs.logs, logs.LogsQuery, lasting=True),
    get(f"{C}/top", containers.top, containers.TopQuery),
    get(f"{C}/stats", stats.stats, stats.StatsQuery, answer=Lines(dict), lasting=True),
    get(f"{C}/changes", commit.changes, lasting=True),
    get(f"{C}/export", commit.export, lasting=True),
    anything(f"{C}/checkpoints", missing.checkpoint),
    anything(f"{C}/checkpoints/{{_:.*}}", missing.checkpoint),
    Route(method="HEAD", path=f"{C}/archive", handler=archive.look, query=archive.ArchiveQuery, summary="",
          access=USER, lasting=True),
    get(f"{C}/archive", archive.get, archive.ArchiveQuery, lasting=True),
    Route(method="PUT", path=f"{C}/archive", handler=archive.put, query=archive.PutQuery, body=Raw.TAR, summary="",
          access=USER, lasting=True),
    post(f"{C}/exec", execs.create, body=execs.ExecConfig, status=201),
    post("/exec/{e}/start", execs.start, body=execs.ExecStart, body_optional=True, answer=Raw.STREAM),
    post("/exec/{e}/resize", execs.resize, containers.ResizeQuery),
    get("/exec/{e}/json", execs.show),
    post(f"{C}/update", containers.update, body=config.Sizes),
    post(f"{C}/rename", containers.rename, containers.RenameQuery),
    post(f"{C}/pause", containers.pause),
    post(f"{C}/unpause", containers.unpause),
    delete(C, containers.remove, containers.RemoveQuery),
    post("/commit", commit.commit, commit.CommitQuery, status=201),
    # images
    post("/images/create", images.create, images.CreateQuery, Raw.TAR, answer=ROWS, lasting=True),
    get("/images/json", images.entries, images.ListQuery),
    get("/images/search", images.search),
    get("/images/get", images.save, images.SaveQuery, lasting=True),
    post("/images/load", images.load, images.LoadQuery, Raw.TAR, answer=ROWS, lasting=True),
    post("/images/prune", images.prune, Filtered),
    get(f"{I}/json", images.show, images.OneQuery),
    get(f"{I}/history", images.history, images.OneQuery),
    get(f"{I}/get", images.save_one, images.SaveQuery, lasting=True),
    post(f"{I}/tag", images.tag, images.TagQuery),
    post(f"{I}/push", images.push, images.PushQuery, answer=ROWS, lasting=True),
    delete(I, images.remove, images.RemoveQuery),
    get("/distribution/{i:.+}/json", images.distribution, lasting=True),
    post("/build", build.build, build.BuildQuery, Raw.TAR, answer=ROWS, lasting=True),
    post("/build/prune", missing.no_cache),
    anything("/build/{_:.*}", missing.build),
    # networks and volumes
    get("/networks", networks.entries, Filtered),
    post("/networks/create", networks.create, body=networks.NetworkConfig, status=201),
    post("/networks/prune", networks.prune, Filtered),
    get("/networks/{n}", networks.show),
    delete("/networks/{n}", networks.remove),
    post("/networks/{n}/connect", networks.connect, body=networks.Connection),
    post("/networks/{n}/disconnect", networks.disconnect, body=networks.Disconnection),
    get("/volumes", volumes.entries, Filtered),
    post("/volumes/create", volumes.create, body=volumes.VolumeConfig, body_optional=True, status=201),
    post("/volumes/prune", volumes.prune, Filtered),
    get("/volumes/{v}", volumes.show),
    delete("/volumes/{v}", volumes.remove, volumes.RemoveVolumeQuery),
    Route(method="OPTIONS", path="/{_:.*}", handler=system.options, query=Nothing, summary="", access=ANYONE),
    anything("/{_:.*}", missing.page, ANYONE),
)
# fmt: on
