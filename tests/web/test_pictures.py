"""Pictures whose files are not here yet, or not any more: the server fetches them for who asked."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import attrs
import pytest

from llamagen_async import BatchState, ComicQueue
from llamagen_async.downloads.held import HeldPictures
from llamagen_async.models import Animation
from tests.support.web import BORDERS, Backend, backend


@pytest.fixture(params=BORDERS)
async def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    async with backend(request.param, tmp_path) as opened:
        yield opened


async def finished(shop: Backend) -> tuple[dict[str, Any], list[bytes]]:
    """A comic that is done, and its pictures."""
    await shop.order("k", fix_panel_num=2)
    comic = await shop.done("k")
    return comic, [(await shop.get(link)).content for link in comic["pictures"]]


def change_jobs(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Have the queue tell of its jobs with changes."""
    known = ComicQueue.get

    async def changed(queue: ComicQueue, key: str) -> Any:
        job = await known(queue, key)
        return None if job is None else attrs.evolve(job, **changes)

    monkeypatch.setattr(ComicQueue, "get", changed)


async def test_what_is_drawn_is_fetched_for_its_watchers(
    shop: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Visitors meet no address of the vendor, and many of them cost it no more than one."""
    fetches: list[str] = []
    fetch = HeldPictures._fetch

    async def counted(held: HeldPictures, url: str) -> Any:
        fetches.append(url)
        return await fetch(held, url)

    monkeypatch.setattr(HeldPictures, "_fetch", counted)
    _, pictures = await finished(shop)
    change_jobs(monkeypatch, state=BatchState.RUNNING, files=())
    for _ in range(2):
        asked = [shop.http.get("comics/k/pictures/0?draft=1") for _ in range(10)]
        for answer in await asyncio.gather(*asked):
            assert answer.status_code == 200
            assert answer.content == pictures[0]
            assert answer.headers["content-type"] == "image/png"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "no-store"
            assert "sandbox" in answer.headers["content-security-policy"]
    assert len(fetches) == 1


async def test_a_file_that_is_gone_is_fetched_for_its_watchers(
    shop: Backend, tmp_path: Path
) -> None:
    comic, pictures = await finished(shop)
    for file in (tmp_path / "out").rglob("*.png"):
        file.unlink()
    for link, picture in zip(comic["pictures"], pictures, strict=True):
        answer = await shop.get(link)
        assert (answer.status_code, answer.content) == (200, picture)
        assert "max-age" in answer.headers["cache-control"]


async def test_what_the_vendor_does_not_give_out_is_said(
    shop: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its address nor that of a host inside the network is in the answer."""
    comic, _ = await finished(shop)
    for file in (tmp_path / "out").rglob("*.png"):
        file.unlink()
    # As if the vendor had named a host of the network.
    for url in (f"{shop.server.url}/nothing.png", "http://169.254.169.254/latest/meta-data"):
        monkeypatch.setattr("llamagen_async.web.routes.at_vendor", lambda _job, url=url: [url])
        answer = await shop.get(comic["pictures"][0])
        assert answer.status_code == 502
        assert answer.json()["code"] == "no_picture"
        assert "//" not in answer.json()["detail"]


async def test_a_video_is_at_the_vendor(shop: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    await finished(shop)
    url = "https://assets.example.com/1.mp4"
    animation = Animation.parse({"id": "a1", "status": "SUCCEEDED", "video": url})
    monkeypatch.setattr("llamagen_async.web.routes.at_vendor", lambda _job: [url])
    change_jobs(monkeypatch, generation=animation, files=())
    answer = await shop.http.get("comics/k/pictures/0")
    assert (answer.status_code, answer.headers["location"]) == (307, url)
