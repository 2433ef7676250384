"""The services of CRI: each method that there is, answered by whoever has it, or by UNIMPLEMENTED.

That is what a kubelet takes for the word of a runtime that is not that far."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any
from weakref import WeakSet

from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from grpclib.const import Cardinality, Handler, Status
from grpclib.encoding.proto import ProtoCodec
from grpclib.exceptions import GRPCError
from grpclib.protocol import H2Protocol
from grpclib.server import Server, Stream

from hypercontainer.errors import HyperError, Kind
from hypercontainer.hyperd.cri import cri_pb2 as pb
from hypercontainer.hyperd.cri.answered import answered
from hypercontainer.hyperd.cri.gathered import GatheringProtocol

log = logging.getLogger("hyperd")

# A request -> its answer, or that in bytes; of a method that answers with a stream, the answers.
Call = Callable[[Any], Awaitable[Message] | Awaitable[bytes] | AsyncGenerator[Message, None]]

RUNTIME, IMAGES = (pb.DESCRIPTOR.services_by_name[name] for name in ("RuntimeService", "ImageService"))
STATUS: Mapping[Kind, Status] = {
    "invalid": Status.INVALID_ARGUMENT,
    "not-found": Status.NOT_FOUND,
    "already-exists": Status.ALREADY_EXISTS,
    "in-use": Status.FAILED_PRECONDITION,
    "failed-precondition": Status.FAILED_PRECONDITION,
    "unsupported": Status.FAILED_PRECONDITION,  # a kubelet asks no more where it reads UNIMPLEMENTED
    "permission": Status.PERMISSION_DENIED,
    "exhausted": Status.RESOURCE_EXHAUSTED,
    "unavailable": Status.UNAVAILABLE,
    "timeout": Status.DEADLINE_EXCEEDED,
    "guest": Status.INTERNAL,
    "internal": Status.INTERNAL,
}


class Service:
    """One of the two, as grpclib wants it. `calls`: by their methods' names, those that there are."""

    def __init__(self, service: ServiceDescriptor, calls: Mapping[str, Call]) -> None:
        self._service, self._calls = service, calls

    def __mapping__(self) -> dict[str, Handler]:
        methods: list[MethodDescriptor] = list(self._service.methods)
        return {f"/{self._service.full_name}/{method.name}": self._handler(method) for method in methods}

    def _handler(self, method: MethodDescriptor) -> Handler:
        call = self._calls.get(method.name)

        async def handle(stream: Stream[Any, Any]) -> None:
            if call is None:
                raise GRPCError(Status.UNIMPLEMENTED, f"{method.name} is not there: see docs/frakti.md")
            request = await stream.recv_message()
            if request is None:
                raise GRPCError(Status.INVALID_ARGUMENT, f"{method.name} came without a request")
            try:
                answer = call(request)
                if isinstance(answer, AsyncGenerator):
                    async with aclosing(answer):  # a client that goes leaves it in the middle
                        async for each in answer:
                            await stream.send_message(each)
                else:
                    found = await answer
                    await answered(stream, found if isinstance(found, bytes) else found.SerializeToString())
            except HyperError as e:
                raise GRPCError(STATUS[e.kind], str(e)) from e
            except GRPCError:
                raise
            except Exception as e:
                log.exception("%s of CRI failed", method.name)
                raise GRPCError(Status.INTERNAL, f"{type(e).__name__}: {e}") from e

        streams = bool(method.server_streaming)
        cardinality = Cardinality.UNARY_STREAM if streams else Cardinality.UNARY_UNARY
        request, reply = (message_factory.GetMessageClass(each) for each in (method.input_type, method.output_type))
        return Handler(handle, cardinality, request, reply)


class _Methods(dict[str, Handler]):
    """Those of a server. grpclib refuses one that it does not know without a content type, which Go's clients take for
    a server that is broken."""

    def get(self, name: str, default: object = None) -> Handler:
        return super().get(name) or Handler(_unknown, Cardinality.UNARY_UNARY, Message, Message)


async def _unknown(stream: Stream[Any, Any]) -> None:
    raise GRPCError(Status.UNIMPLEMENTED, "there is no such method")


class _Codec(ProtoCodec):
    """Messages, and those that are bytes already."""

    def encode(self, message: Any, message_type: type[Any]) -> bytes:
        return message if isinstance(message, bytes) else super().encode(message, message_type)


class Calls(Server):
    """What answers these calls, once it is started; grpclib's, which leaves connections open when it closes."""

    def __init__(self, runtime: Mapping[str, Call], images: Mapping[str, Call]) -> None:
        super().__init__([Service(RUNTIME, runtime), Service(IMAGES, images)], codec=_Codec())
        self._mapping = _Methods(self._mapping)
        self._connections: WeakSet[H2Protocol] = WeakSet()

    def _protocol_factory(self) -> H2Protocol:
        usual = super()._protocol_factory()
        made = GatheringProtocol(usual.handler, usual.config, usual.h2_config)
        self._connections.add(made)
        return made

    def close(self) -> None:
        super().close()
        for each in self._connections:
            if hasattr(each, "connection"):  # somebody has come
                each.connection.close()
