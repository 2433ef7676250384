"""host/launcher/main.c: finds Python and the package from where it is installed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.hyperctl.conftest import ROOT

LAUNCHER = Path(sys.executable).parent / "hyperctl"
pytestmark = pytest.mark.skipif(
    not LAUNCHER.exists() or not LAUNCHER.read_bytes().startswith(b"\x7fELF"), reason="the launcher is not built"
)
PRINT = "import sys; print(sys.argv, sys.flags.isolated, sys.flags.no_site)"


def prefix(tmp_path: Path) -> Path:
    """An installation with nothing in it but the launcher."""
    (tmp_path / "bin").mkdir()
    shutil.copy2(LAUNCHER, tmp_path / "bin" / "hyperctl")
    os.symlink("/usr/bin/python3", tmp_path / "bin" / "python3")
    site = tmp_path / f"lib/python3.{sys.version_info[1]}/site-packages"
    site.mkdir(parents=True)
    return site


def install(site: Path) -> None:
    (site / "hypercontainer").mkdir()
    (site / "hypercontainer" / "launch.py").write_text(PRINT)


def run(*argv: str | Path, **more: object) -> str:
    done = subprocess.run([*map(str, argv)], capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload]
    return str(done.stdout + done.stderr)


def test_the_real_one() -> None:
    from hypercontainer import __version__

    assert run(LAUNCHER, "--version") == f"hyperctl {__version__}\n"
    assert run(LAUNCHER.parent / "hyperd", "--help").startswith("usage: hyperd")


def test_a_wheel(tmp_path: Path) -> None:
    site = prefix(tmp_path)
    install(site)
    program = tmp_path / "bin" / "hyperctl"
    launch = site / "hypercontainer" / "launch.py"
    expected = f"{[str(launch), str(program), 'a', '', 'b c']} 1 True\n"
    assert run(program, "a", "", "b c").replace(" 1 1\n", " 1 True\n") == expected
    link = tmp_path / "elsewhere"
    link.symlink_to(program)
    assert str(program) in run(link, "a")
    assert f"{tmp_path}/bin/hyperd" in run("bash", "-c", f"exec -a hyperd {program}")


def test_the_environment_is_kept_out(tmp_path: Path) -> None:
    install(prefix(tmp_path))
    (tmp_path / "sys.py").write_text("raise SystemExit('evil')")
    (tmp_path / "hypercontainer").mkdir()
    environment = {"PYTHONPATH": str(tmp_path), "PYTHONSTARTUP": str(tmp_path / "sys.py"), "PYTHONHOME": "/nowhere"}
    assert "evil" not in run(tmp_path / "bin" / "hyperctl", env=environment, cwd=tmp_path)


def test_an_editable_install(tmp_path: Path) -> None:
    site = prefix(tmp_path)
    (site / "_editable_impl_hypercontainer.pth").write_text(f"{ROOT}\n")
    assert run(tmp_path / "bin" / "hyperctl", "--version").startswith("hyperctl ")


@pytest.mark.parametrize("pth", [None, "", "relative\n", "/nowhere\n", "import os\n", "x" * 10_000])
def test_no_package(tmp_path: Path, pth: str | None) -> None:
    site = prefix(tmp_path)
    if pth is not None:
        (site / "_editable_impl_hypercontainer.pth").write_text(pth)
    assert "hyperctl: cannot find hypercontainer/launch.py in " in run(tmp_path / "bin" / "hyperctl")


def test_no_python(tmp_path: Path) -> None:
    site = prefix(tmp_path)
    install(site)
    (tmp_path / "bin" / "python3").unlink()
    assert "hyperctl" in run(tmp_path / "bin" / "hyperctl")  # the system's
