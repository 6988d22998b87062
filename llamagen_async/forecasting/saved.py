"""What a client has learned, kept between runs in the note that goes with the account.

Nothing depends on it, so nothing waits for it: it is read in the background, written now and then
and when the client closes, and a note that can't be read is as good as none. Several clients may
write: the one that has seen more is kept.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import attrs

from llamagen_async.errors import LlamaGenError
from llamagen_async.ratelimit.ledger import Ledger, StoreError

__all__ = ["ForecastStore", "Learned"]

_logger = logging.getLogger(__name__)

_VERSION: Final = 1
_EVERY: Final = 600.0
"""Real seconds between two writes while the client is open, at least."""
_GRACE: Final = 1.0
"""Real seconds that closing may take."""
_LONGEST: Final = 32 * 1024
"""Bytes of what is written, at most: to take it over stops the event loop, so long for 50 ms."""
_DAMAGED: Final = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)
"""What goes wrong when a note is read that is not as it was written."""
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode


class Learned(Protocol):
    """What is worth keeping."""

    @property
    def observed(self) -> int:
        """How much was seen; grows with whatever is learned."""
        ...

    def dump(self) -> dict[str, Any]:
        """Return it as plain data: the most general entry first, the least recent one next."""
        ...

    def load(self, state: Mapping[str, Any]) -> None:
        """Start from what was dumped, unless something was learned since."""
        ...


@attrs.frozen
class _Note:
    observed: int
    learned: dict[str, Any]

    @classmethod
    def parse(cls, text: str) -> _Note:
        note: dict[str, Any] = json.loads(text)
        if note["version"] != _VERSION:
            raise ValueError("another version")
        return cls(int(note["observed"]), dict(note["learned"]))


class ForecastStore:
    """Keeps what one client learns in a ledger's note.

    Args:
        ledger: Has the note.
        learned: What to keep.
        loaded: Called when it was taken over from the note.
    """

    def __init__(self, ledger: Ledger, learned: Learned, *, loaded: Callable[[], None]) -> None:
        self._ledger = ledger
        self._learned = learned
        self._loaded = loaded
        self._loading: asyncio.Task[None] | None = None
        self._saving: asyncio.Task[None] | None = None
        self._kept = 0
        """How much of what was seen is in the note."""
        self._save_at = math.inf
        self._closed = False

    def begin(self) -> None:
        """Read the note in the background, if that was not done before."""
        if self._loading is None and not self._closed:
            loop = asyncio.get_running_loop()
            self._save_at = loop.time() + _EVERY
            self._loading = loop.create_task(self._load())

    def save_now_and_then(self) -> None:
        """Write the note in the background if there is news, and the last time is long ago."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._save_at or self._closed or not self._has_news():
            return
        self._save_at = loop.time() + _EVERY
        if self._saving is None or self._saving.done():
            self._saving = loop.create_task(self._save())

    async def aclose(self) -> None:
        """Write what is new, which takes a second at most, and leave nothing behind."""
        self._closed = True
        loop = asyncio.get_running_loop()
        # What belongs to a loop that is gone has ended with it.
        running = [
            task
            for task in (self._loading, self._saving)
            if task is not None and not task.done() and task.get_loop() is loop
        ]
        if self._loading in running:
            self._loading.cancel()
        try:
            async with asyncio.timeout(_GRACE):
                if running:
                    await asyncio.wait(running)
                if self._has_news():
                    await self._save()
        except TimeoutError:
            _logger.debug("what was learned was not kept: the store is too slow")
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _has_news(self) -> bool:
        return self._learned.observed != self._kept

    async def _load(self) -> None:
        try:
            text = await self._ledger.recall()
            if text is None or self._has_news():
                return
            self._learned.load(_Note.parse(text).learned)
        except _DAMAGED as error:
            _logger.debug("the note of what was learned can't be read: %r", error)
        except (StoreError, LlamaGenError) as error:
            _logger.debug("what was learned before is not known: %s", error)
        else:
            self._kept = self._learned.observed
            self._loaded()

    async def _save(self) -> None:
        observed = self._learned.observed
        try:
            if not await self._knows_more(observed):
                await self._ledger.remember(self._text())
            self._kept = observed
        except (StoreError, LlamaGenError) as error:
            _logger.debug("what was learned was not kept: %s", error)

    async def _knows_more(self, observed: int) -> bool:
        """Return whether the note that is there rests on more than `observed`."""
        text = await self._ledger.recall()
        if text is None:
            return False
        try:
            return _Note.parse(text).observed > observed
        except _DAMAGED:
            return False

    def _text(self) -> str:
        """Return the note, without the entries that were not used for longest if it is long."""
        note: dict[str, Any] = {"version": _VERSION, "observed": self._learned.observed}
        learned = self._learned.dump()
        entries = [f"{_encode(name)}:{_encode(entry)}" for name, entry in learned.items()]
        room = _LONGEST - sum(len(entry) + 1 for entry in entries)
        while room < 0 and len(entries) > 1:
            room += len(entries.pop(1)) + 1
        return f'{_encode(note)[:-1]},"learned":{{{",".join(entries)}}}}}'
