"""The last words of a run: files on disk, a summary, and what to do about the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from llamagen_async.cli.errors import ALL_DONE, FAILED, INTERRUPTED, look
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
from llamagen_async.cli.text import counted, moment, rule, shortened
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
    output: Output, session: Session, stats: ClientStats, *, folder: Path, unsent: int = 0
) -> int:
    """Say how a run ended and return its exit status.

    Args:
        output: Where to.
        session: What ran.
        stats: What was sent.
        folder: Where its files are.
        unsent: How many stories wait in `unsent.jsonl`.
    """
    records = session.records
    done = [record for record in records if record.is_done]
    output.say(_summary(records, stats))
    output.say(f"Look at {folder / INDEX}; details are in {folder / RESULTS}.")
    if session.interrupted:
        _tell_interrupted(output, session, folder)
    if session.errors:
        _tell_missing(output, session, folder)
    if unsent:
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


def _tell_interrupted(output: Output, session: Session, folder: Path) -> None:
    """Say on stderr what the interrupt left behind: an id that is lost is money that is lost."""
    if output.broken:
        return
    records = session.records
    output.complain(f"interrupted: {counts_of(records)}")
    running = [record for record in records if record.state is BatchState.RUNNING]
    for record in running[:_LISTED]:
        output.complain(f"goes on at the server: {look(record.id or '', folder)}")
    if len(running) > _LISTED:
        output.complain(f"and {len(running) - _LISTED} more, see {RESULTS}")
    uncertain = [record for record in records if record.state is BatchState.UNCERTAIN]
    for record in uncertain[:_LISTED]:
        story = f"{record.place} ({shortened(record.prompt, 48)})"
        output.complain(f"left without an answer, it may have been accepted and charged: {story}")
    if len(uncertain) > _LISTED:
        output.complain(f"and {len(uncertain) - _LISTED} more of these, see {RESULTS}")


def _tell_missing(output: Output, session: Session, folder: Path) -> None:
    """Say on stderr why comics are missing: in one line, and one for those of tomorrow."""
    number = counted(len(session.records), "story")
    quota: list[QuotaExhaustedError] = []
    reasons: Counter[str] = Counter()
    for record in session.records:
        error = session.errors.get(record.index)
        if record.id is None and isinstance(error, QuotaExhaustedError):
            quota.append(error)
        elif record.error is not None:
            reasons[record.error] += 1
    if quota:
        first, last = (pick(one.resets_at for one in quota) for pick in (min, max))
        more = f", for all of them from {moment(last)}" if moment(last) != moment(first) else ""
        output.complain(
            f"{len(quota)} of {number} not sent: the limit of {rule(quota[0].limit)} is used up; "
            f"there is room from {moment(first)}{more}"
        )
    if len(reasons) == 1:
        reason, times_met = reasons.popitem()
        more = f" ({times_met} of {number})" if times_met > 1 else ""
        output.complain(f"{reason}{more}")
    elif reasons:
        output.complain(f"{reasons.total()} of {number} failed; {folder / RESULTS} says why")
