"""States of a container: what follows from what, in one table."""

import ast
from pathlib import Path
from typing import get_args

import pytest

import hypercontainer
from hypercontainer.errors import WrongState
from hypercontainer.model import ids
from hypercontainer.model.container import ContainerConfig, Process
from hypercontainer.model.record import ContainerRecord
from hypercontainer.model.spec import ContainerSpec
from hypercontainer.model.state import ALL, MOVES, RULES, State, Verb, check
from hypercontainer.sandbox import rootfs

PACKAGE = Path(hypercontainer.__file__).parent


def container(state: State = "created") -> ContainerRecord:
    return ContainerRecord(
        id=ids.new_id(),
        name="web",
        spec=ContainerSpec(image="image"),
        image_id="",
        image_name="image",
        config=ContainerConfig(process=Process(args=[]), mounts=[]),
        rootfs=rootfs.image(Path("/image.erofs")),
        sinks=[],
        stop_signal=15,
        labels={},
        mounts=[],
        created_ns=0,
        state=state,
    )


def test_each_state_and_verb_is_in_the_tables() -> None:
    assert MOVES.keys() == ALL and set(RULES) == set(get_args(Verb))
    reached: set[State] = {"created"}
    for _ in ALL:
        reached |= {to for state in reached for to in MOVES[state]}
    assert reached == ALL


def test_a_move_that_is_in_no_table_is_refused() -> None:
    record = container("suspended")
    with pytest.raises(ValueError, match="container web cannot become paused: it is suspended"):
        record.move("paused")
    record.move("suspended")
    record.move("exited")
    assert record.state == "exited"


def test_a_move_whose_block_fails_has_not_been() -> None:
    record = container()
    with pytest.raises(OSError, match="full"), record.moving("removing"):
        assert record.state == "removing"
        raise OSError("full")
    assert record.state == "created"


@pytest.mark.parametrize(
    ("verb", "state", "said"),
    [
        ("start", "paused", "cannot start web: it is paused: unpause it"),
        ("start", "suspended", "cannot start web: it is suspended: resume it, or kill it (its disk stays)"),
        ("remove", "running", "cannot remove web: it is running: stop it first, or use force"),
        ("remove", "removing", "cannot remove web: it is being removed"),
        ("exec in", "exited", "cannot exec in web: it is exited"),
        ("attach to", "created", "cannot attach to web: it is created: start it first"),
        ("fork", "paused", "cannot fork web: it is paused: unpause it first"),
        ("resume", "running", "cannot resume web: it is running: it was not suspended"),
    ],
)
def test_who_asks_too_much_is_told_what_helps(verb: Verb, state: State, said: str) -> None:
    with pytest.raises(WrongState) as refused:
        check(verb, "web", state)
    assert str(refused.value) == said
    assert (refused.value.verb, refused.value.name, refused.value.state) == (verb, "web", state)


def test_nobody_else_changes_a_state() -> None:
    """A state that is assigned is one that no table knows of."""
    found = []
    for path in [*PACKAGE.glob("engine/*.py"), *PACKAGE.glob("sandbox/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            names = [n for target in targets if target for n in ast.walk(target) if isinstance(n, ast.Attribute)]
            found += [f"{path.name}:{n.lineno}" for n in names if n.attr == "state" and not _own(n)]
    assert found == []


def _own(node: ast.Attribute) -> bool:
    """An attribute of the object itself, such as the descriptor of a snapshot's devices."""
    return isinstance(node.value, ast.Name) and node.value.id == "self"
