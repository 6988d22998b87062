"""Stories that a run could not send are kept as what they are: with their cast and their files."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from llamagen_async import BatchState
from llamagen_async.batch.journal.journal import Journal
from llamagen_async.batch.journal.story import Story
from llamagen_async.cli.results.records import Record
from llamagen_async.cli.results.unrecorded import Unrecorded
from llamagen_async.cli.results.writer import write_results
from llamagen_async.requests.defaults import Defaults
from tests.support.journals import ORIGIN

CAST = Defaults.parse({"preset": "neutral"})


async def test_the_next_run_knows_it_by_its_own_line(tmp_path: Path) -> None:
    """Otherwise the same line would be another story, and be paid for twice."""
    line = {"prompt": "A cat", "images": ["tom.png"]}
    story = Story.parse(line, label="stdin:1", defaults=CAST, folder=tmp_path)
    unrecorded = Unrecorded()
    unrecorded.add(Record.of_story(0, "stdin:1", story, BatchState.QUEUED))
    async with Journal(tmp_path / "journal.db", ORIGIN) as journal:
        began = datetime.now(UTC)
        await write_results(
            tmp_path, journal, unrecorded, title="x", speed=1.0, began=began, keep_unsent=True
        )
        (row,) = [row async for row in journal.rows()]
    unrecorded.close()
    assert (row.digest, row.request_text) == (story.digest, story.text)
    async with Journal(tmp_path / "journal.db", ORIGIN) as journal:
        again, is_new = await journal.add(Story.parse(line, defaults=CAST, folder=tmp_path))
        assert (again.id, is_new) == (row.id, False)


def test_only_a_story_that_is_in_no_journal_has_its_hash_in_the_results() -> None:
    story = Story.parse("A cat")
    unsent = Record.of_story(0, "s:1", story, BatchState.QUEUED)
    assert unsent.to_json()["digest"] == story.digest.hex()
    assert Record.from_json(unsent.to_json()) == unsent
    assert "digest" not in Record(0, BatchState.SUCCEEDED).to_json()
