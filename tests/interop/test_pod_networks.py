"""Networks of pods by Debian's plugins of CNI: what they make is there, is reached, and goes, whoever is killed."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hypercontainer.errors import HyperError
from hypercontainer.lib import netns as namespaces
from hypercontainer.model.pod_network import Asked, HostPort
from hypercontainer.network.cni.pods import PodNetworks
from hypercontainer.testing.daemon import PrivateDaemon
from tests.interop import netns
from tests.interop.netns import inside, ip, output
from tests.interop.test_cni import PLUGINS, machine, page
from tests.interop.test_frakti import CRICTL, Kubelet
from tests.vm.runv import Runv

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces"),
    pytest.mark.skipif(not PLUGINS.exists(), reason="needs the package containernetworking-plugins"),
]

PORT = 8099
FAR = "10.95.0.1"  # of the machine outside


def conflist(ipam: Path, *more: Mapping[str, Any], version: str = "1.0.0") -> Mapping[str, Any]:
    """As an administrator has it for a node: a bridge, IPv4 and IPv6, ports, bandwidth, a firewall."""
    addresses = {
        "type": "host-local",
        "dataDir": str(ipam),
        "ranges": [[{"subnet": "10.93.0.0/24"}], [{"subnet": "fd93::/64"}]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
    }
    plugins = [
        {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": True, "ipam": addresses},
        {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True},
        {"type": "bandwidth", "capabilities": {"bandwidth": True}},
        {"type": "firewall", "backend": "iptables"},
        {"type": "tuning", "capabilities": {"mac": True}},
        *more,
    ]
    return {"cniVersion": version, "name": "pods", "plugins": plugins}


class Node:
    """A host of pods, in a network namespace of its own, `outside`; another machine is at its `wire`."""

    def __init__(self, folder: Path, outside: str, far: str) -> None:
        self.folder, self.outside, self.far = folder, outside, far
        for name in ("conf", "bin", "root", "run"):
            (folder / name).mkdir()
        self.write()
        with inside(outside):
            self.before = self.seen()

    def write(self, *more: Mapping[str, Any], first: Mapping[str, Any] | None = None, **how: str) -> None:
        network = conflist(self.folder / "ipam", *more, **how)
        if first:
            network = {**network, "plugins": [first, *network["plugins"]]}
        (self.folder / "conf/10-pods.conflist").write_text(json.dumps(network))

    def networks(self) -> PodNetworks:
        return networks_of(self.folder)

    def seen(self) -> Mapping[str, object]:
        """All that must be gone with the pods. The bridge stays, and empty chains do; so it is with any runtime."""
        addresses = [p.name for p in (self.folder / "ipam/pods").glob("*") if p.name[0] in "1f"]
        saved = [line for words in ("iptables-save", "ip6tables-save") for line in output(words).splitlines()]
        rules = [line for line in saved if line.startswith("-A") and ("CNI-DN-" in line or "10.93.0." in line)]
        veths = output("ip", "-o", "link", "show", "type", "veth").count("veth")
        places = [p.name for place in ("root/cni", "run/cni") for p in (self.folder / place).glob("*")]
        bands = output("ip", "-o", "link", "show", "type", "ifb")
        return {"ipam": addresses, "rules": rules, "veths": veths, "places": places, "ifb": bands}


def networks_of(folder: Path) -> PodNetworks:
    return PodNetworks(folder / "root", folder / "run", folder / "conf", [folder / "bin", PLUGINS])


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with ExitStack() as stack:
        far, outside = (stack.enter_context(netns.namespace(name)) for name in ("hyfar", "hyout"))
        with inside(outside):
            ip(f"link add name wire type veth peer name far netns {far}", "link set wire up")
            ip("addr add 10.95.0.2/24 dev wire", "addr add fd95::2/64 dev wire nodad")
            for family in ("ipv4", "ipv6"):
                Path(f"/proc/sys/net/{family}/conf/all/forwarding").write_text("1")
        with inside(far):
            ip(f"addr add {FAR}/24 dev far", "addr add fd95::1/64 dev far nodad", "link set far up")
        node = Node(tmp_path, outside, far)
        yield node
        for place in (tmp_path / "run/cni").glob("*"):
            namespaces.let_go(place)


def asked(id: str, port: int = PORT) -> Asked:
    bands = {f"kubernetes.io/{way}-bandwidth": "100M" for way in ("ingress", "egress")}
    return Asked(id=id, name="web", namespace="shop", uid="u", annotations=bands, ports=[HostPort(port, 80)])


@pytest.mark.parametrize("version", ["0.4.0", "1.0.0"])
async def test_pods_are_connected_checked_and_disconnected(node: Node, version: str) -> None:
    node.write(version=version)
    networks = node.networks()
    with inside(node.outside):
        await networks.status()
        attached = await asyncio.gather(*(networks.attach(asked(f"p{n}", PORT + n)) for n in range(4)))
        for n, each in enumerate(attached):
            four, six = each.addresses
            assert four.startswith("10.93.0.") and six.startswith("fd93::")
            with namespaces.opened(each.netns) as fd:
                shown = namespaces.inside(fd, lambda: output("ip", "-o", "addr", "show", "dev", "eth0"))
            assert f"{four}/24" in shown and f"{six}/64" in shown
            assert any(f"--dport {PORT + n}" in rule for rule in node.seen()["rules"])  # type: ignore[attr-defined]
        assert len({address for each in attached for address in each.addresses}) == 8
        for _ in range(2):
            await asyncio.gather(*(networks.detach(f"p{n}") for n in range(4)))
        assert node.seen() == node.before


async def test_what_is_not_as_it_was_made_is_found(node: Node) -> None:
    """Without ports: Debian's portmap 1.1.1 looks for those of IPv6 at the address of IPv4."""
    networks = node.networks()
    with inside(node.outside):
        attached = await networks.attach(msgspec.structs.replace(asked("p1"), ports=[]))
        await networks.check("p1")
        with namespaces.opened(attached.netns) as fd:
            namespaces.inside(fd, lambda: ip("addr flush dev eth0"))
        with pytest.raises(HyperError, match=r"cannot check pod p1 in CNI network pods: CNI plugin bridge: "):
            await networks.check("p1")
        await networks.detach("p1")
        assert {**node.seen(), "rules": []} == node.before  # bridge looks for those of addresses that are there


async def test_a_failure_at_the_end_of_a_chain_leaves_nothing(node: Node) -> None:
    node.write({"type": "deadly"})
    deadly(node, "ADD", "exit 9")
    with inside(node.outside):
        with pytest.raises(HyperError, match=r"CNI plugin deadly: it said nothing \(exit status 9\)"):
            await node.networks().attach(asked("p1"))
        assert node.seen() == node.before


async def test_addresses_are_given_back_after_a_reboot(node: Node) -> None:
    """Namespaces are gone, and what is noted on disk is not."""
    with inside(node.outside):
        attached = await node.networks().attach(asked("p1"))
        namespaces.let_go(Path(attached.netns))
        assert node.seen()["ipam"]
        assert await node.networks().sweep(list) == []
        assert {**node.seen(), "rules": []} == node.before  # which are gone then


@pytest.mark.parametrize("command", ["ADD", "DEL"])
@pytest.mark.parametrize("at", ["begin", "end"])
async def test_the_next_hyperd_undoes_what_one_that_was_killed_has_begun(node: Node, command: str, at: str) -> None:
    if at == "begin":
        node.write(first={"type": "deadly"})
    else:
        node.write({"type": "deadly"})
    deadly(node, command, "kill -9 $PPID")
    script = f"import asyncio, sys; from {__name__} import up_and_down; asyncio.run(up_and_down(sys.argv[1]))"
    with inside(node.outside):
        done = await asyncio.to_thread(run_inside, node.outside, [sys.executable, "-c", script, str(node.folder)])
        assert done == -signal.SIGKILL
        assert node.seen()["places"] == ["p1.json", "p1"]
        (node.folder / "bin/deadly.does").unlink()
        networks = node.networks()
        assert await networks.sweep(lambda: ["p1"]) == [] and node.seen()["places"]
        assert len((await networks.attach(asked("p1"))).addresses) == 2  # the kubelet asks again
        assert await networks.sweep(list) == []
        assert node.seen() == node.before


def deadly(node: Node, command: str, does: str) -> None:
    """A plugin that does that when it is called so, once `bin/deadly.does` is not there any more nothing."""
    folder = node.folder / "bin"
    (folder / "deadly.does").touch()
    (folder / "deadly").write_text(
        "#!/bin/sh\n"
        'if [ "$CNI_COMMAND" = VERSION ]; then\n'
        """    echo '{"cniVersion": "1.0.0", "supportedVersions": ["0.4.0", "1.0.0"]}'; exit\n"""
        "fi\n"
        f"if [ -e {folder}/deadly.does ] && [ $CNI_COMMAND = {command} ]; then {does}; fi\n"
        """[ $CNI_COMMAND != ADD ] || python3 -c 'import json, sys; c = json.load(sys.stdin)\n"""
        """print(json.dumps(c.get("prevResult") or {"cniVersion": "1.0.0"}))'\n"""
    )
    (folder / "deadly").chmod(0o755)


def run_inside(namespace: str, argv: Sequence[str]) -> int:
    with inside(namespace):
        return subprocess.run(argv).returncode


async def up_and_down(folder: str) -> None:
    networks = networks_of(Path(folder))
    await networks.attach(asked("p1"))
    await networks.detach("p1")


@pytest.mark.vm
async def test_a_machine_is_reached_at_the_hosts_port(node: Node, runv: Runv) -> None:
    networks = node.networks()
    with inside(node.outside):
        attached = await networks.attach(asked("p1"))
    with machine(runv, attached.netns) as run:
        assert [each["local"] for each in run.ip("addr", "show", "dev", "eth0")[0]["addr_info"]][:2] == (
            attached.addresses
        )
        for address in attached.addresses:
            assert page(node.outside, address) == "a machine\n"
        assert page(node.far, "10.95.0.2", PORT) == page(node.far, "fd95::2", PORT) == "a machine\n"
        for address in (FAR, "fd95::1"):
            assert "1 packets received" in run("ping", "-c", "1", "-W", "30", address)
    with inside(node.outside):
        await networks.detach("p1")
        assert node.seen() == node.before


@pytest.mark.vm
@pytest.mark.docker
@pytest.mark.skipif(not CRICTL.exists(), reason="there is no crictl: run `make interop`")
def test_a_kubelets_pod(node: Node, kernels: Path, busybox_archive: Path, tmp_path: Path) -> None:
    """Of a hyperd on that node, which is killed while the pod runs."""
    folder = tmp_path / "hyper"
    folder.mkdir()
    hyper = PrivateDaemon(folder, kernels, {
        "accelerator": "tcg", "memory_mib": 256, "pool": [], "cri_socket": str(folder / "c.sock"),
        "cni_conf_dir": str(tmp_path / "conf"), "cni_bin_dirs": [str(PLUGINS)],
    })  # fmt: skip
    hyper.hyperd = ["nsenter", f"--net=/run/netns/{node.outside}", *hyper.hyperd]
    try:
        hyper.start()
        assert hyper.ctl("load", "-i", str(busybox_archive)).status == 0
        kubelet = Kubelet(hyper, tmp_path)
        ports = [{"container_port": 80, "host_port": PORT}]
        pod = kubelet.pod(port_mappings=ports)
        conditions = json.loads(kubelet.ok("info"))["status"]["conditions"]
        assert {each["type"]: each["status"] for each in conditions} == {"RuntimeReady": True, "NetworkReady": True}
        network = json.loads(kubelet.ok("inspectp", pod))["status"]["network"]
        four, [six] = network["ip"], [each["ip"] for each in network["additionalIps"]]
        assert four.startswith("10.93.0.") and six.startswith("fd93::")
        said = "mkdir -p /w; echo a pod >/w/index.html; exec httpd -f -p 80 -h /w"
        kubelet.ok("start", one := kubelet.made(pod, "one", "sh", "-c", said))
        while kubelet("exec", "-s", one, "wget", "-qO-", "http://127.0.0.1/").status:
            continue  # until it listens
        process = hyper.process
        assert process
        process.send_signal(signal.SIGKILL)
        process.wait()
        hyper.start()
        assert page(node.outside, four) == page(node.outside, six) == "a pod\n"
        assert page(node.far, "10.95.0.2", PORT) == page(node.far, "fd95::2", PORT) == "a pod\n"
        assert "1 packets received" in kubelet.ok("exec", "-s", one, "ping", "-c", "1", "-W", "30", FAR)
        assert kubelet.pod(port_mappings=ports) == pod  # asked again
        kubelet.ok("stopp", pod)
        with inside(node.outside):
            assert {**node.seen(), "places": []} == node.before
        kubelet.ok("rmp", pod)
        (tmp_path / "conf/10-pods.conflist").write_text("{")
        refused = kubelet("runp", kubelet._file("refused", {"metadata": {"name": "p", "uid": "p", "namespace": "d"}}))
        assert refused.status != 0 and "10-pods.conflist" in refused.err and kubelet.ok("pods", "-q") == ""
        assert list((folder / "root/cni").iterdir()) == list((folder / "run/cni").iterdir()) == []
    finally:
        hyper.close()
