"""The stages of one build, instruction by instruction. Each makes an image of the one before, or finds it in the cache:
an image that was made here of the same parent, by the same words, and starts the same way.

What is printed is what docker's classic builder prints.
"""

import asyncio
import copy
import posixpath
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from hypercontainer.engine.build import config as configs
from hypercontainer.engine.build import words
from hypercontainer.engine.build.arguments import Arguments
from hypercontainer.engine.build.config import Config
from hypercontainer.engine.build.container import Containers, containers
from hypercontainer.engine.build.context import WILD, Context
from hypercontainer.engine.build.copy import Copy, Files, Source, check, fetched, gather, put
from hypercontainer.engine.build.dockerfile import Dockerfile, Instruction, Stage, find, trigger
from hypercontainer.engine.supervisor import Supervisor
from hypercontainer.errors import BuildFailed, InvalidInput, NotFound
from hypercontainer.images import commit as images
from hypercontainer.images import fetch, platform, spool
from hypercontainer.images.index import Image
from hypercontainer.images.manifest import Process
from hypercontainer.lib.trace import Timings
from hypercontainer.model import documents as doc
from hypercontainer.model.spec import Build
from hypercontainer.sandbox import archive
from hypercontainer.sandbox.attach import AttachSession
from hypercontainer.sandbox.container import Container
from hypercontainer.sandbox.pod import Pod

Say = Callable[[doc.BuildOutput | doc.Progress | doc.BuildStage], Awaitable[None]]
Pull = Callable[[str, str], Awaitable[None]]  # an image's name, and a platform
Fill = Callable[[Files], Awaitable[None]]
HEADERS = 2 << 30  # bytes that a layer may have beside the content of its files
KILLED_S = 1.0
SCRATCH = "scratch"
RED, PLAIN = "\x1b[91m", "\x1b[0m"  # around what commands write to stderr


def short(id: str) -> str:
    return id.removeprefix("sha256:")[:12]


class State:
    """How far a stage is."""

    def __init__(self, image: Image, config: Config, *, empty: bool = False) -> None:
        self.image, self.config = image, config
        self.author = ""
        self.has_cmd = False  # one of its own: an ENTRYPOINT takes the base's away
        self.missed = False  # the cache, once: what follows is made anew
        self.empty = empty  # from scratch, and nothing has been done yet

    @property
    def shown(self) -> str:
        return "" if self.empty else short(self.image.id)


class Stages:
    """One build. `work` is a folder of its own; `pull` brings an image here; `admit_url` raises Denied where a URL is
    not to be fetched."""

    def __init__(
        self,
        supervisor: Supervisor,
        wanted: Build,
        file: Dockerfile,
        context: Context,
        work: Path,
        pull: Pull,
        admit_url: Callable[[str], None],
        say: Say,
    ) -> None:
        self.supervisor, self.host, self.wanted = supervisor, supervisor.host, wanted
        self._file, self._context, self._work = file, context, work
        self._pull, self._admit_url, self._tell = pull, admit_url, say
        self._arguments = Arguments(wanted.args)
        self._done: list[State] = []
        self._step = 0
        self._steps = file.steps + len(wanted.labels)
        self._containers = Containers(supervisor, wanted)
        self._copied = 0  # trees that were read out of images, and files that were fetched

    async def run(self) -> Image:
        """The image of the last stage."""
        try:
            return await self._run_all()
        finally:
            await self._containers.end()

    async def _run_all(self) -> Image:
        for each in self._file.arguments:
            await self._begin(each.source)
            for pair in each.pairs():
                values = self._arguments.globals()
                value = None if pair.value is None else words.expand(pair.value, values, each.escape)
                self._arguments.declare_global(pair.name, value)
        for number, stage in enumerate(self._file.stages):
            await self._begin(stage.source)
            state = await self._from(stage, number)
            await self._say(f" ---> {state.shown}\n")
            last = number == len(self._file.stages) - 1
            for each in [*stage.instructions, *(self._labels() if last else [])]:
                await self._begin(each.source)
                await self._do(state, each)
                await self._say(f" ---> {state.shown}\n")
            if not state.empty:
                await self._tell(doc.BuildStage(stage=state.image.id))
            await self._containers.end()
            self._arguments.begin_stage()
            self._done.append(state)
        if unused := self._arguments.unused():
            await self._say(f"[Warning] One or more build-args {list(unused)} were not consumed\n".replace("'", ""))
        if self._done[-1].empty:
            raise InvalidInput("No image was generated. Is your Dockerfile empty?")
        return self._done[-1].image

    def _labels(self) -> list[Instruction]:
        """Those that the caller wants, as instructions."""
        made = []
        for name, value in sorted(self.wanted.labels.items()):
            pair = "=".join('"' + re.sub(r'(["$\\])', r"\\\1", text) + '"' for text in (name, value))
            made.append(Instruction("LABEL", {}, pair, f"LABEL {name}={value}", 0, "\\"))
        return made

    async def _say(self, text: str) -> None:
        await self._tell(doc.BuildOutput(stream=text))

    async def _begin(self, source: str) -> None:
        self._step += 1
        await self._say(f"Step {self._step}/{self._steps} : {source}\n")

    # where a stage begins

    async def _from(self, stage: Stage, number: int) -> State:
        if stage.name and any(stage.name == other.name for other in self._file.stages[:number]):
            raise InvalidInput(f'duplicate name "{stage.name}"')
        base = self._expanded(stage.base)
        if not base:
            raise InvalidInput(f"base name ({stage.base}) should not be blank")
        named = [n for n, other in enumerate(self._file.stages[:number]) if other.name == base.lower()]
        if named:
            state = self._state(self._done[named[0]].image, empty=self._done[named[0]].empty)
        elif base == SCRATCH:
            wanted = platform.parse(self._expanded(stage.platform) or self.wanted.platform)
            state = self._state(await images.scratch(self.host.images, wanted), empty=True)
        else:
            state = self._state(await self._image(base, self._expanded(stage.platform)))
        triggers = state.config.pop("OnBuild", None) or []
        if triggers:
            await self._say(f"# Executing {len(triggers)} build trigger{'s' if len(triggers) > 1 else ''}\n")
        for text in triggers:
            await self._do(state, trigger(text))
        return state

    def _expanded(self, text: str) -> str:
        try:
            return words.expand(text, self._arguments.globals(), self._file.escape)
        except ValueError as e:
            raise InvalidInput(f"failed to process {text[:200]!r}: {e}") from e

    def _state(self, image: Image, *, empty: bool = False) -> State:
        config: Config = msgspec.to_builtins(self.host.images.document(image).config or Process())
        if "PATH" not in configs.environment(config):
            config["Env"] = [*(config.get("Env") or []), configs.PATH]
        return State(image, config, empty=empty)

    async def _image(self, name: str, wanted: str = "") -> Image:
        """An image of this host, which is brought here if need be."""
        want = platform.parse(wanted or self.wanted.platform)
        try:
            found = self.host.images.get(name, str(want))
        except NotFound:
            pass
        else:
            if not self.wanted.pull:
                return found
        await self._pull(name, wanted or self.wanted.platform)
        return self.host.images.get(name, str(want))

    # one instruction

    async def _do(self, state: State, each: Instruction) -> None:
        named = configs.environment(state.config)
        values = self._arguments.beside(named)
        env = {**values, **named}
        try:
            if each.word in configs.CHANGES:
                await self._change(state, each, env)
            elif each.word == "RUN":
                await self._run(state, each, values)
            elif each.word in ("COPY", "ADD"):
                await self._copy(state, each, env)
            elif each.word == "WORKDIR":
                after = copy.deepcopy(state.config)
                message = f"/bin/sh -c #(nop) WORKDIR {configs.workdir(after, each, env)}"
                await self._commit(state, after, message, lambda files: files.make_folder(after["WorkingDir"]))
            elif each.word == "ARG":
                await self._argument(state, each, env)
            else:  # MAINTAINER
                state.author = each.rest
                await self._commit(state, state.config, configs.nop(state.config, f"MAINTAINER {each.rest}"))
        except ValueError as e:
            raise InvalidInput(f"cannot do {each.source[:200]!r}: {e}") from e

    async def _change(self, state: State, each: Instruction, env: configs.Env) -> None:
        after = copy.deepcopy(state.config)
        message = configs.CHANGES[each.word](after, each, env)
        if each.word == "ENTRYPOINT" and not state.has_cmd:
            after.pop("Cmd", None)
        state.has_cmd = state.has_cmd or (each.word == "CMD" and bool(each.rest))
        await self._commit(state, after, configs.nop(after, message))

    async def _argument(self, state: State, each: Instruction, env: configs.Env) -> None:
        said = []
        for pair in each.pairs():
            name = words.expand(pair.name, env, each.escape)
            value = None if pair.value is None else words.expand(pair.value, env, each.escape)
            self._arguments.declare(name, value)
            said.append(name if value is None else f"{name}={value}")
        await self._commit(state, state.config, configs.nop(state.config, f"ARG {' '.join(said)}"))

    # the cache

    def _cached(self, state: State, config: Config, created_by: str) -> Image | None:
        """The newest image that was made here of the state's one in this very way."""
        if self.wanted.no_cache or state.missed:
            return None
        wanted = _process(config)
        for image in self.host.images.list():
            if image.record.parent == state.image.id and self._trusts(image):
                document = self.host.images.document(image)
                history = document.history or []
                same = history and (history[-1].created_by or "") == created_by
                if same and document.config == wanted and (document.author or "") == state.author:
                    return image
        state.missed = True
        return None

    def _trusts(self, image: Image) -> bool:
        return not self.wanted.cache_from or any(image.id in self._lineage(name) for name in self.wanted.cache_from)

    def _lineage(self, name: str) -> Iterator[str]:
        """An image, where there is one of this name, and those that it was made of here."""
        with suppress(NotFound):
            while name:
                image = self.host.images.get(name)
                yield image.id
                name = image.record.parent

    async def _commit(self, state: State, config: Config, created_by: str, fill: Fill | None = None) -> None:
        """Go on with the image that `config` starts, and `fill` has put files into."""
        found = self._cached(state, config, created_by)
        if found:
            await self._say(" ---> Using cache\n")
            self._take(state, found, config)
            return
        if fill is None:
            await self._make(state, config, created_by, images.nothing())
            return
        pod, container = await self._containers.next(state.image, volumes=False)
        await fill(Files(pod, container))
        await self._make(state, config, created_by, archive.layer(pod, container, pause=False))
        self._containers.made(state.image)

    async def _make(self, state: State, config: Config, created_by: str, layer: AsyncIterator[bytes]) -> None:
        image = await images.commit(
            self.host.images,
            state.image,
            layer,
            config=msgspec.to_builtins(_process(config)),
            words=images.Words(state.author, "", created_by),
            limit=(self.host.settings.scratch_mib << 20) + state.image.size + HEADERS,
        )
        self._take(state, image, config)

    def _take(self, state: State, image: Image, config: Config) -> None:
        state.image, state.config, state.empty = image, config, False

    # what a virtual machine is needed for

    async def _run(self, state: State, each: Instruction, values: configs.Env) -> None:
        command = configs.command(state.config, each)
        recorded = self._arguments.recorded(values)
        created_by = " ".join([*([f"|{len(recorded)}", *recorded] if values else []), *command])
        found = self._cached(state, state.config, created_by)
        if found:
            await self._say(" ---> Using cache\n")
            self._take(state, found, state.config)
            return
        env = [f"{name}={value}" for name, value in values.items()]
        pod, container = await self._containers.next(state.image, volumes=True, command=command, env=env)
        await self._say(f" ---> Running in {short(container.record.id)}\n")
        status = await self._output(pod, container)
        if status:
            words = f"The command '{' '.join(command)}' returned a non-zero code: {status}"
            raise BuildFailed(words + (f": {container.record.error}" if container.record.error else ""), status)
        await self._make(state, state.config, created_by, archive.layer(pod, container, pause=False))
        self._containers.made(state.image)
        await self._say(f"Removing intermediate container {short(container.record.id)}\n")

    async def _output(self, pod: Pod, container: Container) -> int:
        """Start it, print what it says, and return its status."""
        session = AttachSession(pod, container, {1, 2}, stdin=False)
        try:
            await self.supervisor.start(pod, container, Timings())
            session.started([])
            async for stream, data in session:
                text = data.decode(errors="replace")
                await self._say(text if stream == 1 else f"{RED}{text}{PLAIN}")
            return await session.wait()
        finally:
            await session.detach()

    async def _copy(self, state: State, each: Instruction, env: configs.Env) -> None:
        if "chmod" in each.flags:
            raise InvalidInput(f"the --chmod option of {each.word} requires BuildKit: run chmod")
        *patterns, to = self._operands(each, env)
        origin = each.flags.get("from", "")
        try:
            if origin:
                sources = await self._sources(origin, patterns)
            else:
                sources = await self._gathered(each.word, patterns, to)
        except InvalidInput as e:
            raise InvalidInput(f"{each.word} failed: {e}") from e
        await asyncio.to_thread(check, sources, each.word, to)
        chown = words.expand(each.flags.get("chown", ""), env, each.escape)
        wanted = Copy(each.word, sources, to, chown, bool(origin) and not chown, each.word == "ADD")
        place = configs.absolute(state.config, to)
        created_by = f"/bin/sh -c #(nop) {await asyncio.to_thread(wanted.message)}"
        await self._commit(state, state.config, created_by, lambda files: put(files, wanted, place))

    async def _gathered(self, word: str, patterns: Sequence[str], to: str) -> list[Source]:
        """Files of the context, and with ADD of URLs."""
        found: list[Source] = []
        for pattern in patterns:
            if not fetch.is_url(pattern):  # in a thread: a context may have very many files
                found += await asyncio.to_thread(gather, self._context, [pattern])
            elif word != "ADD":
                raise InvalidInput("source can't be a URL for COPY")
            else:
                self._admit_url(pattern)
                self._copied += 1
                found.append(await fetched(pattern, to, self._work / f"copied-{self._copied}"))
        return found

    def _operands(self, each: Instruction, env: configs.Env) -> list[str]:
        if each.exec_form is not None:
            return [words.expand(word, env, each.escape) for word in each.exec_form]
        return [words.expand(word, env, each.escape) for word in each.rest.split()]

    async def _sources(self, origin: str, patterns: Sequence[str]) -> list[Source]:
        """Files of another stage, or of an image."""
        number = find(self._file.stages[: len(self._done)], origin)
        image = self._done[number].image if number is not None else await self._image(origin)
        found = []
        async with containers(self.supervisor, self.wanted) as others:
            pod, container = await others.next(image, volumes=False)
            files = Files(pod, container)
            for pattern in patterns:
                found += await self._read(pod, container, files, posixpath.normpath("/" + pattern.lstrip("/")))
        return found

    async def _read(self, pod: Pod, container: Container, files: Files, path: str) -> list[Source]:
        wild = WILD.search(path)
        above = posixpath.dirname(path[: wild.start()]) if wild else path
        if not wild and not await files.exists(path):
            raise InvalidInput(f"stat {path}: file does not exist")
        place = above if wild else await files.resolved(path)
        folder = wild or await files.is_folder(place)
        self._copied += 1
        tree = Context(self._work / f"copied-{self._copied}")
        asked = f"{place.rstrip('/')}/." if folder else place
        await spool.in_thread(archive.read(pod, container, asked), tree.fill)
        if wild:
            return await asyncio.to_thread(gather, tree, [path[len(above) :].lstrip("/")])
        if folder:
            return [Source(tree, path, tree.root)]
        return [Source(tree, path, child) for child in (tree.root.children or {}).values()]


def _process(config: Config) -> Process:
    """`config`, without what says nothing."""
    said: dict[str, Any] = {key: value for key, value in config.items() if value is not None}
    return msgspec.convert(said, Process)
