"""Static pods of a real kubelet: what is in them, how they end, and what is left."""

import json
from pathlib import Path

from tests.kubelet.node import Kubelet

WAITS = ["sh", "-c", "trap 'exit 3' TERM; echo ready; sleep 1000000 & wait"]


def test_init_containers_volumes_and_logs(kubelet: Kubelet, tmp_path: Path) -> None:
    (tmp_path / "given").write_text("by the host\n")
    disk, memory, host = ({"name": name, "mountPath": f"/{name}"} for name in ("disk", "memory", "host"))
    told = {"name": "told", "mountPath": "/told", "readOnly": True}
    labels = {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}
    reads = "cat /disk/first /host/given; echo $POD_IP $LIMIT; cat /told/labels; exec sleep 99999"
    writes = "echo from other >/memory/said; echo back >/host/back; exec sleep 99999"
    main = {
        "name": "main",
        "command": ["sh", "-c", reads],
        "env": [
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "LIMIT", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}},
        ],
        "resources": {"limits": {"memory": "64Mi"}},
        "volumeMounts": [disk, memory, host, told],
    }
    pod = kubelet.run(
        "volumes",
        [main, {"name": "other", "command": ["sh", "-c", writes], "volumeMounts": [memory, host]}],
        initContainers=[{"name": "before", "command": ["sh", "-c", "echo first >/disk/first"], "volumeMounts": [disk]}],
        volumes=[
            {"name": "disk", "emptyDir": {}},
            {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            {"name": "host", "hostPath": {"path": str(tmp_path), "type": "Directory"}},
            {"name": "told", "downwardAPI": labels},  # projected ones need an API server
        ],
    )
    pod.ready("main", "other")
    status = pod.status()
    assert status["phase"] == "Running"
    assert pod.container("before")["state"]["terminated"]["reason"] == "Completed"
    said = kubelet.until("all is said", lambda: len(lines := pod.log("main").splitlines()) == 4 and lines)
    assert said == ["first", "by the host", f"{status['podIP']} {64 << 20}", 'app="volumes"']
    kubelet.until("the other one has written", (tmp_path / "back").exists)
    assert pod.exec("main", "cat", "/memory/said") == ("from other\n", "", 0)
    assert pod.exec("other", "sh", "-c", "dd if=/dev/zero of=/memory/big bs=1M count=2 2>/dev/null")[2] == 1
    assert len(kubelet.machines()) == 1


def test_lines_of_a_log(kubelet: Kubelet) -> None:
    pod = kubelet.run("logs", [{"name": "main", "command": ["sh", "-c", "seq 1 5; echo no >&2; exec sleep 99999"]}])
    pod.ready("main")
    kubelet.until("all is said", lambda: "no" in pod.log("main"))
    assert pod.log("main", tailLines="3").splitlines() == ["4", "5", "no"]
    assert sorted(pod.log("main").splitlines()) == ["1", "2", "3", "4", "5", "no"]
    assert pod.log("main", timestamps="true", limitBytes="4").startswith("20")


def test_what_crashes_is_made_again_and_backs_off(kubelet: Kubelet) -> None:
    pod = kubelet.run("crash", [{"name": "main", "command": ["sh", "-c", "echo try; exit 3"]}])
    seen = pod.until(
        "backs off", "main", lambda one: one["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff"
    )
    assert seen["lastState"]["terminated"]["exitCode"] == 3
    assert seen["lastState"]["terminated"]["reason"] == "Error"
    again = pod.until("tried again", "main", lambda one: one["restartCount"] >= 2)
    assert again["containerID"].startswith("frakti://")
    assert pod.log("main", previous="true") == "try\n"
    assert len(kubelet.machines()) == 1, "it is the container that is made anew, not the pod"


def test_what_has_done_its_work_is_not_made_again(kubelet: Kubelet) -> None:
    pod = kubelet.run("job", [{"name": "main", "command": ["sh", "-c", "echo done"]}], restartPolicy="Never")
    kubelet.until("it has succeeded", lambda: pod.status().get("phase") == "Succeeded")
    ended = pod.container("main")
    assert (ended["state"]["terminated"]["exitCode"], ended["restartCount"]) == (0, 0)
    assert pod.log("main") == "done\n"


def test_out_of_memory(kubelet: Kubelet) -> None:
    pod = kubelet.run(
        "greedy",
        [{"name": "main", "command": ["sh", "-c", "dd if=/dev/zero of=/dev/null bs=200M count=1"],
          "resources": {"limits": {"memory": "32Mi"}}}],
        restartPolicy="Never",
    )  # fmt: skip
    kubelet.until("it has failed", lambda: pod.status().get("phase") == "Failed")
    ended = pod.container("main")["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)


def test_the_end_is_graceful_and_leaves_nothing(kubelet: Kubelet, tmp_path: Path) -> None:
    """preStop first, then SIGTERM, and SIGKILL for who does not obey; then the pod's machine and volumes go."""
    mount = {"name": "host", "mountPath": "/host"}
    obeys = "trap 'echo $(cat /host/stop) TERM >>/host/end; exit 0' TERM; echo ready; sleep 1000000 & wait"
    stop = {"preStop": {"exec": {"command": ["sh", "-c", "echo preStop >/host/stop"]}}}
    pod = kubelet.run(
        "graceful",
        [
            {"name": "main", "command": ["sh", "-c", obeys], "lifecycle": stop, "volumeMounts": [mount]},
            {"name": "deaf", "command": ["sh", "-c", "trap '' TERM; while :; do sleep 1000000; done"]},
        ],
        terminationGracePeriodSeconds=3,
        volumes=[{"name": "host", "hostPath": {"path": str(tmp_path)}}],
    )
    pod.ready("main", "deaf")
    pod.remove()
    kubelet.until("no machine is there", lambda: kubelet.machines() == [])
    assert (tmp_path / "end").read_text() == "preStop TERM\n"
    assert kubelet.left() == []


def test_another_manifest_is_another_pod(kubelet: Kubelet) -> None:
    pod = kubelet.run("changed", [{"name": "main", "command": [*WAITS]}])
    pod.ready("main")
    before = pod.seen()["metadata"]["uid"]
    pod.kubelet.run("changed", [{"name": "main", "command": ["sh", "-c", "echo anew; exec sleep 99999"]}])
    kubelet.until("the new one runs", lambda: pod.seen().get("metadata", {}).get("uid") not in (None, before))
    pod.ready("main")
    kubelet.until("the new one speaks", lambda: pod.log("main") == "anew\n")
    kubelet.until("the first machine is gone", lambda: len(kubelet.machines()) == 1)


def test_figures(kubelet: Kubelet) -> None:
    """/stats/summary, from which `kubectl top` and eviction have theirs, image GC's among them."""
    pod = kubelet.run("figures", [{"name": "main", "command": [*WAITS]}])
    pod.ready("main")

    def summary() -> dict[str, object]:
        told = json.loads(kubelet.get("/stats/summary"))
        return {"node": told["node"], **{each["podRef"]["name"]: each for each in told["pods"]}}

    found = kubelet.until("they are there", lambda: (told := summary()).get(pod.full) and told)
    own = found[pod.full]
    assert own["memory"]["workingSetBytes"] > 1 << 16
    assert own["cpu"]["usageCoreNanoSeconds"] > 0
    assert own["network"]["name"] == "eth0"
    [container] = own["containers"]
    assert container["name"] == "main" and container["memory"]["workingSetBytes"] > 1 << 16
    images = found["node"]["runtime"]["imageFs"]
    assert images["usedBytes"] > 1 << 20 and images["capacityBytes"] > images["usedBytes"]
    assert "container_cpu_usage_seconds_total{" in kubelet.get("/metrics/cadvisor")
    assert f'pod_memory_working_set_bytes{{namespace="default",pod="{pod.full}"}}' in kubelet.get("/metrics/resource")
