"""What reads bytes that others made costs no more than in proportion to them: memory, and work."""

import ast
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hypercontainer
from hypercontainer.errors import HyperError
from tests.fuzz.__main__ import corpus
from tests.unit.bombs import jsons, tars
from tests.unit.budgets import MEMORY_FOR_A_BYTE, READERS

SOURCE = Path(hypercontainer.__file__).parent
CHECKOUT = SOURCE.parent

# Modules that decode what only we, or those who may do anything with this host anyway, have written.
OURS = {
    "engine.checkpoint_archive": "a tar that we write, and read nothing of",
    "hyperctl.logs": "hyperd's answers",
    "hyperctl.session": "hyperd's answers",
    "hyperctl.template": "the caller's own words",
    "hyperctl.podspec": "a file of the caller's, in a process of the caller's",
    "lib.proc": "the kernel's word for who is at the other end",
    "hyperd.oci.document": "what root has in a bundle, no more than 4 MiB of it",
    "hyperd.oci.door": "root's calls, of no more than 4 MiB",
    "hyperd.oci.wire": "how many bytes those have",
    "hyperd.shim.bundle": "what root has in a bundle, no more than 4 MiB of it",
    "hyperd.shim.door": "root's calls, of no more than 4 MiB",
    "images.base": "a root file system that we have written ourselves, and nobody may change",
    "images.save": "blobs that were verified when they came, one piece at a time",
    "images.rootfs": "what our own process says; the layers are read there",
    "kernel.initramfs": "modules of a kernel that root has chosen",
    "kernel.slim": "likewise",
    "kernel.vmlinuz": "likewise",
    "lib.protobuf": "root's calls, of no more than 4 MiB",
    "lib.ttrpc": "how many bytes those have",
    "model.settings": "root's configuration",
    "network.bridge": "the kernel's",
    "network.conntrack": "the kernel's",
    "network.ipam": "addresses that we made",
    "runv.interface": "what ip and tc say of a namespace of this host",
    "network.nft": "nft's",
    "network.tap": "the kernel's",
    "runv.create": "a bundle of the caller's, in a process of the caller's",
    "runv.door": "hyperd's answers",
    "runv.terminal": "the kernel's",
    "sandbox.loopback": "the kernel's",
    "shim.call": "hyperd's answers",
    "shim.main": "a bundle of the caller's, in a process of the caller's",
    "storage.mounting": "what hyperd asks of a process of its own",
}
# Calls that make something of bytes: any of these names; or the second kind on one of these.
ALWAYS = {
    "a2b_base64", "b64decode", "Decoder", "decompress", "decompressobj", "from_bytes", "fromhex", "iter_unpack",
    "loose", "raw_decode", "safe_load", "unpack_from",
}  # fmt: skip
OF = {
    "decode": {"json", "document"},
    "load": {"json", "tomllib", "yaml"},
    "loads": {"json", "fastjson", "tomllib"},
    "open": {"tarfile"},
    "plain": {"compression"},
    "read": {"document", "foreign"},
    "Reader": {"tar"},
    "unpack": {"struct", "HEADER", "HEAD", "UCRED", "spool"},
}


def decodes(tree: ast.Module) -> bool:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Attribute):
            name, of = node.func.attr, node.func.value
            base = of.attr if isinstance(of, ast.Attribute) else of.id if isinstance(of, ast.Name) else ""
            if name in ALWAYS or base in OF.get(name, ()):
                return True
        elif isinstance(node.func, ast.Name) and node.func.id in ("decode", "Message"):
            return True
    return False


def test_every_module_that_decodes_is_known() -> None:
    """Does a new one read what others made? Then it gets a budget, and its bombs; else say whose bytes it reads."""
    found = {
        ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        for path in SOURCE.rglob("*.py")
        if "testing" not in path.parts and decodes(ast.parse(path.read_text()))
    }
    budgeted = {module for reader in READERS.values() for module in reader.modules}
    assert found - budgeted - OURS.keys() == set()
    assert OURS.keys() - found == set(), "they decode nothing any more"
    assert OURS.keys() & budgeted == set()
    assert all((SOURCE / f"{module.replace('.', '/')}.py").exists() for module in budgeted)


@pytest.fixture(scope="module")
def measure() -> Iterator[Callable[[str], str]]:
    """A process that has no threads and little memory, and forks for each bomb."""
    argv = [sys.executable, "-m", "tests.unit.budgets"]
    with subprocess.Popen(argv, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        to, said = process.stdin, process.stdout

        def ask(name: str) -> str:
            to.write(f"{name}\n")
            to.flush()
            return said.readline()

        yield ask
        to.close()


@pytest.mark.parametrize("name", READERS)
def test_bombs(measure: Callable[[str], str], name: str) -> None:
    assert measure(name) == "\n"


# Anything else: the cost of small inputs, counted

WORK, WORK_FOR_A_BYTE = 50_000, 300  # lines of ours that run
SMALL = 2 << 20  # bytes that a reader of nothing may take


def count(read: Callable[[bytes], object], data: bytes) -> tuple[int, int]:
    """(lines of this package that ran, bytes of memory) that it takes to read `data`."""
    lines = 0
    ours = str(SOURCE)

    def line(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return line

    def call(frame: FrameType, event: str, arg: Any) -> Any:
        return line if frame.f_code.co_filename.startswith(ours) else None

    before = sys.gettrace()
    tracemalloc.start()
    sys.settrace(call)
    try:
        with suppress(HyperError):
            read(data)
        return lines, tracemalloc.get_traced_memory()[1]
    finally:
        sys.settrace(before)
        tracemalloc.stop()


SEEDS = {
    "documents of a registry": "documents",
    "archives of images": "copies",
    "layers": "layers",
    "tars that cp unpacks": "copies",
    "tars that cp looks at": "copies",
    "frames of the agent": "frames",
    "answers of the agent": "answers",
    "QEMU's monitor": "monitor",
    "bodies of requests": "bodies",
}
PIECES = [
    b"{",
    b"[",
    b"]",
    b"}",
    b'":',
    b"null,",
    b'"a"',
    b"9",
    b"\n",
    b"\0" * 512,
    b"\x1f\x8b\x08",
    b"\x28\xb5\x2f\xfd",
]
SHORT: dict[str, Callable[[], Mapping[str, bytes]]] = {  # in place of bombs that take time to make
    "archives of images": tars,
    "layers": tars,
    "small answers": jsons,
}


@st.composite
def inputs(draw: st.DrawFn, name: str) -> bytes:
    """Parts of the corpus, and of what may mean something, each some times over."""
    seeds = [
        *corpus(SEEDS.get(name, "documents")),
        *PIECES,
        *(data[:2000] for data in SHORT.get(name, READERS[name].bombs)().values()),
    ]
    out = b""
    for _ in range(draw(st.integers(1, 4))):
        seed = draw(st.sampled_from(seeds))
        begin = draw(st.integers(0, len(seed) - 1 if seed else 0)) if draw(st.booleans()) else 0
        out += (seed[begin : begin + 4096] * draw(st.integers(1, 30)))[:20_000]
    return out + draw(st.binary(max_size=20))


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_cost_is_in_proportion(name: str, data: st.DataObject) -> None:
    said = data.draw(inputs(name))
    reader = READERS[name]
    lines, memory = count(reader.read, said)
    assert lines <= WORK + WORK_FOR_A_BYTE * len(said)
    assert memory <= SMALL + reader.more + MEMORY_FOR_A_BYTE * len(said)
