"""Jobs and limits as JSON says them. No I/O."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from llamagen_async.batch.events import ComicJob
from llamagen_async.models import BatchState, ComicGeneration
from llamagen_async.ratelimit import LimitsSnapshot

__all__ = ["job_facts", "job_path", "limits_facts"]


def job_path(root: str, key: str) -> str:
    """Return the path of a job; `root` is where the routes are mounted."""
    return f"{root}/comics/{quote(key, safe='')}"


def job_facts(job: ComicJob, root: str) -> dict[str, Any]:
    """Return a job as clients see it."""
    path, comic, error = job_path(root, job.key), job.generation, job.error
    # Pictures that could not be fetched are at the vendor for a while; those that still may be
    # fetched are told when they are here.
    at_vendor = comic.asset_urls if comic and job.state is BatchState.SUCCEEDED else ()
    pictures = job.files or at_vendor
    pages = comic.pages if isinstance(comic, ComicGeneration) else ()
    captions = [one.caption for page in pages for one in page.panels if one.asset_url]
    return {
        "key": job.key,
        "state": job.state.value,
        "id": comic.id if comic else None,
        "position": job.position,
        "expected_at": _second(job.expected_at),
        "pictures": [f"{path}/pictures/{number}" for number in range(len(pictures))],
        "error": None if error is None else {"type": type(error).__name__, "message": str(error)},
        "links": {"self": path, "events": f"{path}/events"},
        "prompt": getattr(job.request, "prompt", None),
        "captions": captions,
        "queued_at": _second(job.queued_at),
    }


def limits_facts(snapshot: LimitsSnapshot, now: datetime, speed: float) -> dict[str, Any]:
    """Return the limits; seconds are real ones, but for the length of a window.

    Args:
        snapshot: The limits.
        now: The time, in UTC.
        speed: How many times faster than real time the server's clock runs.
    """

    def at(seconds: float) -> str | None:
        return (now + timedelta(seconds=seconds / speed)).isoformat() if seconds > 0 else None

    return {
        "plan": snapshot.plan,
        "windows": [
            {
                "limit": one.limit.limit,
                "per": one.limit.per,
                "used": one.used,
                "free": one.free,
                "next_free_in": max(one.next_free_in, snapshot.paused_for) / speed,
                "next_free_at": at(max(one.next_free_in, snapshot.paused_for)),
            }
            for one in snapshot.windows
        ],
        "paused_for": snapshot.paused_for / speed,
        "paused_until": at(snapshot.paused_for),
        "in_flight": snapshot.in_flight,
        "burst": snapshot.burst,
        "clients": snapshot.clients,
        "waiting": {one.name.lower(): number for one, number in snapshot.waiting.items()},
        "waiting_before": snapshot.before(),
    }


def _second(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
