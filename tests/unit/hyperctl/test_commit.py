"""commit, diff, export, push: what is asked, and what is printed."""

import os
import subprocess
from pathlib import Path

from hypercontainer.errors import GuestTooOld
from tests.unit.hyperctl.conftest import Hyperctl
from tests.unit.hyperctl.fake import Lines, Refusal


def test_commit(hyperctl: Hyperctl) -> None:
    hyperctl.hyperd.answers["POST", "/v1/containers/web/commit"] = {"Id": "sha256:1", "Name": "mine:1"}
    words = ("-a", "I", "-m", "why", "-c", "ENV A=1", "-c", 'CMD ["x"]', "--pause=false")
    assert hyperctl("commit", *words, "web", "mine:1") == (0, "sha256:1\n", "")
    assert hyperctl.hyperd.requests[-1].body == {
        "name": "mine:1", "author": "I", "message": "why", "changes": ["ENV A=1", 'CMD ["x"]'], "pause": False,
    }  # fmt: skip
    assert hyperctl("container", "commit", "web").status == 0
    assert hyperctl.hyperd.requests[-1].body == {"name": "", "author": "", "message": "", "changes": [], "pause": True}
    hyperctl.hyperd.answers["POST", "/v1/containers/web/commit"] = Refusal.of(GuestTooOld("cannot tell", "layers"))
    assert hyperctl("commit", "web") == (1, "", "hyperctl: cannot tell\n")


def test_diff(hyperctl: Hyperctl) -> None:
    rows = [{"Path": "/etc", "Kind": 0}, {"Path": "/etc/a b", "Kind": 1}, {"Path": "/x", "Kind": 2}]
    hyperctl.hyperd.answers["GET", "/v1/containers/web/changes"] = rows
    assert hyperctl("diff", "web") == (0, "C /etc\nA /etc/a b\nD /x\n", "")
    hyperctl.hyperd.answers["GET", "/v1/containers/web/changes"] = []
    assert hyperctl("diff", "web") == (0, "", "")


def test_export(hyperctl: Hyperctl, tmp_path: Path) -> None:
    data = os.urandom(300_000)
    hyperctl.hyperd.answers["GET", "/v1/containers/web/export"] = data
    assert hyperctl("export", "-o", tmp_path / "x.tar", "web") == (0, "", "")
    assert (tmp_path / "x.tar").read_bytes() == data
    assert hyperctl.raw("export", "web").stdout == data
    master, slave = os.openpty()
    with hyperctl.popen("export", "web", stdin=slave, stdout=slave, stderr=subprocess.PIPE) as process:
        assert process.wait(30) == 1
        assert process.stderr
        words = b"hyperctl: cowardly refusing to save to a terminal. Use the -o flag or redirect\n"
        assert process.stderr.read() == words
    os.close(master)
    os.close(slave)


def test_push(hyperctl: Hyperctl) -> None:
    done = {"pushed": [{"Name": "host:5000/a", "Tag": "1", "Digest": "sha256:2", "Size": 3}]}
    lines = Lines(
        {"id": "", "action": "The push refers to repository [host:5000/a]", "current": 0, "total": 0},
        {"id": "abc", "action": "Pushed", "current": 0, "total": 0},
        {"id": "1", "action": "digest: sha256:2 size: 3", "current": 0, "total": 0},
        done,
    )
    hyperctl.hyperd.answers["POST", "/v1/images/push"] = lines
    said = "The push refers to repository [host:5000/a]\nabc: Pushed\n1: digest: sha256:2 size: 3\n"
    assert hyperctl("push", "host:5000/a:1") == (0, said, "")
    assert hyperctl.hyperd.requests[-1].body == {"name": "host:5000/a:1", "all_tags": False}
    assert hyperctl("push", "host:5000/a").out == f"Using default tag: latest\n{said}"
    assert hyperctl("image", "push", "-q", "host:5000/a:1").out == "host:5000/a:1\n"
    assert hyperctl("push", "-a", "host:5000/a").out == said
    assert hyperctl.hyperd.requests[-1].body == {"name": "host:5000/a", "all_tags": True}
    refused = hyperctl("push", "-a", "host:5000/a:1")
    assert refused.status == 1 and "tag can't be used with --all-tags/-a" in refused.err
