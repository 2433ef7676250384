"""C programs of the tests, compiled for a guest of this host's architecture; being static, they run on the host too."""

import subprocess
from pathlib import Path

from hatch_build import zig
from hypercontainer.model.arch import host_name

# the optimization is hatch_build's: another one would have zig compile its C library once more
PROGRAM = ("-static", "-Os", "-s", "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Werror")


def cc(*words: str | Path, arch: str = host_name()) -> None:
    subprocess.run([*zig(), "cc", "-target", f"{arch}-linux-musl", *words], check=True)


def program(output: Path, *words: str | Path) -> Path:
    """Make the program `output` of the sources and flags `words`."""
    cc(*PROGRAM, *words, "-o", output)
    return output
