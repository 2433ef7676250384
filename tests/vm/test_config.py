"""What only another front end's words can ask of a guest: a ContainerConfig that docker's words do not make."""

import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from hypercontainer.engine.local import LocalEngine
from hypercontainer.model import settings
from hypercontainer.model.container import Capabilities, Device, Mount, Resources
from hypercontainer.model.spec import ContainerSpec, EndpointSpec, PodSpec
from hypercontainer.network.none import NoNetwork
from hypercontainer.testing.daemon import PrivateDaemon, Value
from tests.conftest import ACCELERATOR
from tests.unit.engine.world import ADMIN, load
from tests.vm.conftest import GUEST_S

pytestmark = [pytest.mark.vm, pytest.mark.skipif(os.geteuid() != 0, reason="starts virtual machines")]

SCRIPT = """
grep -E '^Cap(Inh|Prm|Eff|Bnd|Amb):' /proc/self/status | tr -s '\\t' ' '
echo $(grep Groups: /proc/self/status)
echo umask $(umask) score $(cat /proc/self/oom_score_adj) in $(pwd) as $(id -u):$(id -g)
for file in memory.high cpu.idle pids.max; do echo $file $(cat /sys/fs/cgroup/$file); done
echo device $(stat -c '%t:%T %a %u:%g' /dev/deep/zero) $(head -c 3 /dev/deep/zero | wc -c)
echo masked $(wc -c < /proc/meminfo) readonly $(echo 1 2>/dev/null > /data/locked/x || echo yes)
echo somaxconn $(cat /proc/sys/net/core/somaxconn)
grep -E ' /data ' /proc/mounts | cut -d' ' -f2-4 | sed s/,inode64//
"""

SAID = """\
CapInh: 0000000000000400
CapPrm: 0000000000000400
CapEff: 0000000000000400
CapBnd: 0000000000000c01
CapAmb: 0000000000000400
Groups: 7 8 9
umask 0027 score 100 in /data as 7:8
memory.high 67108864
cpu.idle 1
pids.max 77
device 1:5 640 0:8 3
masked 0 readonly yes
somaxconn 77
/data tmpfs rw,nosuid,nodev,noexec,noatime,size=1024k,mode=777"""


async def test_a_guest_does_all_that_a_config_can_say(kernels: Path, busybox_archive: Path, tmp_path: Path) -> None:
    folder = tmp_path / "hyper"
    folder.mkdir()
    how: dict[str, Value] = {
        "accelerator": ACCELERATOR,
        "memory_mib": 256,
        "factory": "direct",
        "boot_timeout_s": GUEST_S,
    }
    engine = LocalEngine(settings.load(PrivateDaemon(folder, kernels, how).config), bridges=lambda _: NoNetwork())
    await engine.open()
    try:
        await load(engine, busybox_archive)
        spec = ContainerSpec(image="busybox", name="c", command=["sh", "-c", SCRIPT])
        await engine.containers.create(PodSpec(containers=[spec], networks=[EndpointSpec(network="none")]), by=ADMIN)
        record = engine.supervisor.find("c")[1].record
        config = record.config
        record.config = replace(
            config,
            process=replace(
                config.process,
                cwd="/data",
                user="7:8",
                groups=[7, 9],
                umask=0o027,
                oom_score_adj=100,
                capabilities=Capabilities(
                    bounding=["CAP_CHOWN", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST"],
                    effective=["CAP_NET_BIND_SERVICE"],
                    permitted=["CAP_CHOWN", "CAP_NET_BIND_SERVICE"],
                    inheritable=["CAP_NET_BIND_SERVICE"],
                    ambient=["CAP_NET_BIND_SERVICE"],
                ),
            ),
            mounts=[
                *config.mounts,
                Mount(
                    destination="/data",
                    type="tmpfs",
                    options=["nosuid", "nodev", "noexec", "noatime", "size=1m", "mode=777"],
                ),
                Mount(destination="/data/locked", type="tmpfs"),
            ],
            masked_paths=[*config.masked_paths, "/proc/meminfo"],
            readonly_paths=[*config.readonly_paths, "/data/locked"],
            devices=[Device(path="/dev/deep/zero", type="c", major=1, minor=5, file_mode=0o640, gid=8)],
            sysctl={"net.core.somaxconn": "77"},
            resources=Resources(pids=77, unified={"memory.high": str(64 << 20), "cpu.idle": "1"}),
        )
        attached = await engine.containers.attach("c", stdin=False, stdout=True, stderr=True, logs=False, start=True)
        said = b"".join([data async for _, data in attached]).decode()
        assert said.strip() == SAID
    finally:
        await engine.containers.remove("c", force=True, volumes=True)
        await engine.close()
