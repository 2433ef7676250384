"""Who shares memory: guests of one tenant have one template, those of another never have it."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercontainer.testing.daemon import PrivateDaemon, private_daemon
from tests.conftest import ACCELERATOR

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def daemon(kernels: Path, busybox_archive: Path) -> Iterator[PrivateDaemon]:
    settings = {"accelerator": ACCELERATOR, "factory": "template", "template_scope": "tenant"}
    with private_daemon(kernels, settings) as daemon:
        assert daemon.ctl("load", "-i", str(busybox_archive)).status == 0
        yield daemon


def memory(daemon: PrivateDaemon, name: str, *options: str) -> set[tuple[int, int]]:
    """The file that a new machine's memory is mapped from, and which the VMM holds."""
    done = daemon.ctl("run", "-d", "--name", name, *options, "busybox", "sleep", "1000")
    assert done.status == 0, done
    document = json.loads(daemon.ctl("inspect", name).out)[0]
    maps = Path(f"/proc/{document['Vm']['Pid']}/maps").read_text()
    mapped = {line.split()[4] for line in maps.splitlines() if "template memory" in line}
    fds = list(Path(f"/proc/{document['Vm']['Pid']}/fd").iterdir())
    held = {(s.st_dev, s.st_ino) for fd in fds if "template memory" in os.readlink(fd) for s in [fd.stat()]}
    assert mapped == {str(inode) for _, inode in held}
    return held


def test_tenants_share_with_themselves_alone(daemon: PrivateDaemon) -> None:
    tenants = {"one": "acme", "two": "acme", "three": "zeta", "four": "", "five": ""}
    files = {name: memory(daemon, name, *(["--tenant", tenant] if tenant else [])) for name, tenant in tenants.items()}
    assert all(len(file) == 1 for file in files.values()), files
    assert files["one"] == files["two"] and files["four"] == files["five"]
    assert len({file for held in files.values() for file in held}) == 3, files
    document = json.loads(daemon.ctl("inspect", "one").out)[0]
    assert document["Pod"]["Tenant"] == "acme"
    kept = json.loads(daemon.ctl("factory", "status", "--format", "json").out.splitlines()[0])
    assert kept["Tenant"] == "acme" and kept["Clones"] == 2, kept
    assert daemon.ctl("rm", "-f", *tenants).status == 0
