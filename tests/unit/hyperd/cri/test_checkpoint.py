"""What a checkpoint says of its container, in JSON as Go writes and reads it."""

from hypercontainer.hyperd.cri import cri_pb2 as pb
from hypercontainer.hyperd.cri.checkpoint import plain


def test_a_status_in_json() -> None:
    status = pb.ContainerStatus(
        id="c1",
        metadata=pb.ContainerMetadata(name="one", attempt=2),
        state=pb.CONTAINER_RUNNING,
        created_at=1_700_000_000_000_000_001,
        labels={"a": "b"},
        mounts=[pb.Mount(container_path="/m", readonly=True)],
    )
    assert plain(status) == {
        "id": "c1",
        "metadata": {"name": "one", "attempt": 2},
        "state": 1,
        "created_at": 1_700_000_000_000_000_001,
        "labels": {"a": "b"},
        "mounts": [{"container_path": "/m", "readonly": True}],
    }
