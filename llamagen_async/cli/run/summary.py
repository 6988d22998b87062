"""The summary at the end of a run, and what to do about the rest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from llamagen_async.batch.folder import RESULTS
from llamagen_async.cli.errors import describe_error, quota_reason, status_command
from llamagen_async.cli.exit_status import ALL_DONE, FAILED, INTERRUPTED
from llamagen_async.cli.output import Output
from llamagen_async.cli.results.folder import INDEX
from llamagen_async.cli.results.states import STATE_WORDS
from llamagen_async.cli.results.writer import Written
from llamagen_async.cli.run.batch_run import BatchRun
from llamagen_async.cli.run.money import print_spending
from llamagen_async.cli.run.tally import OTHER_REASONS, Tally
from llamagen_async.cli.run.uncertain import print_uncertain
from llamagen_async.cli.text import format_time, one_line, pluralize, shown_path
from llamagen_async.models import BatchState

if TYPE_CHECKING:
    from llamagen_async.client import ClientStats

__all__ = ["RunOutcome", "counts_of", "print_summary"]

_GOES_ON: Final = "goes on where this stopped"
_TOLD: Final = 3
"""Reasons of several stories that are printed, at most."""


@attrs.frozen
class RunOutcome:
    """The files that a run has left, and the command that continues it."""

    folder: Path
    """The folder of the run's files."""
    written: Written | None
    """The content of the files; `None` if they could not be written."""
    error: Exception | None
    """The reason why they could not be written."""
    again: str
    """The command that goes on with the journal."""
    is_repeatable: bool
    """Whether the same command goes on, too: not if the stories came from stdin."""


def print_summary(output: Output, run: BatchRun, stats: ClientStats, outcome: RunOutcome) -> int:
    """Print how a run ended and return its exit status."""
    tally = run.tally
    written = outcome.written or Written(tally.counts, tally.running, tally.uncertain)
    output.print(_summary(tally, stats), is_prose=True)
    print_spending(output, run.spending)
    if outcome.written is not None:
        index, results = (shown_path(outcome.folder / name) for name in (INDEX, RESULTS))
        output.print(one_line(f"Look at {index}; details are in {results}."))
    if run.interrupted:
        _print_interrupted(output, tally, written, outcome)
    _print_missing(output, tally, outcome)
    if tally.counts[BatchState.UNCERTAIN] and not output.stdout_closed:
        print_uncertain(
            output,
            written.uncertain,
            written.counts[BatchState.UNCERTAIN],
            requests=run.requests_counted,
            again=f"{outcome.again} --resend-uncertain",
        )
    if outcome.error is not None:
        output.error(f"the results are not written: {describe_error(outcome.error)}")
    unsent = written.counts[BatchState.QUEUED]
    if unsent and not run.interrupted:
        # Their number stands in the summary, unless the journal has more than this run's.
        is_told = unsent == tally.counts[BatchState.QUEUED]
        rest = "The rest" if is_told else f"{pluralize(unsent, 'story')} not sent yet"
        output.print(f"{rest}: {_how(outcome, tally)}")
    if run.interrupted:
        return FAILED if output.stdout_closed else INTERRUPTED
    return ALL_DONE if tally.done == tally.total and not outcome.error else FAILED


def counts_of(tally: Tally) -> str:
    """Return how many stories there are of each state, in words."""
    done = [f"{tally.done} {STATE_WORDS[BatchState.SUCCEEDED]}"] if tally.done else []
    return ", ".join([*done, *_others(tally)]) or "nothing was sent"


def _others(tally: Tally) -> list[str]:
    counts = tally.counts
    others = [
        f"{counts[state]} {word}"
        for state, word in STATE_WORDS.items()
        if counts[state] and state is not BatchState.SUCCEEDED
    ]
    without_files = tally.without_files
    return [*([f"{without_files} without pictures"] if without_files else []), *others]


def _how(outcome: RunOutcome, tally: Tally) -> str:
    command = "the same command again" if outcome.is_repeatable else outcome.again
    if tally.over_budget:
        command += " with a higher --budget"
    return f"{command} {_GOES_ON}"


def _summary(tally: Tally, stats: ClientStats) -> str:
    counts = tally.counts
    rest = "".join(f", {words}" for words in _others(tally))
    # While some still run, requests were spent on them too: the ratio would mean nothing.
    each = None if counts[BatchState.RUNNING] else stats.requests_per_finished
    word = "story" if tally.is_mixed else "comic"
    per_comic = f" ({each:.2f} per {word})" if each is not None else ""
    return (
        f"{tally.done} of {pluralize(tally.total, word)} done{rest}; "
        f"{pluralize(stats.total, 'request')}{per_comic}, {stats.refused} refused."
    )


def _print_interrupted(output: Output, tally: Tally, written: Written, outcome: RunOutcome) -> None:
    """Print on stderr what the interrupt left behind: a lost id is lost money."""
    if output.stdout_closed:
        return
    output.error(f"interrupted: {counts_of(tally)}")
    for id_ in written.running:
        is_animation = id_ in written.animations
        again = status_command(id_, outcome.folder, is_animation=is_animation)
        output.error(f"goes on at the server: {again}")
    more = written.counts[BatchState.RUNNING] - len(written.running)
    if more > 0:
        output.error(f"and {more} more, see {RESULTS}")
    if tally.total:
        output.error(_how(outcome, tally))


def _print_missing(output: Output, tally: Tally, outcome: RunOutcome) -> None:
    """Print on stderr why comics are missing: each reason once, with the number of its stories."""
    number = pluralize(tally.total, "story")
    quota = tally.over_quota
    if quota is not None:
        last = format_time(quota.last)
        more = f", for all of them from {last}" if last != format_time(quota.first) else ""
        output.error(
            f"{quota.number} of {number} not sent: {quota_reason(quota.limit)}; "
            f"there is room from {format_time(quota.first)}{more}"
        )
    if tally.over_budget:
        output.error(f"{tally.over_budget} of {number} not sent: the budget does not pay for them")
    told = [
        (reason, times)
        for reason, times in tally.reasons.most_common(_TOLD)
        if (times > 1 and reason != OTHER_REASONS) or len(tally.reasons) == 1
    ]
    for reason, times in told:
        output.error(f"{reason} ({times} of {number})" if times > 1 else reason)
    rest = tally.reasons.total() - sum(times for _, times in told)
    if rest:
        more = "more " if told else ""
        where = f"; {outcome.folder / RESULTS} says why" if outcome.error is None else ""
        output.error(f"{rest} {more}of {number} are not done{where}")
