"""docs/coming-from-docker.md says what the program does."""

import re
from pathlib import Path

from hypercontainer.hyperctl import commands, moot, spec

PAGE = (Path(__file__).parents[3] / "docs" / "coming-from-docker.md").read_text()


def table(first: str) -> dict[str, str]:
    """The rows, by the name in their first column, of the table whose first column has this title."""
    rows = PAGE.split(f"| {first} | ")[1].split("\n\n")[0].splitlines()[2:]
    return dict(re.findall(r"\| `(.+?)` \| (.+) \|", "\n".join(rows)))


def test_flags_that_change_nothing() -> None:
    assert table("flag") == {f"--{name}": reason for name, reason in moot.REASONS.items()}


def test_flags_that_are_missing() -> None:
    assert table("refused flag") == {f"--{name}": reason for name, reason in spec.REFUSED.items()}


def test_commands_that_are_missing() -> None:
    assert table("command") == commands.REFUSED


def test_each_command_is_on_the_page() -> None:
    same = re.findall(r"`([a-z]+)`", PAGE.split("These commands are")[1].split("\n")[0])
    own = table("own command")
    assert not own.keys() & set(same)
    assert own == {name: commands.COMMANDS[name].summary for name in own}
    assert own.keys() | set(same) == {name for name in commands.COMMANDS if " " not in name and name[0] != "_"}


def test_what_differs_is_held_by_a_test() -> None:
    """Each row names one, which is there."""
    rows = PAGE.split("## What differs\n\n")[1].split("\n\n")[0].splitlines()[2:]
    held_by = [re.fullmatch(r"\|.*\| `([a-z_/]+\.py)(?:::(\w+))?` \|", row) for row in rows]
    assert len(held_by) > 5 and all(held_by)
    for found in held_by:
        assert found
        text = (Path(__file__).parents[2] / found[1]).read_text()
        assert not found[2] or f"def {found[2]}(" in text
