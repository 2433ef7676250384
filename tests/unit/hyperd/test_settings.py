"""The daemon's settings, and what its command line says instead."""

from pathlib import Path

import pytest

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.main import parser, read
from hypercontainer.model.settings import load


def test_the_command_line_goes_before_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('template_scope = "none"\nrun = "/file"\n')
    words = ["--config", str(path), "--run", "/said"]
    said = read(parser().parse_args([*words, "--template-scope", "tenant"]))
    assert (said.template_scope, said.run) == ("tenant", "/said")
    assert read(parser().parse_args(words)).template_scope == "none"


@pytest.mark.parametrize("line", ['template_scope = "everyone"', '[[pool]]\ntenant = "../x"', "[[pool]]\ntenant = 1"])
def test_what_is_wrong_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(line)
    with pytest.raises(InvalidInput, match=r"template_scope|tenant"):
        load(path)
