"""Announcements: whether an event says that a generation has ended, and what came of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llamagen_async import Animation, ComicGeneration, InvalidRequestError
from llamagen_async.webhooks import (
    Announcement,
    WebhookEvent,
    announcement_of,
    construct_event,
    sign,
)

URL = "https://pictures.invalid/a.png"
PAGES = [{"page": 0, "panels": [{"panel": 0, "assetUrl": URL}, {"panel": 1, "image": URL}]}]


def announced(word: str, **data: Any) -> Announcement:
    event = WebhookEvent.parse({"type": f"comic.generation.{word}", "data": {"id": "c", **data}})
    announcement = announcement_of(event)
    assert announcement is not None
    return announcement


@pytest.mark.parametrize(
    ("word", "data"),
    [
        ("completed", {"comics": PAGES}),
        ("completed", {"comics": PAGES, "status": "SUCCEEDED"}),
        ("completed", {"comics": PAGES, "status": "PROCESSED"}),
        ("completed", {"comicData": '{"panels": [{"assetUrl": "https://x.invalid/1"}]}'}),
        ("updated", {"comics": PAGES, "status": "COMPLETED"}),
        ("finished", {"comics": PAGES, "status": "completed"}),
        ("failed", {}),
        ("failed", {"error": "no"}),
        ("failed", {"status": "CANCELLED"}),
        ("updated", {"status": "FAILED"}),
    ],
)
def test_a_result_needs_no_check(word: str, data: dict[str, Any]) -> None:
    """A comic with a picture for each panel, or one that failed."""
    one = announced(word, **data)
    assert one.has_ended
    generation = one.read(ComicGeneration.parse)
    assert generation is not None
    assert generation.is_done
    assert generation.id == "c"
    assert generation.succeeded is bool(generation.asset_urls)


@pytest.mark.parametrize(
    ("word", "data"),
    [
        ("completed", {}),
        ("completed", {"status": "SUCCEEDED"}),
        ("completed", {"output": URL}),  # the first picture of a comic of several panels
        ("completed", {"comics": []}),
        ("completed", {"comics": [{"panels": [{"assetUrl": URL}, {"assetUrl": ""}]}]}),
        ("completed", {"comics": "all of them"}),
        ("completed", {"comics": PAGES, "status": "PROCESSING"}),
        ("completed", {"comics": PAGES, "status": "FAILED"}),
        ("completed", {"comics": PAGES, "status": ["?"]}),
        ("failed", {"comics": PAGES, "status": "SUCCEEDED"}),
        ("updated", {"status": "SUCCEEDED"}),
    ],
)
def test_an_end_without_its_result_needs_a_check(word: str, data: dict[str, Any]) -> None:
    """Pictures are missing, or the event contradicts itself."""
    one = announced(word, **data)
    assert one.has_ended
    assert one.read(ComicGeneration.parse) is None


@pytest.mark.parametrize(
    ("word", "data"),
    [("created", {}), ("updated", {}), ("updated", {"status": "LOADING"}), ("dreamt", {})],
)
def test_what_goes_on_has_not_ended(word: str, data: dict[str, Any]) -> None:
    assert not announced(word, **data).has_ended


def test_an_animation_is_read_as_one() -> None:
    """The one who waits says what is waited for; the video's URL is the whole result."""
    one = announced("completed", videoUrl=URL)
    assert one.read(ComicGeneration.parse) is None
    video = one.read(Animation.parse)
    assert isinstance(video, Animation)
    assert video.video_url == URL


@pytest.mark.parametrize(
    ("data", "id_"),
    [
        ({"id": "c"}, "c"),
        ({"id": 7}, "7"),
        ({"generationId": "c"}, "c"),
        ({"generation_id": "c", "id": "other"}, "c"),
        ({"generationId": "", "id": "c"}, "c"),
        ({"generation": {"id": "c"}}, "c"),
        ({"event": "x", "comic": {"generationId": "c", "status": "FAILED"}}, "c"),
    ],
)
def test_ids_under_all_names(data: dict[str, Any], id_: str) -> None:
    event = WebhookEvent.parse({"type": "comic.generation.failed", "data": data})
    announcement = announcement_of(event)
    assert announcement is not None
    assert announcement.id == id_
    generation = announcement.read(ComicGeneration.parse)
    assert generation is not None
    assert generation.id == id_


def test_an_event_about_something_else() -> None:
    """New types will come, and none of them is an error."""
    for type_ in ("account.credits.low", "", "ping"):
        assert announcement_of(WebhookEvent.parse({"type": type_, "data": {}})) is None


@pytest.mark.parametrize("data", [None, {}, {"id": None}, {"id": ""}, {"id": True}, {"id": {}}])
def test_an_event_of_a_generation_without_an_id(data: Any) -> None:
    event = WebhookEvent.parse({"type": "comic.generation.completed", "data": data})
    with pytest.raises(InvalidRequestError, match=r"event\.data\.id") as caught:
        announcement_of(event)
    assert caught.value.value == (data or {}).get("id")


@pytest.mark.parametrize("given", ["text", None, {}, {"type": "x", "data": {"id": "c"}}])
def test_what_was_not_verified_is_refused(given: Any) -> None:
    """Parsed JSON may come from anybody."""
    with pytest.raises(InvalidRequestError, match=r"construct_event.+signature"):
        announcement_of(given)


def signed(data: bytes) -> WebhookEvent:
    body = b'{"type": "comic.generation.completed", "data": %s}' % data
    return construct_event(body, sign(body, "s"), "s")


@pytest.mark.parametrize(
    "caption",
    [b"\\ud83d", b"\\uD83D", b"\xed\xa0\xbd", b"x" * 100_000, b'x", "deep": ' + b"[" * 60],
)
def test_what_is_kept_of_an_event_can_be_stored(caption: bytes) -> None:
    """Halves of surrogate pairs are written out, long texts cut, deep ones left out."""
    end = b"]" * 60 if caption.endswith(b"[") else b'"'
    event = signed(b'{"id": "c", "comics": [{"panels": [{"caption": "' + caption + end + b"}]}]}")
    assert not event.is_plain
    announcement = announcement_of(event)
    assert announcement is not None
    kept = announcement.packed(1_000_000).content
    assert kept is not None
    kept = json.dumps(json.loads(kept), ensure_ascii=False).encode()
    assert len(kept) < 50_000
    assert kept.count(b"[") < 55


def test_a_plain_event_is_kept_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearly all are, and to bound one takes longer than all else."""
    monkeypatch.setattr("llamagen_async.webhooks.announcements.bounded", None)
    data = {"id": "c", "comics": [{"panels": [{"assetUrl": URL, "caption": "Bär 🐉"}] * 20}]}
    event = signed(json.dumps(data, ensure_ascii=False).encode())
    assert event.is_plain
    announcement = announcement_of(event)
    assert announcement is not None
    assert announcement.fields is event.data


def test_what_is_kept_brings_the_same_result() -> None:
    """Also of an event that another process has verified, so that its body is not here."""
    one = announced("completed", comics=PAGES)
    assert one.content is None
    kept = one.packed(1_000)
    assert kept.fields is None
    assert (kept.id, kept.has_ended, kept.status) == (one.id, True, one.status)
    assert kept.read(ComicGeneration.parse) == one.read(ComicGeneration.parse)


def test_only_so_many_bytes_are_kept() -> None:
    one = announced("completed", comics=PAGES)
    size = len(one.packed(1_000).content or b"")
    assert one.packed(size).content is not None
    larger = one.packed(size - 1)
    assert larger.content is None
    assert larger.has_ended
    assert larger.read(ComicGeneration.parse) is None, "a status check has to bring it"


def test_nothing_is_kept_of_a_contradiction() -> None:
    event = signed(b'{"id": "c", "status": "FAILED"}')
    announcement = announcement_of(event)
    assert announcement is not None
    assert announcement.fields is None
    assert announcement.packed(1_000).content is None
