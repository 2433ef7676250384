"""A conversation with one guest: all its streams, over as many connections as it takes. No socket here."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TypeVar

from hypercontainer.agent.messages import Listing
from hypercontainer.agent.streams import Failure, Receiver, Sender, Source
from hypercontainer.agent.wire import MAX_STREAM, Frame, Kind, WireError
from hypercontainer.errors import Exhausted

MAX_STREAMS = 3072

Stream = TypeVar("Stream", Sender, Receiver)


class AgentSession:
    """Who opened it feeds it frames (`receive`) and writes what `frames` gives; `wake` says that there is something.

    Until `learn` has been told what the guest holds, the guest's ACKs of streams we do not know are remembered:
    they say where the input streams of an older session continue.
    """

    def __init__(self, wake: Callable[[], None], take_control: Callable[[bytes], None]) -> None:
        self._wake, self._take_control = wake, take_control
        self._due: OrderedDict[Source, None] = OrderedDict()
        self.requests, self._answers = Sender(0, self, held=True), Receiver(0, self)
        self.inputs: dict[int, Sender] = {0: self.requests}
        self.outputs: dict[int, Receiver] = {0: self._answers}
        self.next_stream: int | None = None
        self._first_new = 0
        self._older: dict[int, int | None] = {}  # stream -> where to continue, None = stopped
        self._failure: Failure | None = None
        self.progress = 0  # frames that came; a connection that brings none does not count as one

    # Connections

    def open(self, *, fresh: bool) -> None:
        """A connection begins; `fresh`: the guest heard of this session for the first time."""
        for receiver in self.outputs.values():  # the first of them is stream 0
            receiver.announce()
        if fresh:
            self.requests.release()

    def broken(self) -> None:
        """The connection is gone; all goes on with the next."""
        self._due.clear()
        for sender in self.inputs.values():
            sender.hold()

    def frames(self, limit: int) -> Iterator[bytes]:
        """Frames to write, about `limit` bytes of them, a frame of each stream in turn."""
        while self._due and limit > 0:
            stream, _ = self._due.popitem(last=False)
            if frame := stream.next_frame():
                limit -= len(frame)
                self._due[stream] = None
                yield frame

    def ready(self, stream: Source) -> None:
        self._due[stream] = None
        self._wake()

    def fail(self, failure: Failure) -> None:
        """Nothing will come or go any more."""
        self._failure = failure
        for sender in self.inputs.values():
            sender.fail(failure)
        for receiver in self.outputs.values():
            receiver.fail(failure)

    # Frames

    def receive(self, frame: Frame) -> None:
        """WireError: the guest broke a rule that an honest one cannot break."""
        self.progress += 1
        kind, number, offset, payload = frame
        if kind in (Kind.DATA, Kind.EOF):
            self._take_bytes(kind, number, offset, payload)
        elif kind not in (Kind.ACK, Kind.STOP) or (kind == Kind.STOP and number == 0):
            raise WireError(f"the guest's agent sent a frame of kind {kind} on stream {number}")
        elif sender := self.inputs.get(number):
            if kind == Kind.ACK:
                sender.take_ack(offset)
            else:
                sender.take_stop()
        elif self.next_stream is None:
            self._older[number] = offset if kind == Kind.ACK else None
            if len(self._older) > MAX_STREAMS:
                raise WireError(f"the guest's agent speaks of more than {MAX_STREAMS} streams")
        else:
            self._check_given_out(number)

    def _take_bytes(self, kind: int, number: int, offset: int, payload: bytes) -> None:
        receiver = self.outputs.get(number)
        if not receiver:
            return self._check_given_out(number)  # forgotten while it was under way
        if kind == Kind.DATA:
            receiver.take_data(offset, payload)
        elif number:
            receiver.take_eof(offset)
        else:
            raise WireError("the guest's agent ended stream 0")
        if not number and (data := receiver.take()):
            receiver.consume(len(data))
            self._take_control(data)
        return None

    def _check_given_out(self, number: int) -> None:
        if number >= (self.next_stream or 0):
            raise WireError(f"the guest's agent uses stream {number}, which was not given out")

    # Streams

    def learn(self, listing: Listing) -> None:
        """What the guest holds from before this session. Outputs wait for `resume`."""
        self.next_stream = self._first_new = listing.next_stream
        for process in listing.processes:
            streams = process.streams
            if max(streams.stdin, streams.stdout, streams.stderr) >= listing.next_stream:
                raise WireError("the guest's agent lists streams that were not given out")
            if streams.stdin:
                self._adopt(streams.stdin)
        self._older.clear()

    def _adopt(self, number: int) -> None:
        offset = self._older.get(number)
        self.inputs[number] = sender = Sender(number, self, offset=offset or 0, held=number not in self._older)
        if number in self._older and offset is None:
            sender.take_stop()

    def new_streams(self, count: int) -> int:
        """The first of `count` numbers never used before in this guest's life."""
        if self.next_stream is None or self.next_stream + count > MAX_STREAM:
            raise Exhausted("cannot start a process: the guest has used up its stream numbers")
        first, self.next_stream = self.next_stream, self.next_stream + count
        return first

    def add_input(self, number: int) -> Sender:
        """A stream that a request under way creates: nothing is sent before `release`."""
        return self._failed(self.inputs.setdefault(number, Sender(number, self, held=True)))

    def add_output(self, number: int) -> Receiver:
        return self._failed(self.outputs.setdefault(number, Receiver(number, self)))

    def resume(self, number: int, offset: int) -> Receiver:
        """An output of an older session, from `offset` on."""
        if number not in self.outputs and number < self._first_new:
            self.outputs[number] = Receiver(number, self, offset=offset, resumed=True)
            self.outputs[number].announce()
        return self.add_output(number)

    def _failed(self, stream: Stream) -> Stream:
        stream.failure = stream.failure or self._failure
        return stream

    def drop(self, number: int) -> None:
        """The guest has forgotten the stream: whoever still reads it gets its end."""
        if sender := self.inputs.pop(number, None):
            sender.take_stop()
        if receiver := self.outputs.pop(number, None):
            receiver.stopped = True
            receiver.changed()
