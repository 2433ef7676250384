"""Containers: ContainerConfig -> what the engine is asked for, and what it has -> ContainerStatus."""

import asyncio
import posixpath
from collections.abc import Mapping

from msgspec.structs import replace

from hypercontainer.errors import InvalidInput, NotFound
from hypercontainer.hyperd.cri import cri_pb2 as pb
from hypercontainer.hyperd.cri import mounts, resources, security, users
from hypercontainer.hyperd.cri.image import full
from hypercontainer.hyperd.cri.sandbox import digest, has_labels
from hypercontainer.hyperd.cri.service import Call
from hypercontainer.hyperd.cri.told import Told
from hypercontainer.model.api import Engine
from hypercontainer.model.container import Resources
from hypercontainer.model.kube import ContainerState, KubeContainer, KubeContainerState, KubeIdentity, KubePod
from hypercontainer.model.spec import ContainerSpec

STATE: Mapping[ContainerState, pb.ContainerState] = {
    "created": pb.CONTAINER_CREATED,
    "running": pb.CONTAINER_RUNNING,
    "exited": pb.CONTAINER_EXITED,
}


class Containers:
    def __init__(self, engine: Engine) -> None:
        self._kube, self._images = engine.kube, engine.images
        kube = engine.kube
        self._told = Told(kube.states, kube.containers, lambda found: (found.id, found.state), _listed)

    def calls(self) -> Mapping[str, Call]:
        return {
            "CreateContainer": self.create,
            "StartContainer": self.start,
            "StopContainer": self.stop,
            "RemoveContainer": self.remove,
            "ContainerStatus": self.status,
            "ListContainers": self.list,
            "UpdateContainerResources": self.update,
            "ReopenContainerLog": self.reopen_log,
        }

    async def create(self, request: pb.CreateContainerRequest) -> pb.CreateContainerResponse:
        pod = await self._kube.state(request.pod_sandbox_id)
        asked = wanted(request, pod.pod)
        further = await asyncio.to_thread(security.further, request.config.linux.security_context)
        volumes = mounts.images(request.config.mounts)
        ids = dict(users.ids(request.config.mounts))
        further = replace(further, devices=mounts.devices(request.config.devices), images=volumes, ids=ids)
        further = replace(further, below=dict(mounts.below(request.config.mounts)))
        id = await self._kube.create(pod.id, *asked, further)
        return pb.CreateContainerResponse(container_id=id)

    async def start(self, request: pb.StartContainerRequest) -> pb.StartContainerResponse:
        await self._kube.start(request.container_id)
        return pb.StartContainerResponse()

    async def stop(self, request: pb.StopContainerRequest) -> pb.StopContainerResponse:
        try:
            await self._kube.stop_container(request.container_id, max(0, request.timeout))
        except NotFound:
            pass  # it was removed before
        return pb.StopContainerResponse()

    async def remove(self, request: pb.RemoveContainerRequest) -> pb.RemoveContainerResponse:
        try:
            await self._kube.remove_container(request.container_id)
        except NotFound:
            pass
        return pb.RemoveContainerResponse()

    async def status(self, request: pb.ContainerStatusRequest) -> pb.ContainerStatusResponse:
        return pb.ContainerStatusResponse(status=await self.told(await self._kube.container(request.container_id)))

    async def told(self, found: KubeContainerState) -> pb.ContainerStatus:
        return status(found, await self._ref(found))

    async def _ref(self, found: KubeContainerState) -> str:
        """What people know its image by, which is the pod's `imageID` then: a digest in the repository that it is
        from, or in another one; its id, where it is from none."""
        try:
            image = await self._images.inspect(found.image_id)
        except NotFound:
            return found.image_id
        digests = [full(name) for name in image.repo_digests]
        of_name = [each for each in digests if found.container.image.startswith(each.partition("@")[0])]
        return next(iter([*of_name, *digests]), found.image_id)

    async def list(self, request: pb.ListContainersRequest) -> bytes:
        """A ListContainersResponse."""
        if request.filter.ByteSize():
            return await self._told.matching(lambda found: matches(found, request.filter))
        return await self._told.all()

    async def update(self, request: pb.UpdateContainerResourcesRequest) -> pb.UpdateContainerResourcesResponse:
        there = await self._kube.container(request.container_id)
        await self._kube.update(there.id, resources.changed(request.linux, there.resources))
        return pb.UpdateContainerResourcesResponse()

    async def reopen_log(self, request: pb.ReopenContainerLogRequest) -> pb.ReopenContainerLogResponse:
        await self._kube.reopen_log(request.container_id)
        return pb.ReopenContainerLogResponse()


def wanted(request: pb.CreateContainerRequest, pod: KubePod) -> tuple[KubeContainer, ContainerSpec, Resources]:
    """InvalidInput for what no container here has."""
    config = request.config
    if not config.metadata.name:
        raise InvalidInput("cannot create a container without a name")
    if not config.image.image:
        raise InvalidInput(f"cannot create container {config.metadata.name} without an image")
    if config.image.image.startswith("/"):  # as CRI-O and containerd restore one
        raise InvalidInput(
            f"cannot create container {config.metadata.name} from the archive {config.image.image[:200]!r}: "
            "checkpoints are not restored here; name an image"
        )
    if config.CDI_devices:
        raise InvalidInput(
            f"cannot give device {config.CDI_devices[0].name[:200]!r}: a machine has none of this host's"
        )
    users.check(config.linux.security_context.namespace_options, pod.users)
    container = KubeContainer(
        name=config.metadata.name,
        attempt=config.metadata.attempt,
        labels=dict(config.labels),
        annotations=dict(config.annotations),
        image=config.image.user_specified_image or config.image.image,
        log=_log(pod.logs, config.log_path),
        request=digest(request),
    )
    return container, _spec(config), resources.wanted(config.linux.resources)


def _spec(config: pb.ContainerConfig) -> ContainerSpec:
    return ContainerSpec(
        image=config.image.image,
        entrypoint=list(config.command) or None,
        command=list(config.args) or None,
        env=[f"{each.key}={_text(each.key, each.value)}" for each in config.envs],
        working_dir=config.working_dir or None,
        tty=config.tty,
        open_stdin=config.stdin,
        stdin_once=config.stdin_once,
        mounts=mounts.wanted(config.mounts),
        oom_score_adj=config.linux.resources.oom_score_adj,
        stop_signal=_signal(config.stop_signal),
        log="none",  # of our own: it has the kubelet's
        **security.wanted(config.linux.security_context),
    )


def _text(key: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as e:
        raise InvalidInput(f"cannot set {key[:100]}: its value is no text in UTF-8") from e


def _signal(number: pb.Signal) -> str | None:
    """None: as the image says."""
    if number == pb.SIGNAL_RUNTIME_DEFAULT:
        return None
    return pb.Signal.Name(number).removeprefix("SIGNAL_").replace("PLUS", "+").replace("MINUS", "-")


def _log(folder: str, path: str) -> str:
    """Of a path within its pod's folder; "" where one of both is not said: then nobody reads it."""
    if not folder or not path:
        return ""
    place = posixpath.normpath(posixpath.join(folder, path))
    if not place.startswith(posixpath.normpath(folder) + "/"):
        raise InvalidInput(f"invalid log_path {path[:200]!r}: it leads out of {folder}")
    return place


def matches(found: KubeContainerState, wanted: pb.ContainerFilter) -> bool:
    return (
        found.id.startswith(wanted.id)
        and found.pod.startswith(wanted.pod_sandbox_id)
        and (not wanted.HasField("state") or wanted.state.state == STATE[found.state])
        and has_labels(found.container.labels, wanted.label_selector)
    )


def metadata(container: KubeContainer) -> pb.ContainerMetadata:
    return pb.ContainerMetadata(name=container.name, attempt=container.attempt)


def entry(found: KubeContainerState) -> pb.Container:
    return pb.Container(
        id=found.id,
        pod_sandbox_id=found.pod,
        metadata=metadata(found.container),
        image=pb.ImageSpec(image=found.container.image),
        image_ref=found.image_id,
        image_id=found.image_id,
        state=STATE[found.state],
        created_at=found.created_ns,
        labels=found.container.labels,
        annotations=found.container.annotations,
    )


def _listed(found: KubeContainerState) -> pb.ListContainersResponse:
    return pb.ListContainersResponse(containers=[entry(found)])


def _user(found: KubeIdentity | None) -> pb.ContainerUser | None:
    if found is None:
        return None
    return pb.ContainerUser(linux=pb.LinuxContainerUser(uid=found.uid, gid=found.gid, supplemental_groups=found.groups))


def status(found: KubeContainerState, image_ref: str) -> pb.ContainerStatus:
    return pb.ContainerStatus(
        id=found.id,
        metadata=metadata(found.container),
        state=STATE[found.state],
        created_at=found.created_ns,
        started_at=found.started_ns,
        finished_at=found.finished_ns,
        exit_code=found.exit_code,
        image=pb.ImageSpec(image=found.container.image),
        image_ref=image_ref,
        image_id=found.image_id,
        reason=found.reason,
        message=found.message,
        labels=found.container.labels,
        annotations=found.container.annotations,
        mounts=mounts.told(found.mounts),
        log_path=found.container.log,
        user=_user(found.identity),
        resources=resources.told(found.resources),
    )
