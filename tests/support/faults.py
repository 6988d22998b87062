"""A server in virtual time that goes away and comes back in every way that a network knows."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

import attrs

from llamagen_async import (
    APIConnectionError,
    InvalidResponseError,
    RateLimitError,
    RequestKind,
    ServerError,
)
from llamagen_async.transport import APIRequest, APIResponse
from tests.support.scripted import Network, now

__all__ = ["FAULTS", "Faulty", "Outage"]

FAULTS: Final = (
    "unreached",
    "refused at the door",
    "broken",
    "broken after it was done",
    "cut on the way there",
    "cut on the way back",
    "garbage",
    "moved",
    "late",
    "slow",
    "too many",
    "another id",
    "one id twice",
)
"""The ways in which a server fails."""


_ON_THE_WAY: Final[dict[str, Any]] = {
    "refused at the door": ServerError(500, None, "away"),
    "broken": ServerError(503, None, "away"),
    "cut on the way there": APIConnectionError("the connection was dropped before the answer"),
    "late": APIConnectionError("no complete answer in the time allowed"),
}
_ON_THE_WAY_BACK: Final[dict[str, Any]] = {
    "broken after it was done": ServerError(504, None, "away"),
    "cut on the way back": APIConnectionError("the answer is incomplete"),
    "garbage": InvalidResponseError(200, None, "not JSON", "<html>"),
}
_TIMEOUT: Final = 30.0
"""Seconds after which a request is given up."""


@attrs.frozen
class Outage:
    """A time in which requests fail."""

    begin: float
    seconds: float
    fault: str
    kinds: tuple[RequestKind, ...] = tuple(RequestKind)
    """The kinds of requests that fail."""

    @property
    def end(self) -> float:
        return self.begin + self.seconds

    def hits(self, kind: RequestKind) -> bool:
        return kind in self.kinds and self.begin <= now() < self.end


class Faulty(Network):
    """A network with outages, which remembers what each request may have come to.

    Args:
        outages: When it fails, and how.
        settings: The settings of a `Network`.
    """

    def __init__(self, *arguments: Any, outages: Iterable[Outage], **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.outages = list(outages)
        self.delivered: set[str] = set()
        """Ids of comics that have reached the client."""
        self.doubtful: Counter[str] = Counter()
        """Stories whose creates may have arrived, while their answers did not."""

    async def send(self, request: APIRequest) -> APIResponse:
        """Carry a request, or fail as the first outage of this time does."""
        fault = next((one.fault for one in self.outages if one.hits(request.kind)), "")
        story = request.json.get("prompt", "") if isinstance(request.json, dict) else ""
        if fault == "unreached":
            raise APIConnectionError("no connection", request_sent=False)
        if fault == "moved":
            raise InvalidResponseError(302, None, "a redirect")
        if fault == "too many":
            raise RateLimitError(429, None, "too many", None, None)
        try:
            return await self._carry(request, fault)
        except (APIConnectionError, InvalidResponseError, ServerError, asyncio.CancelledError):
            self.doubtful[story] += 1
            raise

    async def _carry(self, request: APIRequest, fault: str) -> APIResponse:
        if fault in ("late", "slow"):
            await asyncio.sleep(_TIMEOUT if fault == "late" else _TIMEOUT - 1)
        if fault in _ON_THE_WAY:
            raise attrs.evolve(_ON_THE_WAY[fault])
        response = await super().send(request)
        if fault in _ON_THE_WAY_BACK:
            raise attrs.evolve(_ON_THE_WAY_BACK[fault])
        body: Any = response.body
        if fault == "another id" and request.kind is RequestKind.STATUS:
            response = attrs.evolve(response, body={**body, "id": "cmc_of_another"})
        if request.kind is RequestKind.CREATE:
            if fault == "one id twice" and self.delivered:
                response = attrs.evolve(response, body={**body, "id": min(self.delivered)})
            self.delivered.add(response.body["id"])  # type: ignore[index]  # a decoded answer
        return response
