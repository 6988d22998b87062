"""Answers are read with tolerance: two dialects, missing fields, junk; nothing is lost."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamagen_async.models import (
    Animation,
    BatchItem,
    BatchState,
    ComicGeneration,
    GenerationStatus,
    GenerationUsage,
    Page,
    Panel,
    Usage,
)
from llamagen_async.models.places import refuses
from llamagen_async.requests import ComicRequest
from llamagen_async.validation import generation_id

WORDS = {
    "PENDING": GenerationStatus.PENDING,
    "PROCESSING": GenerationStatus.PROCESSING,
    "LOADING": GenerationStatus.PROCESSING,
    "SUCCEEDED": GenerationStatus.SUCCEEDED,
    "PROCESSED": GenerationStatus.SUCCEEDED,
    "COMPLETED": GenerationStatus.SUCCEEDED,
    "FAILED": GenerationStatus.FAILED,
    "CANCELLED": GenerationStatus.CANCELLED,
    "CANCELED": GenerationStatus.CANCELLED,
}

FIELDS = (
    "id",
    "status",
    "comics",
    "comicData",
    "panels",
    "page",
    "panel",
    "assetUrl",
    "image",
    "caption",
    "output",
    "createdAt",
    "usage",
    "amount",
    "total_comics",
    "redraw_panels",
    "apiUsageCount",
    "credits",
    "isPaidPlan",
    "error",
    "message",
    "videoUrl",
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.text(alphabet="0123456789²٣ -+.", max_size=6)
)
names = st.sampled_from(FIELDS) | st.text(max_size=6)
junk = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=6),
    max_leaves=20,
)
pages_of_junk = st.lists(
    st.dictionaries(st.just("panels"), st.lists(st.dictionaries(names, scalars, max_size=4)))
    | st.dictionaries(names, scalars, max_size=3),
    max_size=3,
)


@pytest.fixture
def no_warned_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llamagen_async.models.generation._warned", set())


@pytest.mark.parametrize("case", [str.upper, str.lower, str.title, lambda word: f"  {word}\n"])
@pytest.mark.parametrize(("word", "status"), WORDS.items())
def test_both_dialects_are_read_in_any_case(word: str, status: GenerationStatus, case: Any) -> None:
    """A status word means the same in either dialect and however it is written."""
    assert GenerationStatus.parse(case(word)) is status


def test_only_three_statuses_are_final() -> None:
    """Nothing is waited for after success, failure or cancellation, and everything before."""
    assert [status for status in GenerationStatus if status.is_final] == [
        GenerationStatus.SUCCEEDED,
        GenerationStatus.FAILED,
        GenerationStatus.CANCELLED,
    ]


def test_a_missing_status_is_not_done_and_not_worth_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Without a status a generation is pending."""
    assert GenerationStatus.parse(None) is GenerationStatus.PENDING
    assert not caplog.records


@pytest.mark.usefixtures("no_warned_words")
def test_an_unknown_word_is_not_done_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    """An unknown word means "not done yet", and each such word warns once."""
    with caplog.at_level(logging.WARNING):
        statuses = [GenerationStatus.parse(word) for word in ("Dreaming", "dreaming", "DREAMING")]
        assert GenerationStatus.parse("napping") is GenerationStatus.PROCESSING
    assert statuses == [GenerationStatus.PROCESSING] * 3
    assert not any(status.is_final for status in statuses)
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "DREAMING" in caplog.records[0].getMessage()
    assert "NAPPING" in caplog.records[1].getMessage()


def full_answer() -> dict[str, Any]:
    return {
        "id": "cmc_1",
        "status": "PROCESSED",
        "createdAt": "2026-01-02T03:04:05.678Z",
        "output": "https://cdn/0.png",
        "prompt": "a story",
        "comics": [
            {
                "page": 0,
                "panels": [
                    {"panel": 0, "assetUrl": "https://cdn/0.png", "caption": "one"},
                    {"panel": 1, "image": "https://cdn/1.png"},
                ],
            },
            {"page": 1, "panels": [{"panel": 0, "assetUrl": "https://cdn/2.png", "mood": "dark"}]},
        ],
        "usage": {"amount": 3, "unit": "credits", "total_comics": 1, "redraw_panels": "2"},
        "brandNew": {"deep": [1]},
    }


def test_a_full_comic_is_read() -> None:
    """Every field that the API is known to send arrives where it belongs."""
    comic = ComicGeneration.parse(full_answer())
    assert comic.id == "cmc_1"
    assert comic.is_done
    assert comic.succeeded
    assert comic.output == "https://cdn/0.png"
    assert comic.created_at == datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
    assert comic.prompt == "a story"
    assert [page.page for page in comic.pages] == [0, 1]
    assert [panel.asset_url for page in comic.pages for panel in page.panels] == [
        "https://cdn/0.png",
        "https://cdn/1.png",
        "https://cdn/2.png",
    ]
    assert comic.pages[0].panels[0].caption == "one"
    assert comic.usage == GenerationUsage(amount=3, unit="credits", total_comics=1, redraw_panels=2)
    assert comic.failure_reason is None


def test_unknown_fields_survive_in_raw() -> None:
    """Whatever a newer API sends can be read from `raw`, at every level."""
    answer = full_answer()
    comic = ComicGeneration.parse(answer)
    assert comic.raw == full_answer()
    assert comic.pages[1].panels[0].raw["mood"] == "dark"
    assert comic.pages[1].raw == answer["comics"][1]


def test_all_but_the_id_may_be_missing() -> None:
    """A bare id is a comic of which nothing is known yet."""
    comic = ComicGeneration.parse({"id": "x"})
    assert comic == ComicGeneration("x", GenerationStatus.PENDING, raw={"id": "x"})
    assert not comic.is_done
    assert comic.asset_urls == ()
    assert Animation.parse({"id": "x"}).asset_urls == ()


@pytest.mark.parametrize(("value", "expected"), [("c1", "c1"), (17, "17"), (0, "0")])
def test_an_id_is_text_or_a_number(value: object, expected: str) -> None:
    """Numbers are ids, too; they become text."""
    assert ComicGeneration.parse({"id": value}).id == expected


@pytest.mark.parametrize(
    "answer", [{}, {"id": None}, {"id": ""}, {"id": True}, {"id": ["x"]}, [], "x", None, 3]
)
@pytest.mark.parametrize("model", [ComicGeneration, Animation])
def test_without_an_id_it_is_no_generation(model: Any, answer: object) -> None:
    """An answer that has no id can't be waited for, so it is refused."""
    with pytest.raises(ValueError, match="no id"):
        model.parse(answer)


def test_asset_urls_are_in_reading_order_and_each_once() -> None:
    """Panels come in order, then `output`; what appears twice is fetched once."""
    comic = ComicGeneration.parse(
        {
            "id": "x",
            "output": "https://cdn/cover.png",
            "comics": [
                {"panels": [{"assetUrl": "https://cdn/b.png"}, {"caption": "no picture"}]},
                {"panels": [{"image": "https://cdn/a.png"}, {"image": "https://cdn/b.png"}]},
            ],
        }
    )
    assert comic.asset_urls == ("https://cdn/b.png", "https://cdn/a.png", "https://cdn/cover.png")


def test_numbers_of_pages_and_panels_default_to_their_position() -> None:
    """Pages and panels without a number are numbered as they come."""
    comic = ComicGeneration.parse(
        {"id": "x", "comics": [{}, {"panels": [{}, {"panel": "7"}, {"panel": None}]}]}
    )
    assert [page.page for page in comic.pages] == [0, 1]
    assert [panel.panel for panel in comic.pages[1].panels] == [0, 7, 2]


@pytest.mark.parametrize(
    "data",
    [
        {"panels": [{"image": "https://cdn/1.png"}]},
        {"pages": [{"panels": [{"image": "https://cdn/1.png"}]}]},
    ],
)
@pytest.mark.parametrize("encode", [json.dumps, lambda data: data])
def test_old_answers_hold_their_panels_in_comic_data(data: object, encode: Any) -> None:
    """`comicData` is read as a JSON string and as an object."""
    comic = ComicGeneration.parse({"id": "x", "comicData": encode(data)})
    assert comic.asset_urls == ("https://cdn/1.png",)


@pytest.mark.parametrize("data", ["", "{", "[]", "null", 3, {"panels": []}, {"panels": {}}])
def test_comic_data_that_is_no_comic_is_no_page(data: object) -> None:
    """Unreadable `comicData` leaves the comic without pages."""
    assert ComicGeneration.parse({"id": "x", "comicData": data}).pages == ()


def test_comics_win_over_comic_data() -> None:
    """The newer field is the one that is read."""
    answer = {
        "id": "x",
        "comics": [{"panels": [{"image": "https://new"}]}],
        "comicData": '{"panels": [{"image": "https://old"}]}',
    }
    assert ComicGeneration.parse(answer).asset_urls == ("https://new",)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T05:04:05+02:00", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("yesterday", None),
        (1767225600, None),
        (None, None),
    ],
)
def test_the_time_of_acceptance_is_aware_or_unknown(text: object, instant: object) -> None:
    """A time without a zone is taken for UTC, and what is no time is none."""
    assert ComicGeneration.parse({"id": "x", "createdAt": text}).created_at == instant


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"failureReason": "no"}, "no"),
        ({"failure_reason": "no"}, "no"),
        ({"error": {"message": "deep"}}, "deep"),
        ({"error": {"code": 1}, "message": "flat"}, "flat"),
        ({"msg": "m"}, "m"),
        ({"detail": "d"}, "d"),
        ({"error": ["no credits", {"message": "no pen"}, 3]}, "no credits; no pen"),
        ({"errors": [{"msg": "m"}], "description": "a story"}, "m"),
        ({"error": 5, "message": ""}, None),
        ({}, None),
    ],
)
def test_the_reason_of_a_failure_is_found_in_any_spelling(
    answer: dict[str, Any], reason: object
) -> None:
    """The reason of a failure is text, from the first field that holds some."""
    assert ComicGeneration.parse({"id": "x", "status": "failed", **answer}).failure_reason == reason


@pytest.mark.parametrize(
    ("answer", "url"),
    [
        ({"videoUrl": "https://v", "output": "https://o"}, "https://v"),
        ({"output": "https://o"}, "https://o"),
        ({"videoUrl": 3}, None),
    ],
)
def test_an_animation_has_one_video(answer: dict[str, Any], url: str | None) -> None:
    """The video is at `videoUrl`, or else at `output`."""
    animation = Animation.parse({"id": 9, "status": "completed", **answer})
    assert animation.succeeded
    assert animation.video_url == url
    assert animation.asset_urls == ((url,) if url else ())


@pytest.mark.parametrize("value", [None, {}, [], 3, "x"])
def test_no_usage_object_is_no_usage(value: object) -> None:
    """A generation without a readable usage object has an unknown charge."""
    assert GenerationUsage.parse(value) is None


def test_usage_of_a_key_is_read() -> None:
    """Numbers come as numbers or as digits, and a flag only as a flag."""
    usage = Usage.parse(
        {"apiUsageCount": "12", "apiMaxUsage": 15.0, "credits": 2.5, "isPaidPlan": False}
    )
    assert (usage.api_usage_count, usage.api_max_usage) == (12, 15)
    assert usage.credits == 2.5
    assert usage.is_paid_plan is False
    assert Usage.parse({"isPaidPlan": "yes", "credits": True, "apiUsageCount": "many"}) == Usage(
        raw={"isPaidPlan": "yes", "credits": True, "apiUsageCount": "many"}
    )
    assert Usage.parse({}) == Usage()
    for error in ({"code": 401, "message": "no such key"}, {"success": False}, {"error": "no"}):
        with pytest.raises(ValueError, match="error"):
            Usage.parse(error)
        assert Usage.parse({**error, "credits": 3}).credits == 3, "what is there is read"


def test_models_are_frozen_and_their_repr_is_short() -> None:
    """A model can't be changed, and its repr does not repeat the whole answer."""
    comic = ComicGeneration.parse(full_answer())
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        comic.id = "other"  # type: ignore[misc]
    assert "brandNew" not in repr(comic)
    assert "mood" not in repr(comic)


def test_a_batch_item_starts_empty() -> None:
    """An item that was not sent has neither a comic nor files."""
    item = BatchItem(3, None, BatchState.QUEUED)
    assert (item.generation, item.error, item.files) == (None, None, ())


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan"), "²", "9" * 5000, ""])
def test_a_number_that_is_none_is_skipped(number: object) -> None:
    """1e999 in JSON, NaN in `comicData` and odd digits leave a field empty; they crash nothing."""
    answer = {
        "id": "x",
        "comics": [{"page": number, "panels": [{"panel": number}]}],
        "usage": {"total_comics": number, "redraw_panels": number},
    }
    comic = ComicGeneration.parse(answer)
    assert comic.pages[0].page == 0
    assert comic.pages[0].panels[0].panel == 0
    assert comic.usage == GenerationUsage()
    assert Usage.parse({"apiUsageCount": number}).api_usage_count is None


def test_a_number_of_any_size_is_read() -> None:
    """A whole number that no float can hold crashes nothing."""
    answer = {"id": 10**400, "usage": {"amount": 10**400, "total_comics": 10**400}}
    assert ComicGeneration.parse(answer).id == str(10**400)


@pytest.mark.parametrize("number", [10**16, -(10**16), 10**400, 1e300])
def test_a_number_that_counts_nothing_is_skipped(number: float) -> None:
    """A number of thousands of digits would be part of a file's name."""
    answer = {"id": "x", "comics": [{"page": number, "panels": [{"panel": number}]}]}
    comic = ComicGeneration.parse(answer)
    assert (comic.pages[0].page, comic.pages[0].panels[0].panel) == (0, 0)
    assert Usage.parse({"apiUsageCount": number, "credits": number}).credits is None
    assert Usage.parse({"apiUsageCount": 10**10}).api_usage_count == 10**10


@pytest.mark.parametrize("given_id", ["", " ", ".", "..", "\n", True, None, 1.5, ["x"]])
@pytest.mark.parametrize("model", [ComicGeneration, Animation])
def test_an_id_that_nothing_can_be_asked_by_is_none(model: Any, given_id: object) -> None:
    """Such a comic could not be waited for: that is said at once, and not when it is asked for."""
    with pytest.raises(ValueError, match="no id in it") as caught:
        model.parse({"id": given_id})
    assert len(str(caught.value)) < 150


def test_an_id_that_is_no_text_or_too_long_is_kept_as_far_as_it_can_be() -> None:
    """An id was paid for."""
    assert ComicGeneration.parse({"id": "a\ud800\0b"}).id == "a\\ud800\\x00b"
    assert ComicGeneration.parse({"id": "x" * 1001}).id == "x" * 1000


@pytest.mark.usefixtures("no_warned_words")
def test_unknown_words_are_told_of_within_bounds(caplog: pytest.LogCaptureFixture) -> None:
    """A server that goes mad fills neither the log nor the memory."""
    words: list[object] = ["x" * 5_000_000, "\x1b[2J\u202e", {"a": ["b"] * 10**6}, [[]], True, 7.5]
    words += [f"word {number}" for number in range(1000)]
    with caplog.at_level(logging.WARNING):
        statuses = {GenerationStatus.parse(word) for word in words}
    assert statuses == {GenerationStatus.PROCESSING}
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 20
    assert max(map(len, messages)) < 120
    assert all(message.isprintable() for message in messages)


def test_a_reason_is_short_and_clean_and_raw_has_all_of_it() -> None:
    reason = "boom\x1b[2J\u202e\n" * 1000
    comic = ComicGeneration.parse({"id": "c1", "status": "FAILED", "failureReason": reason})
    assert comic.failure_reason is not None
    assert comic.failure_reason.startswith("boom\\x1b[2J\\u202e boom")
    assert comic.failure_reason.isprintable()
    assert len(comic.failure_reason) == 300
    assert comic.raw["failureReason"] == reason
    assert ComicGeneration.parse({"id": "x", "error": " \n", "msg": "m"}).failure_reason == "m"


def test_an_old_answer_to_a_create_has_its_id_inside() -> None:
    """An id outside goes first."""
    data = '{"panels": [{"caption": "a\nb"}]}'
    answer = {"artwork": {"id": "a1", "status": "LOADING", "comicData": data}}
    comic = ComicGeneration.parse(answer)
    assert (comic.id, comic.status, len(comic.pages)) == ("a1", GenerationStatus.PROCESSING, 1)
    assert comic.raw is answer
    assert Animation.parse(answer).id == "a1"
    assert ComicGeneration.parse({"id": "c1", **answer}).id == "c1"


def test_answers_can_be_kept_in_sets() -> None:
    """Two that are equal are one, although they hold dictionaries."""
    one, same = (ComicGeneration.parse(full_answer()) for _ in range(2))
    assert {one, same} == {one}
    item = BatchItem(0, ComicRequest("x"), BatchState.SUCCEEDED, one)
    assert item in {item, BatchItem(0, ComicRequest("x"), BatchState.SUCCEEDED, same)}
    assert len({Usage.parse({"credits": 3}), Usage.parse({"credits": 3})}) == 1
    assert hash(Animation.parse({"id": "x"})) == hash(Animation.parse({"id": "x"}))


def test_comic_data_that_is_nested_too_deep_is_no_page() -> None:
    """A JSON string deeper than Python reads does not crash the wait for the comic."""
    assert ComicGeneration.parse({"id": "x", "comicData": "[" * 100_000}).pages == ()


@pytest.mark.once
@given(
    junk,
    st.fixed_dictionaries(
        {},
        optional={
            "id": scalars,
            "status": junk,
            "comics": pages_of_junk | junk,
            "comicData": junk | pages_of_junk.map(lambda pages: json.dumps({"pages": pages})),
            "usage": junk,
            "createdAt": st.text(),
        },
    ),
)
@settings(max_examples=150)
def test_no_answer_crashes_the_reader(whole: Any, fields: dict[str, Any]) -> None:
    """Whatever JSON comes, it is read, or refused for having no id; `raw` is the answer itself."""
    for answer in (whole, fields):
        has_id = (
            isinstance(answer, dict)
            and isinstance(answer.get("id"), str | int)
            and not isinstance(answer["id"], bool)
            and generation_id(answer["id"]) is not None
        )
        for model in (ComicGeneration, Animation):
            if not has_id:
                with pytest.raises(ValueError, match="no id"):
                    model.parse(answer)
                continue
            generation = model.parse(answer)
            assert generation.raw is answer
            assert isinstance(generation.status, GenerationStatus)
            assert all(isinstance(url, str) and url for url in generation.asset_urls)
            assert generation.failure_reason != ""
        if isinstance(answer, dict):
            try:
                assert Usage.parse(answer).raw == answer
            except ValueError:
                assert refuses(answer)
        else:
            with pytest.raises(ValueError, match="it is no object"):
                Usage.parse(answer)
        assert isinstance(Page.parse(answer, 4).page, int)
        assert isinstance(Panel.parse(answer, 4).panel, int)
