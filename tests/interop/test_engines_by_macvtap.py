"""internetworking_model = "macvtap" behind docker, containerd's CRI plugin with our shim, and a kubelet: a container is
reached as usual, and nothing is left."""

import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from hypercontainer.testing import busybox
from hypercontainer.testing.daemon import PrivateDaemon, private_daemon
from tests.interop import cri
from tests.interop.containerd import CONTAINERD, containerd, until
from tests.interop.dockerd import DOCKERD, Dockerd, dockerd
from tests.interop.netns import output
from tests.interop.test_cri import CRICTL, PAUSE, SPACE, Cri

pytestmark = [
    pytest.mark.interop,
    pytest.mark.docker,
    pytest.mark.vm,
    pytest.mark.skipif(not cri.PLUGINS.exists(), reason="needs the package containernetworking-plugins"),
    pytest.mark.skipif(not (CONTAINERD.exists() and DOCKERD.exists()), reason="there is no engine: run `make interop`"),
]

PAGE = busybox.FILES["www/index.html"]
SERVES = ("httpd", "-f", "-p", "8000", "-h", "/www")


@pytest.fixture(scope="module")
def hyperd(kernels: Path, busybox_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateDaemon]:
    settings = {**cri.described(tmp_path_factory.mktemp("macvtaps")), "internetworking_model": "macvtap"}
    with private_daemon(kernels, settings) as daemon:
        loaded = daemon.ctl("load", "-i", str(busybox_archive))
        assert loaded.status == 0, loaded.err
        yield daemon


@pytest.fixture(scope="module")
def env(hyperd: PrivateDaemon) -> dict[str, str]:
    return {"HYPER_OCI_HOST": f"unix://{hyperd.folder}/hyper-oci.sock"}


@pytest.fixture(scope="module")
def docker(hyperd: PrivateDaemon, env: dict[str, str], busybox_archive: Path) -> Iterator[Dockerd]:
    flags = ["--add-runtime", f"runv={hyperd.bin}/runv", "--default-runtime", "runv"]
    with dockerd(network=True, flags=flags, env=env) as daemon:
        assert daemon.ctl("load", "-i", str(busybox_archive)).status == 0
        yield daemon


def ok(docker: Dockerd, *words: str) -> str:
    done = docker.ctl(*words)
    assert done.status == 0, (words, done)
    return done.out.strip()


def links(pid: str | int) -> str:
    """What is where that process has its network."""
    return output("nsenter", f"--net=/proc/{pid}/ns/net", "ip", "-d", "-o", "link")


def page(within: list[str], url: str) -> bytes:
    """What is served there, by a client that has its network from `within`."""
    return subprocess.run([*within, "busybox", "wget", "-q", "-O", "-", url], capture_output=True).stdout


def test_docker_reaches_a_container_and_its_port(docker: Dockerd) -> None:
    ok(docker, "run", "-d", "--name", "web", "-p", "127.0.0.1:8080:8000", "busybox", *SERVES)
    assert "macvtap mode passthru" in links(ok(docker, "inspect", "-f", "{{.State.Pid}}", "web"))
    address = ok(docker, "inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web")
    until(lambda: page(docker.inside, f"http://{address}:8000/index.html") == PAGE)
    assert page(docker.inside, "http://127.0.0.1:8080/index.html") == PAGE
    asked = ("busybox", "wget", "-q", "-O", "-", f"http://{address}:8000/index.html")
    assert ok(docker, "run", "--rm", *asked) == PAGE.decode().strip()
    ok(docker, "restart", "-t", "0", "web")
    until(lambda: page(docker.inside, "http://127.0.0.1:8080/index.html") == PAGE)
    ok(docker, "rm", "-f", "web")
    assert "macvtap" not in links(docker.process.pid)


def test_docker_is_told_why_names_of_its_own_networks_are_not_to_be_had(docker: Dockerd) -> None:
    ok(docker, "network", "create", "names")
    done = docker.ctl("run", "--rm", "--network", "names", "busybox", "true")
    assert done.status == 125 and "ask 127.0.0.11 for names by a macvtap" in done.err
    ok(docker, "network", "rm", "names")


@pytest.mark.skipif(not CRICTL.exists(), reason="there is no crictl: run `make interop`")
def test_a_pod_of_containerds(
    hyperd: PrivateDaemon, env: dict[str, str], busybox_archive: Path, tmp_path: Path
) -> None:
    pause = tmp_path / "pause.tar"
    busybox.write_archive(pause, ["docker.io/library/pause:1"], config={"Cmd": PAUSE})
    with containerd(hyperd.bin, env, cri=True) as daemon:
        for archive in (pause, busybox_archive):
            daemon.ok(*SPACE, "image", "import", str(archive))
        cri = Cri(daemon, hyperd, tmp_path)
        pod = cri.pod()
        container = cri.container(pod, "web", *SERVES)
        address = json.loads(cri.ok("inspectp", pod))["status"]["network"]["ip"]
        until(lambda: page(daemon.inside(), f"http://{address}:8000/index.html") == PAGE)
        assert "macvtap mode passthru" in links(json.loads(cri.ok("inspect", container))["info"]["pid"])
        cri.stop()
        cri.ok("rmp", "-f", "-a")


@pytest.fixture
async def kubelet(hyperd: PrivateDaemon, tmp_path: Path) -> AsyncIterator[cri.Cri]:
    async with cri.calling(cri.of_hyperd(hyperd), tmp_path) as made:
        yield made
        await made.clear()


async def test_a_pod_of_a_kubelets(kubelet: cri.Cri) -> None:
    pod = await kubelet.pod()
    web = await kubelet.started(pod, "web", *SERVES)
    address = (await kubelet.pod_status(pod)).network.ip
    until(lambda: page([], f"http://{address}:8000/index.html") == PAGE)
    other = await kubelet.pod("other")
    asks = await kubelet.started(other, "asks", "sleep", "1000", of="other")
    got = await kubelet.exec(asks, "wget", "-q", "-O", "-", f"http://{address}:8000/index.html")
    assert got == PAGE.decode().strip()
    assert address in await kubelet.exec(web, "ip", "-4", "addr", "show", "eth0")
    [way] = json.loads(output("ip", "-j", "route", "get", address))
    link = Path("/sys/class/net", way["dev"])  # of this pod: what else comes and goes on this host is others'
    assert link.exists() and link.name.startswith("veth")
    await kubelet.clear()
    assert not link.exists()
