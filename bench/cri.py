"""Runtimes that a kubelet asks for pods: a hyperd of one's own, and a containerd with runc."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench import memory
from bench.engines import cgroups, done, need, running
from bench.kubelet import GROUP, Kubelet
from bench.places import IMAGE
from bench.pods import of, pids, words
from hypercontainer.errors import Unavailable
from hypercontainer.testing.busybox import write_archive
from hypercontainer.testing.containerd import PAUSE, PLUGINS, toml
from hypercontainer.testing.daemon import PrivateDaemon, Value, free_subnet


def network(folder: Path) -> None:
    """Addresses enough for all pods that are measured."""
    folder.mkdir()
    ipam = {"type": "host-local", "dataDir": f"{folder}/ipam", "ranges": [[{"subnet": free_subnet(22)}]]}
    chain = {"cniVersion": "0.4.0", "name": folder.parent.name, "plugins": [{"type": "ptp", "ipam": ipam}]}
    (folder / "10-pods.conflist").write_text(json.dumps(chain))


def settings(folder: Path) -> Mapping[str, Value]:
    """That a hyperd needs for it."""
    if not Path(PLUGINS).exists():
        raise Unavailable("containernetworking-plugins is not installed")
    folder.mkdir()
    network(folder / "cni")
    return {"cri_socket": f"{folder}/c.sock", "cni_conf_dir": f"{folder}/cni", "cni_bin_dirs": [PLUGINS]}


@contextmanager
def of_hyperd(name: str, daemon: PrivateDaemon, ready: Callable[[], None] = lambda: None) -> Iterator[Kubelet]:
    def found(waiting: bool) -> list[int]:
        there = [path for path in (daemon.folder / "run/pods").iterdir() if waiting or "waiting-" not in path.name]
        return [pid for folder in there for part in ("qemu", "virtiofsd") for pid in of(folder / f"{part}.pid")]

    def own() -> int:
        assert daemon.process
        return daemon.process.pid

    socket = str(daemon.settings["cri_socket"])
    made = Kubelet(name, socket, Path(socket).parent, found, own, handler="hyper", ready=ready)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def of_containerd(folder: Path) -> Iterator[Kubelet]:
    """With a network namespace of its own. Unavailable when it is not here or does not start."""
    need("containerd", "ctr", "runc")
    folder.mkdir()
    network(folder / "cni")
    (folder / "config.toml").write_text(toml(folder, cri=True))
    for name, image, said in (("pause", PAUSE, {"Cmd": ["sleep", "86400"]}), ("busybox", f"{IMAGE}:latest", {})):
        write_archive(folder / f"{name}.tar", [image], config=said)
    inside = ["unshare", "--mount", "--net", "--propagation", "private", "sh", "-c", 'ip link set lo up && exec "$@"']
    daemon = [*inside, "sh", "containerd", "--config", f"{folder}/config.toml"]
    ctr = ["ctr", "--address", f"{folder}/c.sock", "--namespace", "k8s.io"]
    with cgroups(GROUP), running(daemon, [*ctr, "version"], folder):
        for name in ("pause", "busybox"):
            done([*ctr, "image", "import", f"{folder}/{name}.tar"])

        def found(waiting: bool) -> list[int]:
            shims = [pid for pid in pids("containerd-shim") if f"{folder}/c.sock" in words(pid)]
            return [pid for shim in shims for pid in memory.descendants(shim)]

        def own() -> int:
            [pid] = [pid for pid in pids("containerd") if f"{folder}/config.toml" in words(pid)]
            return pid

        made = Kubelet("containerd and runc", f"{folder}/c.sock", folder, found, own)
        try:
            yield made
        finally:
            made.close()
