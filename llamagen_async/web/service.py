"""The client and the queue behind the routes: made from the environment when first needed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections import OrderedDict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from llamagen_async.batch.protocol import JobQueue
from llamagen_async.batch.queue import ComicQueue
from llamagen_async.client import LlamaGenClient
from llamagen_async.downloads.held import HeldPictures
from llamagen_async.errors import ClientClosedError, InvalidRequestError, LlamaGenError
from llamagen_async.observing import logger_of
from llamagen_async.validation import whole_number
from llamagen_async.webhooks import ReplayGuard, WebhookEvent, announcement_of
from llamagen_async.webhooks.signatures import Secrets

__all__ = ["MAX_QUEUED", "ComicService"]

MAX_QUEUED: Final = 1_000
"""Jobs that may be queued: on the paid plan more than three hours' (chosen)."""
_FOLDER: Final = "comics"
"""The folder of the pictures if none is named."""
_JOURNAL: Final = "journal.db"
"""The name of the journal in that folder if none is named, as on the command line."""
_NOT_STARTED: Final = (
    "the comics app is not started: give your app its lifespan, and in a test use "
    "`with TestClient(app)`"
)
_GRACE: Final = 5.0
"""Real seconds that creates in flight are given when the server closes."""
_LARGEST_EVENT: Final = 65_536
"""Characters of an event that is handed on whole (chosen: a comic of 50 panels); of a larger one
other workers are told that the comic has ended."""
_MOST_KEPT: Final = 1_000
"""Finished jobs whose JSON is kept, so that whoever asks again costs nothing."""
_LARGEST_KEPT: Final = 20_000
"""Bytes of the largest JSON that is kept (chosen: a story of 3,000 words)."""
_KEPT_FOR: Final = timedelta(hours=12)
"""Time since a job's end for which its JSON is kept: no queue forgets a job within a day, after
which its key may mean another one."""

_logger = logger_of(__name__)


class ComicService:
    """The client and the queue behind the routes, for one event loop.

    Args:
        client: The client; `None` makes one from the environment, and closes it.
        journal: The journal; `$LLAMAGEN_JOURNAL`, or `journal.db` in `out`, if not given.
        out: The folder of the pictures; `$LLAMAGEN_OUT`, or `comics`, if not given.
        webhook_secret: The secret of the vendor's events, or several while it is changed;
            `$LLAMAGEN_WEBHOOK_SECRET` if not given.
        max_queued: How many jobs may be queued before more are refused.
        queue: A queue of yours, such as one of taskiq, instead of one on a journal; it is started
            and closed here.

    Raises:
        InvalidRequestError: An argument is not allowed.
    """

    def __init__(
        self,
        client: LlamaGenClient | None,
        *,
        journal: str | os.PathLike[str] | None,
        out: str | os.PathLike[str] | None,
        webhook_secret: Secrets | None,
        max_queued: int,
        queue: JobQueue | None = None,
    ) -> None:
        if queue is not None and (journal is not None or out is not None):
            named = "journal" if journal is not None else "out"
            value = journal if journal is not None else out
            raise InvalidRequestError(named, value, "nothing beside queue=, which has its own")
        self._given = client
        self._given_queue = queue
        self._journal = journal
        self._out = out
        self._webhook_secrets = _trimmed(webhook_secret)
        self.max_queued: Final = whole_number("max_queued", max_queued, at_least=1)
        self.submitting = 0
        """Jobs that are being submitted now."""
        self.guard: Final = ReplayGuard()
        """The vendor's events that came lately."""
        self._kept: Final[OrderedDict[tuple[str, str], tuple[datetime, bytes]]] = OrderedDict()
        """The JSON of finished jobs, and until when it is kept, by where the routes are mounted and
        the job's key."""
        self.draining: asyncio.Event = asyncio.Event()
        """Set when streams are to end, because the server closes."""
        self._is_closed = False
        self._client: LlamaGenClient | None = None
        self._queue: JobQueue | None = None
        self._pictures: HeldPictures | None = None
        self._starting = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        """The event loop to which it belongs."""
        self._left: JobQueue | None = None
        """The queue of a loop that is closed."""
        self._is_owned = False
        """Whether somebody will close it."""

    @property
    def client(self) -> LlamaGenClient:
        """The client.

        Raises:
            ClientClosedError: It is not started yet.
        """
        if self._client is None:
            raise ClientClosedError(_NOT_STARTED)
        return self._client

    @property
    def queue(self) -> JobQueue:
        """The queue.

        Raises:
            ClientClosedError: It is not started yet.
        """
        if self._queue is None:
            raise ClientClosedError(_NOT_STARTED)
        return self._queue

    @property
    def webhook_secrets(self) -> list[str | bytes]:
        """The secrets of which any may have signed the vendor's events; none if none is known."""
        return self._webhook_secrets or _trimmed(os.environ.get("LLAMAGEN_WEBHOOK_SECRET"))

    @property
    def pictures(self) -> HeldPictures:
        """The vendor's pictures of comics whose files are not here.

        Raises:
            ClientClosedError: The client is closed.
        """
        if self._pictures is None:
            self._pictures = HeldPictures(self.client.assets)
        return self._pictures

    async def started(self) -> JobQueue:
        """Return the queue; it is started if it was not.

        Raises:
            ClientClosedError: The server closes, or it works in another event loop.
            InvalidRequestError: `open` was called, and there is no API key, or another setting is
                not allowed.
            LlamaGenError: The same for a request, which is not to blame for it.
            JournalError: The journal can't be opened, or a batch works with it.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._enter(loop)
        if self._queue is not None:
            return self._queue
        async with self._starting:
            if self._is_closed:
                raise ClientClosedError("the server closes")
            if self._queue is None:
                if self._is_owned:
                    await self._start()
                else:
                    await self._start_late()
            return self.queue

    async def open(self) -> None:
        """Start, for somebody who will call `aclose`. The errors are those of `started`."""
        self._is_owned, self._is_closed = True, False
        # New ones: the last ones may belong to an event loop that is gone.
        self.draining, self._starting = asyncio.Event(), asyncio.Lock()
        await self.started()

    async def aclose(self) -> None:
        """Close in order: streams are ended, creates in flight recorded, then all is let go."""
        self.draining.set()
        self._is_owned, self._is_closed = False, True
        async with self._starting:
            queue, self._queue = self._queue, None
            client, self._client = self._client, None
            pictures, self._pictures = self._pictures, None
            try:
                if pictures is not None:
                    await pictures.aclose()
                if queue is not None:
                    await queue.aclose(_GRACE)
            finally:
                self._loop = None
                if client is not None and client is not self._given:
                    await client.aclose()

    async def deliver(self, event: WebhookEvent) -> None:
        """Hand a verified event of the vendor to whichever worker waits for it."""
        if not self.client.deliver(event) and isinstance(self._queue, ComicQueue):
            raw = event.raw
            if len(json.dumps(dict(raw))) > _LARGEST_EVENT:
                announcement = announcement_of(event)
                raw = {"type": event.type, "data": {"id": announcement and announcement.id}}
            await self._queue.announce(raw)

    def kept(self, name: tuple[str, str]) -> bytes | None:
        """Return the JSON of a finished job, if it is kept."""
        until, content = self._kept.get(name, (None, None))
        return None if until is None or datetime.now(UTC) > until else content

    def keep(self, name: tuple[str, str], content: bytes, ended_at: datetime) -> None:
        """Keep the JSON of a job that has finished."""
        if len(content) <= _LARGEST_KEPT:
            self._kept[name] = ended_at + _KEPT_FOR, content
        while len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)

    def _enter(self, loop: asyncio.AbstractEventLoop) -> None:
        """Belong to an event loop from now on.

        A client of tests without a lifespan has one for each request, and what ran in one that is
        closed has ended.
        """
        if self._loop is not None:
            if not self._loop.is_closed():
                raise ClientClosedError(
                    "the comics app works in another event loop: make one app in each loop"
                )
            self._left, self._queue = self._queue, None
            self._client = self._pictures = None
            self.draining, self._starting = asyncio.Event(), asyncio.Lock()
        self._loop = loop

    async def _start_late(self) -> None:
        try:
            await self._start()
        except InvalidRequestError as error:
            raise LlamaGenError(f"the comics app can't be started: {error}") from error
        _logger.warning(
            "the comics app was started by its first request, so creates on their way are not "
            "waited for when the server ends: give your app its lifespan"
        )

    async def _start(self) -> None:
        left, self._left = self._left, None
        if left is not None:
            with contextlib.suppress(Exception):
                await left.aclose()
        client = self._given or LlamaGenClient(webhooks=bool(self.webhook_secrets))
        queue = self._given_queue or self._new_queue(client)
        try:
            await queue.start()
        except BaseException:
            with contextlib.suppress(Exception):
                await queue.aclose()
            if client is not self._given:
                await client.aclose()
            raise
        self._kept.clear()
        self._client, self._queue = client, queue

    def _new_queue(self, client: LlamaGenClient) -> JobQueue:
        out = Path(self._out or os.environ.get("LLAMAGEN_OUT") or _FOLDER)
        journal = self._journal or os.environ.get("LLAMAGEN_JOURNAL") or out / _JOURNAL

        def announced(raw: dict[str, Any]) -> None:
            client.deliver(WebhookEvent.parse(raw))

        return ComicQueue(client, journal, out=out, announced=announced)


def _trimmed(given: Secrets | None) -> list[str | bytes]:
    """Return secrets; a file that one was read from may end with a line break, and none does."""
    is_one = given is None or isinstance(given, str | bytes)
    secrets: list[str | bytes] = []
    for secret in [given] if is_one or not isinstance(given, Iterable) else given:
        if not isinstance(secret, str | bytes | None):
            # The error does not repeat what may be a secret of another form.
            name, allowed = type(secret).__name__, "one secret, or several while it is changed"
            raise InvalidRequestError("webhook_secret", name, allowed)
        if trimmed := (secret or "").strip():
            secrets.append(trimmed)
    return secrets
