"""Compiles the C programs with the pinned zig: the wheel's build hook, and a command for developers.

    python hatch_build.py [--arch ARCH]    (re)build what changed, and refresh the checkout's launchers

| program | from | to |
|---|---|---|
| hyperstart, PID 1 of every guest | guest/*.c | hypercontainer/_bin/ARCH/hyperstart |
| hyper-jail, starts the VMM without privileges | host/jail/*.c | hypercontainer/_bin/hyper-jail |
| hyper-standin, stands for a process in a guest | host/standin.c | hypercontainer/_bin/hyper-standin |
| hyper-shim, holds containerd's connections | host/shim.c | hypercontainer/_bin/hyper-shim |
| hyper-tsc, measures the time stamp counter | host/tsc.c | hypercontainer/_bin/hyper-tsc |
| hyper-memory.so, loaded into a clone's VMM | host/memory.c | hypercontainer/_bin/hyper-memory.so |
| the launcher, a fast start of Python | host/launcher/*.c | bin/hyperctl, bin/hyperd, … of the environment |

and the messages of proto/cri.proto, hypercontainer/hyperd/cri/cri_pb2.py with its types, by the pinned protoc.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FLAGS = ["-O2", "-s", "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"]
HOST = os.uname().machine  # whose programs run here, and whose hyperstart guests have that need no emulation
TAG = f"py3-none-manylinux_2_17_{HOST}.musllinux_1_1_{HOST}"
ZIG = {"ppc64le": "powerpc64le"}  # its names of architectures, where they are not the kernel's
GLIBC = "gnu.2.31"  # of what QEMU is linked with, the oldest
SHARED = ("-shared", "-fPIC")
COMMANDS = (
    "hyperctl",
    "hyperd",
    "runv",
    "containerd-shim-hyper-v2",
    "frakti",
)  # the launcher runs what it is called as


@dataclass(frozen=True)
class Program:
    """One executable, library or module of messages: its sources (globs below the root) and the file they become."""

    name: str
    sources: str
    output: str
    arch: str = HOST
    libc: str = "musl"
    kind: tuple[str, ...] = ("-static",)

    @property
    def compiler(self) -> str:
        """The pinned package that makes it."""
        return "grpcio-tools" if self.sources.endswith(".proto") else "ziglang"


def programs(arch: str = HOST) -> list[Program]:
    """What there is to build. The host's programs run on the host; only the guest's have another `arch`."""
    hyperstart = Program("hyperstart", "guest/*.c", f"hypercontainer/_bin/{arch}/hyperstart", arch)
    if arch != HOST:
        return [hyperstart]
    return [
        hyperstart,
        Program("hyper-jail", "host/jail/*.c", "hypercontainer/_bin/hyper-jail"),
        Program("hyper-tsc", "host/tsc.c", "hypercontainer/_bin/hyper-tsc"),
        Program("hyper-standin", "host/standin.c", "hypercontainer/_bin/hyper-standin"),
        Program("hyper-shim", "host/shim.c", "hypercontainer/_bin/hyper-shim"),
        Program("hyper-memory.so", "host/memory.c", "hypercontainer/_bin/hyper-memory.so", libc=GLIBC, kind=SHARED),
        *(Program(command, "host/launcher/*.c", f"build/bin/{command}") for command in COMMANDS),
        Program("cri_pb2", "proto/cri.proto", "hypercontainer/hyperd/cri/cri_pb2.py"),
    ]


class MissingSource(Exception):
    """A program has nothing to be built from."""


class CompileFailed(Exception):
    """The compiler has said why on stderr."""


def sources(root: Path, program: Program) -> list[Path]:
    found = sorted(root.glob(program.sources))
    if not found:
        raise MissingSource(f"cannot build {program.name}: there is no {program.sources} in {root}")
    return found


def digest(root: Path, program: Program) -> str:
    """Of everything that the output depends on: compiler, flags, sources, headers."""
    from importlib.metadata import version

    h = hashlib.sha256(repr((version(program.compiler), FLAGS, program)).encode())
    for path in [*sources(root, program), *sorted(root.glob("guest/*.h")), *sorted(root.glob("host/**/*.h"))]:
        h.update(f"\0{path.relative_to(root)}\0".encode() + path.read_bytes())
    return h.hexdigest()


def cache_dir(root: Path) -> Path:
    """A folder that outlives this build: zig's first compile for a target takes most of a minute."""
    if (root / ".git").exists():
        return root / ".cache"
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "hypercontainer"


def zig() -> list[str]:
    """The pinned package's; or that of the variable ZIG, of the same version, where the package's is a slow program."""
    return [os.environ["ZIG"]] if "ZIG" in os.environ else [sys.executable, "-m", "ziglang"]


def compile_messages(root: Path, program: Program) -> None:
    """Replace the module and its types, likewise: protoc writes both into a folder that is named."""
    output = root / program.output
    with tempfile.TemporaryDirectory(prefix=f".{program.name}.", dir=output.parent) as folder:
        where = [f"-I{root / 'proto'}", f"--python_out={folder}", f"--pyi_out={folder}"]
        argv = [sys.executable, "-m", "grpc_tools.protoc", *where, *map(str, sources(root, program))]
        if subprocess.run(argv, cwd=root).returncode:
            raise CompileFailed(f"cannot build {program.name}: see above")
        for made in (output.with_suffix(".pyi"), output):  # the module last: it tells that both are there
            os.replace(Path(folder, made.name), made)


def compile_program(root: Path, program: Program) -> None:
    """Replace the output whole: a build that is cut short, or two at once, leave the old file or the new."""
    output = root / program.output
    output.parent.mkdir(parents=True, exist_ok=True)
    tmp = output.with_name(f".{output.name}.{os.getpid()}")
    env = {"ZIG_GLOBAL_CACHE_DIR": str(cache_dir(root) / "zig"), **os.environ}
    target = f"{ZIG.get(program.arch, program.arch)}-linux-{program.libc}"
    argv = [*zig(), "cc", "-target", target, *FLAGS]
    try:
        argv += [*program.kind, "-o", str(tmp), *map(str, sources(root, program))]
        if subprocess.run(argv, env=env, cwd=root).returncode:
            raise CompileFailed(f"cannot build {program.name}: see above")
        os.chmod(tmp, 0o755)
        os.replace(tmp, output)
    finally:
        tmp.unlink(missing_ok=True)


def build(root: Path, arch: str = HOST) -> Iterator[tuple[Program, float]]:
    """Build what changed; yield each program and the seconds it took, 0 for one that was current.

    Raises MissingSource, CompileFailed.
    """
    stamps = root / ".cache" / "build"
    stamps.mkdir(parents=True, exist_ok=True)
    for program in programs(arch):
        stamp, wanted = stamps / f"{program.name}-{program.arch}", digest(root, program)
        if (root / program.output).exists() and stamp.exists() and stamp.read_text() == wanted:
            yield program, 0.0
            continue
        begin = time.monotonic()
        (compile_messages if program.compiler == "grpcio-tools" else compile_program)(root, program)
        stamp.write_text(wanted)
        yield program, time.monotonic() - begin


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """hatchling's door: wheels and editable installs carry the programs, an sdist their sources."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, object]) -> None:
        if self.target_name != "wheel":
            return
        root = Path(self.root)
        for program, seconds in build(root):
            self.app.display_info(f"{program.name}: {f'built in {seconds:.1f} s' if seconds else 'current'}")
        build_data["pure_python"] = False
        build_data["tag"] = TAG
        build_data["artifacts"] = ["/hypercontainer/_bin/", "/hypercontainer/hyperd/cri/cri_pb2.py*"]
        build_data["shared_scripts"] = {str(root / "build/bin" / command): command for command in COMMANDS}


def refresh_launchers(root: Path) -> list[Path]:
    """Replace the launchers in the checkout's own virtual environment, as an install would; no other is touched."""
    if Path(sys.prefix).parent != root:
        return []
    replaced = []
    for command in COMMANDS:
        built, installed = root / "build/bin" / command, Path(sys.prefix) / "bin" / command
        if installed.exists() and installed.read_bytes() == built.read_bytes():
            continue
        tmp = installed.with_name(f".{command}.new")
        shutil.copy2(built, tmp)
        os.replace(tmp, installed)
        replaced.append(installed)
    return replaced


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the C programs that changed.")
    parser.add_argument("--arch", default=HOST, help="of the guest's program, as the kernel calls it")
    args = parser.parse_args()
    root = Path(__file__).resolve().parent
    if not (cache_dir(root) / "zig").exists() and "ZIG_GLOBAL_CACHE_DIR" not in os.environ:
        print("zig's first compile for a target builds its C library: about a minute, once", flush=True)
    try:
        for program, seconds in build(root, args.arch):
            print(f"{program.output}: {f'built in {seconds:.1f} s' if seconds else 'current'}", flush=True)
        if args.arch == HOST:
            for path in refresh_launchers(root):
                print(f"{path}: replaced")
    except (MissingSource, CompileFailed) as e:
        print(f"hatch_build: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
