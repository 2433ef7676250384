"""exec, attach, port-forward and logs through a real kubelet, as an API server asks it for them."""

import asyncio
import json

from tests.kubelet.apart import ADDRESS
from tests.kubelet.node import Kubelet

ECHOES = ["sh", "-c", "echo ready; while read line; do echo got $line; [ $line != end ] || exit 0; done"]


def test_exec(kubelet: Kubelet) -> None:
    pod = kubelet.run("exec", [{"name": "main", "command": ["sleep", "99999"]}])
    pod.ready("main")
    assert pod.exec("main", "sh", "-c", "echo out; echo err >&2; exit 7") == ("out\n", "err\n", 7)
    assert pod.exec("main", "cat", stdin=b"in\n") == ("in\n", "", 0)
    big = pod.exec("main", "sh", "-c", "dd if=/dev/zero bs=1M count=4 2>/dev/null | tr '\\0' x")
    assert (len(big[0]), big[2]) == (4 << 20, 0)
    assert pod.exec("main", "missing")[2] == -1
    assert kubelet.ask("POST", f"/run/default/{pod.full}/main?cmd=hostname") == f"{pod.full}\n"


def test_attach(kubelet: Kubelet) -> None:
    pod = kubelet.run("attach", [{"name": "main", "command": ECHOES, "stdin": True}], restartPolicy="Never")
    pod.ready("main")
    kubelet.until("it listens", lambda: "ready" in pod.log("main"))
    assert pod.attach("main", b"one\nend\n")[:2] == ("got one\ngot end\n", "")
    kubelet.until("it has ended", lambda: pod.status().get("phase") == "Succeeded")
    assert pod.log("main") == "ready\ngot one\ngot end\n"


def test_port_forward(kubelet: Kubelet) -> None:
    """To the loopback of the pod's own, by a websocket."""
    serve = ["sh", "-c", "httpd -p 127.0.0.1:8080 -h /www; echo ready; exec sleep 99999"]
    pod = kubelet.run("forward", [{"name": "main", "command": serve}])
    pod.ready("main")
    kubelet.until("it serves", lambda: "ready" in pod.log("main"))
    answer = pod.forward(8080, b"GET /index.html HTTP/1.0\r\n\r\n")
    assert answer.startswith((b"HTTP/1.0 200 OK", b"HTTP/1.1 200 OK"))


def test_a_host_port(kubelet: Kubelet) -> None:
    serve = ["sh", "-c", "httpd -p 80 -h /www; exec sleep 99999"]
    ports = [{"containerPort": 80, "hostPort": 18080}]
    pod = kubelet.run("host-port", [{"name": "main", "command": serve, "ports": ports}])
    pod.ready("main")

    async def get() -> bytes:
        reader, writer = await asyncio.open_connection(ADDRESS, 18080)
        writer.write(b"GET /index.html HTTP/1.0\r\n\r\n")
        answer = await reader.read()
        writer.close()
        return answer

    def served() -> bytes:
        try:
            return asyncio.run(get())
        except ConnectionError:
            return b""

    assert b" 200 OK" in kubelet.until("it serves", served)


def test_who_runs(kubelet: Kubelet) -> None:
    pod = kubelet.run("running", [{"name": "main", "command": ["sleep", "99999"]}])
    pod.ready("main")

    def running() -> list[str]:
        return [each["metadata"]["name"] for each in json.loads(kubelet.ask("GET", "/runningpods/"))["items"] or []]

    kubelet.until("it is among those that run", lambda: running() == [pod.full])
