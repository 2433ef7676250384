"""Probes of a real kubelet: by exec in the machine, by HTTP and TCP from the node to the pod's address."""

from typing import Any

import pytest

from tests.kubelet.node import Kubelet

OFTEN: dict[str, Any] = {"periodSeconds": 1, "failureThreshold": 1}
PROBES: dict[str, dict[str, Any]] = {
    "exec": {"exec": {"command": ["test", "-e", "/tmp/open"]}},
    "http": {"httpGet": {"path": "/open", "port": 8080}},
    "tcp": {"tcpSocket": {"port": "web"}},
}
SERVES = "mkdir -p /tmp; echo ready; {} exec sleep 99999"
OPENS = {
    "exec": "touch /tmp/open",
    "http": "touch /www/open",
    "tcp": "httpd -p 8081 -h /www",
}
CLOSES = {"exec": "rm /tmp/open", "http": "rm /www/open", "tcp": "kill $(pidof httpd)"}


@pytest.mark.parametrize("kind", PROBES)
def test_readiness(kubelet: Kubelet, kind: str) -> None:
    served = "httpd -p 8080 -h /www;" if kind == "http" else ""
    pod = kubelet.run(
        f"readiness-{kind}",
        [
            {
                "name": "main",
                "command": ["sh", "-c", SERVES.format(served)],
                "ports": [{"name": "web", "containerPort": 8081}],
                "readinessProbe": {**PROBES[kind], **OFTEN, "timeoutSeconds": 10},
            }
        ],
    )
    pod.until("runs", "main", lambda one: one["state"].get("running"))
    assert not pod.container("main")["ready"]
    assert pod.exec("main", "sh", "-c", OPENS[kind])[2] == 0
    pod.ready("main")
    assert pod.exec("main", "sh", "-c", CLOSES[kind])[2] == 0
    pod.until("not ready", "main", lambda one: not one["ready"])
    assert pod.container("main")["restartCount"] == 0


def test_who_is_not_alive_is_made_again(kubelet: Kubelet) -> None:
    pod = kubelet.run(
        "liveness",
        [
            {
                "name": "main",
                "command": ["sh", "-c", "touch /alive; trap 'exit 3' TERM; sleep 1000000 & wait"],
                "startupProbe": {
                    "exec": {"command": ["test", "-e", "/alive"]},
                    "periodSeconds": 1,
                    "timeoutSeconds": 10,
                },
                "livenessProbe": {"exec": {"command": ["test", "-e", "/alive"]}, **OFTEN, "timeoutSeconds": 10},
            },
            {"name": "beside", "command": ["sleep", "99999"]},
        ],
    )
    pod.ready("main", "beside")
    first = pod.container("main")["containerID"]
    assert pod.exec("main", "rm", "/alive")[2] == 0
    pod.until("made again", "main", lambda one: one["restartCount"] == 1 and one["ready"])
    ended = pod.container("main")["lastState"]["terminated"]
    assert (ended["containerID"], ended["exitCode"]) == (first, 3)
    assert pod.container("beside")["restartCount"] == 0
