"""The last words of a run: files on disk, a summary, and what to do about the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from llamagen_async.cli.errors import ALL_DONE, FAILED, INTERRUPTED
from llamagen_async.cli.gallery import INDEX, render
from llamagen_async.cli.output import Output
from llamagen_async.cli.progress import STATE_WORDS
from llamagen_async.cli.records import (
    RESULTS,
    UNSENT,
    Record,
    load_records,
    merged,
    write_atomic,
    write_records,
)
from llamagen_async.cli.session import Session
from llamagen_async.cli.text import counted, rule
from llamagen_async.client import ClientStats
from llamagen_async.errors import QuotaExhaustedError
from llamagen_async.models import BatchState

__all__ = ["close", "counts_of", "save"]

_LISTED: Final = 20
"""Running comics that are named one by one."""


def save(
    folder: Path,
    records: Sequence[Record],
    *,
    title: str,
    facts: Sequence[tuple[str, str]] = (),
    keep_earlier: bool = True,
) -> int:
    """Write `results.jsonl`, `unsent.jsonl` and `index.html`.

    Returns:
        How many stories wait in `unsent.jsonl`.

    Raises:
        OSError: They can't be written.
    """
    everything = merged(load_records(folder), records) if keep_earlier else list(records)
    unsent = write_records(folder, everything)
    page = render(everything, title=title, facts=facts)
    write_atomic(folder / INDEX, page.encode("utf-8", errors="xmlcharrefreplace"))
    return unsent


def close(
    output: Output, session: Session, stats: ClientStats, *, folder: Path | None, unsent: int = 0
) -> int:
    """Say how a run ended and return its exit status.

    Args:
        output: Where to.
        session: What ran.
        stats: What was sent.
        folder: Where its files are; `None` if there are none, and then no summary is made either.
        unsent: How many stories wait in `unsent.jsonl`.
    """
    records = session.records
    done = [record for record in records if record.is_done]
    if folder is not None:
        output.say(_summary(records, stats))
        output.say(f"Look at {folder / INDEX}; details are in {folder / RESULTS}.")
    if session.interrupted:
        _tell_interrupted(output, session, folder)
    if session.errors:
        _tell_missing(output, session, folder)
    if unsent and folder is not None:
        again = f"llamagen-async batch {folder / UNSENT} --out {folder}"
        output.say(f"{counted(unsent, 'story')} not sent yet: {again}")
    if session.interrupted:
        return FAILED if output.broken else INTERRUPTED
    return ALL_DONE if len(done) == len(records) else FAILED


def _summary(records: Sequence[Record], stats: ClientStats) -> str:
    counts = Counter(record.state for record in records)
    rest = "".join(
        f", {counts[state]} {word}"
        for state, word in STATE_WORDS.items()
        if counts[state] and state is not BatchState.SUCCEEDED
    )
    # While some still run, requests were spent on them too: the ratio would mean nothing.
    each = None if counts[BatchState.RUNNING] else stats.requests_per_finished
    per_comic = f" ({each:.2f} per comic)" if each is not None else ""
    return (
        f"{counts[BatchState.SUCCEEDED]} of {counted(len(records), 'comic')} done{rest}; "
        f"{counted(stats.total, 'request')}{per_comic}, {stats.refused} refused."
    )


def counts_of(records: Sequence[Record]) -> str:
    """Return how many records there are of each state, in words."""
    counts = Counter(record.state for record in records)
    words = (f"{counts[state]} {word}" for state, word in STATE_WORDS.items() if counts[state])
    return ", ".join(words) or "nothing was sent"


def _tell_interrupted(output: Output, session: Session, folder: Path | None) -> None:
    """Say on stderr what the interrupt left behind: an id that is lost is money that is lost."""
    if output.broken:
        return
    records = session.records
    counts = Counter(record.state for record in records)
    output.complain(f"interrupted: {counts_of(records)}")
    running = [record for record in records if record.state is BatchState.RUNNING]
    fetch = f" --out {folder}" if folder is not None else ""
    for record in running[:_LISTED]:
        output.complain(f"goes on at the server: llamagen-async status {record.id}{fetch}")
    if len(running) > _LISTED:
        output.complain(f"and {len(running) - _LISTED} more, see {RESULTS}")
    if counts[BatchState.UNCERTAIN]:
        output.complain(
            f"{counts[BatchState.UNCERTAIN]} left without an answer: they may have been accepted"
        )


def _tell_missing(output: Output, session: Session, folder: Path | None) -> None:
    """Say on stderr why comics are missing: in one line, and one for those of tomorrow."""
    number = counted(len(session.records), "story")
    quota = [one for one in session.errors.values() if isinstance(one, QuotaExhaustedError)]
    if quota:
        times = sorted(f"{one.resets_at.astimezone():%Y-%m-%d %H:%M}" for one in quota)
        until = f", for all of them from {times[-1]}" if times[-1] != times[0] else ""
        output.complain(
            f"{len(quota)} of {number} not sent: the limit of {rule(quota[0].limit)} is used up; "
            f"there is room from {times[0]}{until}"
        )
    reasons = Counter(
        record.error
        for record in session.records
        if record.error is not None and record.error_type != QuotaExhaustedError.__name__
    )
    if len(reasons) == 1:
        reason, times_met = reasons.popitem()
        more = f" ({times_met} of {number})" if times_met > 1 else ""
        output.complain(f"{reason}{more}")
    elif reasons:
        where = f"; {folder / RESULTS} says why" if folder is not None else ""
        output.complain(f"{reasons.total()} of {number} failed{where}")
