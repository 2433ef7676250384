"""Debian's docker-registry on loopback, with a folder of its own."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import yaml

PASSWORDS = "me:$2b$04$Kz1InTgWrfY/uLpAauL8vuS8E/4ppMAU5tCJGvOJTOVJlo6j3ZXcK\n"  # me, secret


@asynccontextmanager
async def docker_registry(folder: Path, *, auth: bool = False, within: Sequence[str] = ()) -> AsyncIterator[str]:
    """Serves what is in `folder` until the block ends; gives HOST:PORT. `within`: words before its command."""
    folder.mkdir(exist_ok=True)
    config: dict[str, object] = {
        "version": "0.1",
        "log": {"formatter": "json"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": "127.0.0.1:0", "secret": "only for tests"},
    }
    if auth:
        (folder / "passwords").write_text(PASSWORDS)
        config["auth"] = {"htpasswd": {"realm": "test", "path": str(folder / "passwords")}}
    (folder / "config.yml").write_text(yaml.safe_dump(config))
    process = await asyncio.create_subprocess_exec(
        *within,
        "docker-registry",
        "serve",
        folder / "config.yml",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr
    try:
        async with asyncio.timeout(60):
            address = await _listening(process.stderr)
        reading = asyncio.create_task(process.stderr.read())  # or its log would fill the pipe and stop it
        yield address
        reading.cancel()
    finally:
        process.kill()
        await process.wait()


async def _listening(log: asyncio.StreamReader) -> str:
    async for line in log:
        if found := re.search(rb"listening on (127\.0\.0\.1:\d+)", line):
            return found[1].decode()
    raise AssertionError("docker-registry ended before it listened")
