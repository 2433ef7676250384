"""Checkpoints of containers in frakti's pods: by crictl, with Debian's CRIU, in machines that boot."""

import io
import json
import shutil
import signal
import tarfile
from pathlib import Path

import grpc
import pytest

from hypercontainer.hyperd.cri import cri_pb2 as pb
from hypercontainer.sandbox import criu
from tests.interop.test_frakti import IMAGE, LIMIT_S, WAITS, Kubelet, kubelet  # noqa: F401  fixtures
from tests.interop.test_frakti import pytestmark as needed

pytestmark = [
    *needed,
    pytest.mark.skipif(not shutil.which("criu", path=criu.PATH), reason="there is no criu: run `make interop`"),
]

WORD = "a word that only memory and the environment have"
# Counts in memory and in a file; has a file of the image no more, another one changed, and one of its own; has a
# connection, and no stdin.
COUNTS = """
nc -l -p 9000 -e cat & until sleep 1000000 | nc 127.0.0.1 9000; do :; done &
mkdir /made; echo of the container >/made/file; rm /etc/passwd; echo changed >/etc/group; n=0
while :; do n=$((n + 1)); echo $n >/made/next; mv /made/next /made/count; done
"""


def counting(kubelet: Kubelet, pod: str) -> str:  # noqa: F811
    container = kubelet.made(pod, "one", "sh", "-c", COUNTS, envs=[{"key": "WORD", "value": WORD}])
    kubelet.ok("start", container)
    said(kubelet, container, "until [ -s /made/count ] && netstat -tn | grep -q ESTABLISHED; do :; done")
    return container


def said(kubelet: Kubelet, container: str, line: str) -> str:  # noqa: F811
    return kubelet.ok("exec", "-s", container, "sh", "-c", line)


def goes_on(kubelet: Kubelet, container: str) -> None:  # noqa: F811
    before = said(kubelet, container, "cat /made/count")
    said(kubelet, container, f"until [ $(cat /made/count) -gt {before} ]; do :; done")


def dumps(kubelet: Kubelet) -> list[Path]:  # noqa: F811
    folder = kubelet.hyper.folder / "root/dumps"
    return list(folder.iterdir()) if folder.exists() else []


def test_all_is_of_one_moment_and_it_runs_on(kubelet: Kubelet, tmp_path: Path) -> None:  # noqa: F811
    pod, archive = kubelet.pod(), tmp_path / "saved.tar"
    one = counting(kubelet, pod)
    other = kubelet.made(pod, "other", *WAITS)  # who shares the machine is no matter
    kubelet.ok("start", other)
    kubelet.ok("checkpoint", f"--export={archive}", one)
    assert archive.stat().st_mode == 0o100600
    content: dict[str, bytes] = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            file = tar.extractfile(member)
            content[member.name] = file.read() if file else b""
    names = {"checkpoint/inventory.img", "checkpoint/pstree.img", "dump.log", "stats-dump", "container.log"}
    assert names <= content.keys()
    config, spec, status = (json.loads(content[f"{name}.dump"]) for name in ("config", "spec", "status"))
    assert (config["id"], config["name"], config["rootfsImageName"], config["runtime"]) == (one, "one", IMAGE, "hyper")
    assert spec["process"]["args"][:2] == ["sh", "-c"] and f"WORD={WORD}" in spec["process"]["env"]
    assert spec["annotations"]["io.kubernetes.cri.sandbox-name"] == "pod"
    assert (status["id"], status["state"], status["metadata"]["name"]) == (one, 1, "one")
    assert json.loads(content["deleted.files"]) == ["/etc/passwd"]
    with tarfile.open(fileobj=io.BytesIO(content["rootfs-diff.tar"])) as layer:
        made = {name: layer.extractfile(name) for name in ("made/file", "etc/group", "made/count")}
        said_there = {name: file.read().decode() for name, file in made.items() if file}
        assert "etc/.wh.passwd" in layer.getnames()
    count = int(said_there.pop("made/count"))
    assert said_there == {"made/file": "of the container\n", "etc/group": "changed\n"}
    memory = b"".join(data for name, data in content.items() if name.startswith("checkpoint/pages"))
    assert WORD.encode() in memory
    assert any(f"n={number}\0".encode() in memory for number in (count, count + 1))
    goes_on(kubelet, one)
    assert "ESTABLISHED" in said(kubelet, one, "netstat -tn")
    again = kubelet("checkpoint", f"--export={archive}", one)
    assert again.status != 0 and "something is there" in again.err
    assert dumps(kubelet) == []


def test_what_is_not_saved(kubelet: Kubelet, tmp_path: Path) -> None:  # noqa: F811
    pod = kubelet.pod()
    created = kubelet.made(pod, "created", *WAITS)
    terminal = kubelet.made(pod, "terminal", *WAITS, tty=True)
    kubelet.ok("start", terminal)
    one = kubelet.made(pod, "one", *WAITS)
    kubelet.ok("start", one)

    def refused(container: str, words: str, location: str = f"{tmp_path}/refused.tar") -> None:
        done = kubelet("checkpoint", f"--export={location}", container)
        assert done.status != 0 and words in done.err, done

    refused(created, "it is created")
    refused(terminal, "it has a terminal")
    refused(one, "give the absolute path", "refused.tar")
    refused(one, "no such folder", f"{tmp_path}/missing/refused.tar")
    with kubelet.spawn("exec", one, "sh", "-c", "echo up; sleep 1000000") as exec_:
        assert exec_.stdout and exec_.stdout.readline() == b"up\n"
        refused(one, "processes of exec run in it")
        exec_.kill()
    archive = {"metadata": {"name": "r"}, "image": {"image": f"{tmp_path}/saved.tar"}}
    restored = kubelet("create", pod, kubelet._file("restored", archive), str(kubelet.folder / "pod.json"))
    assert restored.status != 0 and "checkpoints are not restored here" in restored.err
    assert list(tmp_path.glob("*.tar")) == [] == dumps(kubelet)


def test_one_that_is_given_up_leaves_nothing_and_it_goes_on(kubelet: Kubelet, tmp_path: Path) -> None:  # noqa: F811
    """Its kubelet's time is over; then hyperd dies."""
    pod, place = kubelet.pod(), tmp_path / "saved.tar"
    one = counting(kubelet, pod)
    said(kubelet, one, "head -c 60000000 /dev/urandom >/dev/shm/much")
    with grpc.insecure_channel(f"unix://{kubelet.hyper.settings['cri_socket']}") as channel:
        ask = channel.unary_unary(
            "/runtime.v1.RuntimeService/CheckpointContainer",
            request_serializer=pb.CheckpointContainerRequest.SerializeToString,
            response_deserializer=pb.CheckpointContainerResponse.FromString,
        )
        with pytest.raises(grpc.RpcError) as failed:
            ask(pb.CheckpointContainerRequest(container_id=one, location=str(place), timeout=1))
    assert failed.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED, failed.value
    goes_on(kubelet, one)
    assert not place.exists() and dumps(kubelet) == []

    with kubelet.spawn("checkpoint", f"--export={place}", one) as asked:
        while not any((folder / "work/dump.log").exists() for folder in dumps(kubelet)):
            assert asked.poll() is None
        kubelet.hyper.signal(signal.SIGKILL)
        assert asked.wait(LIMIT_S) != 0
    kubelet.hyper.start()
    goes_on(kubelet, one)
    assert not place.exists() and dumps(kubelet) == []
    said(kubelet, one, "rm /dev/shm/much")
    kubelet.ok("checkpoint", f"--export={place}", one)
    assert place.exists()
