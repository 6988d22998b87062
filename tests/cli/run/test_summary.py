"""The summary of a run: why comics are missing, each reason once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import attrs
import pytest

from llamagen_async.cli.output import Output
from llamagen_async.cli.run.summary import RunOutcome, _print_missing
from llamagen_async.cli.run.tally import OTHER_REASONS, Tally
from llamagen_async.models import BatchState

OUTCOME = RunOutcome(Path("out"), None, None, "again", is_repeatable=True)


@pytest.mark.parametrize(
    ("reasons", "said"),
    [
        ({}, []),
        ({"no credits": 12}, ["no credits (12 of 12 stories)"]),
        ({"its own": 1}, ["its own"]),
        (
            {"no credits": 9, "one": 1, "two": 1},
            ["no credits (9 of 12 stories)", "2 more of 12 stories are not done; "],
        ),
        ({"one": 1, "two": 1}, ["2 of 12 stories are not done; "]),
        ({"a": 4, OTHER_REASONS: 5}, ["a (4 of 12 stories)", "5 more of 12 stories are not done"]),
    ],
)
def test_a_reason_of_many_stories_is_told_once(
    reasons: dict[str, int], said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    tally = Tally(reasons=Counter(reasons))
    tally = attrs.evolve(tally, counts=Counter({BatchState.FAILED: 12}))
    _print_missing(Output(as_json=False), tally, OUTCOME)
    lines = [line.removeprefix("llamagen-async: ") for line in capsys.readouterr().err.splitlines()]
    assert len(lines) == len(said)
    assert all(line.startswith(begin) for line, begin in zip(lines, said, strict=True))


def test_a_file_that_could_not_be_written_is_not_referred_to(
    capsys: pytest.CaptureFixture[str],
) -> None:
    outcome = attrs.evolve(OUTCOME, error=OSError(28, "No space left on device"))
    _print_missing(Output(as_json=False), Tally(reasons=Counter({"one": 1, "two": 1})), outcome)
    assert capsys.readouterr().err == "llamagen-async: 2 of 0 stories are not done\n"
