"""The build hook, on small programs of our own: what is built, what is left alone, what is said when it cannot be."""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

CHECKOUT = Path(__file__).parents[2]
PROGRAM = '#include <stdio.h>\nint main(void) { puts("%s"); return 0; }\n'
MESSAGES = 'syntax = "proto3"; message Said { string words = 7; }'


@pytest.fixture(scope="session")
def hook() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("hatch_build", CHECKOUT / "hatch_build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["hatch_build"] = module  # its dataclass looks itself up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["hatch_build"]


@pytest.fixture
def root(tmp_path: Path, hook: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree to build, with the compiler's own cache shared: its C library is built once."""
    monkeypatch.setattr(hook, "cache_dir", lambda _: CHECKOUT / ".cache")
    for name in (
        "guest/init.c",
        "host/jail/main.c",
        "host/launcher/main.c",
        "host/shim.c",
        "host/standin.c",
        "host/tsc.c",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(PROGRAM % name)
    (tmp_path / "proto").mkdir()
    (tmp_path / "proto/cri.proto").write_text(MESSAGES)
    (tmp_path / "hypercontainer/hyperd/cri").mkdir(parents=True)
    (tmp_path / "host/memory.c").write_text("int fallocate64(void) { return 7; }\n")
    return tmp_path


def built(hook: ModuleType, root: Path) -> set[str]:
    return {program.name for program, seconds in hook.build(root) if seconds}


def test_each_program_is_built_static_and_runs(hook: ModuleType, root: Path) -> None:
    programs = {"hyperstart", "hyper-jail", "hyper-shim", "hyper-standin", "hyper-tsc", "hyper-memory.so"}
    assert built(hook, root) == {*programs, *hook.COMMANDS, "cri_pb2"}
    said = subprocess.run(
        [root / "hypercontainer/_bin" / hook.HOST / "hyperstart"], capture_output=True, timeout=20, check=True
    )
    assert said.stdout == b"guest/init.c\n"
    assert b"/ld-" not in (root / "build/bin/hyperctl").read_bytes()  # no dynamic linker is asked for


def test_only_what_changed_is_built_again(hook: ModuleType, root: Path) -> None:
    built(hook, root)
    assert built(hook, root) == set()
    (root / "guest/init.c").write_text(PROGRAM % "changed")
    assert built(hook, root) == {"hyperstart"}
    (root / "hypercontainer/_bin/hyper-jail").unlink()
    assert built(hook, root) == {"hyper-jail"}


def test_messages_are_a_module_with_types(hook: ModuleType, root: Path) -> None:
    built(hook, root)
    made = root / "hypercontainer/hyperd/cri"
    assert {path.name for path in made.iterdir()} == {"cri_pb2.py", "cri_pb2.pyi"}
    assert "words: str" in (made / "cri_pb2.pyi").read_text()
    program = "import cri_pb2; print(cri_pb2.Said(words='x').SerializeToString().hex())"
    said = subprocess.run([sys.executable, "-c", program], cwd=made, capture_output=True, timeout=60, check=True)
    assert said.stdout == b"3a0178\n"
    (root / "proto/cri.proto").write_text(MESSAGES.replace("7", "8"))
    assert built(hook, root) == {"cri_pb2"}
    (root / "proto/cri.proto").write_text("nonsense")
    with pytest.raises(hook.CompileFailed):
        built(hook, root)
    assert {path.name for path in made.iterdir()} >= {"cri_pb2.py", "cri_pb2.pyi"}


def test_a_header_is_a_source_too(hook: ModuleType, root: Path) -> None:
    built(hook, root)
    for header, program in (("guest/wire.h", "hyperstart"), ("host/jail/options.h", "hyper-jail")):
        (root / header).write_text("#define WINDOW 1\n")
        assert program in built(hook, root)


def test_a_program_that_does_not_compile_leaves_the_old_one(
    hook: ModuleType, root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    built(hook, root)
    output = root / "hypercontainer/_bin" / hook.HOST / "hyperstart"
    before = output.read_bytes()
    (root / "guest/init.c").write_text("int main(void) { int unused; return 0; }\n")  # a warning is an error
    with pytest.raises(hook.CompileFailed):
        built(hook, root)
    assert "unused" in capfd.readouterr().err
    assert [p.read_bytes() for p in output.parent.iterdir()] == [before]


def test_a_program_without_sources_is_named(hook: ModuleType, root: Path) -> None:
    (root / "host/jail/main.c").unlink()
    with pytest.raises(hook.MissingSource, match=r"hyper-jail: there is no host/jail/\*\.c"):
        built(hook, root)


def test_launchers_are_replaced_only_in_the_checkouts_own_environment(hook: ModuleType, root: Path) -> None:
    built(hook, root)
    assert hook.refresh_launchers(root) == []
