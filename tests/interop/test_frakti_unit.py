"""frakti.service under a real systemd: it starts, comes again, and pods stay."""

import asyncio
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.hyperd.cri import cri_pb2 as pb
from hypercontainer.testing.daemon import PrivateDaemon
from tests.conftest import CHECKOUT
from tests.interop.cri import PLUGINS, calling, described, of_hyperd
from tests.interop.systemd import BUS, SYSTEMD, Lab, systemd
from tests.vm.runv import until

PACKAGING = CHECKOUT / "packaging"
UNIT = "frakti.service"
PLACE = "/run/systemd/transient"
# The programs of this checkout; the rest is the unit's own. Nobody here may ask to be spared from want of memory.
OURS = """[Service]
ExecStart=
ExecStart={bin}/frakti --config {config}
OOMScoreAdjust=0
StandardError=append:{log}
"""

pytestmark = [
    pytest.mark.interop,
    pytest.mark.docker,
    pytest.mark.vm,
    pytest.mark.skipif(not PLUGINS.exists(), reason="needs the package containernetworking-plugins"),
    pytest.mark.skipif(not (SYSTEMD.exists() and BUS.exists()), reason="no systemd or dbus: run `make interop`"),
]


class Host:
    """One with systemd, whose frakti is `daemon`, as it is configured."""

    def __init__(self, lab: Lab, daemon: PrivateDaemon) -> None:
        self.lab, self.daemon = lab, daemon

    def systemctl(self, *words: str) -> str:
        return self.lab.ok("systemctl", *words)

    def shown(self, name: str) -> str:
        return self.systemctl("show", "--value", f"--property={name}", UNIT)

    def asked(self, method: str, **fields: Any) -> Any:
        async def ask() -> Any:
            async with calling(of_hyperd(self.daemon), self.daemon.folder) as cri:
                if method == "RunPodSandbox":
                    fields["config"] = cri.described("unit")
                return await cri(method, **fields)

        return asyncio.run(ask())

    def machines(self) -> list[str]:
        """Processes of QEMU's, as the lab has them."""
        return self.lab.run("pgrep", "-f", f"qemu.*{self.daemon.folder}").out.split()


@pytest.fixture(scope="module", params=[1, 2])
def host(request: pytest.FixtureRequest, kernels: Path) -> Iterator[Host]:
    folder = Path(tempfile.mkdtemp(prefix="hyper-"))
    daemon = PrivateDaemon(folder, kernels, {**described(folder), "factory": "direct"})
    with ExitStack() as stack:
        stack.callback(daemon.close)  # by one outside: all inside has ended with the lab
        try:
            lab = stack.enter_context(systemd(request.param))
        except OSError as e:
            pytest.skip(str(e))
        lab.ok("mkdir", "-p", f"{PLACE}/{UNIT}.d")
        lab.ok("cp", str(PACKAGING / UNIT), PLACE)
        ours = OURS.format(bin=daemon.bin, config=daemon.config, log=folder / "hyperd.log")
        assert lab.run("tee", f"{PLACE}/{UNIT}.d/ours.conf", stdin=ours.encode()).status == 0
        made = Host(lab, daemon)
        made.systemctl("daemon-reload")
        yield made
        made.systemctl("stop", UNIT)


@pytest.fixture(scope="module")
def pod(host: Host) -> str:
    host.systemctl("start", UNIT)  # waits until it has said that it is ready
    return str(host.asked("RunPodSandbox", runtime_handler="hyper").pod_sandbox_id)


def test_what_it_says_is_true() -> None:
    """But for programs that are not installed here, and units of other packages."""
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", PACKAGING / UNIT], capture_output=True, text=True)
    said = [line for line in done.stderr.splitlines() if UNIT in line and "is not executable" not in line]
    assert said == []


def test_the_socket_is_roots_alone(host: Host, pod: str) -> None:
    found = Path(str(host.daemon.settings["cri_socket"])).stat()
    assert stat.S_ISSOCK(found.st_mode)
    assert (found.st_uid, found.st_mode & 0o777) == (0, 0o600)
    assert host.shown("ActiveState") == "active"


@pytest.mark.parametrize("verb", ["restart", "kill"])
def test_pods_stay_when_it_comes_again(host: Host, pod: str, verb: str) -> None:
    before, machines = host.shown("MainPID"), host.machines()
    assert machines
    if verb == "restart":
        host.systemctl("restart", UNIT)
    else:
        host.systemctl("kill", "--kill-whom=main", "--signal=KILL", UNIT)
        while host.shown("MainPID") in ("0", before) or host.shown("ActiveState") != "active":
            continue
    assert host.shown("MainPID") not in ("0", before)
    assert host.machines() == machines
    assert host.asked("PodSandboxStatus", pod_sandbox_id=pod).status.state == pb.SANDBOX_READY


def test_it_ends_alone(host: Host, pod: str) -> None:
    machines = host.machines()
    host.systemctl("stop", UNIT)
    assert (host.shown("ActiveState"), host.shown("Result")) == ("inactive", "success")
    assert host.machines() == machines
    host.systemctl("start", UNIT)
    host.asked("RemovePodSandbox", pod_sandbox_id=pod)
    until(lambda: host.machines() == [])  # they end by themselves, nobody waits for that
