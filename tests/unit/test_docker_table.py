"""The table of docker's answers: how they are compared, and that the documentation has what the table has."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT
from tests.interop import docker_table
from tests.interop.differ import Answer, Normaliser, differences
from tests.interop.docker_table import Row, Table

ID = "0123456789ab" * 5 + "cdef"
TABLES = [
    (docker_table.TABLE, "docs/docker.md", "What differs", 150),
    (docker_table.RUNTIMES, "docs/runv.md", "What differs from runc", 150),
]


def normal(text: str, same: str = "") -> str:
    return Normaliser(same, {"/tmp/engine": "<root>"}).text(text)


@pytest.mark.parametrize(
    ("text", "placeholder"),
    [
        (ID, "<id>"),
        (ID[:12], "<id>"),
        ("sha256:" + ID, "sha256:<id>"),
        ("2026-11-28T17:29:02.599997786Z", "<time>"),
        ("2026-11-28 17:29:02 +0000 UTC", "<time>"),
        ("Up Less than a second", "Up <time>"),
        ("Exited (137) About an hour ago", "Exited (137) <time> ago"),
        ("Up 3 minutes (healthy)", "Up <time> (healthy)"),
        ("02:42:ac:11:00:02", "<mac>"),
        ("172.17.0.2/16", "<address>/16"),
        ("fd00::5/64", "<address6>/64"),
        ("127.0.0.1:49153->80/tcp", "127.0.0.1:<port>->80/tcp"),
        ("4.26MB", "<size>"),
        ("/tmp/engine/volumes/x", "<root>/volumes/x"),
        ("a      b", "a  b"),
    ],
)
def test_what_is_another_on_every_run_is_a_placeholder(text: str, placeholder: str) -> None:
    assert normal(text) == placeholder


@pytest.mark.parametrize(
    "text", ["0001-01-01T00:00:00Z", "127.0.0.1", "0.0.0.0:80", "0B", "web", "Exited (137)", "a  b", "exit 3"]
)
def test_what_is_the_same_on_every_run_stays(text: str) -> None:
    assert normal(text) == text


def test_what_was_asked_for_stays() -> None:
    assert normal("10.1.2.3 10.1.2.4", same="--ip 10.1.2.3") == "10.1.2.3 <address>"


def test_an_id_that_was_an_answer_is_known_by_its_row() -> None:
    normaliser = Normaliser("")
    assert normaliser.answer(Answer(0, f"{ID}\n", ""), "made").out == "<id of made>\n"
    assert normaliser.answer(Answer(0, f"{ID} {ID[:12]}\n", ""), "seen").out == "<id of made> <short id of made>\n"


def test_numbers_of_a_document_are_known_by_their_key() -> None:
    document = {
        "Created": 1795887862,
        "Size": 0,
        "Ports": [{"PublicPort": 49153, "PrivatePort": 80}],
        "HostPort": "49153",
    }
    assert Normaliser("").document(document) == {
        "Created": "<time>",
        "Size": 0,
        "Ports": [{"PublicPort": "<port>", "PrivatePort": 80}],
        "HostPort": "<port>",
    }


def of(value: object, status: int = 0, err: str = "") -> Answer:
    return Answer(status, value if isinstance(value, str) else json.dumps(value), err)


@pytest.mark.parametrize(
    ("theirs", "ours", "places"),
    [
        (of("a"), of("a"), []),
        (of("a"), of("b"), ["stdout"]),
        (of("a", 1, "x"), of("a", 2, "y"), ["status", "stderr"]),
        (of([{"A": 1}]), of([{"A": 1}]), []),
        (of([{"A": 1}]), of([{"A": 2}]), ["A"]),
        (of([{"A": 1}]), of([{"A": True}]), ["A"]),
        (of([{"A": None}]), of([{}]), ["A"]),
        (of([{"A": {"B": [1, 2]}}]), of([{"A": {"B": [1, 3]}}]), ["A.B.1"]),
        (of([{"A": [1, 2]}]), of([{"A": [1]}]), ["A"]),
        (of('{"A": 1}\n{"A": 2}'), of('{"A": 1}\n{"A": 3}'), ["1.A"]),
        (of('{"A": 1}'), of("no document"), ["stdout"]),
        (of([]), of([{}]), ["stdout"]),
    ],
)
def test_two_answers_differ_in_places(theirs: Answer, ours: Answer, places: list[str]) -> None:
    assert list(differences(theirs, ours)) == places


def test_a_difference_needs_a_reason_and_a_reason_a_difference() -> None:
    table = Table({"why": ["stderr", "A.*"]}, [])
    row = Row("chapter", "row", "true", ("why",))
    assert table.faults(row, of([{"A": {"B": 1}}]), of([{"A": {"B": 2}}])) == []
    assert table.faults(row, of("", err="x"), of("", err="y")) == []
    assert table.faults(row, of("x"), of("x")) == ["nothing differs any more for this reason: why"]
    [fault] = table.faults(row, of("x", err="x"), of("y", err="y"))
    assert fault == "stdout:\n  docker: 'x'\n  here:   'y'"


@pytest.mark.parametrize(("path", "least"), [(path, least) for path, _, _, least in TABLES])
def test_a_table_is_large_and_each_row_is_one_of_bash(path: Path, least: int) -> None:
    rows = docker_table.read(path).rows
    assert len(rows) >= least
    checked = subprocess.run(["bash", "-n"], input="\n".join(row.do for row in rows), text=True, capture_output=True)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize(("path", "document", "title"), [(path, where, title) for path, where, title, _ in TABLES])
def test_the_documentation_has_the_reasons_of_a_table(path: Path, document: str, title: str) -> None:
    """In its section's first table, by what differs, and nothing else; each is some row's."""
    table = docker_table.read(path)
    section = re.compile(rf"^## {title}\n(.*?)^(?:## |\Z)", re.MULTILINE | re.DOTALL)
    found = section.search((CHECKOUT / document).read_text())
    assert found
    [_, _, *lines] = next(part for part in found[1].split("\n\n") if part.startswith("|")).splitlines()
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines] == list(table.places)
    assert {reason for row in table.rows for reason in row.differs} == set(table.places)
