"""What people log in with goes to their registry, and is written down nowhere."""

import asyncio
import base64
import os
import resource
from pathlib import Path

import pytest

from hypercontainer.testing import layers as made
from hypercontainer.testing.daemon import PrivateDaemon, Result, private_daemon
from tests.unit.images.registries import FakeRegistry, serving

pytestmark = [pytest.mark.interop, pytest.mark.skipif(os.geteuid() != 0, reason="hyperd is root")]

PASSWORD, TOKEN = "hunter2-is-no-secret", "bearer-of-no-secret"
LAYER = made.layer([made.member("f", b"content")])


def told(folder: Path, secrets: list[bytes]) -> list[Path]:
    """Files below `folder` that have one of them."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return [path for path in files if any(secret in path.read_bytes() for secret in secrets)]


@pytest.mark.parametrize("tokens", [False, True])
async def test_credentials_are_written_nowhere(kernels: Path, tmp_path: Path, tokens: bool) -> None:
    async with serving(FakeRegistry(basic=f"ann:{PASSWORD}", bearer=TOKEN if tokens else "")) as registry:
        registry.push("a", "1", [LAYER])
        await asyncio.to_thread(walk, kernels, tmp_path, registry.host)


def walk(kernels: Path, home: Path, host: str) -> None:
    basic = base64.b64encode(f"ann:{PASSWORD}".encode())
    secrets = [PASSWORD.encode(), basic, TOKEN.encode()]
    with private_daemon(kernels, {"factory": "direct"}) as daemon:
        daemon.env["DOCKER_CONFIG"] = str(home)

        def ctl(*words: str, stdin: bytes = b"") -> Result:
            done = daemon.ctl(*words, stdin=stdin)
            assert not any(secret.decode() in done.out + done.err for secret in secrets), done
            return done

        assert ctl("login", "-u", "ann", "--password-stdin", host, stdin=PASSWORD.encode()).status == 0
        assert ctl("pull", f"{host}/a:1").status == 0
        assert ctl("pull", f"{host}/missing:1").status == 1
        wrong = PASSWORD.encode() + b"-but-wrong"
        assert ctl("login", "-u", "ann", "--password-stdin", host, stdin=wrong).status == 1
        assert told(daemon.folder, secrets) == []
        told_by_proc(daemon, secrets)
    assert told(home, secrets) == [home / "config.json"]  # the user's own, as docker keeps it


def told_by_proc(daemon: PrivateDaemon, secrets: list[bytes]) -> None:
    """Neither argv nor environment, and no core would be written with what is in memory."""
    assert daemon.process
    for name in ("cmdline", "environ"):
        said = Path(f"/proc/{daemon.process.pid}/{name}").read_bytes()
        assert not any(secret in said for secret in secrets)
    assert resource.prlimit(daemon.process.pid, resource.RLIMIT_CORE) == (0, 0)
