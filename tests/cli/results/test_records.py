"""Records as plain data: made of rows of the journal, and read back from a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest

from llamagen_async import ComicRequest, GenerationFailedError
from llamagen_async.batch.journal.codec import Row
from llamagen_async.batch.journal.story import Story
from llamagen_async.cli.results.records import SANDBOX_ASSETS, Record, line_of
from llamagen_async.clock import DEFAULT_TIMEOUT
from llamagen_async.models import BatchState, ComicGeneration
from llamagen_async.requests.any_request import fields_of
from llamagen_async.sandbox.generations import ASSETS
from tests.support.records import DONE, UNSENT, add_row, opened_journal

CAT = Story.parse({"prompt": "a cat", "key": "cat"}, label="s.jsonl:3")
PASSING = ("no connection", "APIConnectionError")


async def row_of(folder: Path, *args: Any, **more: Any) -> Row:
    async with opened_journal(folder / "j.db") as journal:
        return await add_row(journal, CAT, 2, *args, **more)


@pytest.mark.parametrize(
    "record",
    [DONE, UNSENT, Record(5, BatchState.UNCERTAIN, prompt="half a pair: \ud800 ¡ü!")],
)
def test_records_survive_a_round_trip(record: Record) -> None:
    assert Record.from_json(json.loads(line_of(record.to_json()))) == record


@pytest.mark.parametrize("line", ['{"index": 1}', "[]", "null", '{"state": "no"}'])
def test_other_json_is_no_record(line: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        Record.from_json(json.loads(line))


async def test_a_record_says_where_its_story_stands_and_when_it_was_sent(tmp_path: Path) -> None:
    row = await row_of(tmp_path, BatchState.SUCCEEDED, id="cmc_1", files=("a.png",))
    row = attrs.evolve(row, sent_at=0.0, accepted_at=10.0, ended_at=11.5)
    record = Record.of_row(row, speed=30.0)
    assert (record.index, record.label, record.key) == (2, "s.jsonl:3", "cat")
    assert (record.id, record.files, record.error) == ("cmc_1", ("a.png",), None)
    assert (record.prompt, record.is_done) == ("a cat", True)
    assert record.sent_at == "1970-01-01T00:00:00+00:00"
    assert record.ended_at == "1970-01-01T00:00:11+00:00"
    assert record.seconds == 45.0  # of a clock that runs 30 times as fast
    assert Record.of_row(attrs.evolve(row, position=None, id=5), speed=1.0).index == 4


async def test_a_comic_that_ended_between_two_runs_has_no_duration(tmp_path: Path) -> None:
    row = await row_of(tmp_path, BatchState.SUCCEEDED, id="cmc_1")
    late = attrs.evolve(row, accepted_at=0.0, ended_at=DEFAULT_TIMEOUT + 1)
    assert Record.of_row(late, speed=1.0).seconds is None
    assert Record.of_row(attrs.evolve(row, ended_at=None), speed=1.0).seconds is None


async def test_a_comic_without_its_pictures_is_not_done(tmp_path: Path) -> None:
    row = await row_of(tmp_path, BatchState.SUCCEEDED, id="cmc_1")
    record = Record.of_row(row, speed=1.0)
    assert record.error == (
        "the comic is done, its pictures are not here: the same command again fetches them"
    )
    assert (record.error_type, record.is_done) == (None, False)
    assert Record.of_row(row, speed=1.0, passing=PASSING).error == "no connection"


async def test_a_reason_in_the_journal_goes_before_one_that_passes(tmp_path: Path) -> None:
    comic = ComicGeneration.parse({"id": "cmc_1", "status": "FAILED"})
    row = await row_of(tmp_path, BatchState.FAILED, id="cmc_1", error=GenerationFailedError(comic))
    record = Record.of_row(row, speed=1.0, passing=PASSING)
    assert record.error_type == "GenerationFailedError"


async def test_an_unsent_story_has_the_reason_of_this_run(tmp_path: Path) -> None:
    row = await row_of(tmp_path)
    assert Record.of_row(row, speed=1.0).error is None
    record = Record.of_row(row, speed=1.0, passing=PASSING)
    assert (record.error, record.error_type) == PASSING
    assert record.request == {"prompt": "a cat"}


@pytest.mark.parametrize(
    ("url", "is_sandbox"),
    [
        (f"http://127.0.0.1:8080{ASSETS}/cmc_1/1-1.png", True),
        ("https://cdn.llamagen.ai/sandbox/1.png", False),
    ],
)
async def test_the_pictures_urls_tell_whether_the_sandbox_drew_them(
    tmp_path: Path, url: str, is_sandbox: bool
) -> None:
    assert ASSETS.startswith(SANDBOX_ASSETS)
    row = await row_of(tmp_path, BatchState.SUCCEEDED, id="cmc_1", files=())
    text = json.dumps({"id": "cmc_1", "status": "SUCCEEDED", "output": url})
    record = Record.of_row(attrs.evolve(row, generation_text=text), speed=1.0)
    assert record.is_sandbox is is_sandbox


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "a"},
        {"prompt": "a", "pagination": {"total_pages": 2, "panels_per_page": 3}, "upscale": "2K"},
        {"prompt": "a", "extra": {"newField": 1}, "comic_roles": [{"name": "Tom"}]},
        {"prompt_url": "https://example.com/story.txt"},
    ],
)
def test_a_request_reads_back_as_it_was(fields: dict[str, Any]) -> None:
    request = ComicRequest.parse(fields)
    assert ComicRequest.parse(json.loads(json.dumps(fields_of(request)))) == request
