"""SIGTERM while bytes of others are being read: hyperd ends, whatever they become, and nothing of it stays."""

import asyncio
import contextlib
import io
import json
import os
import resource
import signal
import sys
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from backports import zstd

from hypercontainer.testing import layers as made
from tests.unit.hyperd.raw import Raw

DAEMON = """
import sys
from hypercontainer.engine.local import LocalEngine
from hypercontainer.hyperd import main
from hypercontainer.testing.fake_network import FakeNetwork
from hypercontainer.testing.fakes import FakeHypervisor
from tests.unit.engine.world import FakeKernels

def engine(settings):
    made = LocalEngine(settings, hypervisor=FakeHypervisor(), bridges=lambda _: FakeNetwork())
    made.host.kernels = FakeKernels()
    return made

main.engine, main.GRACE_S = engine, 0.5
sys.exit(main.main())
"""
CONFIG = 'accelerator = "tcg"\nfactory = "template"\npool = []\nscratch_mib = 16\n'
PATIENT_S = 300.0
GIB = zstd.compress(bytes(1 << 30))  # 32 KiB
ZEROS = GIB * 500  # without a byte of disk, behind the end of a tar
WORK_S = 15.0  # of a processor: far more than it takes to begin with them, far less than to read them all


def worked_s() -> float:
    """Of a processor, by our children that have ended, and by theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Busy(NamedTuple):
    process: asyncio.subprocess.Process

    async def works(self) -> None:
        """Until it has worked a second more: it is in the midst of it."""
        begin = self._used_s()
        async with asyncio.timeout(PATIENT_S):
            while self._used_s() < begin + 1:  # noqa: ASYNC110
                await asyncio.sleep(0.05)  # nothing tells

    def _used_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def told_to_stop(self) -> None:
        before = worked_s()
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENT_S):
            _, err = await self.process.communicate()
        assert worked_s() - before < WORK_S, "it went on to the end"
        assert self.process.returncode == 0, err.decode()
        assert b"Traceback" not in err, err.decode()


@asynccontextmanager
async def loading(folder: Path, archive: bytes, until: bytes, *, more: bool = False) -> AsyncIterator[tuple[Busy, Raw]]:
    """A hyperd that loads `archive`, of which there is `more` that does not come, and has said `until`."""
    (folder / "config.toml").write_text(CONFIG)
    sock = folder / "hyper.sock"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DAEMON,
        "--config", folder / "config.toml",
        "--root", folder / "root",
        "--run", folder / "run",
        "--host", f"unix://{sock}",
        cwd=Path(__file__).parents[3],
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENT_S):
            raw = Raw(*await connected(sock, process))
            head = f"POST /v1/images/load HTTP/1.1\r\nHost: hyper\r\nContent-Length: {len(archive) + more}\r\n\r\n"
            raw.writer.write(head.encode() + archive)
            said = b""
            while until not in said:
                said += (data := await raw.reader.read(1 << 16))
                assert data, said
        yield Busy(process), raw
        await raw.close()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    assert list((folder / "root/images/work").iterdir()) == []


async def connected(
    path: Path, process: asyncio.subprocess.Process
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    while process.returncode is None:
        try:
            return await asyncio.open_unix_connection(path)
        except (FileNotFoundError, ConnectionRefusedError):
            await asyncio.sleep(0.05)  # nothing tells
    raise AssertionError(await process.communicate())


async def last_words(raw: Raw) -> bytes:
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(PATIENT_S):
            return await raw.reader.read()
    return b""


def entries(**files: bytes) -> bytes:
    """A tar without its end: more entries may follow."""
    out = io.BytesIO()
    for name, content in files.items():
        info = tarfile.TarInfo(name.replace("__", "/"))
        info.size = len(content)
        out.write(info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % 512))
    return out.getvalue()


async def test_an_upload_that_trickles(tmp_path: Path) -> None:
    async with loading(tmp_path, entries(a=b"1", b=b"2") + b"x", b'"a"', more=True) as (busy, raw):
        await busy.told_to_stop()
        assert b"shutting down" in await last_words(raw)


async def test_kilobytes_that_become_gigabytes(tmp_path: Path) -> None:
    archive = zstd.compress(entries(a=b"1", b=b"2") + bytes(1024)) + ZEROS
    async with loading(tmp_path, archive, b'"a"') as (busy, raw):
        await busy.works()
        await busy.told_to_stop()
        assert b"manifest.json" not in await last_words(raw)


async def test_a_layer_of_old_that_is_hashed(tmp_path: Path) -> None:
    """In the thread that reads the archive, after all of it has come."""
    files = {"0/json": b'{"id":"0"}', "0/layer.tar": ZEROS, "repositories": json.dumps({"a": {"b": "0"}}).encode()}
    async with loading(tmp_path, made.archive(files), b'"repositories"') as (busy, raw):
        await busy.works()
        await busy.told_to_stop()
        assert b"shutting down" in await last_words(raw)


async def test_a_layer_that_is_unpacked(tmp_path: Path) -> None:
    """In a process, which goes with hyperd."""
    config = made.config([b"another"])
    manifest = json.dumps([{"Config": "c", "RepoTags": [], "Layers": ["l"]}]).encode()
    archive = made.archive({"manifest.json": manifest, "c": config, "l": zstd.compress(bytes(1024)) + ZEROS})
    async with loading(tmp_path, archive, b'"Unpacking"') as (busy, raw):
        await busy.told_to_stop()
        assert b"shutting down" in await last_words(raw)
    left = [p for p in Path("/proc").iterdir() if p.name.isdigit() and str(tmp_path) in places(p)]
    assert left == []


def places(process: Path) -> str:
    """The files that it has open."""
    try:
        return " ".join(str(fd.readlink()) for fd in (process / "fd").iterdir())
    except OSError:
        return ""
