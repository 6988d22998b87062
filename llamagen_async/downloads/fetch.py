"""One asset in the time that is given: when it is asked for again, and under which URL.

What may be over later is held out until time is up: lost connections, a host that is busy or fails.
No number of failures ends it before. A refusal (400, 401, 403, 404, 410 and the like) may mean that
the URL is too old, so the API is asked for a new one, once in a download. A URL that is not found
may also be too new for the host's caches: that is tried for some seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Final

import attrs

from llamagen_async.downloads.transfer import Transfer
from llamagen_async.errors import APIError, APITimeoutError, LlamaGenError
from llamagen_async.foreign import clean_text
from llamagen_async.observing import about, logger_of
from llamagen_async.transport.address import asset_location
from llamagen_async.transport.retries import delays, may_pass

__all__ = ["Fetch", "Renew", "Terms", "URLs"]

_logger = logger_of(__name__)

Renew = Callable[[], Awaitable[Sequence[tuple[str, str]]]]
"""Asks the API for pairs of URL and name."""

_REFUSALS: Final = range(400, 500)
_SETTLING: Final = 10.0
"""Seconds for which a URL that is not found is tried: caches know of a new file that late."""
_TOLD_AFTER: Final = 4
"""Failures after which the log tells that an asset is being held out for."""


class URLs:
    """The URLs of one download, which can be renewed once.

    Args:
        renew: Asks the API for the URLs as they are now; `None` if nobody can.
    """

    def __init__(self, renew: Renew | None) -> None:
        self.problem: LlamaGenError | None = None
        """Why they could not be renewed."""
        self._renew = renew
        self._renewed: dict[str, str] | None = None
        self._renewing = asyncio.Lock()

    async def renewed(self, name: str) -> str | None:
        """Return the new URL of an asset; `None` if there is none."""
        if self._renew is None:
            return None
        async with self._renewing:
            if self._renewed is None:
                self._renewed = {}  # once, whatever comes of it
                try:
                    self._renewed = {name: url for url, name in await self._renew()}
                except LlamaGenError as error:
                    self.problem = error
        return self._renewed.get(name)


@attrs.frozen
class Terms:
    """The time, the turns and the URLs that the fetches of one download have in common."""

    urls: URLs
    """Renews the URLs."""
    until: float
    """The time of the event loop at which it is given up."""
    speed: float
    """How many times faster than real time the waits pass."""
    turns: Sequence[asyncio.Semaphore]
    """Held by each attempt; who waits for the next one lets others go first."""


class Fetch:
    """Fetches one asset.

    Args:
        transfer: Makes the attempts.
        url: The asset's URL.
        name: The name by which its URL can be renewed.
        terms: What it has in common with others.

    Raises:
        InvalidRequestError: The URL is not http or https.
    """

    def __init__(self, transfer: Transfer, url: str, name: str, terms: Terms) -> None:
        self._transfer = transfer
        self._url = url
        self._place = asset_location(url)
        self._name = name
        self._terms = terms
        self._failure: LlamaGenError | None = None
        """How the last attempt ended."""
        self._refused_at: float | None = None
        """When the URL was refused first, by the event loop's time."""
        self._is_renewed = False
        """Whether a new URL was asked for."""
        self._is_new = False
        """Whether one was had."""

    async def run(self) -> Path:
        """Fetch the asset and return its file; see `download_assets`."""
        try:
            async with asyncio.timeout_at(self._terms.until):
                return await self._hold_out()
        except TimeoutError:
            raise self._out_of_time() from None
        finally:
            await self._transfer.discard()

    async def _hold_out(self) -> Path:
        loop, terms, transfer = asyncio.get_running_loop(), self._terms, self._transfer
        waits, failures, most = delays(terms.speed), 0, 0
        while True:
            try:
                async with contextlib.AsyncExitStack() as stack:
                    for turn in terms.turns:
                        await stack.enter_async_context(turn)
                    return await transfer.attempt(self._url)
            except LlamaGenError as error:
                self._failure = error
                if not (may_pass(error) or await self._may_pass_after_refusal(error)):
                    raise self._explained(error) from None
            if transfer.size > most:
                waits, most = delays(terms.speed), transfer.size  # it goes on: as at the beginning
            failures += 1
            if failures == _TOLD_AFTER:
                name = clean_text(self._name, 80)  # it begins with the generation's id
                text = "%s is not here yet (%s); it is held out for"
                _logger.warning(text, name, self._failure, extra=about(self._failure))
            wait = max(next(waits), transfer.asked_to_wait / terms.speed)
            if loop.time() + wait >= terms.until:
                raise self._out_of_time()
            await asyncio.sleep(wait)

    async def _may_pass_after_refusal(self, error: LlamaGenError) -> bool:
        """Whether the next attempt may fare better; a new URL is asked for once."""
        if not isinstance(error, APIError) or error.status not in _REFUSALS:
            return False
        now, is_missing = asyncio.get_running_loop().time(), error.status == HTTPStatus.NOT_FOUND
        if self._refused_at is None:
            self._refused_at = now
            if is_missing:
                return True
        if not self._is_renewed:
            self._is_renewed = True
            url = await self._terms.urls.renewed(self._name)
            if url is not None:
                self._url, self._place, self._is_new = url, asset_location(url), True
                return True
        return is_missing and (now - self._refused_at) * self._terms.speed < _SETTLING

    def _out_of_time(self) -> LlamaGenError:
        """Make the error for the end of the time: the last failure, if there was one."""
        if self._failure is not None:
            return self._explained(self._failure)
        size = self._transfer.size
        return APITimeoutError(f"{self._place}: not complete in the time given, after {size} bytes")

    def _explained(self, error: LlamaGenError) -> LlamaGenError:
        """Say of a refusal what was tried."""
        problem = self._terms.urls.problem
        if isinstance(error, APIError) and self._is_new:
            error.message += "; also with a new URL"
        elif isinstance(error, APIError) and self._is_renewed and problem:
            error.message += f"; a new URL could not be had ({problem})"
        return error
