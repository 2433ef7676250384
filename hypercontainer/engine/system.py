"""The use cases of hyperd itself: what it says of itself, and of the host that it runs on. model.api.System says what
each promises."""

import os
import platform
import shutil
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path

from hypercontainer import __version__
from hypercontainer.engine import accelerator, describe, events, figures
from hypercontainer.engine.host import Host
from hypercontainer.engine.supervisor import Supervisor
from hypercontainer.errors import HyperError, InvalidInput, NotFound, Unavailable, reason
from hypercontainer.images import reference, registry_host
from hypercontainer.lib import apparmor, cgroup
from hypercontainer.model import documents as doc
from hypercontainer.model.api import Filters
from hypercontainer.model.arch import ARCHES, Arch, host_name
from hypercontainer.model.figures import Family
from hypercontainer.sandbox.container import Container

API_VERSION = "1"
COMMANDS = ["mkfs.ext4", "ip", "nft", "depmod", "dpkg-deb"]
LOW_DISK = 2 << 30


class System:
    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor, self.host = supervisor, supervisor.host

    async def ping(self) -> None:
        self.host.events.check()

    async def version(self) -> doc.Version:
        return doc.Version(
            version=__version__,
            api_version=API_VERSION,
            python_version=platform.python_version(),
            arch=platform.machine(),
            kernel_version=platform.release(),
        )

    async def info(self) -> doc.Info:
        containers = [c for pod in self.supervisor.pods.values() for c in pod.containers.values()]
        return await _info(self.host, containers, self.supervisor.unreached())

    async def doctor(self) -> doc.Doctor:
        return await _doctor(self.host)

    async def events(
        self, since_ns: int | None, until_ns: int | None, filters: Filters
    ) -> AsyncGenerator[doc.Event, None]:
        events.check(filters)
        return self.host.events.follow(since_ns, until_ns, filters)

    async def figures(self) -> Sequence[Family]:
        return figures.families(self.supervisor)


def _guest_kernel(host: Host) -> str:
    try:
        return host.kernels.of(host_name(), host.settings.kernel).name
    except NotFound:
        return ""


def _apparmor(host: Host) -> bool:
    """Debian's kernels have it, and those that are built here do not."""
    try:
        kernel = host.kernels.of(host_name(), host.settings.kernel)
    except NotFound:
        return False
    return not kernel.source and apparmor.compiler() is not None


async def _info(host: Host, containers: Sequence[Container], unreached: Mapping[str, str]) -> doc.Info:
    """`unreached`: why a pod's guest does not answer."""
    states = Counter(container.state for _, container in host.index.containers())
    isolation = describe.isolation(await host.choice())
    guest_kernel = _guest_kernel(host)
    warnings = [] if guest_kernel else ["there is no guest kernel: run `hyperctl kernel fetch`"]
    if isolation.level == "emulated":
        warnings.append("guests are emulated: slow, and not a security boundary that we promise")
    warnings += _unwritten(host, sum(c.output.log in c.output.stuck for c in containers))
    for c in containers:
        others = [(sink, error) for sink, error in c.output.stuck.items() if sink is not c.output.log]
        warnings += [f"the output of {c.record.name} waits: {sink.where}: {reason(error)}" for sink, error in others]
    warnings += [pod.why for pod in host.index.unread]
    warnings += [*host.volumes.unread(), *host.networks.unread, *host.kernels.unread()]
    hypervisor, missing = await _hypervisor(host)
    registries, wrong = await _registries(host)
    warnings += [*missing, *wrong]
    warnings += [f"pod {host.index.pods[pod].name} is not reached yet: {why}" for pod, why in unreached.items()]
    return doc.Info(
        name=platform.node(),
        server_version=__version__,
        root=host.settings.root,
        run=host.settings.run,
        pods=len(host.index.pods),
        containers=states.total(),
        containers_running=states["running"],
        containers_paused=states["paused"],
        containers_stopped=states.total() - states["running"] - states["paused"],
        images=len(host.images.list()),
        ncpu=os.cpu_count() or 1,
        mem_total=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        operating_system=_os_name(),
        kernel_version=platform.release(),
        architecture=platform.machine(),
        hypervisor=hypervisor,
        guest_kernel=guest_kernel,
        apparmor=_apparmor(host),
        isolation=isolation,
        warnings=[*warnings, *host.troubles()],
        registries=registries,
        guests=[await _guests(host, each) for each in sorted(ARCHES.values(), key=lambda a: a.name != host_name())],
    )


async def _hypervisor(host: Host) -> tuple[doc.Hypervisor, list[str]]:
    """And why no guest can be run by it, if that is so."""
    name = host.site.hypervisor.name
    try:
        return doc.Hypervisor(name=name, version=await host.site.hypervisor.version()), []
    except Unavailable as e:
        return doc.Hypervisor(name=name, version=""), [str(e)]


async def _guests(host: Host, each: Arch) -> doc.Architecture:
    kernel = lacks = ""
    try:
        kernel = host.kernels.of(each.name, host.settings.kernel if each.name == host_name() else "").name
        host.check_arch(each.name)
    except (NotFound, Unavailable) as e:
        lacks = str(e)
    isolation = describe.isolation(await host.choice(each.name))
    return doc.Architecture(
        name=each.name, platform=f"linux/{each.docker}", isolation=isolation, kernel=kernel, lacks=lacks
    )


async def _registries(host: Host) -> tuple[list[doc.Registry], list[str]]:
    """How those are reached whose names are known, and why others cannot be."""
    found, wrong = [], []
    for name in sorted({reference.DEFAULT_DOMAIN, *host.settings.registries}):
        try:
            *mirrors, itself = await registry_host.find(name, host.registries)
        except InvalidInput as e:
            wrong.append(f"nothing is pulled of {name}: {e}")
        else:
            found.append(doc.Registry(name=name, mirrors=[*map(str, mirrors)], insecure=itself.unverified))
    return found, wrong


def _unwritten(host: Host, stalled: int) -> list[str]:
    """What the disk does not take at the moment."""
    pods, events = len(host.pods.owed), len(host.events.unwritten)
    counts = [(pods, "records of pods"), (events, "events"), (stalled, "outputs of containers")]
    if what := ", ".join(f"{n} {noun}" for n, noun in counts if n):
        return [f"the disk below {host.root} takes no more, and {what} wait until it does: make room there"]
    return []


def _os_name() -> str:
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        name = platform.system()
    return f"{name} (containerized)" if cgroup.in_container(Path("/proc/1/cgroup").read_text()) else name


async def _doctor(host: Host) -> doc.Doctor:
    """Each check with what to do about it; the accelerator is proved by booting a guest, as is each architecture that
    `info` says there are guests of."""
    checks = [_command(name) for name in (*host.site.hypervisor.commands, *COMMANDS)]
    checks += [await _vmm(host), _kernel(host), _disk(host), _tun()]
    found = await host.choice()
    isolation = describe.isolation(found)
    checks.append(
        doc.Check(
            name="isolation",
            status="ok" if isolation.level == "hardware" else "warning",
            detail=f"{isolation.level} ({found.accelerator}): {found.reason}",
            advice="" if isolation.level == "hardware" else "for isolation by hardware, use a machine with working KVM",
        )
    )
    checks.append(await _boots(host, host_name(), "boot"))
    for each in sorted(ARCHES.values(), key=lambda a: a.name):
        if each.name != host_name() and not (await _guests(host, each)).lacks:
            checks.append(await _boots(host, each.name, f"boot of linux/{each.docker}"))
    return doc.Doctor(checks=checks, isolation=isolation)


async def _vmm(host: Host) -> doc.Check:
    name = host.site.hypervisor.product
    hypervisor, missing = await _hypervisor(host)
    if missing:
        return doc.Check(name=name, status="failed", detail=" ".join(missing))
    behind = await host.site.hypervisor.behind()
    return doc.Check(name=name, status="warning" if behind else "ok", detail=hypervisor.version, advice=behind)


def _command(name: str) -> doc.Check:
    path = shutil.which(name, path=f"{os.defpath}:/usr/sbin:/sbin")
    return doc.Check(
        name=name,
        status="ok" if path else "failed",
        detail=path or "not installed",
        advice="" if path else f"install the Debian package that has {name}",
    )


def _kernel(host: Host) -> doc.Check:
    name = _guest_kernel(host)
    if name:
        return doc.Check(name="guest kernel", status="ok", detail=name)
    return doc.Check(name="guest kernel", status="failed", detail="there is none", advice="run `hyperctl kernel fetch`")


def _disk(host: Host) -> doc.Check:
    free = shutil.disk_usage(host.root).free
    return doc.Check(
        name="disk",
        status="ok" if free > LOW_DISK else "warning",
        detail=f"{free >> 20} MiB free below {host.root}",
        advice="" if free > LOW_DISK else "remove images: `hyperctl image prune`",
    )


def _tun() -> doc.Check:
    there = Path("/dev/net/tun").exists()
    return doc.Check(
        name="/dev/net/tun",
        status="ok" if there else "failed",
        detail="there" if there else "missing: pods can have no network",
        advice="" if there else "load the kernel module tun",
    )


async def _boots(host: Host, of: str, name: str) -> doc.Check:
    try:
        boot, choice = await host.bootable(of)
        hypervisor, run_dir, timeout_s = host.site.hypervisor, host.site.run_dir(""), host.settings.boot_timeout_s
        took_s = await accelerator.boots(hypervisor, boot, run_dir, choice.accelerator, timeout_s, of)
    except HyperError as e:
        return doc.Check(name=name, status="failed", detail=str(e), advice="see the guest's console above")
    return doc.Check(name=name, status="ok", detail=f"a guest's agent answered after {took_s:.1f} s")
