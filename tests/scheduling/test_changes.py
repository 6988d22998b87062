"""The rules by which an end is taken for a change's own."""

from __future__ import annotations

import math
from typing import Any

import pytest

from llamagen_async.forecasting import Forecasts
from llamagen_async.models import Animation, ComicGeneration
from llamagen_async.scheduling.changes import Changes, SeenEnd

PROFILE = ("redraw",)


def comic(status: str = "SUCCEEDED", *urls: str, **fields: Any) -> ComicGeneration:
    panels = [{"assetUrl": url} for url in urls or ("https://cdn/a/1.png?sig=x",)]
    return ComicGeneration.parse(
        {"id": "c", "status": status, "comics": [{"panels": panels}], **fields}
    )


def changes(before: ComicGeneration | None = None, answer: str = "PENDING") -> Changes:
    """Return changes of which one was accepted at 100."""
    made = Changes(Forecasts())
    if before is not None:
        assert made.shows_end(before, 50.0)
    made.begin(comic(answer), 100.0, PROFILE)
    return made


def test_what_was_asked_before_says_nothing() -> None:
    """Rule 1: neither an end nor a running comic, whatever it looks like."""
    made = changes(comic())
    other = comic("SUCCEEDED", "https://cdn/new.png")
    assert not made.shows_end(other, 99.0)
    assert not made.shows_end(comic("PROCESSING"), 99.0)
    assert not made.shows_end(comic(), 110.0)
    assert made.shows_end(other, 110.0)
    assert changes(comic()).shows_end(other, 100.0), "asked at the same time is not before"


@pytest.mark.parametrize("before", [comic(), None])
def test_an_end_after_it_was_seen_running_is_its_own(before: ComicGeneration | None) -> None:
    """Rule 2, also if nothing looks different."""
    made = changes(before)
    assert not made.shows_end(comic(), 101.0)
    assert not made.shows_end(comic("PROCESSING"), 102.0)
    assert made.shows_end(comic(), 103.0)
    assert made.shows_end(comic(), 104.0)


@pytest.mark.parametrize(
    "other",
    [
        comic("FAILED"),
        comic("SUCCEEDED", "https://cdn/a/1.png", "https://cdn/a/2.png"),
        comic("SUCCEEDED", "https://cdn/b/1.png"),
        comic(usage={"redraw_panels": 1}),
        comic(usage={"total_comics": 2}),
    ],
)
def test_another_end_than_before_is_its_own(other: ComicGeneration) -> None:
    """Rule 3: status, panels, pictures, and what was charged."""
    assert changes(comic()).shows_end(other, 101.0)


@pytest.mark.parametrize(
    "same",
    [
        comic("SUCCEEDED", "https://cdn/a/1.png?sig=y"),
        comic("SUCCEEDED", "https://mirror/a/1.png"),
        comic("SUCCEEDED", output="https://cdn/signed/else.png"),
        comic("SUCCEEDED", comics=[]),
        comic(usage={"redraw_panels": 0}),
        comic("SUCCEEDED", "https://[bad"),
    ],
)
def test_what_differs_in_each_answer_is_no_change(same: ComicGeneration) -> None:
    """Signatures, hosts and missing parts of an answer say nothing."""
    made = changes(comic())
    assert made.shows_end(same, 101.0) is ("bad" in str(same.asset_urls))


def test_an_end_is_believed_at_last_if_nobody_knows_how_it_was() -> None:
    """Rule 4: three quarters are forecast to be done, but a minute at least."""
    probable = Forecasts().overall.forecast.age_when(0.75)
    assert 60 < probable < 300
    assert not changes().shows_end(comic(), 100 + probable - 1)
    assert changes().shows_end(comic(), 100 + probable)
    quick = Changes(forecasts := Forecasts())
    for _ in range(20):
        forecasts.observe(PROFILE, 4.0, 5.0)
    quick.begin(comic("PENDING"), 100.0, PROFILE)
    assert not quick.shows_end(comic(), 159.0)
    assert quick.shows_end(comic(), 160.0)


def test_the_same_end_as_before_is_believed_later() -> None:
    """Rule 5: nothing waits for ever for a server that shows no difference."""
    made = changes(comic())
    assert not made.shows_end(comic(), 399.0)
    assert made.shows_end(comic(), 400.0)


def test_the_answer_to_a_change_may_show_how_it_was() -> None:
    """An end in that answer is the one of before, if nobody knows better."""
    made = changes(answer="SUCCEEDED")
    assert not made.shows_end(comic(), 399.0)
    assert made.shows_end(comic(usage={"redraw_panels": 1}), 110.0)


def test_the_answer_to_a_change_may_have_its_result() -> None:
    """An end in that answer that is another one than before is the change's: nothing is pending."""
    made = Changes(Forecasts())
    assert made.shows_end(comic(), 50.0)
    made.begin(comic(usage={"redraw_panels": 1}), 100.0, PROFILE)
    assert made.shows_end(comic(), 101.0)


def test_an_end_that_somebody_else_has_seen_is_the_one_before() -> None:
    """A batch that goes on tells how its comics ended; an unfinished comic has not."""
    made = Changes(Forecasts())
    made.recall(comic())
    made.begin(comic("PENDING"), 100.0, PROFILE)
    assert not made.shows_end(comic(), 399.0)
    assert made.shows_end(comic(usage={"redraw_panels": 1}), 110.0)
    unfinished = Changes(Forecasts())
    unfinished.recall(comic("PROCESSING", "https://cdn/other.png"))
    unfinished.begin(comic("PENDING"), 100.0, PROFILE)
    assert not unfinished.shows_end(comic(), 110.0), "nobody knows how it was"


def test_what_was_seen_here_is_known_better() -> None:
    """An older end does not replace a newer one, and is none while a change is pending."""
    new, old = comic("SUCCEEDED", "https://cdn/new.png"), comic()
    made = changes()
    made.recall(old)
    assert not made.shows_end(new, 110.0), "that one may be from before the change, too"
    made = Changes(Forecasts())
    assert made.shows_end(new, 50.0)
    made.recall(old)
    made.begin(comic("PENDING"), 100.0, PROFILE)
    assert not made.shows_end(new, 110.0)


def test_a_change_of_another_process_has_begun_when_it_was_accepted_there() -> None:
    """The time of that, and how the comic was before, are told by who waits here."""
    made = Changes(Forecasts())
    made.expect(comic(), 100.0)
    assert not made.shows_end(comic("SUCCEEDED", "https://cdn/new.png"), 99.0)
    assert not made.shows_end(comic(), 399.0)
    assert made.shows_end(comic(), 400.0)
    made = changes(comic())
    made.expect(comic("SUCCEEDED", "https://cdn/new.png"), 0.0)
    assert made.shows_end(comic("SUCCEEDED", "https://cdn/new.png"), 110.0), "it is known here"


def test_without_a_change_every_end_is_one() -> None:
    made = Changes(Forecasts())
    assert made.shows_end(comic(), -math.inf)
    assert made.shows_end(comic(), 0.0)
    assert not made.shows_end(comic("PROCESSING"), 0.0)
    video = Animation.parse({"id": "a", "status": "SUCCEEDED"})
    assert made.shows_end(video, 0.0)
    assert SeenEnd.of(video).pictures == 0


def test_memory_is_bounded() -> None:
    """Ends and changes of a service that runs for a year fill no memory."""
    made = Changes(Forecasts())
    for number in range(10_100):
        one = ComicGeneration.parse({"id": f"c{number}", "status": "SUCCEEDED"})
        made.shows_end(one, 0.0)
        made.begin(ComicGeneration.parse({"id": f"d{number}"}), 0.0, PROFILE)
    assert len(made._ends) == len(made._pending) == 10_000
