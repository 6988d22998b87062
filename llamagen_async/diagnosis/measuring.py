"""Measuring what the server meters: a handful of reads through a client, which counts them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

import attrs

from llamagen_async.client import LlamaGenClient
from llamagen_async.clock import Clock
from llamagen_async.diagnosis.metering import STEPS, Metering, Readings, judge_metering
from llamagen_async.errors import APIError, LlamaGenError, NotFoundError
from llamagen_async.models import Usage
from llamagen_async.plans import RequestKind
from llamagen_async.transport import APIRequest, APIResponse, Transport

__all__ = ["MADE_UP_ID", "MOMENT", "Exchange", "ObservedTransport", "measure"]

MADE_UP_ID: Final = "doctor-made-up-id"
"""The id that is asked for where none is known."""
MOMENT: Final = 5.0
"""Seconds of the server's clock before the last usage call: a count that lags behind by less is
noticed (chosen)."""


@attrs.frozen
class Exchange:
    """One exchange with the server."""

    request: APIRequest
    """The request."""
    began: float
    """Unix time at which it was sent, in seconds."""
    ended: float
    """Unix time at which its answer had come, in seconds."""
    status: int | None
    """The HTTP status; `None` if no answer came."""
    headers: Mapping[str, str] = attrs.field(repr=False, hash=False)
    """The answer's headers, as far as they are kept."""
    body: object = attrs.field(repr=False, hash=False)
    """The decoded body."""
    error: Exception | None = None
    """The error that came of it."""


class ObservedTransport:
    """A transport that tells of each exchange and leaves everything else to another one.

    Args:
        inner: Carries the requests.
        observe: Told of each exchange once it has ended.
    """

    def __init__(self, inner: Transport, observe: Callable[[Exchange], None]) -> None:
        self._inner = inner
        self._observe = observe

    async def send(self, request: APIRequest) -> APIResponse:
        """Send `request` once; see `Transport.send`."""
        began = time.time()
        try:
            answer = await self._inner.send(request)
        except LlamaGenError as error:
            answered = error if isinstance(error, APIError) else None
            self._observe(
                Exchange(
                    request,
                    began,
                    time.time(),
                    answered.status if answered else None,
                    answered.headers if answered else {},
                    answered.body if answered else None,
                    error,
                )
            )
            raise
        ended = time.time()
        self._observe(Exchange(request, began, ended, answer.status, answer.headers, answer.body))
        return answer

    async def aclose(self) -> None:
        """Close the other transport."""
        await self._inner.aclose()


async def measure(
    client: LlamaGenClient, id_: str | None = None, *, first: Usage | None = None
) -> Metering:
    """Find out whether status checks and usage calls count, by the server's own count.

    Args:
        client: The client that sends, and counts, the requests of `STEPS`.
        id_: The id of a comic of this key; without one a made-up id is asked for.
        first: The answer about usage that has just come: it is the first step, then.

    Raises:
        LlamaGenError: A request failed; nothing can be told.
    """
    counts: list[int | None] = []
    check_found = True
    for number, kind in enumerate(STEPS):
        if kind is RequestKind.STATUS:
            check_found &= await _check(client, id_ or MADE_UP_ID)
            continue
        if number == len(STEPS) - 1:
            await Clock(client.speed).sleep(MOMENT)
        is_known = number == 0 and first is not None
        usage = first if is_known and first is not None else await client.comics.usage()
        counts.append(usage.api_usage_count)
        if usage.api_usage_count is None:
            break  # the rest would be sent for nothing
    return judge_metering(Readings(tuple(counts), check_found))


async def _check(client: LlamaGenClient, id_: str) -> bool:
    """Make a status check; return whether the server knows the id."""
    try:
        await client.comics.get(id_)
    except NotFoundError:
        return False
    return True
