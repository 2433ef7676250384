"""The use cases of kernel bundles. model.api.Kernels says what each promises."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

from hypercontainer.engine.host import Host
from hypercontainer.engine.progress import Report, with_progress
from hypercontainer.errors import NotFound
from hypercontainer.kernel import build, debian
from hypercontainer.kernel.bundle import Bundle
from hypercontainer.model import arch
from hypercontainer.model import documents as doc


class Kernels:
    def __init__(self, host: Host, chosen: Callable[[], None]) -> None:
        """`chosen` hears that another kernel may be booted from now on."""
        self.host, self._chosen = host, chosen

    def _kernel(self, bundle: Bundle) -> doc.Kernel:
        try:
            wanted = self.host.settings.kernel if bundle.arch == arch.host_name() else ""
            current = self.host.kernels.of(bundle.arch, wanted).name
        except NotFound:
            current = ""
        return doc.Kernel(
            name=bundle.name,
            version=bundle.package_version or bundle.release,
            architecture=bundle.arch,
            digest=bundle.digest,
            size=bundle.kernel.stat().st_size,
            current=bundle.name == current,
        )

    async def list(self) -> Sequence[doc.Kernel]:
        return [self._kernel(bundle) for bundle in self.host.kernels.list()]

    async def fetch(self, wanted: str = "") -> AsyncGenerator[doc.Progress | doc.KernelDone, None]:
        name = arch.named(wanted).name if wanted else ""

        async def fetch(report: Report) -> doc.KernelDone:
            def say(step: str) -> None:
                report(doc.Progress(id="kernel", action=step))

            bundle = await debian.fetch(self.host.kernels, say, name)
            self._chosen()  # it is the one that is booted now, unless another was chosen
            return doc.KernelDone(kernel=self._kernel(bundle))

        return with_progress(fetch)

    async def build(self, name: str, jobs: int) -> AsyncGenerator[doc.Progress | doc.KernelDone, None]:
        async def make(report: Report) -> doc.KernelDone:
            def say(step: str) -> None:
                report(doc.Progress(id="kernel", action=step))

            bundle = await build.build(self.host.kernels, say, name=name, jobs=jobs)
            self._chosen()  # it may be the first one
            return doc.KernelDone(kernel=self._kernel(bundle))

        return with_progress(make)

    async def use(self, name: str) -> None:
        await asyncio.to_thread(self.host.kernels.use, name)
        self._chosen()
