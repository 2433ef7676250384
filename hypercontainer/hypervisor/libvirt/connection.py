"""libvirt's API: a connection to its daemon, which is made again when that has ended meanwhile.

The library's calls block, so each is made in a thread. It is imported when it is first used.
"""

import asyncio
import io
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from functools import cache
from typing import Any, TypeVar

from hypercontainer.errors import GuestDied, GuestError, HyperError, Unavailable

T = TypeVar("T")

CALL_S = 60.0  # of a call; one that starts a machine has libvirtd start QEMU and ask it for all that it is
OLDEST = 9_000_000  # of libvirtd: before it no disk can be handed over open

Connection = Any  # libvirt.virConnect: the library tells no types
Domain = Any  # libvirt.virDomain


class Libvirt:
    """libvirtd at `uri`."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._connection: Connection = None
        self._connecting = threading.Lock()

    async def version(self) -> str:
        """Of libvirtd, and of the QEMU that it has found. Unavailable in words when there is none of use."""
        return await _in_time("use libvirt", lambda: self._do("use libvirt", _version, Unavailable))

    async def start(self, text: str, files: Mapping[str, int]) -> None:
        """Have a domain of this description, with these files by the names of their groups, stand at its beginning.
        It is transient: once it has ended nobody knows of it. GuestDied when QEMU did not come up."""
        own = {name: io.FileIO(os.dup(fd)) for name, fd in files.items()}  # the thread's, however long that takes

        def start(connection: Connection) -> None:
            # Files are handed to a domain that is there; a transient one is there when it runs, and it is too late
            domain = connection.defineXML(text)
            try:
                for name, file in own.items():
                    domain.FDAssociate(name, [file.fileno()])
                domain.createWithFlags(module().VIR_DOMAIN_START_PAUSED)
            finally:
                domain.undefine()

        def work() -> None:
            with ExitStack() as files:
                for file in own.values():
                    files.enter_context(file)
                self._do("start the virtual machine", start, GuestDied)

        await _in_time("start the virtual machine", work)

    async def call(self, doing: str, name: str, work: Callable[[Domain], T]) -> T:
        """Have `work` done with the domain of that name, in a thread; GuestError when libvirt does not do it."""
        return await _in_time(
            doing, lambda: self._do(doing, lambda connection: work(connection.lookupByName(name)), GuestError)
        )

    async def forget(self, name: str) -> None:
        """End the domain of that name, if there is one, and have libvirtd know of it no more."""
        doing = "end the virtual machine"

        def forget(connection: Connection) -> None:
            library = module()
            gone = (library.VIR_ERR_NO_DOMAIN, library.VIR_ERR_OPERATION_INVALID)
            for undo in ("destroy", "undefine"):  # the second one is of a start that was cut short
                try:
                    getattr(connection.lookupByName(name), undo)()
                except library.libvirtError as e:
                    if e.get_error_code() not in gone:
                        raise

        await _in_time(doing, lambda: self._do(doing, forget, GuestError))

    async def lacking_room(self) -> set[str]:
        """The names of domains that stand still, for this host's disk has no room for what they write."""
        doing = "look for virtual machines that stand still"

        def look(connection: Connection) -> set[str]:
            library, found = module(), set()
            for domain in connection.listAllDomains(library.VIR_CONNECT_LIST_DOMAINS_PAUSED):
                with suppress(library.libvirtError):  # it has ended meanwhile
                    if lacks_room(domain):
                        found.add(domain.name())
            return found

        return await _in_time(doing, lambda: self._do(doing, look, GuestError))

    def _do(self, doing: str, work: Callable[[Connection], T], error: type[HyperError]) -> T:
        connection = self._connected(doing)
        try:
            return work(connection)
        except module().libvirtError as e:
            if not connection.isAlive():
                raise Unavailable(f"cannot {doing}: libvirtd has ended meanwhile: {e}") from e
            raise error(f"cannot {doing}: {e}") from e

    def _connected(self, doing: str) -> Connection:
        """Unavailable when there is no libvirtd, or none of use."""
        library = module()
        with self._connecting:
            if not _answers(self._connection):
                try:
                    made = library.open(self._uri)
                    version = made.getLibVersion()
                except library.libvirtError as e:
                    hint = "is libvirtd running? Debian's package is libvirt-daemon-system"
                    raise Unavailable(f"cannot {doing}: no libvirtd answers at {self._uri}: {e} ({hint})") from e
                if version < OLDEST:
                    words = f"libvirtd {_words(version)} is too old: {_words(OLDEST)} or later is needed"
                    raise Unavailable(f"cannot {doing}: {words}")
                self._connection = made
            return self._connection


@cache
def module() -> Any:
    """libvirt-python. Unavailable when it is not installed."""
    try:
        import libvirt
    except ImportError as e:
        raise Unavailable(f"cannot use libvirt: {e}: install hypercontainer[libvirt]") from e
    libvirt.registerErrorHandler(lambda *_: None, None)  # what it prints as errors it also raises
    return libvirt


def _answers(connection: Connection) -> bool:
    """A connection is not told of the end of its daemon until somebody asks."""
    try:
        return bool(connection and connection.getLibVersion())
    except module().libvirtError:
        return False


def lacks_room(domain: Domain) -> bool:
    library = module()
    return bool(domain.state() == [library.VIR_DOMAIN_PAUSED, library.VIR_DOMAIN_PAUSED_IOERROR])


def resume(domain: Domain) -> None:
    """Again changes nothing."""
    if domain.state()[0] == module().VIR_DOMAIN_PAUSED:
        domain.resume()


async def _in_time(doing: str, work: Callable[[], T]) -> T:
    """In a thread, which is left alone with it when it takes too long."""
    try:
        async with asyncio.timeout(CALL_S):
            return await asyncio.to_thread(work)
    except TimeoutError as e:
        raise Unavailable(f"cannot {doing}: libvirtd did not answer within {CALL_S:g} s") from e


def _version(connection: Connection) -> str:
    return f"{_words(connection.getLibVersion())} with QEMU {_words(connection.getVersion())}"


def _words(version: int) -> str:
    return f"{version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}"
