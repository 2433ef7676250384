"""Pods: PodSandboxConfig -> what the engine is asked for, and what it has -> PodSandboxStatus."""

import hashlib
from collections.abc import Mapping, Sequence

from google.protobuf.message import Message

from hypercontainer.errors import InvalidInput, NotFound
from hypercontainer.hyperd.cri import cri_pb2 as pb
from hypercontainer.hyperd.cri import resources, users
from hypercontainer.hyperd.cri.service import Call
from hypercontainer.hyperd.cri.told import Told
from hypercontainer.lib import clock
from hypercontainer.model.api import Engine
from hypercontainer.model.kube import KubePod, KubePodState
from hypercontainer.model.pod_network import HostPort
from hypercontainer.model.spec import NONE, Dns, EndpointSpec, PodSpec

STATE = {True: pb.SANDBOX_READY, False: pb.SANDBOX_NOTREADY}
OF_NODE = {"network": "hostNetwork", "pid": "hostPID", "ipc": "hostIPC"}


class Sandboxes:
    def __init__(self, engine: Engine) -> None:
        self._kube = engine.kube
        kube = engine.kube
        self._told = Told(kube.readiness, kube.list, lambda pod: (pod.id, pod.ready), _listed)

    def calls(self) -> Mapping[str, Call]:
        return {
            "RunPodSandbox": self.run,
            "StopPodSandbox": self.stop,
            "RemovePodSandbox": self.remove,
            "PodSandboxStatus": self.status,
            "ListPodSandbox": self.list,
            "UpdatePodSandboxResources": self.update,
        }

    async def run(self, request: pb.RunPodSandboxRequest) -> pb.RunPodSandboxResponse:
        return pb.RunPodSandboxResponse(pod_sandbox_id=await self._kube.run(*wanted(request)))

    async def stop(self, request: pb.StopPodSandboxRequest) -> pb.StopPodSandboxResponse:
        try:
            await self._kube.stop(request.pod_sandbox_id)
        except NotFound:
            pass  # it was removed before
        return pb.StopPodSandboxResponse()

    async def remove(self, request: pb.RemovePodSandboxRequest) -> pb.RemovePodSandboxResponse:
        try:
            await self._kube.remove(request.pod_sandbox_id)
        except NotFound:
            pass
        return pb.RemovePodSandboxResponse()

    async def status(self, request: pb.PodSandboxStatusRequest) -> pb.PodSandboxStatusResponse:
        found = await self._kube.state(request.pod_sandbox_id)
        return pb.PodSandboxStatusResponse(status=status(found), timestamp=clock.now_ns())

    async def list(self, request: pb.ListPodSandboxRequest) -> bytes:
        """A ListPodSandboxResponse."""
        if request.filter.ByteSize():
            return await self._told.matching(lambda pod: matches(pod, request.filter))
        return await self._told.all()

    async def update(self, request: pb.UpdatePodSandboxResourcesRequest) -> pb.UpdatePodSandboxResourcesResponse:
        """The overhead is what the machine costs this host beside: no size of it follows from that."""
        resources.wanted(request.resources)  # or it says what no machine has
        await self._kube.enlarge(request.pod_sandbox_id, *resources.machine(request.resources))
        return pb.UpdatePodSandboxResourcesResponse()


def digest(request: Message) -> str:
    """Tells one request from another."""
    return hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest()


def wanted(request: pb.RunPodSandboxRequest) -> tuple[KubePod, PodSpec]:
    """InvalidInput for what no pod here has: it is never left out in silence."""
    config = request.config
    metadata, linux = config.metadata, config.linux
    if not metadata.name or not metadata.namespace or not metadata.uid:
        raise InvalidInput("cannot run a pod without a name, a namespace and a uid")
    if config.log_directory and not config.log_directory.startswith("/"):
        raise InvalidInput(f"invalid log_directory {config.log_directory[:200]!r}: it needs to be an absolute path")
    security = linux.security_context
    check_namespaces(security.namespace_options, "pod")
    check_selinux(security.selinux_options)
    pod = KubePod(
        name=metadata.name,
        uid=metadata.uid,
        namespace=metadata.namespace,
        attempt=metadata.attempt,
        labels=dict(config.labels),
        annotations=dict(config.annotations),
        handler=request.runtime_handler,
        logs=config.log_directory,
        sysctls=dict(linux.sysctls),
        ports=[_port(port) for port in config.port_mappings if port.host_port],
        users=users.wanted(security.namespace_options),
        request=digest(request),
    )
    return pod, _spec(config)


def _port(port: pb.PortMapping) -> HostPort:
    for number in (port.host_port, port.container_port):
        if not 0 < number < 65536:
            raise InvalidInput(f"cannot map port {port.host_port} to {port.container_port}: ports are 1 to 65535")
    return HostPort(port.host_port, port.container_port, pb.Protocol.Name(port.protocol).lower(), port.host_ip)


def _spec(config: pb.PodSandboxConfig) -> PodSpec:
    vcpus, memory_mib = resources.machine(config.linux.resources)
    dns = config.dns_config
    return PodSpec(
        hostname=config.hostname,
        networks=[EndpointSpec(network=NONE)],
        dns=Dns(nameservers=list(dns.servers), search=list(dns.searches), options=list(dns.options)),
        share_pid=config.linux.security_context.namespace_options.pid == pb.POD,  # who says nothing says that
        vcpus=vcpus,
        memory_mib=memory_mib,
    )


def check_namespaces(options: pb.NamespaceOption, whose: str) -> None:
    """InvalidInput for those of this host: a virtual machine has none of them."""
    for kind, word in OF_NODE.items():
        if getattr(options, kind) == pb.NODE:
            words = f"cannot have {word}: a {whose} is in a virtual machine, with a {kind} namespace of its own"
            raise InvalidInput(f"{words}; run it by another RuntimeClass")


def check_selinux(options: pb.SELinuxOption) -> None:
    if options.user or options.role or options.type or options.level:
        raise InvalidInput("cannot set seLinuxOptions: the kernel of a virtual machine has no SELinux")


def matches(pod: KubePodState, wanted: pb.PodSandboxFilter) -> bool:
    return (
        pod.id.startswith(wanted.id)
        and (not wanted.HasField("state") or wanted.state.state == STATE[pod.ready])
        and has_labels(pod.pod.labels, wanted.label_selector)
    )


def has_labels(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in wanted.items())


def metadata(pod: KubePod) -> pb.PodSandboxMetadata:
    return pb.PodSandboxMetadata(name=pod.name, uid=pod.uid, namespace=pod.namespace, attempt=pod.attempt)


def entry(found: KubePodState) -> pb.PodSandbox:
    return pb.PodSandbox(
        id=found.id,
        metadata=metadata(found.pod),
        state=STATE[found.ready],
        created_at=found.created_ns,
        labels=found.pod.labels,
        annotations=found.pod.annotations,
        runtime_handler=found.pod.handler,
    )


def _listed(found: KubePodState) -> pb.ListPodSandboxResponse:
    return pb.ListPodSandboxResponse(items=[entry(found)])


def status(found: KubePodState) -> pb.PodSandboxStatus:
    options = pb.NamespaceOption(
        network=pb.POD,
        ipc=pb.POD,
        pid=pb.POD if found.share_pid else pb.CONTAINER,
        userns_options=users.told(found.pod.users),
    )
    return pb.PodSandboxStatus(
        id=found.id,
        metadata=metadata(found.pod),
        state=STATE[found.ready],
        created_at=found.created_ns,
        network=_network(found.addresses),
        linux=pb.LinuxPodSandboxStatus(namespaces=pb.Namespace(options=options)),
        labels=found.pod.labels,
        annotations=found.pod.annotations,
        runtime_handler=found.pod.handler,
    )


def _network(addresses: Sequence[str]) -> pb.PodSandboxNetworkStatus:
    first, *others = addresses or [""]
    return pb.PodSandboxNetworkStatus(ip=first, additional_ips=[pb.PodIP(ip=each) for each in others])
