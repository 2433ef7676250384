"""Lists that are streams: all of it, once, in parts that messages of gRPC have room for."""

from collections.abc import AsyncGenerator

import pytest

from hypercontainer.hyperd.cri import cri_pb2 as pb
from hypercontainer.hyperd.cri import lists, service
from hypercontainer.hyperd.cri.service import Call

BYTES = 300_000  # of an annotation


async def nothing(request: object) -> pb.ListContainersResponse:
    return pb.ListContainersResponse()


async def none(request: object) -> pb.ListImagesResponse:
    return pb.ListImagesResponse()


def pods(count: int) -> list[pb.PodSandbox]:
    return [pb.PodSandbox(id=str(n), annotations={"a": "x" * BYTES}) for n in range(count)]


async def parts(name: str, calls: dict[str, Call], request: object) -> list[object]:
    stream = lists.streamed(service.RUNTIME, {**dict.fromkeys(lists.STREAMS.values(), nothing), **calls})[name](request)
    assert isinstance(stream, AsyncGenerator)
    return [each async for each in stream]


@pytest.mark.parametrize(("count", "wanted"), [(0, []), (1, [1]), (4, [4]), (9, [4, 4, 1])])
async def test_all_of_it_comes_once_in_parts(count: int, wanted: list[int]) -> None:
    async def list_(request: pb.StreamPodSandboxesRequest) -> pb.ListPodSandboxResponse:
        assert request.filter.id == "f"
        return pb.ListPodSandboxResponse(items=pods(count))

    request = pb.StreamPodSandboxesRequest(filter=pb.PodSandboxFilter(id="f"))
    found = await parts("StreamPodSandboxes", {"ListPodSandbox": list_}, request)
    assert all(isinstance(each, pb.StreamPodSandboxesResponse) for each in found)
    ids = [[pod.id for pod in each.pod_sandboxes] for each in found if isinstance(each, pb.StreamPodSandboxesResponse)]
    assert [len(each) for each in ids] == wanted
    assert [id for part in ids for id in part] == [str(n) for n in range(count)]


async def test_each_stream_is_there_and_its_filter_is_that_of_the_list() -> None:
    runtime = lists.streamed(service.RUNTIME, dict.fromkeys(lists.STREAMS.values(), nothing))
    images = lists.streamed(service.IMAGES, {"ListImages": none})
    assert lists.STREAMS.keys() <= runtime.keys() | images.keys()
    for part in (service.RUNTIME, service.IMAGES):
        streams = {m.name for m in part.methods if m.server_streaming} - {"GetContainerEvents"}
        assert streams <= lists.STREAMS.keys()
        for name in streams:
            asked = (part.methods_by_name[each].input_type for each in (name, lists.STREAMS[name]))
            one, other = ([(f.name, f.number, f.message_type) for f in each.fields] for each in asked)
            assert one == other
