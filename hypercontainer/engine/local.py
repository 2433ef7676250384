"""The engine of this machine: one of each noun, over the same pods and stores. See model.api.Engine."""

import asyncio

from hypercontainer.engine import policy, recover
from hypercontainer.engine.builds import Builds
from hypercontainer.engine.bundles import Bundles
from hypercontainer.engine.containers import Containers
from hypercontainer.engine.execs import Execs
from hypercontainer.engine.factory import Factory
from hypercontainer.engine.host import Host
from hypercontainer.engine.images import Images
from hypercontainer.engine.kernels import Kernels
from hypercontainer.engine.kube import Kube
from hypercontainer.engine.networks import Networks
from hypercontainer.engine.pods import Pods
from hypercontainer.engine.policy import Admission, NetworkAdmission
from hypercontainer.engine.snapshots import Snapshots
from hypercontainer.engine.supervisor import Supervisor
from hypercontainer.engine.system import System
from hypercontainer.engine.volumes import Volumes
from hypercontainer.hypervisor.base import Hypervisor
from hypercontainer.lib.trace import Timings
from hypercontainer.model.settings import Settings
from hypercontainer.network.store import Kind


class LocalEngine:
    """One per machine: hyperd holds a lock for it. `bridges` makes the network of a record, `trace` the trace of each
    start (tests pass their own)."""

    def __init__(
        self,
        settings: Settings,
        *,
        hypervisor: Hypervisor | None = None,
        bridges: Kind | None = None,
        trace: type[Timings] = Timings,
        admission: Admission = policy.admit,
        network_admission: NetworkAdmission = policy.admit_network,
    ) -> None:
        self.host = Host(settings, hypervisor, bridges)
        self.supervisor = Supervisor(self.host)
        self.system = System(self.supervisor)
        self.containers = Containers(self.supervisor, trace, admission)
        self.execs = Execs(self.supervisor)
        self.pods = Pods(self.supervisor, trace, admission)
        self.images = Images(self.host)
        self.builds = Builds(self.supervisor, self.images, admission)
        self.volumes = Volumes(self.host)
        self.factory = Factory(self.host)
        self.networks = Networks(self.supervisor, admission, network_admission)
        self.kernels = Kernels(self.host, self.factory.prepare)
        self.snapshots = Snapshots(self.supervisor, trace)
        self.bundles = Bundles(self.supervisor)
        self.kube = Kube(self.supervisor, trace)

    async def open(self) -> None:
        await recover.recover(self.supervisor)
        if self.host.settings.cri_socket:
            self.kube.recover()
        self.snapshots.refer_images()
        await asyncio.to_thread(self.host.kernels.sweep)
        self.factory.prepare()

    async def close(self) -> None:
        await self.kube.close()
        await self.factory.stop_preparing()
        for pod in list(self.supervisor.pods.values()):
            await pod.let_go()
        await self.host.site.endings.close()
        await self.host.close()
