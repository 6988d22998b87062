"""Jobs as JSON says them. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from llamagen_async.errors import SubmissionUncertainError
from llamagen_async.models import BatchState

if TYPE_CHECKING:
    from llamagen_async.batch.events import ComicJob

__all__ = ["at_vendor", "job_facts", "job_path"]

_UNCERTAIN: Final = (
    "the vendor's answer was lost, so nobody knows whether the comic was made and charged; it is "
    "not sent again"
)
"""The message of a job that is uncertain. Why it is may name another job, such as one that has the
same comic, and those who see this one need not know of that one."""


def job_path(root: str, key: str) -> str:
    """Return the path of a job; `root` is where the routes are mounted."""
    return f"{root}/comics/{quote(key, safe='')}"


def job_facts(job: ComicJob, root: str) -> dict[str, Any]:
    """Return a job as clients see it."""
    path, comic, error, panels = job_path(root, job.key), job.generation, job.error, job.panels
    pictures: list[str | None]
    if job.state is BatchState.RUNNING:
        # What is there may yet change, so it has another address than the picture in the end.
        pictures = [
            f"{path}/pictures/{number}?draft=1" if url else None
            for number, url in enumerate(at_vendor(job))
        ]
    else:
        panels = tuple(panel for panel in panels if panel.asset_url)
        last = len(job.files or at_vendor(job))
        pictures = [f"{path}/pictures/{number}" for number in range(last)]
    return {
        "key": job.key,
        "state": job.state.value,
        "id": comic.id if comic else None,
        "position": job.position,
        "expected_at": _second(job.expected_at),
        "pictures": pictures,
        "error": None if error is None else _error_facts(error),
        "links": {"self": path, "events": f"{path}/events"},
        "prompt": getattr(job.request, "prompt", None),
        "captions": [panel.caption for panel in panels],
        "queued_at": _second(job.queued_at),
    }


def _error_facts(error: Exception) -> dict[str, str]:
    """Return an error as clients see it."""
    text = _UNCERTAIN if isinstance(error, SubmissionUncertainError) else str(error)
    return {"type": type(error).__name__, "message": text}


def at_vendor(job: ComicJob) -> Sequence[str | None]:
    """Return the URLs of a job's pictures at the vendor.

    Those of a job that runs are its panels', `None` where one is not drawn yet. In the end,
    pictures that could not be fetched are there for a while.
    """
    if job.state is BatchState.RUNNING:
        return [panel.asset_url for panel in job.panels]
    comic = job.generation if job.state is BatchState.SUCCEEDED else None
    return comic.asset_urls if comic is not None else ()


def _second(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
