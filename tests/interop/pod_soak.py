"""Pods of a kubelet whose hyperd dies in the middle of its calls, and many pods at once: nothing may be left.

    python -m tests.interop.pod_soak [--seed N] [--seconds S] [--pods N]

First that many pods come and go. Then each round leads a pod's life, and kills hyperd with SIGKILL at a moment within
the time that one call of it was seen to take. The next hyperd takes up; the kubelet asks the same again, and goes on;
what it is told is as if nobody had died. The seed is printed first: the same one takes the same rounds.
"""

import argparse
import asyncio
import json
import random
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpclib
from grpclib.exceptions import StreamTerminatedError

from hypercontainer.hyperd.cri import cri_pb2 as pb
from hypercontainer.testing import busybox
from hypercontainer.testing.daemon import PrivateDaemon, Value, free_subnet, private_daemon
from tests.conftest import KERNELS
from tests.interop.cri import WAITS, calling, of_hyperd
from tests.vm import conftest
from tests.vm.test_pool import full

PLUGINS = "/usr/lib/cni"
CALLS = (
    "RunPodSandbox",
    "CreateContainer",
    "StartContainer",
    "ExecSync",
    "UpdateContainerResources",
    "ContainerStats",
    "StopContainer",
    "RemoveContainer",
    "StopPodSandbox",
    "RemovePodSandbox",
)
TOGETHER = 8  # calls of a kubelet under way at once


class Wrong(Exception):
    """What must be true is not."""


class Node:
    """A hyperd that a kubelet asks, with a network of pods; `folder` has that network and the logs."""

    def __init__(self, hyper: PrivateDaemon, folder: Path) -> None:
        self.hyper, self.folder = hyper, folder
        self.known = self._things()
        self._told = 0  # bytes of hyperd's log that have been read

    def kill(self) -> None:
        self.hyper.signal(signal.SIGKILL)
        self.hyper.start()

    def check_nothing_left(self) -> None:
        left = conftest.left_behind(self.hyper, lambda: sorted(self._things() - self.known))
        if left:
            raise Wrong("left behind: " + "; ".join(left))
        log = self.hyper.log()[self._told :]
        self._told += len(log)
        if "Traceback" in log:
            raise Wrong(f"hyperd has failed: {log[-3000:]}")

    def _things(self) -> set[str]:
        hyper = self.hyper
        leases = [path for path in (self.folder / "ipam").glob("*/*") if path.name[0].isdecimal()]
        places = [path for place in (hyper.root, hyper.folder / "run") for path in (place / "cni").glob("*")]
        things = {
            *(f"file {path}" for path in (*leases, *places)),
            *conftest.mounts([hyper.folder]),
            *conftest.idle_cgroups(conftest.cgroup_homes(hyper)),
            *conftest.taps(int(str(hyper.settings["uid_base"]))),
            *conftest.rules(hyper),
            *conftest.bridges(hyper),
            *conftest.pods(hyper),
        }
        return {each for each in things if "/run/shares/waiting-" not in each}  # those of guests that wait


class Life:
    """One of a pod with one container. hyperd is killed `delay_s` after the call `deadly` has begun."""

    def __init__(self, node: Node, deadly: str = "", delay_s: float = 0.0) -> None:
        self.node, self.deadly, self.delay_s = node, deadly, delay_s
        self.took_s: dict[str, float] = {}
        self.name = f"p{secrets.token_hex(4)}"

    async def _call(self, method: str, **fields: Any) -> Any:
        """As a kubelet calls: again, where nobody has answered."""
        if method == self.deadly:
            async with calling(of_hyperd(self.node.hyper), self.node.folder) as cri:
                asking = asyncio.create_task(cri(method, **fields))
                await asyncio.wait([asking], timeout=self.delay_s)
                self.node.kill()
                answer = (await asyncio.gather(asking, return_exceptions=True))[0]
                if isinstance(answer, grpclib.GRPCError):
                    raise Wrong(f"{method} was refused: {answer}")
                if isinstance(answer, BaseException) and not isinstance(answer, OSError | StreamTerminatedError):
                    raise answer
        async with calling(of_hyperd(self.node.hyper), self.node.folder) as cri:
            since = time.monotonic()
            done = await cri(method, **fields)
            self.took_s[method] = time.monotonic() - since
            return done

    async def lead(self) -> None:
        async with calling(of_hyperd(self.node.hyper), self.node.folder) as cri:
            sandbox, container = cri.described(self.name), cri.container(self.name, *WAITS)
        pod = (await self._call("RunPodSandbox", config=sandbox)).pod_sandbox_id
        made = {"pod_sandbox_id": pod, "config": container, "sandbox_config": sandbox}
        one = (await self._call("CreateContainer", **made)).container_id
        await self._check(pod, one, pb.CONTAINER_CREATED)
        await self._call("StartContainer", container_id=one)
        await self._check(pod, one, pb.CONTAINER_RUNNING)
        done = await self._call("ExecSync", container_id=one, cmd=["sh", "-c", "echo out; exit 4"])
        if (done.stdout, done.exit_code) != (b"out\n", 4):
            raise Wrong(f"exec: {done}")
        await self._call("UpdateContainerResources", container_id=one, linux={"memory_limit_in_bytes": 64 << 20})
        stats = (await self._call("ContainerStats", container_id=one)).stats
        if not stats.memory.available_bytes.value < 64 << 20:
            raise Wrong(f"stats: {stats}")
        await self._log(one)
        await self._call("StopContainer", container_id=one, timeout=600)
        await self._check(pod, one, pb.CONTAINER_EXITED, status=3)
        await self._call("RemoveContainer", container_id=one)
        await self._check(pod, "")
        await self._call("StopPodSandbox", pod_sandbox_id=pod)
        await self._call("RemovePodSandbox", pod_sandbox_id=pod)
        await self._check("", "")

    async def _log(self, one: str) -> None:
        async with calling(of_hyperd(self.node.hyper), self.node.folder) as cri:
            if (said := await cri.says(self.name, bool)) != ["stdout F ready"]:
                raise Wrong(f"log of {one}: {said}")

    async def _check(self, pod: str, one: str, state: int = 0, status: int = 0) -> None:
        """That there is this pod, and this container, and no other."""
        async with calling(of_hyperd(self.node.hyper), self.node.folder) as cri:
            pods = [(each.id, each.state) for each in (await cri("ListPodSandbox")).items]
            ids = [(each.id, each.state) for each in (await cri("ListContainers")).containers]
            if pods != [(each, pb.SANDBOX_READY) for each in (pod,) if each]:
                raise Wrong(f"pods: {pods}, and should be {pod or 'none'}")
            if ids != [(each, state) for each in (one,) if each]:
                raise Wrong(f"containers: {ids}, and should be {one or 'none'}, {state}")
            if one and (found := await cri.status(one)).exit_code != status:
                raise Wrong(f"{one} has ended with {found.exit_code}, not {status}")


class Deaths:
    def __init__(self, node: Node, seed: int) -> None:
        self.node, self.random, self.rounds = node, random.Random(seed), 0
        self._takes: dict[str, float] = {}

    async def begin(self) -> None:
        """See how long each call takes. The first life takes longer than others."""
        for _ in range(2):
            life = Life(self.node)
            await life.lead()
            self._takes = life.took_s
        self.node.check_nothing_left()

    async def round(self, method: str) -> None:
        self.rounds += 1
        delay_s = self.random.uniform(0, self._takes[method])
        words = f"{self.rounds:4} {method}, hyperd after {delay_s:.3f} s"
        print(words, flush=True)
        try:
            await Life(self.node, method, delay_s).lead()
            self.node.check_nothing_left()
        except BaseException as e:
            raise Wrong(f"{words}: {type(e).__name__}: {e}\n{self.node.hyper.log()[-3000:]}") from e


async def many(node: Node, count: int) -> None:
    """That many pods of two containers, up and down, some at a time, as a kubelet does that comes to a new node."""
    turns = asyncio.Semaphore(TOGETHER)

    async with calling(of_hyperd(node.hyper), node.folder) as cri:

        async def up(name: str) -> str:
            async with turns:
                pod = await cri.pod(name)
                for each in ("a", "b"):
                    await cri.started(pod, f"{name}-{each}", *WAITS, of=name)
                return pod

        async def down(pod: str) -> None:
            async with turns:
                await cri("StopPodSandbox", pod_sandbox_id=pod)
                await cri("RemovePodSandbox", pod_sandbox_id=pod)

        pods = await asyncio.gather(*(up(f"m{n}") for n in range(count)))
        containers = (await cri("ListContainers", filter={"state": {"state": pb.CONTAINER_RUNNING}})).containers
        addresses = {(await cri.pod_status(pod)).network.ip for pod in pods}
        stats = (await cri("ListPodSandboxStats")).stats
        if not len(set(pods)) == len(addresses) == len(stats) == len(containers) / 2 == count:
            raise Wrong(f"{len(addresses)} addresses, {len(stats)} stats, {len(containers)} containers")
        await asyncio.gather(*map(down, pods))
    node.check_nothing_left()


@contextmanager
def node(pool: int = 1) -> Iterator[Node]:
    """With a hyperd that has that many guests wait."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "conf").mkdir()
        ipam = {"type": "host-local", "dataDir": f"{name}/ipam", "ranges": [[{"subnet": free_subnet()}]]}
        network = {"cniVersion": "1.0.0", "name": folder.name, "plugins": [{"type": "ptp", "ipam": ipam}]}
        (folder / "conf/10-pods.conflist").write_text(json.dumps(network))
        settings: dict[str, Value] = {
            "accelerator": "tcg",
            "memory_mib": 256,
            "cri_socket": f"{name}/c.sock",
            "cni_conf_dir": f"{name}/conf",
            "cni_bin_dirs": [PLUGINS],
            "factory": "cache",
            "pool": [{"share": True, "cache": pool}],
        }
        with private_daemon(KERNELS, settings) as hyper:
            busybox.write_archive(folder / "busybox.tar")
            loaded = hyper.ctl("load", "-i", f"{name}/busybox.tar")
            if loaded.status:
                raise Wrong(loaded.err)
            full(hyper)
            yield Node(hyper, folder)


async def soak(node: Node, seed: int, seconds: float, pods: int) -> int:
    await many(node, pods)
    print(f"{pods} pods up and down, nothing left", flush=True)
    deaths = Deaths(node, seed)
    await deaths.begin()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for method in deaths.random.sample(CALLS, len(CALLS)):
            if time.monotonic() < until:
                await deaths.round(method)
    return deaths.rounds


def main() -> int:
    p = argparse.ArgumentParser(prog="pod_soak", description=__doc__)
    p.add_argument("--seed", type=int, default=secrets.randbelow(1 << 32))
    p.add_argument("--seconds", type=float, default=600.0)
    p.add_argument("--pods", type=int, default=100)
    arguments = p.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    try:
        with node() as there:
            rounds = asyncio.run(soak(there, arguments.seed, arguments.seconds, arguments.pods))
    except Wrong as e:
        print(f"pod_soak: {e}", file=sys.stderr)
        return 1
    print(f"{rounds} rounds, nothing wrong, nothing left")
    return 0


if __name__ == "__main__":
    sys.exit(main())
