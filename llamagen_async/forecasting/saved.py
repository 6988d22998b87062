"""The forecasts of a client, kept between its runs in a blob that a store keeps for the account.

Nothing depends on them, so nothing waits for them: they are read in the background, written every
few minutes and when the client closes, and a blob that can't be read counts as none. Several
clients may write: the one that has observed more is kept. Neither the key nor a request is in it.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from llamagen_async.errors import LlamaGenError
from llamagen_async.forecasting.forecast import MOST_OBSERVATIONS, DurationForecast
from llamagen_async.forecasting.poll_plan import ProfileForecast
from llamagen_async.forecasting.profiles import ANY, Forecasts, Profile
from llamagen_async.observing import logger_of
from llamagen_async.ratelimit.protocol import BlobStore
from llamagen_async.stored_values import DAMAGED, StoreError, encode

__all__ = ["ForecastStore", "dump_forecasts", "load_forecasts"]

_logger = logger_of(__name__)

_VERSION: Final = 1
_SEPARATOR: Final = "\x1f"
"""The character between the features of a profile, which is in none of them."""
_NEGLIGIBLE: Final = 1e-3
"""Part of one observation below which a bin of the histogram is not written."""
_EVERY: Final = 600.0
"""Real seconds between two writes while the client is open, at least."""
_GRACE: Final = 1.0
"""Real seconds that closing may take."""
_LONGEST: Final = 32 * 1024
"""Bytes that are written, at most: reading so many stops the event loop for 50 ms."""


class ForecastStore:
    """Keeps the forecasts of one client.

    Args:
        blobs: Keeps them as a text.
        forecasts: The forecasts to keep.
        loaded: Called when those of an earlier run were taken over, or can't be.
    """

    def __init__(
        self, blobs: BlobStore, forecasts: Forecasts, *, loaded: Callable[[], None]
    ) -> None:
        self.save_at: float = math.inf
        """When `save_soon` may write next, in seconds of the loop's clock."""
        self._blobs = blobs
        self._forecasts = forecasts
        self._loaded = loaded
        self._loading: asyncio.Task[None] | None = None
        self._saving: asyncio.Task[None] | None = None
        self._kept = 0
        """How many of the observations are saved."""
        self._closed = False

    def load_once(self) -> None:
        """Read the forecasts in the background, if that was not done before."""
        if self._loading is None and not self._closed:
            loop = asyncio.get_running_loop()
            self.save_at = loop.time() + _EVERY
            self._loading = loop.create_task(self._load())

    def save_soon(self) -> None:
        """Write the forecasts in the background if there is news and `save_at` is past."""
        loop = asyncio.get_running_loop()
        if loop.time() < self.save_at or self._closed or not self._has_news():
            return
        self.save_at = loop.time() + _EVERY
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
            _logger.debug("the forecasts were not kept: the store is too slow")
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _has_news(self) -> bool:
        return self._forecasts.observed != self._kept

    async def _load(self) -> None:
        try:
            text = await self._blobs.load_blob()
            if text is None or self._has_news():
                return
            self._forecasts.take_over(load_forecasts(text))
        except DAMAGED as error:
            _logger.debug("the forecasts of an earlier run can't be read: %r", error)
        except (StoreError, LlamaGenError) as error:
            _logger.debug("the forecasts of an earlier run are not known: %s", error)
        else:
            self._kept = self._forecasts.observed
        finally:
            self._loaded()

    async def _save(self) -> None:
        observed = self._forecasts.observed
        try:
            if not await self._is_surpassed(observed):
                await self._blobs.save_blob(dump_forecasts(self._forecasts))
            self._kept = observed
        except (StoreError, LlamaGenError) as error:
            _logger.debug("the forecasts were not kept: %s", error)

    async def _is_surpassed(self, observed: int) -> bool:
        """Return whether the forecasts that are saved rest on more than `observed`."""
        text = await self._blobs.load_blob()
        if text is None:
            return False
        try:
            return int(_parsed(text)["observed"]) > observed
        except DAMAGED:
            return False


def dump_forecasts(forecasts: Forecasts) -> str:
    """Return forecasts as a text, if it is long without those not used for longest."""
    head: dict[str, Any] = {"version": _VERSION, "observed": forecasts.observed}
    entries = [
        f"{encode(_SEPARATOR.join(profile))}:{encode(_dump(one.forecast))}"
        for profile, one in forecasts.profiles.items()
    ]
    room = _LONGEST - sum(len(entry) + 1 for entry in entries)
    while room < 0 and len(entries) > 1:
        room += len(entries.pop(1)) + 1
    return f'{encode(head)[:-1]},"learned":{{{",".join(entries)}}}}}'


def load_forecasts(text: str) -> dict[Profile, ProfileForecast]:
    """Return the forecasts that a text describes.

    Raises:
        ValueError: It describes none of this version; many other errors if it is damaged.
    """
    return {
        tuple(name.split(_SEPARATOR)) if name else ANY: ProfileForecast(_load(state))
        for name, state in dict(_parsed(text)["learned"]).items()
    }


def _parsed(text: str) -> dict[str, Any]:
    blob: dict[str, Any] = json.loads(text)
    if blob["version"] != _VERSION:
        raise ValueError("another version")
    return blob


def _dump(forecast: DurationForecast) -> dict[str, Any]:
    return {
        "observed": forecast.observed,
        "evidence": [round(value, 4) for value in forecast.evidence],
        "weights": [round(value, 4) for value in forecast.weight_evidence],
        "seen": {
            str(position): round(weight, 5)
            for position, weight in enumerate(forecast.seen)
            if weight > _NEGLIGIBLE
        },
    }


def _load(state: Mapping[str, Any]) -> DurationForecast:
    forecast = DurationForecast()
    for known, name in ((forecast.evidence, "evidence"), (forecast.weight_evidence, "weights")):
        values = [float(value) for value in state[name]]
        if len(values) != len(known) or not all(map(math.isfinite, values)):
            raise ValueError(f"{name} of another version")
        known[:] = values
    for position, weight in state["seen"].items():
        if not 0 <= float(weight) <= MOST_OBSERVATIONS:
            raise ValueError(f"an impossible weight: {weight}")
        forecast.seen[int(position)] = float(weight)
    forecast.observed = int(state["observed"])
    forecast.update()
    return forecast
