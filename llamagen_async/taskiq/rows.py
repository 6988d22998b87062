"""Rows of jobs as Redis keeps them, jobs as their readers see them, and answers. No I/O."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast

import attrs

from llamagen_async.batch.events import ComicJob
from llamagen_async.batch.journal.codec import Row, load_error
from llamagen_async.batch.task import BatchTask
from llamagen_async.errors import JournalError, LlamaGenError
from llamagen_async.models import BatchState
from llamagen_async.stored_values import DAMAGED

__all__ = [
    "Claimed",
    "Kick",
    "Outcome",
    "TakenOverError",
    "TurnsInRedis",
    "hash_in",
    "job_of",
    "load_reason",
    "row_of",
]


Kick = tuple[str, str, str]
"""The key and the type of a job whose task is to be sent, and the task's id."""
Outcome = Literal["mine", "held", "done", "behind", "gone"]
"""Outcome of a claim: the job is ours now, another worker's, at its end, not to be sent before
others, or unknown."""


class TakenOverError(LlamaGenError):
    """Another worker has a job's lease now, so nothing was sent."""


@attrs.frozen
class Claimed:
    """The answer to a claim."""

    outcome: Outcome
    """The outcome."""
    row: Row | None
    """The job; `None` if it is unknown."""


@attrs.frozen
class TurnsInRedis:
    """Where queued jobs stand, and what else is asked for with it."""

    queued: int
    """Jobs that are queued."""
    places: dict[str, int] = attrs.field(hash=False)
    """Positions of queued jobs, from 1."""
    accepted: tuple[float, ...]
    """Unix times since which jobs are running."""
    held_by: LlamaGenError | None
    """Why nothing is sent."""


def hash_in(flat: Sequence[Any]) -> dict[str, str]:
    """Return the fields of a hash: Redis answers with names and values in turn."""
    texts = [one.decode() if isinstance(one, bytes) else str(one) for one in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))


def row_of(flat: Sequence[Any], epoch: float | None = None) -> Row:
    """Return a job's row.

    Args:
        flat: The names and values of its hash.
        epoch: The time of the event loop's clock at the beginning of Redis's, which says since when
            the job waits.

    Raises:
        JournalError: It is not as it was written.
    """
    try:
        kept = hash_in(flat)
        return Row(
            int(kept["rev"]),
            int(kept["id"]),
            kept["key"],
            bytes.fromhex(kept["digest"]),
            kept["request"],
            cast("Any", kept["type"]),
            kept["of"] or None,
            kept["target"] or None,
            int(kept["urgent"]),
            "",
            None,
            cast("Any", kept["state"]),
            int(kept["attempts"]),
            kept["gid"] or None,
            kept["generation"] or None,
            kept["error"] or None,
            kept["files"] or None,
            float(kept["queued_at"]),
            _seconds(kept["sent_at"]),
            _seconds(kept["accepted_at"]),
            _seconds(kept["ended_at"]),
            _seconds(kept["credits"]),
            since=None if epoch is None else epoch + float(kept["since"]),
        )
    except DAMAGED as error:
        raise JournalError(f"a job in Redis is damaged ({error!r})") from error


def job_of(row: Row, out: Path | None) -> ComicJob:
    """Return a job as its row has it; one whose pictures are still to come is running.

    Args:
        row: The row.
        out: The folder of the pictures; `None` if none are fetched.
    """
    state, at = row.state, row.ended_at or row.accepted_at
    try:
        task, names = BatchTask.of(row), row.files
    except (JournalError, *DAMAGED) as error:  # that job alone is damaged
        state, names, task = BatchState.FAILED, (), BatchTask(row, BatchState.FAILED, error=error)
    is_fetching = out is not None and row.files_text is None and task.error is None
    if state is BatchState.SUCCEEDED and is_fetching:
        state, at = BatchState.RUNNING, row.accepted_at
    return ComicJob(
        row.key,
        state,
        row.attempts,
        datetime.fromtimestamp(row.queued_at, UTC),
        datetime.fromtimestamp(at or row.sent_at or row.queued_at, UTC),
        task.request,
        task.generation,
        task.error,
        () if out is None else tuple(out / name for name in names),
    )


def load_reason(text: object) -> LlamaGenError | None:
    """Return the error that was kept as the reason why nothing is sent."""
    if not isinstance(text, bytes) or not text:
        return None
    try:
        return load_error(text.decode(), None, None)
    except ValueError:
        return LlamaGenError(json.dumps(text.decode(errors="replace")))


def _seconds(text: str) -> float | None:
    return float(text) if text else None
