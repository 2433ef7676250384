"""hyperd: the engine behind an HTTP API on a unix socket."""

import argparse
import asyncio
import gc
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from hypercontainer.errors import HyperError
from hypercontainer.hyperd.listen import address, alone, inherited, notify
from hypercontainer.model.api import Engine
from hypercontainer.model.settings import Scope, Settings, load

if TYPE_CHECKING:
    from hypercontainer.hyperd.cri.door import CriDoor
    from hypercontainer.hyperd.oci.door import OciDoor
    from hypercontainer.hyperd.shim.door import ShimDoor

log = logging.getLogger("hyperd")

CONFIG = Path("/etc/hypercontainer/config.toml")
FRAKTI = "/run/frakti.sock"  # where kubelets look
GRACE_S = 10.0  # calls that change something may end within it when we are told to stop


def main() -> int:
    return run("hyperd")


def frakti() -> int:
    """hyperd, where kubelets call, though its settings do not say so; or what is asked of one."""
    if sys.argv[1:2] == ["overhead"]:
        return measured(sys.argv[2:])
    return run("frakti", FRAKTI)


def measured(words: Sequence[str]) -> int:
    """frakti overhead: what a pod costs this host, measured by way of the hyperd with these settings, which runs."""
    from hypercontainer.hyperd.cri import overhead

    p = parser("frakti overhead")
    p.description = "Measures what a pod costs this host beside its containers, for each handler of a frakti that runs."
    overhead.add_arguments(p)
    arguments = p.parse_args(words)
    try:
        settings = read(arguments)
        settings = msgspec.structs.replace(settings, cri_socket=settings.cri_socket or FRAKTI)
        print(overhead.run(settings, arguments.format), end="")  # noqa: T201
    except HyperError as e:
        print(f"frakti: {e}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def run(name: str, cri: str = "") -> int:
    """Run until SIGTERM or SIGINT; VMs run on. 1 when it cannot start, with one line on stderr. `cri`: where it hears
    kubelets if nobody says so."""
    arguments = parser(name).parse_args()
    logging.basicConfig(
        stream=sys.stderr,
        level=arguments.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    try:
        settings = read(arguments)
        settings = msgspec.structs.replace(settings, cri_socket=settings.cri_socket or cri)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core would hold people's credentials
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a published port holds one or two, a VM some more
        if sys.version_info < (3, 12):  # newer ones do so themselves
            asyncio.set_child_watcher(asyncio.PidfdChildWatcher())  # without it, a thread for each command
        with alone(Path(settings.run)):
            sock = inherited(os.environ)
            asyncio.run(serve(settings, engine, sock=sock, notify_socket=os.environ.get("NOTIFY_SOCKET", "")))
    except HyperError as e:
        print(f"{name}: {e}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def parser(name: str = "hyperd") -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog=name, description="Runs Docker images in virtual machines of their own.")
    p.add_argument("--config", type=Path, default=CONFIG, metavar="FILE", help="settings (default: %(default)s)")
    p.add_argument("--root", metavar="DIR", help="what outlives a reboot: images, volumes, containers")
    p.add_argument("--run", metavar="DIR", help="what does not: sockets, pids")
    p.add_argument("--host", metavar="unix://SOCKET", help="where to listen")
    p.add_argument("--cri", metavar="unix://SOCKET", help="where a kubelet calls")
    p.add_argument(
        "--template-scope", choices=get_args(Scope), help="who may share memory pages, instead of the file's"
    )
    p.add_argument("--log-level", choices=["debug", "info", "warning", "error"], default="info")
    return p


def read(arguments: argparse.Namespace) -> Settings:
    """The file's settings, and what the command line says instead."""
    settings = load(arguments.config)
    said = {"root": arguments.root, "run": arguments.run}
    if arguments.host:
        said["socket"] = str(address(arguments.host))
    if arguments.cri:
        said["cri_socket"] = str(address(arguments.cri))
    changes: dict[str, str] = {key: os.path.abspath(v) for key, v in said.items() if v}
    if arguments.template_scope:
        changes["template_scope"] = arguments.template_scope
    return msgspec.structs.replace(settings, **changes)


def engine(settings: Settings) -> Engine:
    from hypercontainer.engine.local import LocalEngine  # after the lock: a second hyperd is refused at once

    return LocalEngine(settings)


async def serve(
    settings: Settings,
    make: Callable[[Settings], Engine],
    *,
    sock: socket.socket | None = None,
    notify_socket: str = "",
) -> None:
    """Recover, listen, tell systemd, and answer until SIGTERM or SIGINT. Then let go of everything, VMs excepted.

    `sock`: one that somebody else listens on and keeps, in place of `settings.socket`."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    from hypercontainer.hyperd.doors import OpenDoor, close

    wanted = settings.doors()
    engine = make(settings)
    try:
        if not await unless(stop, engine.open()):
            return
        doors = [OpenDoor(door, engine) for door in wanted]
        others = await _others(settings, engine)
        try:
            for door in doors:
                await door.open(sock if door is doors[0] else None)
            gc.freeze()  # what is there now stays, and to look through it takes 50 ms in which nobody is heard
            notify(notify_socket, "READY=1")
            await stop.wait()
            log.info("stopping; virtual machines run on")
            notify(notify_socket, "STOPPING=1")
        finally:
            await close(doors, timeout_s=GRACE_S)
            for other in others:
                await other.close()
    finally:
        gc.unfreeze()
        await engine.close()


async def _others(settings: Settings, engine: Engine) -> "Sequence[OciDoor | ShimDoor | CriDoor]":
    """The open doors that are not of HTTP; none where the settings have none."""
    doors = [*_for_bundles(settings, engine), *_for_kubelets(settings, engine)]
    for door in doors:
        await door.open()
    return doors


def _for_bundles(settings: Settings, engine: Engine) -> "Sequence[OciDoor | ShimDoor]":
    """Those of `runv` and of containerd's shims."""
    if not (path := settings.bundles_socket()):
        return []
    from hypercontainer.hyperd.oci.door import OciDoor
    from hypercontainer.hyperd.shim.door import ShimDoor

    stand_ins = Path(f"{path}.stand-ins")
    return [OciDoor(Path(path), stand_ins, engine), ShimDoor(Path(f"{path}.shims"), stand_ins, engine)]


def _for_kubelets(settings: Settings, engine: Engine) -> "Sequence[CriDoor]":
    if not settings.cri_socket:
        return []
    from hypercontainer.hyperd.cri.door import CriDoor
    from hypercontainer.hyperd.cri.streaming.server import server

    streaming = server(settings.cri_stream_address, settings.cri_stream_cert, settings.cri_stream_key)
    return [CriDoor(Path(settings.cri_socket), engine, streaming)]


async def unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do `work`; give it up, and return False, when we are told to stop meanwhile."""
    doing, told = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({doing, told}, return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            doing.result()
        return doing.done()
    finally:
        for task in (doing, told):
            task.cancel()
        await asyncio.wait({doing, told})


if __name__ == "__main__":
    sys.exit(main())
