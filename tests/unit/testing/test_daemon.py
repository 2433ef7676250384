"""What a private hyperd is given is nobody else's."""

import secrets
import subprocess
import sys

import pytest

from hypercontainer.errors import Exhausted
from hypercontainer.testing.daemon import MOST_KEPT, free_subnet


def test_a_network_is_given_once_while_no_route_leads_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hyperd for kubelets asks for two, and nothing shows them before there are pods."""
    given = free_subnet()
    number = int(given.split(".")[2]) - 64
    monkeypatch.setattr(secrets, "randbelow", lambda _: number)
    for prefix in (24, 22):
        with pytest.raises(Exhausted):
            free_subnet(prefix)
    script = f"import secrets; secrets.randbelow = lambda _: {number}\nimport {free_subnet.__module__} as it\n"
    done = subprocess.run([sys.executable, "-c", f"{script}it.free_subnet()"], capture_output=True, text=True)
    assert "Exhausted" in done.stderr
    monkeypatch.undo()
    for _ in range(MOST_KEPT):
        free_subnet()
    monkeypatch.setattr(secrets, "randbelow", lambda _: number)
    assert free_subnet() == given
