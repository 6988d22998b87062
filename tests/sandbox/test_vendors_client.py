"""The vendor's own Python client, as it is published, against the sandbox: its whole README."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import llamagen
import pytest

from llamagen_async import Animation, ComicGeneration, Upload, Usage
from llamagen_async.plans import Plan, RateLimit
from llamagen_async.sandbox import Dialect, Durations, SandboxServer, SandboxService

pytestmark = pytest.mark.once

KEY = "the-key"
ROOMY = Plan("roomy", limits=RateLimit(100_000, per=60))
"""The vendor's client does not survive a 429 while it waits."""
SOON: dict[str, Any] = {"interval_ms": 5, "timeout_ms": 20_000}


def client_of(server: SandboxServer) -> llamagen.LlamaGenClient:
    return llamagen.LlamaGenClient(api_key=KEY, base_url=server.url, timeout_ms=20_000)


def everything(client: llamagen.LlamaGenClient, picture: Path) -> None:
    """Call each method of the vendor's README, with its arguments."""
    comic = client.comic
    created = comic.create(
        {
            "prompt": "The Little Prince meets the Fox in a luminous desert.",
            "preset": "animeStyle",
            "size": "1024x1024",
            "pagination": {"totalPages": 2, "panelsPerPage": 4},
            "comicRoles": [{"name": "The Little Prince", "dress": "green coat"}],
            "attachments": [{"type": "image", "url": "https://s.invalid/reference.webp"}],
            "language": "en",
            "upscale": "2K",
        }
    )
    id_ = created["id"]
    assert not ComicGeneration.parse(created).is_done
    done = ComicGeneration.parse(comic.wait_for_completion(id_, **SOON))
    assert done.succeeded
    assert [len(page.panels) for page in done.pages] == [4, 4]
    assert ComicGeneration.parse(comic.get(id_)) == done
    (page,) = ComicGeneration.parse(comic.get(id_, page=1, panel=2)).pages
    assert [panel.panel for panel in page.panels] == [2]

    pages = {"totalPages": 1, "panelsPerPage": 4}
    continued = comic.continue_write(id_, {"prompt": "A secret room.", "pagination": pages})
    assert continued["id"] == id_
    more = ComicGeneration.parse(comic.wait_for_completion(id_, **SOON))
    assert [len(page.panels) for page in more.pages] == [4, 4, 4]
    for change in (
        {"panelIndex": 0, "prompt": "Make the key brighter."},
        {"panel_index": 1, "page_index": 1, "panel_prompt": "Moonlight."},
        {"panel": 0, "page": 0, "images_url": "https://s.invalid/1.png"},
        {"panel": 0, "pageIndex": 2, "caption": "The end?"},
    ):
        assert comic.update_panel(id_, change)["id"] == id_
        redrawn = ComicGeneration.parse(comic.wait_for_completion(id_, **SOON))
        assert redrawn.succeeded
    assert redrawn.usage is not None
    assert redrawn.usage.redraw_panels == 4
    assert redrawn.pages[2].panels[0].caption == "The end?"

    again = comic.create_and_wait({"prompt": "A robot bakes bread.", "fixPanelNum": 3}, **SOON)
    assert len(ComicGeneration.parse(again).pages[0].panels) == 3
    assert Usage.parse(comic.usage()).api_usage_count is not None
    for file, filename in ((picture, None), (picture.read_bytes(), "a.png")):
        upload = Upload.parse(comic.upload(file, filename))
        assert upload.raw["size"] == picture.stat().st_size
    with picture.open("rb") as opened:
        assert Upload.parse(comic.upload(opened)).raw["fileName"] == picture.name

    options = {"duration": 5, "resolution": "720p", "aspect_ratio": "16:9"}
    params = {"prompt": "A paper boat.", "videoOptions": options}
    started = client.animation.create(params)
    assert Animation.parse(client.animation.get(started["id"])).id == started["id"]
    video = Animation.parse(client.animation.wait_for_completion(started["id"], **SOON))
    assert video.video_url is not None
    assert video.video_options == options
    assert Animation.parse(client.animation.create_and_wait(params, **SOON)).succeeded

    with pytest.raises(llamagen.LlamaGenAPIError) as caught:
        comic.get("nobody")
    assert caught.value.status == 404


@pytest.mark.parametrize("dialect", ["documented", "production"])
async def test_the_vendors_client_does_all_that_its_readme_says(
    dialect: Dialect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Users of it find the same API here, in both dialects."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    picture = tmp_path / "reference.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    service = SandboxService(dialect=dialect, durations=Durations.constant(2.0), plans={KEY: ROOMY})
    async with SandboxServer(service, speed=60.0) as server:
        await asyncio.to_thread(everything, client_of(server), picture)
