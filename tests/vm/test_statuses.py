"""Every verb on a missing, created, exited, running and paused thing ends as docker does, or as the page says."""

import re
from pathlib import Path

import pytest

from hypercontainer.testing.daemon import private_daemon
from tests import statuses
from tests.conftest import ACCELERATOR, CHECKOUT

pytestmark = pytest.mark.vm

ROW = re.compile(r"\| `(.+?)` \| (\d+) \| (\d+) \| .+ \|")


def differing() -> dict[str, tuple[int, int]]:
    """docker's status and ours, by the command, of those that the page names."""
    page = (CHECKOUT / "docs/coming-from-docker.md").read_text()
    rows = page.split("## Statuses that differ")[1].split("\n## ")[0].splitlines()
    return {found[1]: (int(found[2]), int(found[3])) for row in rows if (found := ROW.fullmatch(row))}


def test_every_verb_ends_as_dockers(kernels: Path, busybox_archive: Path, tmp_path: Path) -> None:
    _, steps = statuses.read()
    differs = differing()
    assert differs.keys() <= {step.do for step in steps}
    wrong = []
    with private_daemon(kernels, {"accelerator": ACCELERATOR}) as daemon:
        assert daemon.ctl("load", "-i", str(busybox_archive)).status == 0
        for docker, here in zip(steps, statuses.walk(daemon.ctl, tmp_path, steps), strict=True):
            if docker.do in differs:
                as_said = (docker.status, here.status) == differs[docker.do]
            else:  # blanks are as wide as a table wants them
                as_said = (docker.status, docker.out.split()) == (here.status, here.out.split())
                as_said = as_said and (not docker.err or bool(here.err))  # a slow start is told on stderr
            if not as_said:
                wrong.append((docker, here))
    assert not wrong, "\n".join(f"{docker}\n{here}" for docker, here in wrong)
