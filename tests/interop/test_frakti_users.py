"""User namespaces of frakti's pods: whose files are whose, and what root in there may; by crictl, in machines that
boot."""

import os
from pathlib import Path
from typing import Any

from tests.interop.test_frakti import IMAGE, Kubelet, kubelet, pytestmark  # noqa: F401  fixtures
from tests.interop.test_frakti_volumes import refused, said, waiting

FIRST, COUNT = 65536, 65536
RANGE = [{"container_id": 0, "host_id": FIRST, "length": COUNT}]
OWN = {"pid": 0, "userns_options": {"mode": 0, "uids": RANGE, "gids": RANGE}}  # of the pod, as its processes
SECURITY = {"namespace_options": OWN}
MAPPED = {"uidMappings": RANGE, "gidMappings": RANGE}


def pod(kubelet: Kubelet) -> str:  # noqa: F811
    return kubelet.pod(linux={"security_context": SECURITY})


def of_root(kubelet: Kubelet, container: str, *places: str) -> None:  # noqa: F811
    owners = said(kubelet, container, f"stat -c '%u:%g %n' {' '.join(places)}")
    assert owners.splitlines() == [f"0:0 {place}" for place in places]


def test_root_of_a_user_namespace(kubelet: Kubelet) -> None:  # noqa: F811
    of_pod = pod(kubelet)
    one = waiting(kubelet, of_pod, linux={"security_context": SECURITY}, working_dir="/made/for/it")
    for name in ("uid_map", "gid_map"):
        assert said(kubelet, one, f"cat /proc/self/{name}").split() == ["0", str(FIRST), str(COUNT)]
    of_root(kubelet, one, "/", "/bin", "/bin/busybox", "/etc", "/made/for/it", "/dev", "/dev/null", "/dev/shm")
    of_root(kubelet, one, "/etc/hosts", "/etc/resolv.conf", "/etc/hostname", "/proc/self/status")
    assert said(kubelet, one, "touch /f /bin/f /dev/shm/f && echo >> /etc/passwd && stat -c %u:%g /f /etc/passwd")
    assert said(kubelet, one, "chown 5:6 /bin/busybox && stat -c %u:%g /bin/busybox") == "5:6"
    assert said(kubelet, one, "hostname x || mount -t tmpfs x /etc || echo refused").startswith("refused")
    assert said(kubelet, one, "timeout -s KILL 1 nc -l -p 80 2>&1; echo $?").split()[-1] == "137"  # a port below 1024


def test_all_of_a_pod_share_it(kubelet: Kubelet) -> None:  # noqa: F811
    of_pod = pod(kubelet)
    security = {**SECURITY, "run_as_user": {"value": 1000}, "run_as_group": {"value": 100}}
    one = waiting(kubelet, of_pod, linux={"security_context": SECURITY})
    two = waiting(kubelet, of_pod, name="two", linux={"security_context": security})
    namespaces = [said(kubelet, each, "readlink /proc/self/ns/user") for each in (one, two)]
    assert namespaces[0] == namespaces[1]
    assert said(kubelet, two, "id -u; id -g; touch /tmp/f; stat -c %u:%g /tmp/f").split() == ["1000", "100", "1000:100"]
    found = kubelet.status(two)
    assert (found["user"]["linux"]["uid"], found["user"]["linux"]["gid"]) == ("1000", "100")
    outside = {**SECURITY, "run_as_user": {"value": FIRST + COUNT}}
    three = kubelet.made(of_pod, "three", "true", linux={"security_context": outside})
    done = kubelet("start", three)
    assert done.status and "become" in done.err
    words = "another user namespace than its pod"
    node = {"namespace_options": {"userns_options": {"mode": 2}}}
    refused(kubelet, of_pod, words, linux={"security_context": node})


def test_whose_files_of_a_mount_are(kubelet: Kubelet, tmp_path: Path) -> None:  # noqa: F811
    for name in ("mapped", "as-it-is"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_text("of the host\n")
    mounts: list[dict[str, Any]] = [
        {"container_path": "/mapped", "host_path": str(tmp_path / "mapped"), **MAPPED},
        {"container_path": "/mapped/below", "host_path": str(tmp_path / "as-it-is"), "readonly": True},
        {"container_path": "/again", "host_path": str(tmp_path / "mapped"), "readonly": True, **MAPPED},
    ]
    one = waiting(kubelet, pod(kubelet), linux={"security_context": SECURITY}, mounts=mounts)
    of_root(kubelet, one, "/mapped", "/mapped/f", "/again/f")
    assert said(kubelet, one, "stat -c %u:%g /mapped/below/f") == "65534:65534"
    assert said(kubelet, one, "echo new > /mapped/g; chown 7:8 /mapped/g; echo x >> /mapped/f; cat /again/g") == "new"
    assert [(os.stat(tmp_path / "mapped" / name).st_uid) for name in ("f", "g", "below")] == [0, 7, 0]
    found = {each["containerPath"]: each for each in kubelet.status(one)["mounts"]}
    assert found["/mapped"]["uidMappings"] and not found["/mapped/below"].get("uidMappings")
    wrong = {"container_path": "/m", "host_path": str(tmp_path), "uidMappings": RANGE}
    refused(kubelet, kubelet.ok("pods", "-q"), "both uidMappings and gidMappings", mounts=[wrong])


def test_an_image_volume_is_roots(kubelet: Kubelet) -> None:  # noqa: F811
    volume = {"container_path": "/image", "image": {"image": IMAGE}, "readonly": True}
    one = waiting(kubelet, pod(kubelet), linux={"security_context": SECURITY}, mounts=[volume])
    of_root(kubelet, one, "/image", "/image/bin/busybox")
