"""The last words of a run: a summary, and what to do about the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import attrs

from llamagen_async.cli.errors import ALL_DONE, FAILED, INTERRUPTED, look, sentence
from llamagen_async.cli.output import Output
from llamagen_async.cli.results.gallery import INDEX
from llamagen_async.cli.results.records import NO_PICTURES, RESULTS
from llamagen_async.cli.results.writer import Written
from llamagen_async.cli.run.batch_run import Session
from llamagen_async.cli.run.progress import STATE_WORDS
from llamagen_async.cli.run.tally import Tally
from llamagen_async.cli.run.uncertain import tell_uncertain
from llamagen_async.cli.text import counted, moment, rule
from llamagen_async.client import ClientStats
from llamagen_async.models import BatchState

__all__ = ["Ending", "close", "counts_of"]

_GOES_ON: Final = "goes on where this stopped"


@attrs.frozen
class Ending:
    """What a run has left on disk, and how it is gone on with."""

    folder: Path
    """Where its files are."""
    written: Written | None
    """What is in them; `None` if they could not be written."""
    trouble: Exception | None
    """Why they could not be written."""
    again: str
    """The command that goes on with the journal."""
    is_repeatable: bool
    """Whether the same command goes on, too: not if the stories came from stdin."""


def close(output: Output, session: Session, stats: ClientStats, ending: Ending) -> int:
    """Say how a run ended and return its exit status."""
    tally = session.tally
    written = ending.written or Written(tally.counts, tally.running, tally.uncertain)
    output.say(_summary(tally, stats))
    if ending.written is not None:
        index, results = ending.folder / INDEX, ending.folder / RESULTS
        output.say(f"Look at {index}; details are in {results}.")
    if session.interrupted:
        _tell_interrupted(output, tally, written, ending)
    _tell_missing(output, tally, ending)
    if tally.counts[BatchState.UNCERTAIN] and not output.broken:
        tell_uncertain(
            output,
            written.uncertain,
            written.counts[BatchState.UNCERTAIN],
            requests=session.requests_counted,
            again=f"{ending.again} --resend-uncertain",
        )
    if ending.trouble is not None:
        output.complain(f"not written: {sentence(ending.trouble)}")
    unsent = written.counts[BatchState.QUEUED]
    if unsent and not session.interrupted:
        output.say(f"{counted(unsent, 'story')} not sent yet: {_how(ending)}")
    if session.interrupted:
        return FAILED if output.broken else INTERRUPTED
    return ALL_DONE if tally.done == tally.total and not ending.trouble else FAILED


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
    return [*([f"{tally.bare} without pictures"] if tally.bare else []), *others]


def _how(ending: Ending) -> str:
    command = "the same command again" if ending.is_repeatable else ending.again
    return f"{command} {_GOES_ON}"


def _summary(tally: Tally, stats: ClientStats) -> str:
    counts = tally.counts
    rest = "".join(f", {words}" for words in _others(tally))
    # While some still run, requests were spent on them too: the ratio would mean nothing.
    each = None if counts[BatchState.RUNNING] else stats.requests_per_finished
    per_comic = f" ({each:.2f} per comic)" if each is not None else ""
    return (
        f"{tally.done} of {counted(tally.total, 'comic')} done{rest}; "
        f"{counted(stats.total, 'request')}{per_comic}, {stats.refused} refused."
    )


def _tell_interrupted(output: Output, tally: Tally, written: Written, ending: Ending) -> None:
    """Say on stderr what the interrupt left behind: an id that is lost is money that is lost."""
    if output.broken:
        return
    output.complain(f"interrupted: {counts_of(tally)}")
    for id_ in written.running:
        output.complain(f"goes on at the server: {look(id_, ending.folder)}")
    more = written.counts[BatchState.RUNNING] - len(written.running)
    if more > 0:
        output.complain(f"and {more} more, see {RESULTS}")
    if tally.total:
        output.complain(_how(ending))


def _tell_missing(output: Output, tally: Tally, ending: Ending) -> None:
    """Say on stderr why comics are missing: in one line, and one for those of tomorrow."""
    number = counted(tally.total, "story")
    quota = tally.unaffordable
    if quota is not None:
        last = moment(quota.last)
        more = f", for all of them from {last}" if last != moment(quota.first) else ""
        output.complain(
            f"{quota.number} of {number} not sent: the limit of {rule(quota.limit)} is used up; "
            f"there is room from {moment(quota.first)}{more}"
        )
    reasons = tally.reasons.copy()
    reasons.pop(NO_PICTURES, None)
    if len(reasons) == 1:
        ((reason, times_met),) = reasons.items()
        more = f" ({times_met} of {number})" if times_met > 1 else ""
        output.complain(f"{reason}{more}")
    elif reasons:
        output.complain(
            f"{reasons.total()} of {number} are not done; {ending.folder / RESULTS} says why"
        )
