"""Lists as streams of parts, for nodes with more than fits into one message of gRPC."""

from collections.abc import AsyncGenerator, Awaitable, Iterator, Mapping, Sequence
from typing import Any, cast

from google.protobuf import message_factory
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

from hypercontainer.hyperd.cri.service import Call

STREAMS = {
    "StreamPodSandboxes": "ListPodSandbox",
    "StreamContainers": "ListContainers",
    "StreamContainerStats": "ListContainerStats",
    "StreamPodSandboxStats": "ListPodSandboxStats",
    "StreamPodSandboxMetrics": "ListPodSandboxMetrics",
    "StreamImages": "ListImages",
}
PART_BYTES = 1 << 20  # after which a part has no more; a kubelet takes 16 MiB


def streamed(service: ServiceDescriptor, calls: Mapping[str, Call]) -> dict[str, Call]:
    """`calls` of `service`, with those beside that stream what others of them list. Both have the same filter."""
    names = [name for name in STREAMS if name in service.methods_by_name]
    return {**calls, **{name: _stream(service, name, calls[STREAMS[name]]) for name in names}}


def _stream(service: ServiceDescriptor, name: str, call: Call) -> Call:
    reply = message_factory.GetMessageClass(service.methods_by_name[name].output_type)
    listed = service.methods_by_name[STREAMS[name]].output_type
    whole = message_factory.GetMessageClass(listed)
    [field], [of_list] = ([each.name for each in message.fields] for message in (reply.DESCRIPTOR, listed))

    async def stream(request: Message) -> AsyncGenerator[Message, None]:
        answer = await cast(Awaitable[Message | bytes], call(request))
        if isinstance(answer, bytes):
            answer = whole.FromString(answer)
        for part in _parts(getattr(answer, of_list)):
            yield reply(**{field: part})

    return stream


def _parts(found: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Each of one at least; nothing of nothing."""
    part: list[Any] = []
    size = 0
    for each in found:
        part.append(each)
        size += each.ByteSize()
        if size >= PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part
