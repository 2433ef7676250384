"""frakti overhead: what a pod costs this host beside its containers, measured with one that nobody is in.

The pod is made through the socket of a hyperd that runs, once for each handler, and removed however it ends."""

import argparse
import asyncio
import math
import os
import re
import secrets
import signal
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from google.protobuf import message_factory
from google.protobuf.message import Message
from grpclib import GRPCError
from grpclib.client import Channel, UnaryUnaryMethod

from hypercontainer.client.http import Client
from hypercontainer.errors import HyperError, Unavailable
from hypercontainer.hyperd.cri import cri_pb2 as pb
from hypercontainer.hyperd.cri.service import RUNTIME
from hypercontainer.lib import memory
from hypercontainer.lib.tasks import uninterrupted
from hypercontainer.model.settings import Settings

LABEL = "io.hypercontainer.overhead"
CALL_S = 300.0  # an emulated machine boots within it
WINDOW_S = 5.0
ROUNDS = 12  # of a minute at most: what is still not at rest by then is told as it is
SAME_KIB, SAME_CPU = 1024, 0.005  # of two rounds after which nothing is expected to change
TICKS = os.sysconf("SC_CLK_TCK")
MAPPING = re.compile(rb"^(?=[0-9a-f]+-[0-9a-f]+ )", re.MULTILINE)


class Cost(NamedTuple):
    """Of one pod. PSS: pages that several processes have are counted in parts."""

    vmm_kib: int  # without the guest's memory
    guest_kib: int
    helpers_kib: int
    cpu: float  # processors

    @property
    def memory_kib(self) -> int:
        return self.vmm_kib + self.guest_kib + self.helpers_kib

    @property
    def pod_fixed(self) -> dict[str, str]:
        """In Kubernetes' units; no less than what was measured."""
        return {"memory": f"{math.ceil(self.memory_kib / 1024)}Mi", "cpu": f"{max(1, math.ceil(self.cpu * 1000))}m"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format", choices=["table", "yaml"], default="table", help="yaml: RuntimeClasses, to be applied"
    )


def run(settings: Settings, format: str) -> str:
    """What is to be printed. HyperError."""
    return asyncio.run(_run(settings, format))


async def _run(settings: Settings, format: str) -> str:
    task = asyncio.ensure_future(measure(settings))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        found = await task
    except asyncio.CancelledError:
        raise HyperError("interrupted; the pod was removed") from None
    return manifests(found) if format == "yaml" else table(found)


async def measure(settings: Settings) -> dict[str, Cost]:
    channel = Channel(path=settings.cri_socket)
    try:
        status = await _call(channel, "Status")
        names = [each.name for each in status.runtime_handlers if each.name]
        return {name: await _of(channel, settings, name) for name in names}
    except OSError as e:
        raise Unavailable(f"cannot reach frakti at {settings.cri_socket}: {e.strerror}; start it first") from e
    except GRPCError as e:
        raise HyperError(f"cannot measure a pod: {e.message}") from e
    finally:
        channel.close()


async def _call(channel: Channel, name: str, **fields: Any) -> Any:
    method = RUNTIME.methods_by_name[name]
    request, reply = (message_factory.GetMessageClass(each) for each in (method.input_type, method.output_type))
    call: UnaryUnaryMethod[Message, Message] = UnaryUnaryMethod(channel, f"/{RUNTIME.full_name}/{name}", request, reply)
    return await call(request(**fields), timeout=CALL_S)


async def _of(channel: Channel, settings: Settings, handler: str) -> Cost:
    mark = secrets.token_hex(8)
    config = pb.PodSandboxConfig(
        metadata=pb.PodSandboxMetadata(name=f"overhead-{handler}", uid=mark, namespace="hyper-overhead"),
        labels={LABEL: mark},
        linux=pb.LinuxPodSandboxConfig(
            security_context=pb.LinuxSandboxSecurityContext(namespace_options=pb.NamespaceOption(pid=pb.CONTAINER))
        ),
    )
    try:
        made = await _call(channel, "RunPodSandbox", config=config, runtime_handler=handler)
        with Client(settings.socket) as client:
            pid = int(client.get(f"/v1/pods/{made.pod_sandbox_id}")["Vm"]["Pid"])
        return await settled(rounds(pid))
    finally:
        await uninterrupted(_remove(channel, mark))  # by its label: whoever was interrupted has no id yet


async def _remove(channel: Channel, mark: str) -> None:
    wanted = pb.PodSandboxFilter(label_selector={LABEL: mark})
    for pod in (await _call(channel, "ListPodSandbox", filter=wanted)).items:
        await _call(channel, "StopPodSandbox", pod_sandbox_id=pod.id)
        await _call(channel, "RemovePodSandbox", pod_sandbox_id=pod.id)


async def settled(found: AsyncIterator[Cost]) -> Cost:
    """The first that is as the one before it, or takes a little more; at last the last."""
    before = None
    async for cost in found:
        if before and abs(cost.memory_kib - before.memory_kib) <= SAME_KIB and before.cpu - cost.cpu <= SAME_CPU:
            return cost
        before = cost
    if before is None:
        raise HyperError("cannot measure a pod: its machine has ended")
    return before


async def rounds(vmm: int) -> AsyncIterator[Cost]:
    for _ in range(ROUNDS):
        before, began = ticks(processes(vmm)), time.monotonic()
        await asyncio.sleep(WINDOW_S)
        there = processes(vmm)
        after, took_s = ticks(there), time.monotonic() - began
        used = sum(n - before.get(pid, n) for pid, n in after.items())
        if vmm not in after:
            return
        own, guest = split(Path(f"/proc/{vmm}/smaps").read_bytes())
        helpers = sum(memory.pss_kib(pid) for pid in there if pid != vmm)
        yield Cost(own, guest, helpers, used / TICKS / took_s)


def processes(vmm: int) -> list[int]:
    """Those in the control groups of the VMM, which are one machine's."""
    groups = _groups(vmm)
    if groups is None or groups == _groups(os.getpid()):
        raise HyperError(f"cannot measure a pod: its VMM, process {vmm}, has ended, or has no control group of its own")
    return [pid for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))) if _groups(pid) == groups]


def _groups(pid: int) -> bytes | None:
    try:
        return Path(f"/proc/{pid}/cgroup").read_bytes()
    except OSError:
        return None


def ticks(pids: Iterable[int]) -> dict[int, int]:
    """Time of the processor that each has used."""
    found = {}
    for pid in pids:
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            found[pid] = int(fields[11]) + int(fields[12])
    return found


def split(smaps: bytes) -> tuple[int, int]:
    """PSS of a VMM in KiB, without and of the guest's memory, which are its mappings of a memfd."""
    sums = {True: 0, False: 0}
    for mapping in MAPPING.split(smaps):
        if found := memory.PSS.search(mapping):
            sums[b" /memfd:" in mapping.partition(b"\n")[0]] += int(found[1])
    return sums[False], sums[True]


def table(found: Mapping[str, Cost]) -> str:
    titles = ["HANDLER", "VMM", "GUEST", "HELPERS", "MEMORY", "CPU"]
    rows = [titles, *(_row(name, cost) for name, cost in found.items())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("   ".join(map(str.ljust, row, widths)).rstrip() for row in rows) + "\n"


def _row(name: str, cost: Cost) -> Sequence[str]:
    parts = (f"{kib / 1024:.1f} MiB" for kib in (cost.vmm_kib, cost.guest_kib, cost.helpers_kib))
    return [name, *parts, cost.pod_fixed["memory"], cost.pod_fixed["cpu"]]


def manifests(found: Mapping[str, Cost]) -> str:
    classes = [
        {
            "apiVersion": "node.k8s.io/v1",
            "kind": "RuntimeClass",
            "metadata": {"name": name},
            "handler": name,
            "overhead": {"podFixed": cost.pod_fixed},
        }
        for name, cost in found.items()
    ]
    return yaml.safe_dump_all(classes, sort_keys=False)
