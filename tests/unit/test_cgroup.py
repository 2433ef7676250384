"""Control groups of the host."""

import pytest

from hypercontainer.lib import cgroup


@pytest.mark.parametrize(
    ("groups", "contained"),
    [
        ("2:cpu:/\n1:name=systemd:/init.scope\n0::/init.scope\n", False),
        ("0::/\n", False),
        ("1:cpu:/\n0::/docker/0123\n", True),
        ("", False),
    ],
)
def test_who_is_a_container_by_dockers_rule(groups: str, contained: bool) -> None:
    assert cgroup.in_container(groups) is contained
