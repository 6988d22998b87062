"""The content of a journal before a batch, counted for its first line."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamagen_async.batch.journal.story import Story
from llamagen_async.cli.input.journal_summary import summarize_journal
from llamagen_async.cli.input.stories import InputStory, Stories
from llamagen_async.models import BatchState
from tests.support.records import add_row, opened_journal

WRONG = InputStory(9, "s.txt:10", None, "the line is not UTF-8")


def given(*stories: Story) -> Stories:
    numbered = (InputStory(number, one.label, one) for number, one in enumerate(stories))
    return Stories("s.txt", checked=(*numbered, WRONG))


@pytest.mark.parametrize(
    ("stories", "resend", "words", "to_send", "total"),
    [
        # The journal has another story under the key "c", which was never sent: it was edited.
        # Running comics count in any case.
        (
            given(Story.parse("a"), Story.parse("new"), Story.parse("new", "c")),
            False,
            "1 done, 1 running, 3 to send",
            3,
            4,
        ),
        # The one under the key "d" was sent: this one will not be.
        (
            given(Story.parse("new"), Story.parse("e", "d")),
            True,
            "0 done, 1 running, 2 to send",
            2,
            3,
        ),
        (given(Story.parse("d", "d")), False, "0 done, 1 uncertain, 1 running, 1 to send", 1, 2),
        (given(Story.parse("d", "d")), True, "0 done, 1 running, 2 to send", 2, 2),
        (Stories("the journal"), False, "1 done, 1 uncertain, 1 running, 1 to send", 1, 4),
        (Stories("the journal"), True, "1 done, 1 running, 2 to send", 2, 4),
    ],
)
async def test_the_stories_of_the_input_are_counted_by_state(
    tmp_path: Path, stories: Stories, resend: bool, words: str, to_send: int, total: int
) -> None:
    async with opened_journal(tmp_path / "j.db") as journal:
        await add_row(journal, Story.parse("a"), 0, BatchState.SUCCEEDED, id="c1")
        await add_row(journal, Story.parse("b"), 1, BatchState.RUNNING, id="c2")
        await add_row(journal, Story.parse("c", "c"), 2)
        await add_row(journal, Story.parse("d", "d"), 3, BatchState.UNCERTAIN)
    async with opened_journal(tmp_path / "j.db") as journal:
        summary = await summarize_journal(journal, stories, resend=resend)
    assert (summary.to_send, summary.total, summary.is_new) == (to_send, total, False)
    assert str(summary) == words


async def test_the_number_of_stories_of_stdin_is_unknown(tmp_path: Path) -> None:
    with (tmp_path / "in").open("w+b") as lines:
        async with opened_journal(tmp_path / "j.db") as journal:
            summary = await summarize_journal(journal, Stories("stdin", lines=lines), resend=False)
    assert (str(summary), summary.total, summary.is_new) == ("0 done, 0 running", None, True)
