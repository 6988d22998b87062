"""Claims about the API, asked of a real server. Most only read; those that cost credits say so.

What the documentation leaves open is not claimed: it is written into the report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

import attrs
import pytest

from llamagen_async import (
    APIError,
    AuthenticationError,
    LlamaGenClient,
    NotFoundError,
    PermissionDeniedError,
    Usage,
)
from llamagen_async.diagnosis import ObservedTransport, measure
from llamagen_async.diagnosis.metering import setting_for
from llamagen_async.plan_detection import plan_for
from llamagen_async.transport import HTTPTransport
from tests.live.report import Report

MADE_UP = "made-up-by-nox-live"
WRONG_KEY = "sk-" + "0" * 40
CREDITS = 150
"""Credits of a comic of one panel, by the vendor's price page: an estimate."""

_F = TypeVar("_F", bound=Callable[..., Any])


@attrs.define
class Live:
    """One conversation: where to, with which key, and where it is written down."""

    base_url: str
    api_key: str = attrs.field(repr=False)
    report: Report
    comic: str | None = None
    """The id of a comic that the key has."""
    speed: float = 1.0
    usage: Usage | None = None

    def client(self, key: str | None = None) -> LlamaGenClient:
        """Return a client whose exchanges are written down; it counts in this user's own store."""
        http = HTTPTransport(self.base_url, key or self.api_key)
        return LlamaGenClient(
            key or self.api_key,
            base_url=self.base_url,
            speed=self.speed,
            quota="memory" if key else None,
            max_retries=0,
            transport=ObservedTransport(http, self.report.observe),
        )


def sends(*, needs: str = "", **requests: int) -> Callable[[_F], _F]:
    """Say how many requests of each kind a test sends at most, and what it needs to be run."""

    def mark(function: _F) -> _F:
        function.sends, function.needs = Counter(requests), needs  # type: ignore[attr-defined]  # read by __main__
        return function

    return mark


@sends(usage=1)
async def test_usage_has_a_field_of_a_known_name(live: Live) -> None:
    """Usage has apiUsageCount, apiMaxUsage, credits or isPaidPlan."""
    async with live.client() as client:
        live.usage = used = await client.comics.usage()
    live.report.learn(f"the fields of usage are {', '.join(sorted(used.raw))}")
    live.report.learn(f"by its answer about usage the plan is {plan_for(used).name}")
    known = (used.api_usage_count, used.api_max_usage, used.credits, used.is_paid_plan)
    assert any(value is not None for value in known)


@sends(usage=1)
async def test_a_wrong_key_is_refused(live: Live) -> None:
    """A wrong key is refused with 401 (or 403)."""
    async with live.client(WRONG_KEY) as client:
        with pytest.raises((AuthenticationError, PermissionDeniedError)) as refused:
            await client.comics.usage()
    live.report.learn(f"a wrong key is refused with {refused.value.status}")


@sends(status=1)
async def test_an_unknown_id_is_not_found(live: Live) -> None:
    """A status check of an unknown id is answered with 404."""
    async with live.client() as client:
        try:
            await client.comics.get(MADE_UP)
        except NotFoundError:
            return
        except APIError as error:
            live.report.learn(f"an unknown id is answered with {error.status}")
            raise
    raise AssertionError("an unknown id was answered with a comic")


@sends(status=1, needs="comic")
async def test_a_known_comic_is_read(live: Live) -> None:
    """A comic of the key is read, with its id and a known status word."""
    assert live.comic is not None
    async with live.client() as client:
        comic = await client.comics.get(live.comic)
    live.report.learn(f"the status word of a known comic is {comic.raw.get('status')!r}")
    live.report.learn(f"the fields of a comic are {', '.join(sorted(comic.raw))}")
    assert comic.id == live.comic
    assert comic.status is not None


@sends(status=1, needs="comic")
async def test_one_panel_is_read(live: Live) -> None:
    """A status check with page and panel is answered for that comic."""
    assert live.comic is not None
    async with live.client() as client:
        comic = await client.comics.get(live.comic, page=0, panel=0)
    live.report.learn(f"with page and panel its fields are {', '.join(sorted(comic.raw))}")
    assert comic.id == live.comic


@sends(usage=5, status=2)
async def test_what_is_metered(live: Live) -> None:
    """The server's count moves by what it meters."""
    async with live.client() as client:
        measured = await measure(client, live.comic)
    words = {True: "count", False: "do not count", None: "can't be told"}
    live.report.learn(f"usage calls: {words[measured.usage]}")
    live.report.learn(f"status checks: {words[measured.status]}")
    if measured.reason:
        live.report.learn(f"why not all is told: {measured.reason}")
    setting = setting_for(plan_for(live.usage or Usage()), measured.metered)
    live.report.learn(f"the plan to use: {setting.options}")
    assert measured.moves, measured.reason


@sends(create=1, status=12, needs="credits")
async def test_a_comic_of_one_panel(live: Live) -> None:
    """A create is accepted, ends, and its picture has a URL."""
    async with live.client() as client:
        created = await client.comics.create("A cat finds a hat", fix_panel_num=1)
        live.report.scrubber.named(created.id)
        live.report.learn(f"the fields of a new comic are {', '.join(sorted(created.raw))}")
        comic = await client.comics.wait_for_completion(created.id)
    live.report.learn(f"the status word of a finished comic is {comic.raw.get('status')!r}")
    assert comic.succeeded
    assert comic.asset_urls
