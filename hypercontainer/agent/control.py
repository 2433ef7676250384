"""Requests, answers and events: the JSON lines of stream 0. No socket here."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from hypercontainer.agent.messages import ConnectionEvent, ExitEvent, Line, printable
from hypercontainer.agent.streams import Failure
from hypercontainer.agent.wire import WireError
from hypercontainer.errors import GuestError, InvalidInput
from hypercontainer.lib.document import NOT_JSON

MAX_LINE = 1 << 20
MAX_REQUESTS = 64  # under way at a time; others wait

_LINE = msgspec.json.Decoder(Line)

Settle = Callable[[msgspec.Raw | None], None]


def _ignore(answer: msgspec.Raw | None) -> None:
    pass


class _Request(NamedTuple):
    op: str
    answer: asyncio.Future[msgspec.Raw]
    settle: Settle


class Control:
    """Matches answers to requests. `send` takes whole lines; `exited` and `connected` are told of each event.

    A request that nobody waits for any more stays under way until it is answered: a guest that never answers
    costs at most MAX_REQUESTS of them.
    """

    def __init__(
        self,
        send: Callable[[bytes], None],
        exited: Callable[[ExitEvent], None],
        connected: Callable[[ConnectionEvent], None],
    ) -> None:
        self._send, self._exited, self._connected = send, exited, connected
        self._slots = asyncio.Semaphore(MAX_REQUESTS)
        self._pending: dict[int, _Request] = {}
        self._last_id = 0
        self._begun = bytearray()  # a line whose end has not come
        self._failure: Failure | None = None

    async def ask(self, op: str, args: object, settle: Settle = _ignore) -> msgspec.Raw:
        """Send a request and wait, without a bound of our own, for its result as JSON.

        `settle` is called once, with None if the guest refused or the request was never sent: at the very moment
        of the answer, before anything that the guest says next, and even if nobody waits any more.
        GuestError: the guest refused.
        """
        try:
            await self._slots.acquire()
            try:
                line = self._line(op, args)
            except BaseException:
                self._slots.release()
                raise
        except BaseException:
            settle(None)
            raise
        answer: asyncio.Future[msgspec.Raw] = asyncio.get_running_loop().create_future()
        self._pending[self._last_id] = _Request(op, answer, settle)
        self._send(line)
        return await answer

    def _line(self, op: str, args: object) -> bytes:
        if self._failure:
            raise self._failure()
        line = msgspec.json.encode({"id": self._last_id + 1, "op": op, "args": args})
        if len(line) > MAX_LINE:
            raise InvalidInput(f"cannot ask the guest for {op}: the request is larger than 1 MiB")
        self._last_id += 1
        return line + b"\n"

    def take(self, data: bytes) -> None:
        """Bytes of the guest's stream 0, in order. WireError if a line makes no sense."""
        *lines, rest = data.split(b"\n")
        for line in lines:
            if self._begun:
                line, self._begun = bytes(self._begun + line), bytearray()
            self._take_line(line)
        self._begun += rest
        if len(self._begun) > MAX_LINE:
            raise WireError("cannot understand the guest's agent: it sent a line of more than 1 MiB")

    def _take_line(self, line: bytes) -> None:
        try:
            said = _LINE.decode(line)
        except NOT_JSON as e:
            raise WireError(f"cannot understand the guest's agent: {printable(str(e), 200)}") from e
        bodies = (said.result is not msgspec.UNSET) + (said.error is not msgspec.UNSET)
        if (said.id is None) == (said.event is None) or bodies != (said.id is not None):
            raise WireError("cannot understand the guest's agent: a line is neither an answer nor an event")
        if said.id is not None:
            self._answer(said.id, said)
        elif said.event == "connection":
            if said.target is None:
                raise WireError("cannot understand the guest's agent: a connection event names no socket")
            self._connected(ConnectionEvent(container=said.container or "", target=said.target))
        elif said.process is not None and said.status is not None:
            self._exited(ExitEvent(process=said.process, status=said.status, oom=said.oom))
        else:
            raise WireError("cannot understand the guest's agent: an exit event names no process or no status")

    def _answer(self, number: int, said: Line) -> None:
        request = self._pending.get(number)
        if not request:
            raise WireError(f"cannot understand the guest's agent: it answers request {number}, which was not asked")
        result = None if isinstance(said.result, msgspec.UnsetType) else said.result
        request.settle(result)  # what this raises ends the conversation, and with it this request
        del self._pending[number]
        self._slots.release()
        if request.answer.done():
            return  # nobody waits any more
        if result is not None:
            request.answer.set_result(result)
        elif not isinstance(said.error, msgspec.UnsetType):
            why = printable(said.error.message) or f"{request.op}: the guest does not say why"
            request.answer.set_exception(GuestError(f"cannot {why}", said.error.errno, exec=said.error.exec))

    def fail(self, failure: Failure) -> None:
        """Nothing will be answered any more."""
        self._failure = failure
        for request in self._pending.values():
            if not request.answer.done():
                request.answer.set_exception(failure())
            self._slots.release()
        self._pending.clear()
