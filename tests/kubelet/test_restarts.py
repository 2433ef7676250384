"""The kubelet and hyperd come and go, and pods go on."""

import signal
from typing import Any

import pytest

from tests.kubelet.node import Kubelet, Pod

COUNTS = ["sh", "-c", "n=0; while :; do n=$((n + 1)); echo $n; sleep 0.2; done"]


def same(one: dict[str, Any]) -> tuple[Any, ...]:
    """What another start of it would change. The count of restarts is no such thing: a kubelet remembers that of a
    static pod of the same name, and the next kubelet does not."""
    return one["containerID"], one["state"]["running"]["startedAt"]


def lines(pod: Pod) -> list[int]:
    """None while the kubelet has nobody to ask where the log is, which it says in its place."""
    said = pod.log("main").splitlines()
    return [int(line) for line in said] if all(line.isdecimal() for line in said) else []


@pytest.fixture
def counting(kubelet: Kubelet) -> Pod:
    alive = {"exec": {"command": ["true"]}, "periodSeconds": 1, "failureThreshold": 3, "timeoutSeconds": 10}
    pod = kubelet.run(
        "counting", [{"name": "main", "command": COUNTS, "livenessProbe": alive, "readinessProbe": alive}]
    )
    pod.ready("main")
    return pod


def goes_on(pod: Pod) -> None:
    """Without a number that is missing."""
    last = pod.kubelet.until("its log is there", lambda: lines(pod))[-1]
    said = pod.kubelet.until("it goes on", lambda: len(found := lines(pod)) > last + 10 and found)
    assert said == list(range(1, len(said) + 1))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_kubelet_is_another_one(kubelet: Kubelet, counting: Pod, number: int) -> None:
    before, machines = same(counting.container("main")), kubelet.machines()
    kubelet.stop(number)
    kubelet.start()
    counting.ready("main")
    goes_on(counting)
    assert same(counting.container("main")) == before
    assert kubelet.machines() == machines


def test_hyperd_is_killed(kubelet: Kubelet, counting: Pod) -> None:
    before, machines = same(counting.container("main")), kubelet.machines()
    kubelet.hyper.signal(signal.SIGKILL)
    kubelet.hyper.start()
    goes_on(counting)
    counting.ready("main")
    assert same(counting.container("main")) == before
    assert kubelet.machines() == machines
    assert counting.exec("main", "echo", "here") == ("here\n", "", 0)


def test_both_are_gone_and_come_again(kubelet: Kubelet, counting: Pod) -> None:
    """hyperd first: a kubelet that finds no runtime ends at once."""
    before, machines = same(counting.container("main")), kubelet.machines()
    kubelet.stop(signal.SIGKILL)
    kubelet.hyper.signal(signal.SIGKILL)
    kubelet.hyper.start()
    kubelet.start()
    counting.ready("main")
    goes_on(counting)
    assert same(counting.container("main")) == before
    assert kubelet.machines() == machines


def test_a_pod_is_made_while_hyperd_dies(kubelet: Kubelet) -> None:
    pod = kubelet.run("young", [{"name": "main", "command": ["sh", "-c", "echo once; exec sleep 99999"]}])
    kubelet.until("it has begun", lambda: kubelet.machines())
    kubelet.hyper.signal(signal.SIGKILL)
    kubelet.hyper.start()
    pod.ready("main")
    kubelet.until("it speaks", lambda: pod.log("main") == "once\n")
    kubelet.until("one machine is its", lambda: len(kubelet.machines()) == 1)


def test_a_manifest_goes_while_nobody_looks(kubelet: Kubelet, counting: Pod) -> None:
    kubelet.stop(signal.SIGKILL)
    counting.remove()
    kubelet.start()
    kubelet.until("its machine is gone", lambda: kubelet.machines() == [])
