"""A new volume is filled by one guest, which all others wait for."""

import asyncio
from pathlib import Path

import pytest

from hypercontainer.storage.filling import UNFINISHED, Filling


async def test_who_fills_an_empty_folder_is_waited_for(tmp_path: Path) -> None:
    filling, folder, other = Filling(), tmp_path / "folder", tmp_path / "other"
    folder.mkdir()
    other.mkdir()
    said: list[str] = []

    async def mount() -> None:
        async with filling.turn(folder, folder) as state:
            said.append(state)

    with pytest.raises(ZeroDivisionError):
        async with filling.turn(folder, folder) as state:
            second = asyncio.create_task(mount())
            await asyncio.sleep(0)  # it has begun
            async with filling.turn(other, other) as also:  # nobody waits for another folder
                assert (state, also) == ("empty", "empty")
            assert not said
            1 / 0  # noqa: B018  it is not filled
    await second
    assert said == ["empty"]
    (folder / ".file").touch()
    async with filling.turn(folder, folder):
        await mount()  # there is nothing to wait for
    assert said == ["empty", "filled"]
    (folder / UNFINISHED).mkdir()
    await mount()
    assert said == ["empty", "filled", "unfinished"]


def test_the_guest_calls_it_the_same() -> None:
    header = Path(__file__).parents[3] / "guest/mount.h"
    assert f'#define COPY_UNFINISHED "{UNFINISHED}"' in header.read_text()
