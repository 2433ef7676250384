"""hyperctl checkpoint: how its commands end, what its list says."""

import pytest

from tests.unit.hyperctl.conftest import Hyperctl
from tests.unit.hyperctl.fake import Refusal

CREATE = ("POST", "/v1/containers/web/checkpoints")


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["checkpoint", "create", "web", "then"], 1),
        (["volume", "create", "data"], 1),
        (["create", "web"], 1),
        (["container", "create", "web"], 1),
        (["run", "web"], 125),
    ],
)
def test_only_what_may_say_a_containers_status_has_one_for_its_own_failures(
    hyperctl: Hyperctl, words: list[str], status: int
) -> None:
    refusal = Refusal(507, "exhausted", "the disk is full")
    for path in (CREATE[1], "/v1/volumes", "/v1/containers"):
        hyperctl.hyperd.answers["POST", path] = refusal
    assert hyperctl(*words) == (status, "", "hyperctl: the disk is full\n")


def test_a_checkpoint_is_listed_in_dockers_words(hyperctl: Hyperctl) -> None:
    hyperctl.hyperd.answers["GET", "/v1/checkpoints"] = [
        {
            "Name": "then",
            "ContainerID": "0123456789abcdef",
            "ContainerName": "web",
            "Image": "nginx:1",
            "CreatedAt": "2026-01-01T00:00:00Z",
            "Size": 35 << 20,
            "Vmm": "QEMU 7.2.22",
        }
    ]
    done = hyperctl("checkpoint", "ls", "--format", "{{.Name}} {{.ContainerID}} {{.ContainerName}}")
    assert done == (0, "then 0123456789ab web\n", "")
