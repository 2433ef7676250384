"""What the runtime is, and whether it is well."""

from collections.abc import Mapping

import msgspec

from hypercontainer.errors import HyperError
from hypercontainer.hyperd.cri import cri_pb2 as pb
from hypercontainer.hyperd.cri.service import Call
from hypercontainer.model.api import Engine

KUBE_API, CRI_API = "0.1.0", "v1"  # the first has said nothing since CRI was new, and kubelets look for it
NAME = "frakti"


class Status:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def calls(self) -> Mapping[str, Call]:
        return {
            "Version": self.version,
            "Status": self.status,
            "RuntimeConfig": self.config,
            "UpdateRuntimeConfig": self.update,
        }

    async def version(self, request: pb.VersionRequest) -> pb.VersionResponse:
        found = await self._engine.system.version()
        return pb.VersionResponse(
            version=KUBE_API, runtime_name=NAME, runtime_version=found.version, runtime_api_version=CRI_API
        )

    async def status(self, request: pb.StatusRequest) -> pb.StatusResponse:
        names = ["", *self._engine.kube.handlers()]  # the first: of pods without a RuntimeClass
        can = pb.RuntimeHandlerFeatures(recursive_read_only_mounts=True, user_namespaces=True)
        return pb.StatusResponse(
            status=pb.RuntimeStatus(conditions=[await self._ready(), await self._network()]),
            runtime_handlers=[pb.RuntimeHandler(name=name, features=can) for name in names],
            features=pb.RuntimeFeatures(supplemental_groups_policy=True),
            info={"hyperd": await self._info()} if request.verbose else {},
        )

    async def _ready(self) -> pb.RuntimeCondition:
        try:
            await self._engine.system.ping()
        except HyperError as e:
            return pb.RuntimeCondition(type="RuntimeReady", status=False, reason="EngineNotReady", message=str(e))
        return pb.RuntimeCondition(type="RuntimeReady", status=True)

    async def _network(self) -> pb.RuntimeCondition:
        try:
            await self._engine.kube.network()
        except HyperError as e:
            reason = "NetworkPluginNotReady"  # which kubelets know
            return pb.RuntimeCondition(type="NetworkReady", status=False, reason=reason, message=str(e))
        return pb.RuntimeCondition(type="NetworkReady", status=True)

    async def _info(self) -> str:
        """With what isolates pods from each other, and why that."""
        return msgspec.json.encode(await self._engine.system.info()).decode()

    async def config(self, request: pb.RuntimeConfigRequest) -> pb.RuntimeConfigResponse:
        """No control group of this host is made by systemd for us."""
        return pb.RuntimeConfigResponse(linux=pb.LinuxRuntimeConfiguration(cgroup_driver=pb.CGROUPFS))

    async def update(self, request: pb.UpdateRuntimeConfigRequest) -> pb.UpdateRuntimeConfigResponse:
        """Which addresses the node's pods are to have: they have those that CNI's own configuration gives."""
        return pb.UpdateRuntimeConfigResponse()
