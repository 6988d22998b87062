"""One page or panel of a comic: its pictures have the names that they have in the whole of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llamagen_async import InvalidRequestError
from llamagen_async.sandbox import Durations, SandboxService
from llamagen_async.simulation import simulated_client

pytestmark = pytest.mark.virtual_time

PAGES: dict[str, Any] = {"total_pages": 2, "panels_per_page": 2}


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({"page": 0}, ["p01-01", "p01-02"]),
        ({"page": 1}, ["p02-01", "p02-02"]),
        ({"page": 1, "panel": 1}, ["p02-02"]),
        ({"panel": 1}, ["p01-02", "p02-02"]),
    ],
)
async def test_a_part_of_a_comic_is_fetched_under_its_own_names(
    asked: dict[str, int], names: list[str], tmp_path: Path
) -> None:
    """Whatever is in the folder of another page stays: it was written over by another picture."""
    service = SandboxService(seed=7, durations=Durations.constant(60))
    async with simulated_client(service) as client:
        whole = await client.comics.create_and_wait("a cat", size="512x768", pagination=PAGES)
        await client.comics.download(whole, tmp_path / "whole")
        await client.comics.download(whole, tmp_path / "both")
        part = await client.comics.get(whole.id, **asked)
        files = await client.comics.download(part, tmp_path / "both")
    panels = [file.stem.removeprefix(f"{whole.id}-") for file in files]
    assert [name for name in panels if name != "output"] == names
    assert contents(tmp_path / "both") == contents(tmp_path / "whole")


async def test_a_panel_of_a_part_is_fetched_by_its_number_in_the_comic(tmp_path: Path) -> None:
    service = SandboxService(seed=7, durations=Durations.constant(60))
    async with simulated_client(service) as client:
        whole = await client.comics.create_and_wait("a cat", size="512x768", pagination=PAGES)
        file = await client.comics.download_panel(whole, tmp_path, page=1, panel=1)
        part = await client.comics.get(whole.id, page=1)
        again = await client.comics.download_panel(part, tmp_path, page=1, panel=1)
        with pytest.raises(InvalidRequestError, match="panel of page 0"):
            await client.comics.download_panel(part, tmp_path, page=0, panel=1)
    assert file == again
    assert list(contents(tmp_path)) == [file.name]
