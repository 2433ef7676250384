"""hyperctl update: what is asked, what is said, what is refused."""

import pytest

from tests.unit.hyperctl.conftest import Hyperctl
from tests.unit.hyperctl.fake import Refusal

UPDATE = ("POST", "/v1/containers/web/update")


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["--cpus", "2", "--memory", "512m"], {"cpus": 2.0, "memory_mib": 512}),
        (["-m", "1g"], {"memory_mib": 1024}),
        (["--cpus=0", "--memory=0"], {"cpus": 0.0, "memory_mib": 0}),
        (["--pids-limit", "-1"], {"pids": 0}),
        (["--pids-limit", "20", "--restart", "on-failure:3"],
         {"pids": 20, "restart": {"name": "on-failure", "max_retries": 3}}),
    ],
)  # fmt: skip
def test_what_is_given_is_asked_and_nothing_else(hyperctl: Hyperctl, words: list[str], wanted: object) -> None:
    hyperctl.hyperd.answers[UPDATE] = {"Warnings": []}
    done = hyperctl("update", *words, "web")
    assert (done.status, done.out, done.err) == (0, "web\n", "")
    assert hyperctl.hyperd.requests[-1].body == wanted


def test_warnings_are_said_and_one_that_fails_does_not_stop_the_others(hyperctl: Hyperctl) -> None:
    hyperctl.hyperd.answers[UPDATE] = {"Warnings": ["the virtual machine of web keeps 300 MiB"]}
    refusal = Refusal(409, "in-use", "cannot shrink memory to 128 MiB: 200 MiB of 512 are in use")
    hyperctl.hyperd.answers["POST", "/v1/containers/db/update"] = refusal
    done = hyperctl("container", "update", "-m", "128m", "db", "web")
    assert (done.status, done.out) == (1, "web\n")
    assert done.err.splitlines() == [
        "hyperctl: cannot shrink memory to 128 MiB: 200 MiB of 512 are in use",
        "hyperctl: warning: the virtual machine of web keeps 300 MiB",
    ]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["web"], "say what shall be another"),
        (["--cpus", "x", "web"], "use a number of processors"),
        (["--restart", "sometimes", "web"], "use one of no, always"),
        (["--blkio-weight", "512", "web"], "disk traffic is not limited"),
        (["--cpus", "1", "--cpu-quota", "50000", "web"], "say the same"),
        (["--memory-swap", "1g", "web"], "VMs have no swap"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_asked(
    hyperctl: Hyperctl, words: list[str], complaint: str
) -> None:
    done = hyperctl("update", *words)
    assert done.status == (1 if words == ["web"] else 125) and complaint in done.err  # docker's
    assert hyperctl.hyperd.requests == []
