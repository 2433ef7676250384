"""What engines of Kubernetes say in annotations."""

import pytest

from hypercontainer.errors import InvalidInput
from hypercontainer.lib import kubernetes
from hypercontainer.lib.kubernetes import Limits


def test_the_sandbox_of_a_container() -> None:
    said = {"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": "abc"}
    assert kubernetes.sandbox(said) == "abc"
    assert kubernetes.sandbox({**said, "io.kubernetes.cri.container-type": "sandbox"}) == ""
    assert kubernetes.sandbox({}) == kubernetes.sandbox({"io.kubernetes.cri-o.SandboxID": "abc"}) == ""
    assert kubernetes.is_pinned({"io.kubernetes.cri-o.SandboxID": "abc"}) and not kubernetes.is_pinned(said)


@pytest.mark.parametrize(
    ("profile", "told"), [("localhost/mine", True), ("runtime/default", False), ("unconfined", False)]
)
def test_whether_a_profile_of_apparmor_is_to_come(profile: str, told: bool) -> None:
    assert kubernetes.confines({"container.apparmor.security.beta.kubernetes.io/web": profile, "a": "b"}) == told
    assert not kubernetes.confines({})


def test_the_limits_of_a_pod() -> None:
    said = {"memory": "1048576", "cpu-quota": "50000", "cpu-period": "100000", "cpu-shares": "2"}
    given = {f"io.kubernetes.cri.sandbox-{name}": value for name, value in said.items()}
    assert kubernetes.limits(given) == Limits(1048576, 50000, 100000)
    assert kubernetes.limits({"io.kubernetes.cri.sandbox-cpu-quota": "-1"}) == kubernetes.limits({}) == Limits(0, 0, 0)
    for wrong in ("", "1Gi", "9" * 30, "9" * 10_000):
        with pytest.raises(InvalidInput, match="sandbox-memory"):
            kubernetes.limits({"io.kubernetes.cri.sandbox-memory": wrong})
