"""Pictures are found by path, and the latest drawings are kept."""

from __future__ import annotations

import pytest

from llamagen_async.sandbox import SandboxService
from llamagen_async.sandbox.pictures.cache import PictureCache
from tests.support.sandbox import ANIMATIONS, GENERATIONS, call, create, roomy_service


def cache_of(service: SandboxService, now: float = 60.0, *, kept: int = 64) -> PictureCache:
    return PictureCache(lambda name: service.pictured(name, now), kept=kept)


def test_panels_pages_and_animations_have_pictures() -> None:
    service = roomy_service()
    comic = create(service, size="512x768", fixPanelNum=2, style="noir").json()["id"]
    video = call(service, "POST", ANIMATIONS, {"prompt": "A cat"}).json()["id"]
    cache = cache_of(service)
    for path, content_type, magic in (
        (f"{comic}/0-1.png", "image/png", b"\x89PNG"),
        (f"{comic}/0.png", "image/png", b"\x89PNG"),
        (f"{video}/animation.gif", "image/gif", b"GIF8"),
    ):
        picture = cache.find(f"/_sandbox/assets/{path}")
        assert picture is not None
        assert picture.content_type == content_type
        assert picture.draw().startswith(magic)


@pytest.mark.parametrize(
    "name", ["1.png", "1-0.png", "0-4.png", "0-x.png", "animation.gif", "0.jpg", "../x/0.png", ""]
)
def test_there_is_nothing_at_other_paths(name: str) -> None:
    service = roomy_service()
    comic = create(service).json()["id"]
    assert cache_of(service).find(f"/_sandbox/assets/{comic}/{name}") is None


def test_an_animation_has_no_panels() -> None:
    service = roomy_service()
    video = call(service, "POST", ANIMATIONS, {"prompt": "A cat"}).json()["id"]
    assert cache_of(service).find(f"/_sandbox/assets/{video}/0-0.png") is None


def test_there_is_no_picture_before_the_comic_is_done_nor_if_it_failed() -> None:
    running, failed = roomy_service(), roomy_service(failure_rate=1.0)
    for service, now in ((running, 59.0), (failed, 60.0)):
        comic = create(service).json()["id"]
        assert cache_of(service, now).find(f"/_sandbox/assets/{comic}/0.png") is None
    assert cache_of(running).find("/_sandbox/assets/unknown/0.png") is None


def test_a_redrawn_panel_is_another_picture_and_so_is_its_page() -> None:
    service = roomy_service()
    comic = create(service).json()["id"]
    paths = [f"/_sandbox/assets/{comic}/{name}.png" for name in ("0-0", "0-1", "0")]
    before = [cache_of(service).find(path) for path in paths]
    fields = {"action": "regeneratePanel", "panel": 0, "prompt": "A dog"}
    assert call(service, "PATCH", f"{GENERATIONS}/{comic}", fields, now=60.0).status == 200
    after = [cache_of(service, 120.0).find(path) for path in paths]
    assert [one == other for one, other in zip(before, after, strict=True)] == [False, True, False]


def test_the_drawings_that_were_asked_for_last_are_kept() -> None:
    service = roomy_service()
    comic = create(service).json()["id"]
    cache = cache_of(service, kept=2)
    pictures = [cache.find(f"/_sandbox/assets/{comic}/0-{n}.png") for n in range(3)]
    first, second, third = (picture for picture in pictures if picture is not None)
    cache.keep(first, b"1")
    cache.keep(second, b"2")
    assert cache.drawn(first) == b"1"
    cache.keep(third, b"3")
    assert [cache.drawn(one) for one in (first, second, third)] == [b"1", None, b"3"]
