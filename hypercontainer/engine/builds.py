"""The use case of builds. model.api.Builds says what it promises."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

from hypercontainer.engine import policy
from hypercontainer.engine.build import dockerfile
from hypercontainer.engine.build.context import Context
from hypercontainer.engine.build.stages import Stages, short
from hypercontainer.engine.images import Images
from hypercontainer.engine.policy import Admission
from hypercontainer.engine.supervisor import Supervisor
from hypercontainer.errors import InvalidInput
from hypercontainer.images import auth, reference, spool
from hypercontainer.images.reference import Reference
from hypercontainer.lib import dockerignore
from hypercontainer.model import documents as doc
from hypercontainer.model.api import Credentials
from hypercontainer.model.principal import Principal
from hypercontainer.model.spec import Build, ContainerSpec, EndpointSpec, PodSpec

Item = doc.BuildOutput | doc.Progress | doc.BuildStage
AHEAD = 64  # items that wait for the reader before the build is stalled


class Builds:
    def __init__(self, supervisor: Supervisor, images: Images, admission: Admission) -> None:
        self.supervisor, self.host, self._images, self._admission = supervisor, supervisor.host, images, admission

    async def run(
        self, context: AsyncIterator[bytes], wanted: Build, *, credentials: Mapping[str, Credentials], by: Principal
    ) -> AsyncGenerator[Item, None]:
        names = [_name(name) for name in wanted.names]
        spec = PodSpec(
            networks=[EndpointSpec(network=wanted.network)],
            memory_mib=wanted.memory_mib,
            containers=[ContainerSpec(image="scratch", ulimits=wanted.ulimits)],
        )
        self._admission(by, spec)
        async with AsyncExitStack() as stack:
            work = await stack.enter_async_context(self.host.images.workspace())
            files = Context(work.path / "context")
            await spool.in_thread(context, files.fill)
            file = dockerfile.parse(_text(files, wanted.dockerfile)).to(wanted.target)
            kept = stack.pop_all()

        async def build(say: Callable[[Item], Awaitable[None]]) -> None:
            async def pull(name: str, platform: str) -> None:
                given = _credentials(credentials, name)
                async with aclosing(
                    await self._images.pull(name, platform=platform, all_tags=False, credentials=given)
                ) as pulling:
                    async for item in pulling:
                        if isinstance(item, doc.Progress):
                            await say(item)

            def admit_url(url: str) -> None:
                policy.admit_url(by, url)

            stages = Stages(self.supervisor, wanted, file, files, work.path, pull, admit_url, say)
            image = await stages.run()
            await say(doc.BuildOutput(stream=f"Successfully built {short(image.id)}\n"))
            for name in names:
                await self._images.tag(image.id, str(name))
                await say(doc.BuildOutput(stream=f"Successfully tagged {name}\n"))

        told = _told(kept, build)
        await anext(told)  # of a generator that was never begun no `finally` runs
        return told


async def _told(
    kept: AsyncExitStack, work: Callable[[Callable[[Item], Awaitable[None]]], Awaitable[None]]
) -> AsyncGenerator[Item, None]:
    """What `work` says, in order. Closed early, it is cancelled; `kept` goes in the end."""
    said: asyncio.Queue[Item | Exception | None] = asyncio.Queue(AHEAD)

    async def run() -> None:
        try:
            await work(said.put)
        except Exception as e:
            await said.put(e)
        else:
            await said.put(None)

    async with kept:
        yield doc.BuildOutput(stream="")
        task = asyncio.ensure_future(run())
        try:
            while (item := await said.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def _name(text: str) -> Reference:
    name = reference.parse(text)
    if name.digest:
        raise InvalidInput(f"cannot build {text}: a digest is not given but computed")
    return name


def _credentials(given: Mapping[str, Credentials], name: str) -> Credentials | None:
    domain = reference.parse(name).domain
    return next((each for registry, each in given.items() if auth.domain_of(registry) == domain), None)


def _text(files: Context, name: str) -> bytes:
    """The Dockerfile; what the context's own .dockerignore leaves out of that and of itself is left out now."""
    path = str(Path("/", name)).lstrip("/")
    node = files.find(path)
    if node is None and path == "Dockerfile":
        node = files.find("dockerfile")
    if node is None or node.children is not None:
        raise InvalidInput(f"Cannot locate specified Dockerfile: {name[:200]}")
    text = files.read(node, dockerfile.MAX_TEXT)
    if not text.strip():
        raise InvalidInput(f"the Dockerfile ({name[:200]}) cannot be empty")
    ignore = files.find(".dockerignore")
    if ignore is not None and ignore.children is None:
        try:
            lines = dockerignore.patterns(files.read(ignore, dockerfile.MAX_TEXT).decode(errors="replace"))
            ignored = dockerignore.Ignored(lines)
        except ValueError as e:
            raise InvalidInput(f"cannot read .dockerignore: {e}") from e
        for each in (".dockerignore", path):
            if ignored(each):
                files.remove(each)
    return text
