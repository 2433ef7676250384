"""build: which files are sent, under which names, and what is printed."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from tests.unit.hyperctl.conftest import Hyperctl
from tests.unit.hyperctl.fake import FakeHyperd, Request

ID = "sha256:" + "1" * 64
LINES = [{"stream": "Step 1/1 : FROM x\n"}, {"id": "layer", "action": "Downloading"}, {"stage": ID}]


@pytest.fixture
def sent(hyperd: FakeHyperd) -> list[Request]:
    requests: list[Request] = []

    def build(request: Request) -> bytes:
        requests.append(request)
        return b"".join(json.dumps(line).encode() + b"\n" for line in LINES)

    hyperd.answers["POST", "/v1/build"] = build
    return requests


def names(request: Request) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(request.body)) as tar:
        return {m.name: tar.extractfile(m).read() if m.isreg() else b"" for m in tar}  # type: ignore[union-attr]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    (folder / "sub").mkdir(parents=True)
    for name in "Dockerfile", "kept", "sub/left-out.log", ".dockerignore":
        (folder / name).write_text("*.log\n**/*.log\nDockerfile\n.dockerignore\n")
    return folder


def test_a_folder(hyperctl: Hyperctl, sent: list[Request], folder: Path) -> None:
    """What .dockerignore leaves out is not sent, but for what hyperd needs itself."""
    done = hyperctl(
        "build", "-t", "a:1", "-t", "b", "--build-arg", "A=1", "--build-arg", "NOSUCH", "--no-cache", folder
    )
    assert (done.status, done.out, done.err) == (0, "Step 1/1 : FROM x\nlayer: Downloading\n", "")
    [request] = sent
    assert set(names(request)) == {"Dockerfile", "kept", "sub", ".dockerignore"}
    assert request.query == [
        ("dockerfile", "Dockerfile"),
        ("name", "a:1"),
        ("name", "b"),
        ("arg", "A=1"),
        ("no_cache", "1"),
        ("network", "bridge"),
    ]


def test_the_id_alone(hyperctl: Hyperctl, sent: list[Request], folder: Path) -> None:
    assert hyperctl("build", "-q", folder).out == f"{ID}\n"


def test_a_dockerfile_from_elsewhere(hyperctl: Hyperctl, sent: list[Request], folder: Path) -> None:
    outside = folder.parent / "Other"
    outside.write_text("FROM other\n")
    for words, stdin in ((("-f", str(outside)), b""), (("-f", "-"), b"FROM other\n")):
        assert hyperctl("build", *words, folder, stdin=stdin).status == 0
        name = dict(sent[-1].query)["dockerfile"]
        assert names(sent[-1])[name] == b"FROM other\n"
    (folder / "sub" / "Own").write_text("FROM own\n")
    assert hyperctl("build", "-f", folder / "sub" / "Own", folder).status == 0
    assert dict(sent[-1].query)["dockerfile"] == "sub/Own"


def test_from_stdin(hyperctl: Hyperctl, sent: list[Request]) -> None:
    assert hyperctl("build", "-", stdin=b"FROM x\n").status == 0
    assert names(sent[-1]) == {"Dockerfile": b"FROM x\n"}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("Dockerfile"))
    assert hyperctl("build", "-", stdin=out.getvalue()).status == 0
    assert sent[-1].body == out.getvalue()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--squash", "."], "layers are not squashed"),
        (["https://github.com/a/b.git"], "contexts are not fetched"),
        (["/nosuch"], "it is no folder"),
    ],
)
def test_what_is_refused(hyperctl: Hyperctl, words: list[str], why: str) -> None:
    done = hyperctl("build", *words)
    assert (done.status, why in done.err) == (1, True)
