"""A pod's life as a kubelet leads it, by gRPC: the same is true of frakti's machines and of containerd's containers."""

import asyncio
import shutil
import time
from datetime import datetime
from pathlib import Path

import pytest
from grpclib.const import Status

from hypercontainer.hyperd.cri import cri_pb2 as pb
from hypercontainer.testing import busybox
from tests.interop.containerd import CONTAINERD
from tests.interop.cri import IMAGE, OBEYS_NOT, PLUGINS, WAITS, Cri, servers
from tests.interop.registries import docker_registry

pytestmark = [
    pytest.mark.interop,
    pytest.mark.docker,
    pytest.mark.vm,
    pytest.mark.skipif(not PLUGINS.exists(), reason="needs the package containernetworking-plugins"),
    pytest.mark.skipif(not CONTAINERD.exists(), reason="there is no containerd: run `make interop`"),
]

LONG = 40_000  # bytes of a line, of which a row of a log has 16,384
LIMIT = "cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes"
SIGKILLED = 137
NOBODY = "0" * 64  # an id that nothing has


server = servers("frakti", "containerd", "containerd-today")


async def test_a_pod(cri: Cri) -> None:
    since = time.time_ns()
    pod = await cri.pod(labels={"app": "web"}, annotations={"who": "kubelet"})
    found = await cri.pod_status(pod)
    assert (found.id, found.state, found.runtime_handler) == (pod, pb.SANDBOX_READY, cri.server.handler)
    assert since <= found.created_at <= time.time_ns()
    meta = found.metadata
    assert (meta.name, meta.uid, meta.namespace, meta.attempt) == ("pod", "pod-uid", "default", 0)
    assert dict(found.labels) == {"app": "web"} and dict(found.annotations) == {"who": "kubelet"}
    assert found.network.ip.count(".") == 3
    options = found.linux.namespaces.options
    assert (options.network, options.pid, options.ipc) == (pb.POD, pb.CONTAINER, pb.POD)
    [entry] = (await cri("ListPodSandbox")).items
    assert (entry.id, entry.state, entry.created_at) == (pod, pb.SANDBOX_READY, found.created_at)
    assert entry.metadata == meta and entry.labels == found.labels and entry.annotations == found.annotations
    for _ in range(2):
        await cri("StopPodSandbox", pod_sandbox_id=pod)
        assert (await cri.pod_status(pod)).state == pb.SANDBOX_NOTREADY
    for _ in range(2):
        await cri("RemovePodSandbox", pod_sandbox_id=pod)
    assert await cri.refused("PodSandboxStatus", pod_sandbox_id=pod) == Status.NOT_FOUND


async def test_the_next_attempt_at_a_pod(cri: Cri) -> None:
    """After the machine, or the pause container, is gone a kubelet makes another one beside it."""
    first = await cri.pod()
    await cri("StopPodSandbox", pod_sandbox_id=first)
    meta = {"name": "pod", "uid": "pod-uid", "namespace": "default", "attempt": 1}
    second = await cri.pod(metadata=meta)
    assert second != first
    states = {each.id: each.state for each in (await cri("ListPodSandbox")).items}
    assert states == {first: pb.SANDBOX_NOTREADY, second: pb.SANDBOX_READY}


async def test_the_same_pod_is_not_made_twice(cri: Cri) -> None:
    """A kubelet whose call came to no end asks again. frakti has the pod for it, containerd refuses its name."""
    pod = await cri.pod()
    if cri.server.ours:
        assert await cri.pod() == pod
    assert await cri.refused("RunPodSandbox", config=cri.described(hostname="other")) != Status.OK
    container = await cri.made(pod, "one", *WAITS)
    if cri.server.ours:
        assert await cri.made(pod, "one", *WAITS) == container
    other = cri.container("one", "true")
    asked = {"pod_sandbox_id": pod, "config": other, "sandbox_config": cri.described()}
    assert await cri.refused("CreateContainer", **asked) != Status.OK
    assert [each.id for each in (await cri("ListPodSandbox")).items] == [pod]
    assert [each.id for each in (await cri("ListContainers")).containers] == [container]


async def test_a_container(cri: Cri) -> None:
    pod = await cri.pod()
    one = await cri.made(
        pod, "one", "sh", "-c", "echo $WORD in $PWD as $(hostname); echo err >&2; sleep 1; exit 42",
        envs=[{"key": "WORD", "value": b"words"}], working_dir="/www", labels={"a": "b"}, annotations={"c": "d"},
    )  # fmt: skip
    made = await cri.status(one)
    assert (made.state, made.started_at, made.finished_at) == (pb.CONTAINER_CREATED, 0, 0)
    assert (made.metadata.name, made.metadata.attempt) == ("one", 0)
    assert dict(made.labels) == {"a": "b"} and dict(made.annotations) == {"c": "d"}
    assert made.log_path == str(cri.folder / "one.log") and made.image_ref and made.image.image
    await cri("StartContainer", container_id=one)
    running = await cri.status(one)
    assert running.state == pb.CONTAINER_RUNNING and made.created_at == running.created_at <= running.started_at
    ended = await cri.ended(one)
    assert (ended.exit_code, ended.reason, ended.started_at) == (42, "Error", running.started_at)
    assert ended.finished_at >= ended.started_at
    assert sorted(cri.log("one")) == ["stderr F err", "stdout F words in /www as pod-host"]
    assert await cri.refused("StartContainer", container_id=one) != Status.OK  # another attempt is another container
    two = await cri.started(pod, "one", "true", metadata={"name": "one", "attempt": 1}, log_path="two.log")
    assert ((await cri.ended(two)).exit_code, (await cri.status(two)).reason) == (0, "Completed")
    await cri("StopContainer", container_id=two, timeout=1)
    for _ in range(2):
        await cri("RemoveContainer", container_id=two)
    assert await cri.refused("ContainerStatus", container_id=two) == Status.NOT_FOUND


async def test_one_that_cannot_be_started(cri: Cri) -> None:
    pod = await cri.pod()
    one = await cri.made(pod, "one", "/no/such/program")
    assert await cri.refused("StartContainer", container_id=one) != Status.OK
    found = await cri.status(one)
    assert (found.state, found.reason) == (pb.CONTAINER_EXITED, "StartError")
    assert found.exit_code != 0 and "/no/such/program" in found.message
    assert found.finished_at > 0


async def test_one_that_takes_too_much_memory(cri: Cri) -> None:
    pod = await cri.pod()
    limits = {"resources": {"memory_limit_in_bytes": 32 << 20}}
    found = await cri.ended(await cri.started(pod, "one", "tail", "/dev/zero", linux=limits))
    assert (found.exit_code, found.reason) == (SIGKILLED, "OOMKilled")


async def test_its_log(cri: Cri) -> None:
    pod = await cri.pod()
    said = f"head -c {LONG} /dev/zero | tr '\\0' x; echo; echo; echo two >&2; printf end"
    await cri.ended(await cri.started(pod, "one", "sh", "-c", said))
    rows = [line.split(" ", 3) for line in (cri.folder / "one.log").read_text().splitlines()]
    for when, _, _, _ in rows:
        head, _, fraction = when.partition(".")
        assert 0 < len(fraction.removesuffix("Z").partition("+")[0]) <= 9  # some leave zeros out
        assert abs(datetime.fromisoformat(f"{head}+00:00").timestamp() - time.time()) < LONG
    out = [(tag, text) for _, stream, tag, text in rows if stream == "stdout"]
    lines = [""]  # whose ends may be in rows of their own
    for tag, text in out:
        lines[-1] += text
        lines += [""] if tag == "F" else []
    assert lines == ["x" * LONG, "", "end"] and [tag for tag, _ in out[:-1]].count("P") > 1
    assert [row[1:] for row in rows if row[1] == "stderr"] == [["stderr", "F", "two"]]


async def test_its_log_is_rotated(cri: Cri) -> None:
    pod = await cri.pod()
    one = await cri.started(pod, "one", "sh", "-c", "echo before; read word; echo after; exec sleep 1000000",
                            stdin=True)  # fmt: skip
    await cri.says("one", bool)
    (cri.folder / "one.log").rename(cri.folder / "old.log")
    for _ in range(2):
        await cri("ReopenContainerLog", container_id=one)
    await cri.exec(one, "sh", "-c", "echo by another >/proc/1/fd/1")
    assert await cri.says("one", bool) == ["stdout F by another"]
    assert cri.log("old") == ["stdout F before"]
    await cri("StopContainer", container_id=one, timeout=0)
    assert await cri.refused("ReopenContainerLog", container_id=one) != Status.OK


async def test_commands_in_it(cri: Cri) -> None:
    pod = await cri.pod()
    one = await cri.started(pod, "one", *WAITS, envs=[{"key": "K", "value": b"v"}], working_dir="/www")
    done = await cri("ExecSync", container_id=one, cmd=["sh", "-c", "echo $K $PWD; echo err >&2; exit 9"])
    assert (done.stdout, done.stderr, done.exit_code) == (b"v /www\n", b"err\n", 9)
    done = await cri("ExecSync", container_id=one, cmd=["sh", "-c", "kill -9 $$"])
    assert done.exit_code == SIGKILLED
    done = await cri("ExecSync", container_id=one, cmd=["head", "-c", str(3 << 20), "/dev/zero"], timeout=600)
    assert done.stdout == bytes(3 << 20)
    late = {"container_id": one, "cmd": ["sleep", "1234"], "timeout": 1}
    assert await cri.refused("ExecSync", **late) == Status.DEADLINE_EXCEEDED
    while "sleep 1234" in await cri.exec(one, "ps"):
        continue
    assert await cri.refused("ExecSync", container_id=one, cmd=["/no/such/program"]) != Status.OK
    assert await cri.refused("ExecSync", container_id=one, cmd=[]) != Status.OK
    assert await cri.refused("ExecSync", container_id=NOBODY, cmd=["true"]) == Status.NOT_FOUND
    await cri("StopContainer", container_id=one, timeout=0)
    assert await cri.refused("ExecSync", container_id=one, cmd=["true"]) != Status.OK


async def test_what_it_uses(cri: Cri) -> None:
    pod = await cri.pod(labels={"a": "b"})
    one = await cri.started(pod, "one", *WAITS, labels={"c": "d"})
    two = await cri.started(pod, "two", *WAITS)
    await cri.says("one", bool)
    before = (await cri("ContainerStats", container_id=one)).stats
    assert (before.attributes.id, before.attributes.metadata.name) == (one, "one")
    assert dict(before.attributes.labels) == {"c": "d"}
    await cri.exec(one, "sh", "-c", "n=0; while [ $n -lt 200000 ]; do n=$((n + 1)); done")
    after = (await cri("ContainerStats", container_id=one)).stats
    assert after.cpu.usage_core_nano_seconds.value > before.cpu.usage_core_nano_seconds.value + 10_000_000
    assert after.cpu.timestamp > before.cpu.timestamp and after.memory.working_set_bytes.value > 0
    assert after.HasField("writable_layer")
    for wanted, ids in (
        ({}, {one, two}),
        ({"id": one}, {one}),
        ({"pod_sandbox_id": pod}, {one, two}),
        ({"label_selector": {"c": "d"}}, {one}),
        ({"label_selector": {"c": "e"}}, set()),
    ):
        listed = (await cri("ListContainerStats", filter=wanted)).stats
        assert {each.attributes.id for each in listed} == ids, wanted
    whole = (await cri("PodSandboxStats", pod_sandbox_id=pod)).stats
    assert (whole.attributes.id, whole.attributes.metadata.name) == (pod, "pod")
    assert whole.linux.memory.working_set_bytes.value > 0 and whole.linux.network.default_interface.name == "eth0"
    assert {each.attributes.id for each in whole.linux.containers} == {one, two}
    for wanted, ids in (({}, {pod}), ({"id": pod}, {pod}), ({"label_selector": {"a": "c"}}, set())):
        listed = (await cri("ListPodSandboxStats", filter=wanted)).stats
        assert {each.attributes.id for each in listed} == ids, wanted
    assert await cri.refused("ContainerStats", container_id=NOBODY) != Status.OK
    assert await cri.refused("PodSandboxStats", pod_sandbox_id=NOBODY) != Status.OK


async def test_limits_that_change(cri: Cri) -> None:
    pod = await cri.pod()
    limits = {"resources": {"memory_limit_in_bytes": 64 << 20, "cpu_shares": 512}}
    one = await cri.started(pod, "one", *WAITS, linux=limits)
    assert await cri.exec(one, "sh", "-c", LIMIT) == str(64 << 20)
    for mib in (96, 96, 48):
        await cri("UpdateContainerResources", container_id=one, linux={"memory_limit_in_bytes": mib << 20})
        assert await cri.exec(one, "sh", "-c", LIMIT) == str(mib << 20)
    assert await cri.refused("UpdateContainerResources", container_id=NOBODY) == Status.NOT_FOUND


async def test_it_is_stopped(cri: Cri) -> None:
    pod = await cri.pod()
    one, two, three = [
        await cri.started(pod, name, *words)
        for name, words in (("one", WAITS), ("two", OBEYS_NOT), ("three", OBEYS_NOT))
    ]
    for name in ("one", "two", "three"):
        await cri.says(name, bool)
    await cri("StopContainer", container_id=one, timeout=600)
    found = await cri.status(one)
    assert (found.state, found.exit_code, found.reason) == (pb.CONTAINER_EXITED, 3, "Error")
    for id, within_s in ((two, 1), (three, 0)):
        await cri("StopContainer", container_id=id, timeout=within_s)
        assert ((await cri.status(id)).exit_code, (await cri.status(id)).state) == (SIGKILLED, pb.CONTAINER_EXITED)
    await cri("StopContainer", container_id=one, timeout=600)
    assert await cri.status(one) == found


async def test_a_stop_that_is_asked_for_again_with_less_time(cri: Cri) -> None:
    """As a kubelet does when a pod is deleted at once, which it had given time."""
    pod = await cri.pod()
    one = await cri.started(pod, "one", *OBEYS_NOT)
    await cri.says("one", bool)
    patient = asyncio.create_task(cri("StopContainer", container_id=one, timeout=1000))
    await asyncio.sleep(0)
    await cri("StopContainer", container_id=one, timeout=0)
    await patient
    assert (await cri.status(one)).exit_code == SIGKILLED


async def test_a_pod_with_all_that_runs_in_it(cri: Cri) -> None:
    pod = await cri.pod()
    one = await cri.started(pod, "one", *OBEYS_NOT)
    await cri("StopPodSandbox", pod_sandbox_id=pod)
    found = await cri.status(one)
    assert (found.state, found.exit_code) == (pb.CONTAINER_EXITED, SIGKILLED)
    config = {"config": cri.container("two", "true"), "sandbox_config": cri.described()}
    assert await cri.refused("CreateContainer", pod_sandbox_id=pod, **config) != Status.OK
    other = await cri.pod("other")
    two = await cri.started(other, "two", *WAITS, of="other")
    three = await cri.made(other, "three", *WAITS, of="other")
    await cri("RemoveContainer", container_id=two)  # which runs
    two = await cri.started(other, "again", *WAITS, of="other")
    await cri("RemovePodSandbox", pod_sandbox_id=other)
    for id in (two, three):
        assert await cri.refused("ContainerStatus", container_id=id) == Status.NOT_FOUND
    assert [each.id for each in (await cri("ListContainers")).containers] == [one]


async def test_lists(cri: Cri) -> None:
    pods = {name: await cri.pod(name, labels={"app": name, "all": "1"}) for name in ("a", "b")}
    ids = {
        name: await cri.made(pods[pod], name, *WAITS, of=pod, labels={"c": name, "all": "1"})
        for name, pod in (("one", "a"), ("two", "a"), ("three", "b"))
    }
    await cri("StartContainer", container_id=ids["one"])
    await cri("StopPodSandbox", pod_sandbox_id=pods["b"])
    for asked, found in (
        (pb.PodSandboxFilter(), "a b"),
        (pb.PodSandboxFilter(id=pods["a"]), "a"),
        (pb.PodSandboxFilter(id=NOBODY), ""),
        (pb.PodSandboxFilter(state={"state": pb.SANDBOX_READY}), "a"),
        (pb.PodSandboxFilter(state={"state": pb.SANDBOX_NOTREADY}), "b"),
        (pb.PodSandboxFilter(label_selector={"all": "1"}), "a b"),
        (pb.PodSandboxFilter(label_selector={"all": "1", "app": "b"}), "b"),
        (pb.PodSandboxFilter(label_selector={"all": ""}), ""),
        (pb.PodSandboxFilter(id=pods["a"], label_selector={"app": "b"}), ""),
    ):
        items = (await cri("ListPodSandbox", filter=asked)).items
        assert sorted(each.id for each in items) == sorted(pods[name] for name in found.split()), asked
    for wanted, found in (
        (pb.ContainerFilter(id=ids["one"]), "one"),
        (pb.ContainerFilter(id=NOBODY), ""),
        (pb.ContainerFilter(state={"state": pb.CONTAINER_RUNNING}), "one"),
        (pb.ContainerFilter(state={"state": pb.CONTAINER_CREATED}, pod_sandbox_id=pods["a"]), "two"),
        (pb.ContainerFilter(pod_sandbox_id=pods["a"]), "one two"),
        (pb.ContainerFilter(label_selector={"all": "1"}, pod_sandbox_id=pods["b"]), "three"),
        (pb.ContainerFilter(label_selector={"c": "two"}), "two"),
        (pb.ContainerFilter(pod_sandbox_id=NOBODY), ""),
    ):
        containers = (await cri("ListContainers", filter=wanted)).containers
        assert sorted(each.id for each in containers) == sorted(ids[name] for name in found.split()), wanted
    [entry] = (await cri("ListContainers", filter={"id": ids["one"]})).containers
    assert (entry.pod_sandbox_id, entry.metadata.name) == (pods["a"], "one") and entry.image_ref


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("PodSandboxStatus", {"pod_sandbox_id": NOBODY}),
        ("ContainerStatus", {"container_id": NOBODY}),
        ("StartContainer", {"container_id": NOBODY}),
        ("ReopenContainerLog", {"container_id": NOBODY}),
        ("PullImage", {"image": {"image": "127.0.0.1:1/no/such:1"}}),
    ],
)
async def test_what_is_not_there(cri: Cri, method: str, fields: dict[str, object]) -> None:
    found = await cri.refused(method, **fields)
    assert found == Status.NOT_FOUND or (method == "PullImage" and found != Status.OK)


async def test_what_is_gone_need_not_be_stopped_or_removed(cri: Cri) -> None:
    await cri("RemovePodSandbox", pod_sandbox_id=NOBODY)
    await cri("RemoveContainer", container_id=NOBODY)
    await cri("RemoveImage", image={"image": "docker.io/library/no-such:1"})
    if not cri.server.old:
        await cri("StopPodSandbox", pod_sandbox_id=NOBODY)
        await cri("StopContainer", container_id=NOBODY)


async def test_what_makes_no_sense(cri: Cri) -> None:
    assert await cri.refused("RunPodSandbox", config={}) != Status.OK
    asked = {"config": cri.described(), "runtime_handler": "no-such"}
    assert await cri.refused("RunPodSandbox", **asked) != Status.OK
    pod = await cri.pod()
    missing = cri.container("one", "true", image={"image": "docker.io/library/no-such:1"})
    asked = {"pod_sandbox_id": pod, "sandbox_config": cri.described()}
    assert await cri.refused("CreateContainer", config=missing, **asked) == Status.NOT_FOUND
    assert await cri.refused("CreateContainer", config={}, **asked) != Status.OK
    asked["pod_sandbox_id"] = NOBODY
    assert await cri.refused("CreateContainer", config=cri.container("one", "true"), **asked) == Status.NOT_FOUND
    assert not (await cri("ListContainers")).containers


@pytest.mark.skipif(not all(map(shutil.which, ("docker-registry", "skopeo"))), reason="docker-registry, skopeo")
async def test_images(cri: Cri, tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    busybox.write_archive(archive, ["one:1"], files={"words": b"of the image"}, config={"User": "33", "Cmd": ["true"]})
    async with docker_registry(tmp_path / "registry", within=cri.server.within) as host:
        for tag in ("1", "2"):
            await copy(cri.server.within, f"docker-archive:{archive}", f"docker://{host}/an/image:{tag}")
        name = f"{host}/an/image:1"
        assert not (await cri("ImageStatus", image={"image": name})).HasField("image")
        ref = (await cri("PullImage", image={"image": name})).image_ref
        assert (await cri("PullImage", image={"image": name})).image_ref == ref
        found = (await cri("ImageStatus", image={"image": name})).image
        assert found.id.startswith("sha256:") and list(found.repo_tags) == [name] and found.size > 0
        [digest] = found.repo_digests
        assert digest.startswith(f"{host}/an/image@sha256:") and ref in (found.id, digest)
        assert found.uid.value == 33 and not found.username
        for other in (found.id, found.id.removeprefix("sha256:"), digest, ref):
            assert (await cri("ImageStatus", image={"image": other})).image.id == found.id, other
        assert (await cri("PullImage", image={"image": digest})).image_ref == ref
        assert (await cri("PullImage", image={"image": f"{host}/an/image:2"})).image_ref == ref
        both = (await cri("ImageStatus", image={"image": ref})).image
        assert sorted(both.repo_tags) == [name, f"{host}/an/image:2"] and list(both.repo_digests) == [digest]
        listed = [each.id for each in (await cri("ListImages", filter={"image": {"image": name}})).images]
        assert found.id in listed and (listed == [found.id] or not cri.server.ours)  # containerd lists them all
        assert found.id in {each.id for each in (await cri("ListImages")).images}
        assert await cri.refused("PullImage", image={"image": f"{host}/an/image:no"}) == Status.NOT_FOUND
        pod = await cri.pod()
        one = await cri.started(pod, "one", "cat", "/words", image={"image": found.id, "user_specified_image": name})
        ended = await cri.ended(one)
        assert ended.image_ref == digest and ended.image_id in ("", found.id)
        [entry] = (await cri("ListContainers")).containers
        assert entry.image_ref == found.id  # which images that are used are known by
        assert cri.log("one") == ["stdout P of the image"]
        await cri("RemovePodSandbox", pod_sandbox_id=pod)
        for _ in range(2):
            await cri("RemoveImage", image={"image": found.id})
        for gone in (name, found.id, digest, f"{host}/an/image:2"):
            assert not (await cri("ImageStatus", image={"image": gone})).HasField("image"), gone
        await cri("PullImage", image={"image": digest})
        by_digest = (await cri("ImageStatus", image={"image": digest})).image
        assert not by_digest.repo_tags and list(by_digest.repo_digests) == [digest]
        await cri("RemoveImage", image={"image": digest})
    [usage] = (await cri("ImageFsInfo")).image_filesystems
    assert usage.fs_id.mountpoint
    assert usage.used_bytes.value > 1 << 20 or not cri.server.ours  # containerd counts them every now and then
    assert IMAGE in [tag for each in (await cri("ListImages")).images for tag in each.repo_tags]


async def copy(within: list[str], source: str, target: str) -> None:
    argv = [*within, "skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", source, target]
    process = await asyncio.create_subprocess_exec(*argv)
    assert await process.wait() == 0
