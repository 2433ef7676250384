"""Profiles of AppArmor, found by their names and compiled by Debian's apparmor_parser."""

from pathlib import Path

import pytest

from hypercontainer.errors import InvalidInput, Unavailable
from hypercontainer.lib import apparmor

SOURCE = """
#include <tunables/global>
profile mine { file, deny /x w, }
profile other { file, }
"""


@pytest.mark.parametrize("name", ["unconfined", "docker-default", "crio-default", "containers-default-0.50.1", ""])
def test_what_engines_give_anybody_is_none(name: str) -> None:
    assert apparmor.meant(name) == ""


def test_what_is_no_name_is_refused() -> None:
    assert apparmor.meant("mine") == "mine"
    for wrong in ("a\nb", " a", "a\0", "é", "x" * 256):
        with pytest.raises(InvalidInput, match="invalid AppArmor profile"):
            apparmor.meant(wrong)


async def test_a_profile_is_found_by_its_name_in_any_file(tmp_path: Path) -> None:
    (tmp_path / "first").write_text("# not mine\nprofile mine-too { file, }\n")
    (tmp_path / "one").write_text("profile mine { what is this\n")  # nobody can read it, nor needs it
    (tmp_path / "some").write_text(SOURCE)
    mine, other = [await apparmor.policy(tmp_path, name) for name in ("mine", "other")]
    assert mine == other and b"mine\0" in mine and b"other\0" in mine and b"mine-too" not in mine


async def test_rules_are_for_the_kernels_of_guests(tmp_path: Path) -> None:
    """Of rules that it is not told a kernel for the compiler makes nothing, and says nothing."""
    file, found = tmp_path / "some", set()
    for rule in ("", "mount,", "signal,", "ptrace,", "network tcp,"):
        file.write_text(f"profile mine {{ file, {rule} }}\n")
        found.add(await apparmor.policy(tmp_path, "mine"))
    assert len(found) == 5


@pytest.mark.parametrize("name", ["some.dpkg-old", "some~", ".some", "folder/some"])
async def test_what_is_no_profile_of_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(SOURCE)
    with pytest.raises(InvalidInput, match=f"profile 'mine': no file in {tmp_path} has one of that name"):
        await apparmor.policy(tmp_path, "mine")


async def test_a_profile_that_makes_no_sense_is_told(tmp_path: Path) -> None:
    (tmp_path / "some").write_text('profile mine { file, deny "/x" nothing, }\n')
    with pytest.raises(InvalidInput, match=f"cannot confine a process by AppArmor profile 'mine': .*{tmp_path}/some"):
        await apparmor.policy(tmp_path, "mine")


async def test_without_a_folder_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no file in"):
        await apparmor.policy(tmp_path / "gone", "mine")


async def test_what_compiles_is_named_when_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apparmor, "PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="Debian's package apparmor"):
        await apparmor.policy(tmp_path, "mine")
