"""Images on their way, and what is done to them."""

import os
import subprocess
from pathlib import Path

from hypercontainer.errors import NotFound, OtherPlatform
from tests.unit.hyperctl.conftest import Hyperctl
from tests.unit.hyperctl.fake import Lines, Refusal

DONE = {"images": [{"Id": "sha256:1", "Name": "bb:1"}, {"Id": "sha256:2", "Name": ""}]}


def test_pull(hyperctl: Hyperctl) -> None:
    line = {"id": "sha256:" + "1" * 64, "action": "Downloading", "current": 1, "total": 4_000_000}
    hyperctl.hyperd.answers["POST", "/v1/images/pull"] = Lines(line, {**line, "current": 5}, DONE)
    assert hyperctl("pull", "bb:1").out == (
        "111111111111: Downloading (4MB)\nPulled: bb:1 (sha256:1)\nPulled:  (sha256:2)\n"
    )
    assert hyperctl("pull", "-q", "bb:1").out == "bb:1\n\n"
    assert hyperctl("pull", "-q", "-a", "bb").status == 0
    assert hyperctl.hyperd.requests[-1].body == {"name": "bb", "all_tags": True}
    refused = hyperctl("pull", "-a", "bb:1")
    assert refused.status == 1 and "tag can't be used with --all-tags/-a" in refused.err
    hyperctl.hyperd.answers["POST", "/v1/images/pull"] = Refusal(503, "unavailable", "cannot reach the registry")
    assert hyperctl("pull", "bb:1") == (1, "", "hyperctl: cannot reach the registry\n")


def test_load(hyperctl: Hyperctl, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    archive.write_bytes(os.urandom(700_000))
    hyperctl.hyperd.answers["POST", "/v1/images/load"] = Lines({"id": "manifest.json", "action": "Read"}, DONE)
    out = "Loaded image: bb:1\nLoaded image ID: sha256:2\n"
    assert hyperctl("load", "-i", archive) == (0, out, "manifest.json: Read\n")
    assert hyperctl("load", "-q", stdin=archive.read_bytes()) == (0, out, "")
    for request in hyperctl.hyperd.requests:
        assert request.body == archive.read_bytes()
    assert hyperctl("load", "-i", tmp_path).err.endswith("it is a folder, not an archive\n")
    assert hyperctl("load", "-i", "/nope").err == "hyperctl: cannot read /nope: No such file or directory\n"
    assert len(hyperctl.hyperd.requests) == 2


def test_a_terminal_is_no_archive(hyperctl: Hyperctl) -> None:
    master, slave = os.openpty()
    for words in (("load",), ("save", "bb:1")):
        with hyperctl.popen(*words, stdin=slave, stdout=slave, stderr=subprocess.PIPE) as process:
            assert process.wait(30) == 1
            assert process.stderr
            assert b"terminal" in process.stderr.read()
    os.close(master)
    os.close(slave)


def test_save(hyperctl: Hyperctl, tmp_path: Path) -> None:
    data = os.urandom(700_000)
    hyperctl.hyperd.answers["GET", "/v1/images/save"] = data
    target = tmp_path / "out.tar"
    assert hyperctl("save", "-o", target, "a", "b:1") == (0, "", "")
    assert target.read_bytes() == data
    assert hyperctl.hyperd.requests[0].query == [("name", "a"), ("name", "b:1"), ("format", "docker")]
    assert hyperctl.raw("save", "--format", "oci", "a").stdout == data
    assert "No such file or directory" in hyperctl("save", "-o", "/nope/x", "a").err
    hyperctl.hyperd.answers["GET", "/v1/images/save"] = Refusal.of(NotFound("image", "a"))
    assert hyperctl("save", "-o", target, "a") == (1, "", "hyperctl: no such image: a\n")
    assert target.read_bytes() == data
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []


def test_import(hyperctl: Hyperctl) -> None:
    hyperctl.hyperd.answers["POST", "/v1/images/import"] = {"Id": "sha256:1", "Name": "mine:1"}
    assert hyperctl("import", "-c", "CMD a b", "-m", "note", "-", "mine:1", stdin=b"tar").out == "sha256:1\n"
    request = hyperctl.hyperd.requests[0]
    assert (request.query, request.body) == ([("name", "mine:1"), ("change", "CMD a b"), ("message", "note")], b"tar")
    assert hyperctl("import", "http://x/y.tar").status == 1


def test_tag_rmi_prune(hyperctl: Hyperctl) -> None:
    answers = hyperctl.hyperd.answers
    answers["POST", "/v1/images/tag"] = None
    assert hyperctl("tag", "a:1", "b/c:2") == (0, "", "")
    assert hyperctl.hyperd.requests[-1].query == [("name", "a:1"), ("target", "b/c:2")]
    assert hyperctl("tag", "--platform", "linux/arm64", "a:1", "b/c:2").status == 0
    assert hyperctl.hyperd.requests[-1].query[2:] == [("platform", "linux/arm64")]
    answers["DELETE", "/v1/images"] = [{"Untagged": "a:1", "Deleted": ""}, {"Untagged": "", "Deleted": "sha256:1"}]
    assert hyperctl("rmi", "-f", "a:1") == (0, "Untagged: a:1\nDeleted: sha256:1\n", "")
    assert hyperctl.hyperd.requests[-1].query == [("name", "a:1"), ("force", "1")]
    assert hyperctl("rmi", "--platform", "linux/arm64,s390x", "--platform", "386", "a:1").status == 0
    assert [value for key, value in hyperctl.hyperd.requests[-1].query if key == "platform"] == [
        "linux/arm64", "s390x", "386",
    ]  # fmt: skip
    answers["POST", "/v1/images/prune"] = {"Deleted": ["sha256:2"], "SpaceReclaimed": 1000}
    assert hyperctl("image", "prune", "-af") == (0, "Deleted: sha256:2\nTotal reclaimed space: 1kB\n", "")
    done = hyperctl("image", "prune")
    assert done.status == 125
    assert "add --force" in done.err


def test_one_of_several_platforms(hyperctl: Hyperctl, tmp_path: Path) -> None:
    hyperd, archive = hyperctl.hyperd, tmp_path / "a.tar"
    hyperd.answers["GET", "/v1/images/save"] = b"tar"
    hyperd.answers["POST", "/v1/images/load"] = Lines(DONE)
    hyperd.answers["POST", "/v1/images/push"] = Lines({"pushed": []})
    hyperd.answers["GET", "/v1/images/history"] = []
    hyperd.answers["GET", "/v1/images/inspect"] = {"Id": "sha256:1"}
    for words in (
        ("save", "-o", str(archive), "a"), ("load", "-i", str(archive)), ("history", "a"),
        ("inspect", "a"), ("image", "inspect", "a"),
    ):  # fmt: skip
        done = hyperctl(*words, "--platform", "linux/arm64")
        assert done.status == 0, done
        assert ("platform", "linux/arm64") in hyperd.requests[-1].query
    assert hyperctl("push", "--platform", "linux/arm64", "a:1").status == 0
    assert hyperd.requests[-1].body == {"name": "a:1", "all_tags": False, "platform": "linux/arm64"}
    hyperd.answers["GET", "/v1/images/inspect"] = Refusal.of(OtherPlatform("a", "linux/arm64", ["linux/amd64"]))
    said = "hyperctl: no such image: a (not for linux/arm64: what is here is for linux/amd64)\n"
    assert hyperctl("inspect", "--platform", "linux/arm64", "a") == (1, "[]\n", said)
