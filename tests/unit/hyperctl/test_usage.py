"""system df and system prune: what is counted, what is asked for, in which order."""
# ruff: noqa: E501

import json
from typing import Any

import pytest

from tests.unit.hyperctl.conftest import Hyperctl

MB = 1_000_000


@pytest.fixture
def full(hyperctl: Hyperctl) -> Hyperctl:
    """Two images, of which one is used; a container that runs and one that does not; a volume that is used, one not."""

    def entry(id: str, state: str, size: int, mounts: list[dict[str, str]]) -> dict[str, Any]:
        return {
            "Id": id * 64, "Image": "web", "ImageID": "sha256:" + "1" * 64, "SizeRw": size, "State": state,
            "Status": state, "Names": [f"/{id}"], "Mounts": mounts,
        }  # fmt: skip

    answers = hyperctl.hyperd.answers
    answers["GET", "/v1/images"] = [
        {"Id": f"sha256:{n * 64}", "RepoTags": tags, "Size": size}
        for n, tags, size in (("1", ["web:latest"], 30 * MB), ("2", [], 10 * MB))
    ]
    answers["GET", "/v1/containers"] = [
        entry("a", "running", 2 * MB, [{"Name": "data"}, {"Name": ""}]), entry("b", "exited", 6 * MB, []),
    ]  # fmt: skip
    answers["GET", "/v1/volumes"] = [{"Name": "data", "Size": 4 * MB}, {"Name": "old", "Size": 0}]
    return hyperctl


def test_df(full: Hyperctl) -> None:
    done = full("system", "df")
    assert (done.status, done.err) == (0, "")
    assert done.out == (
        "TYPE            TOTAL        ACTIVE       SIZE         RECLAIMABLE\n"
        "Images          2            1            40MB         10MB (25%)\n"
        "Containers      2            1            8MB          6MB (75%)\n"
        "Local Volumes   2            1            4MB          0B (0%)\n"
    )
    assert (
        full("system", "df", "--format", "{{.Type}}: {{.Reclaimable}}").out.splitlines()[1] == "Containers: 6MB (75%)"
    )
    assert json.loads(full("system", "df", "--format", "json").out.splitlines()[0])["TotalCount"] == "2"


def test_df_of_each_thing(full: Hyperctl) -> None:
    out = full("system", "df", "-v").out
    assert "web:latest       111111111111   30MB         2\n" in out
    assert "bbbbbbbbbbbb   web          6MB          exited       b\n" in out
    assert "data          yes          4MB\n" in out and "old           no           0B\n" in out


def test_prune(full: Hyperctl) -> None:
    answers = full.hyperd.answers
    containers = answers["GET", "/v1/containers"]
    assert isinstance(containers, list)
    answers["GET", "/v1/containers"] = containers[1:]
    answers["DELETE", "/v1/containers/" + "b" * 64] = None
    for kind, deleted, size in (("networks", ["net"], 0), ("images", ["sha256:2"], 10 * MB), ("volumes", [], 0)):
        answers["POST", f"/v1/{kind}/prune"] = {"Deleted": deleted, "SpaceReclaimed": size}
    done = full("system", "prune", "-f", "-a", "--volumes", "--filter", "label=x")
    assert (done.status, done.err) == (0, "")
    assert done.out == (
        f"Deleted Containers:\n{'b' * 64}\nDeleted Networks:\nnet\nDeleted Images:\nsha256:2\nTotal reclaimed space: 16MB\n"
    )
    asked = [(request.method, request.path.partition("?")[0], request.query) for request in full.hyperd.requests]
    label = ("filter", "label=x")
    assert asked == [
        (
            "GET",
            "/v1/containers",
            [("all", "1"), ("size", "1"), ("filter", "status=created"), ("filter", "status=exited"), label],
        ),
        ("DELETE", "/v1/containers/" + "b" * 64, []),
        ("POST", "/v1/networks/prune", [label]),
        ("POST", "/v1/images/prune", [label, ("all", "1")]),
        ("POST", "/v1/volumes/prune", [label]),
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--filter", "name=x", "-f"], "invalid filter 'name=x'"),
        (["--filter", "until=1h", "--volumes", "-f"], "volumes are of no time"),
        ([], "There is no terminal to ask on: add --force"),
    ],
)
def test_what_is_not_pruned(hyperctl: Hyperctl, words: list[str], said: str) -> None:
    done = hyperctl("system", "prune", *words)
    assert done.status == 125 and said in done.err and hyperctl.hyperd.requests == []
