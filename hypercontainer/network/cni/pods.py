"""Networks of pods that plugins of CNI make: a network namespace a pod, whose interfaces are its machine's."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from weakref import WeakValueDictionary

import msgspec

from hypercontainer.errors import HyperError, InvalidInput, NotFound, WrongState, reason
from hypercontainer.lib import clock, files, netns
from hypercontainer.lib.tasks import in_thread, uninterrupted
from hypercontainer.model.pod_network import Asked, Attached
from hypercontainer.model.record import AttachmentRecord, ChainRecord
from hypercontainer.network.cni import chain, config, result
from hypercontainer.network.cni.asked import arguments, capabilities
from hypercontainer.network.cni.attachments import VERSION, Attachments
from hypercontainer.network.cni.plugin import LIMIT_S, Plugins

log = logging.getLogger(__name__)

INTERFACE = "eth0"


class PodNetworks:
    """One hyperd at a time has it. Each call is safe any number of times, and after a SIGKILL in any other."""

    def __init__(
        self, root: Path, run: Path, conf_dir: Path, bin_dirs: Sequence[Path], *, limit_s: float = LIMIT_S
    ) -> None:
        """`root` outlives a reboot, `run` does not; `conf_dir` has networks, of which the first counts, `bin_dirs`
        plugins, each of which has `limit_s` for an answer."""
        self._attachments, self._namespaces = Attachments(root / "cni"), run / "cni"
        self._conf_dir, self._plugins = conf_dir, Plugins(bin_dirs, root / "cni", limit_s=limit_s)
        self._pods = WeakValueDictionary[str, asyncio.Lock]()
        self._gate, self._quiet, self._under_way = asyncio.Lock(), asyncio.Event(), 0
        self._alone = False  # no plugin runs that a hyperd before us has begun

    async def attach(self, asked: Asked) -> Attached:
        """Connect a pod: its namespace is made, and the network of that moment. Who calls this has written down that
        there is such a pod, or `sweep` takes it for one that is gone.

        On failure nothing of it is left; what plugins did not take away again `sweep` tries anew. NotFound: there is
        no network, or no such plugin; InvalidInput, Unavailable, TimedOut, HyperError with the plugin's words."""
        _check(asked.id)
        async with self._turn(asked.id):
            if record := self._attachments.find(asked.id):
                if record.connected and netns.is_at(Path(record.netns)):
                    return _attached(record)
                await self._take_away(record)  # a hyperd before us had begun, or this host was booted anew
            record = self._record(asked, await self._chain())
            self._attachments.save(record)
            try:
                return await self._make(record)
            except BaseException:
                await uninterrupted(self._undo(record))
                raise

    async def _make(self, record: AttachmentRecord) -> Attached:
        with files.telling(f"make network namespace {record.netns}"):
            self._namespaces.mkdir(mode=0o711, parents=True, exist_ok=True)
            await in_thread(netns.make, Path(record.netns))
        await chain.add(self._plugins, record, lambda: self._attachments.save(record, durable=False))
        attached = _attached(record)
        record.connected = True
        self._attachments.save(record)
        return attached

    async def detach(self, id: str) -> None:
        """Disconnect a pod, whose machine has ended. HyperError when a plugin fails: then it is to be called again."""
        _check(id)
        async with self._turn(id):
            if record := self._attachments.find(id):
                await self._take_away(record)

    async def check(self, id: str) -> None:
        """HyperError when plugins find the network of a pod other than they made it."""
        _check(id)
        async with self._turn(id):
            record = self._attachments.find(id)
            if record is None:
                raise NotFound("network of pod", id)
            if not record.connected:
                raise WrongState("check the network of pod", id, "not connected")
            await chain.check(self._plugins, record)

    def find(self, id: str) -> Attached | None:
        """What `attach` has returned; None: there is none, or it did not come to an end."""
        _check(id)
        record = self._attachments.find(id)
        return _attached(record) if record and record.connected else None

    async def status(self) -> None:
        """HyperError when pods cannot be connected, NotFound when nobody has said yet to what."""
        await chain.status(self._plugins, await self._chain())

    async def sweep(self, keep: Callable[[], Collection[str]]) -> list[str]:
        """Disconnect all pods but those of `keep()`, and have plugins forget what they know of others: for a hyperd
        that comes back. Returns, in words, what failed: it is there still, for the next sweep."""
        complaints: list[str] = []
        for id in self._attachments.ids():
            try:
                async with self._turn(id):
                    record = self._attachments.find(id) if id not in keep() else None
                    if record:
                        await self._take_away(record)
            except HyperError as e:
                complaints.append(str(e))
        known = set(self._attachments.ids())
        for path in self._namespaces.iterdir() if self._namespaces.exists() else ():
            if path.name not in known:
                netns.let_go(path)
        return complaints + await self._collect()

    async def _collect(self) -> list[str]:
        """Nobody is connected or disconnected meanwhile."""
        try:
            there = await self._chain()
            async with self._gate:
                while self._under_way:
                    self._quiet.clear()
                    await self._quiet.wait()
                found = [self._attachments.find(id) for id in self._attachments.ids()]
                valid = [record for record in found if record and record.chain.name == there.name]
                return await chain.collect(self._plugins, there, valid)
        except NotFound:
            return []  # there is no network: nobody knows anything of it
        except HyperError as e:
            return [str(e)]

    async def _chain(self) -> ChainRecord:
        there = config.first(self._conf_dir)
        kinds = dict.fromkeys(plugin["type"] for plugin in there.plugins)
        return there.chain({kind: await self._plugins.spoken(kind) for kind in kinds})

    def _record(self, asked: Asked, wanted: ChainRecord) -> AttachmentRecord:
        return AttachmentRecord(
            version=VERSION,
            id=asked.id,
            netns=str(self._namespaces / asked.id),
            interface=INTERFACE,
            chain=wanted,
            arguments=arguments(asked),
            capabilities=capabilities(asked),
            created_ns=clock.now_ns(),
        )

    async def _take_away(self, record: AttachmentRecord) -> None:
        """The record last: who finds it does this again."""
        place = Path(record.netns)
        await chain.delete(self._plugins, record, record.netns if netns.is_at(place) else "")
        with files.telling(f"remove network namespace {place}"):
            netns.let_go(place)
        self._attachments.remove(record.id)

    async def _undo(self, record: AttachmentRecord) -> None:
        try:
            await self._take_away(record)
        except HyperError as e:
            log.warning("pod %s: %s", record.id, e)  # whoever waits is told the first failure

    @asynccontextmanager
    async def _turn(self, id: str) -> AsyncIterator[None]:
        """Nobody else does anything with that pod, and nobody cleans up, which CNI asks for."""
        async with self._gate:
            if not self._alone:
                await self._plugins.end()
                self._alone = True
            self._under_way += 1
        try:
            lock = self._pods.setdefault(id, asyncio.Lock())
            async with lock:
                yield
        finally:
            self._under_way -= 1
            self._quiet.set()


def _attached(record: AttachmentRecord) -> Attached:
    """HyperError for a result that cannot be a pod's."""
    what = f"what CNI network {record.chain.name} gave pod {record.id}"
    try:
        _, said = result.parse(msgspec.json.encode(record.result), what)
        addresses = said.addresses(record.interface)
    except InvalidInput as e:
        raise HyperError(f"cannot use {what}: {reason(e)}") from e
    if not addresses:
        raise HyperError(f"cannot use {what}: there is no address of {record.interface} in it")
    return Attached(record.netns, record.chain.name, addresses, said.resolver())


def _check(id: str) -> None:
    if not config.NAME.fullmatch(id):
        raise InvalidInput(f"invalid pod id {id[:60]!r}: use letters, digits, _, . and -")
