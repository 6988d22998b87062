"""Webhook events of the sandbox: what is sent when, how it is signed, and what goes wrong.

Types, headers and the signature are the vendor's (its JavaScript client, 2.11.0). What `data` holds
is not documented: here it is the id and the status, or the whole answer of a status check. How
often the vendor repeats an event that was not accepted is not known either.

Nothing here is shared with the code that reads events, so that neither can hide a mistake of the
other.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Literal, get_args
from urllib.parse import urlsplit

import attrs

from llamagen_async.models import GenerationStatus
from llamagen_async.sandbox.generations import Run, SandboxGeneration, generation_id
from llamagen_async.sandbox.service import SandboxService
from llamagen_async.validation import InvalidRequestError

__all__ = ["RETRIES", "EventData", "Post", "Webhook", "WebhookSender"]

EventData = Literal["status", "result"]
"""Contents of an event's `data`: id and status, or all that a status check would show."""

Post = Callable[[bytes, dict[str, str]], Awaitable[int]]
"""A function that sends a body with its headers and returns the HTTP status; 0 if none came."""

RETRIES: Final = (5.0, 30.0, 120.0, 600.0)
"""Seconds before each repetition of an event that was not accepted: the sandbox's choice."""

_TYPE: Final = "comic.generation."
"""The beginning of all types."""
_ENDS: Final = {GenerationStatus.SUCCEEDED: "completed", GenerationStatus.FAILED: "failed"}
"""The last word of the type of a final event."""
_OVERTAKEN: Final = 1.0
"""Seconds after the next event at which one comes that it overtakes, and a second copy."""
_FORGER: Final = "not the secret"
"""The secret with which forged events are signed."""

_logger = logging.getLogger(__name__)


@attrs.frozen
class Webhook:
    """An endpoint that gets the sandbox's events.

    Raises:
        InvalidRequestError: A value is not allowed.
    """

    url: str
    """The URL to which events are sent."""
    secret: str = attrs.field(repr=False)
    """The secret with which they are signed."""
    data: EventData = "status"
    """Contents of an event's `data`."""

    def __attrs_post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            is_url = parts.scheme in ("http", "https") and bool(parts.hostname)
        except ValueError:
            is_url = False
        if not is_url:
            raise InvalidRequestError("url", self.url, "an http or https URL")
        if not self.secret:
            raise InvalidRequestError("secret", self.secret, "the secret that signs the events")
        if self.data not in get_args(EventData):
            raise InvalidRequestError("data", self.data, " or ".join(get_args(EventData)))


class WebhookSender:
    """Sends the events of a service's generations, each when it happens.

    Args:
        service: The service whose generations are followed from now on, and whose faults happen
            to the events.
        webhook: The endpoint; its URL is `post`'s business.
        post: Sends one event.
        now: Tells the time of the API's clock in seconds.
        speed: The speed of the API's clock, as a multiple of real time.
    """

    def __init__(
        self,
        service: SandboxService,
        webhook: Webhook,
        post: Post,
        *,
        now: Callable[[], float],
        speed: float = 1.0,
    ) -> None:
        self.counts: Final[Counter[str]] = Counter()
        """Numbers of events: sent, accepted, refused (each attempt counts), lost, given up."""
        self._service: Final = service
        self._webhook: Final = webhook
        self._post: Final = post
        self._now: Final = now
        self._speed: Final = speed
        self._number = 0
        self._tasks: Final[set[asyncio.Task[None]]] = set()
        service.follow(self._start, self.counts)

    async def aclose(self) -> None:
        """Send nothing more."""
        self._service.follow(None)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, generation: SandboxGeneration) -> None:
        self._spawn(self._follow(generation, generation.run))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow(self, generation: SandboxGeneration, run: Run) -> None:
        """Send the events of one stretch of work, in tasks of their own."""
        moments = [("updated", run.processing_at)]
        if not generation.changes:
            moments.insert(0, ("created", run.started_at))
        moments.append((_ENDS[run.status(run.ready_at)], run.ready_at))
        for number, (word, due) in enumerate(moments):
            await self._sleep(due - self._now())
            following = moments[number + 1][1] - due if number + 1 < len(moments) else None
            self._happen(generation, word, due, following)

    def _happen(
        self, generation: SandboxGeneration, word: str, due: float, following: float | None
    ) -> None:
        """Send an event, or let it go wrong; `following` is when the next one happens."""
        hits = self._service.faults.draw(word)
        self._number += 1
        if "event-lost" in hits:
            self.counts["lost"] += 1
            return
        delay = hits["event-late"].number if "event-late" in hits else 0.0
        if "event-out-of-order" in hits and following is not None:
            delay += following + _OVERTAKEN
        shown = self._service.shown(generation, due)
        event = {
            "id": generation_id("evt", f"{self._service.seed}/{self._number}"),
            "type": f"{_TYPE}{word}",
            "created": int(self._service.epoch + due),
            "data": shown
            if self._webhook.data == "result"
            else {"id": shown["id"], "status": shown["status"]},
        }
        self._spawn(
            self._deliver(
                event,
                delay,
                is_forged="event-forged" in hits,
                copies=1 + ("event-doubled" in hits),
            )
        )

    async def _deliver(
        self, event: dict[str, Any], delay: float, *, is_forged: bool, copies: int
    ) -> None:
        await self._sleep(delay)
        if is_forged:
            await self._attempt(event, _FORGER)
        for copy in range(copies):
            await self._sleep(copy * _OVERTAKEN)
            for pause in (0.0, *RETRIES):
                await self._sleep(pause)
                if await self._attempt(event, self._webhook.secret):
                    break
            else:
                self.counts["given up"] += 1
                known = {"generation_id": event["data"]["id"], "job_key": None, "request_id": None}
                text = "event %s was not accepted, and is given up"
                _logger.warning(text, event["id"], extra=known)

    async def _attempt(self, event: dict[str, Any], secret: str) -> bool:
        """Send an event once; return whether it was accepted."""
        body = json.dumps(event, separators=(",", ":")).encode()
        # Receivers compare the timestamp with their own clock, however fast the API's runs.
        timestamp = str(int(time.time()))
        signed = timestamp.encode() + b"." + body
        signature = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
        self.counts["sent"] += 1
        request = generation_id("req", f"{event['id']}/{self.counts['sent']}")
        status = await self._post(
            body,
            {
                "Content-Type": "application/json",
                "X-Llama-Webhook-Id": event["id"],
                "X-Llama-Webhook-Request-Id": request,
                "X-Llama-Webhook-Timestamp": timestamp,
                "X-Llama-Webhook-Signature": f"v1={signature}",
            },
        )
        is_accepted = 200 <= status < 300  # noqa: PLR2004  # the success statuses of HTTP
        self.counts["accepted" if is_accepted else "refused"] += 1
        return is_accepted

    async def _sleep(self, seconds: float) -> None:
        if seconds > 0:
            await asyncio.sleep(seconds / self._speed)
