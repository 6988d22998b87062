"""Announced ends that nobody waits for yet: kept, bounded, and told from old news."""

from __future__ import annotations

import json

from llamagen_async import ComicGeneration, GenerationStatus
from llamagen_async.scheduling.early_ends import EarlyEnds
from llamagen_async.webhooks import Announcement, WebhookEvent, announcement_of


def end(id_: str, size: int = 100) -> Announcement:
    data = {"id": id_, "error": "no"}
    content = json.dumps({"data": data}).ljust(size).encode()
    return Announcement(id_, True, data, GenerationStatus.FAILED, content=content)


def test_an_end_is_kept_until_it_is_taken() -> None:
    ends, one = EarlyEnds(), end("c")
    assert ends.keep(one)
    kept = ends.take("c")
    assert kept is not None
    assert kept.has_ended
    assert kept.read(ComicGeneration.parse) == one.read(ComicGeneration.parse) is not None
    assert ends.take("c") is None


def test_an_end_is_kept_as_its_event_came() -> None:
    """The bytes of an event take a fraction of what was read of it; it is read again if needed."""
    ends, one = EarlyEnds(), end("c")
    ends.keep(one)
    kept = ends.take("c")
    assert kept is not None
    assert kept.fields is None
    assert kept.content is one.content


def test_an_event_that_was_verified_elsewhere_is_counted_with_all_its_bytes() -> None:
    """Nobody says how long it was."""
    ends = EarlyEnds()
    for number in range(100):
        data = {"id": str(number), "error": ["x" * 30_000] * 8}
        event = WebhookEvent.parse({"type": "comic.generation.failed", "data": data})
        announcement = announcement_of(event)
        assert announcement is not None
        ends.keep(announcement)
    assert len(ends._kept) < 15
    kept = ends.take("99")
    assert kept is not None
    assert kept.read(ComicGeneration.parse) is not None


def test_the_newest_of_one_generation_counts() -> None:
    """A second delivery takes no more memory than the first."""
    ends = EarlyEnds()
    for number in range(10_000):
        assert ends.keep(end("c", size=number))
    assert ends._bytes == 9_999
    newest = ends.take("c")
    assert newest is not None
    assert len(newest.content or b"") == 9_999
    assert ends._bytes == 0


def test_their_number_is_bounded() -> None:
    ends = EarlyEnds()
    for number in range(3_000):
        ends.keep(end(str(number)))
    assert ends.take("0") is None
    assert ends.take("2999") is not None
    assert len(ends._kept) < 1_000


def test_their_bytes_are_bounded() -> None:
    """Large ones push out more."""
    ends = EarlyEnds()
    for number in range(100):
        ends.keep(end(str(number), size=300_000))
    kept = [number for number in range(100) if ends.take(str(number)) is not None]
    assert kept == list(range(94, 100))


def test_one_that_is_too_large_is_kept_without_its_content() -> None:
    """A status check brings what was left out; the others stay."""
    ends = EarlyEnds()
    ends.keep(end("a"))
    ends.keep(end("b", size=4_000_000))
    large = ends.take("b")
    assert large is not None
    assert large.has_ended
    assert large.read(ComicGeneration.parse) is None
    assert ends.take("a") is not None


def test_an_end_that_was_seen_is_no_news() -> None:
    """The event that comes after a check has found the end is not kept for a later wait."""
    ends = EarlyEnds()
    ends.mark_seen("c")
    assert not ends.keep(end("c"))
    assert ends.take("c") is None
    assert ends.forget_seen("c")
    assert not ends.forget_seen("c")
    assert ends.keep(end("c"))


def test_the_memory_of_ends_is_bounded() -> None:
    ends = EarlyEnds()
    for number in range(30_000):
        ends.mark_seen(str(number))
    assert not ends.forget_seen("0")
    assert ends.forget_seen("29999")
    assert len(ends._seen) < 10_000
