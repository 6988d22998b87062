"""The examination: one subject after the other, from what is installed to what the server says.

Nothing is sent to the API but one usage call, through a client, so that it is counted as all other
requests are; and not even that where it could not be answered, or where the day's requests are
needed for comics. What fails does not end the examination: what does not depend on it goes on.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import attrs
from yarl import URL

from llamagen_async.client import LlamaGenClient
from llamagen_async.diagnosis.findings import Finding, Level, ok, problem, warning
from llamagen_async.diagnosis.judgements import (
    FoundKey,
    judge_clock,
    judge_key,
    judge_limits,
    judge_plan,
    judge_usage,
    judge_versions,
)
from llamagen_async.diagnosis.measuring import Exchange, ObservedTransport
from llamagen_async.diagnosis.network import Reach, reach
from llamagen_async.diagnosis.stores import examine_store
from llamagen_async.diagnosis.surroundings import judge_proxy, judge_reach, judge_store
from llamagen_async.diagnosis.versions import installed
from llamagen_async.errors import (
    AuthenticationError,
    InvalidRequestError,
    InvalidResponseError,
    LlamaGenError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
)
from llamagen_async.models import Usage
from llamagen_async.plans import Plan
from llamagen_async.quota import MEMORY
from llamagen_async.ratelimit import LimitsSnapshot
from llamagen_async.settings import find_base_url, find_key
from llamagen_async.transport import (
    HTTPTransport,
    check_key,
    is_vendors,
    normalize_base_url,
    proxy_for,
)
from llamagen_async.transport.address import is_loopback
from llamagen_async.transport.decoding import parse_http_date
from llamagen_async.validation import whole_number

__all__ = ["Examination", "Settings"]

_TIMEOUT: Final = 15.0
"""Real seconds that the usage call may take (chosen)."""
_LONGEST_WAIT: Final = 90.0
"""Real seconds that it may wait for a slot: a window of a minute, and its answer (chosen)."""
_OTHERS: Final = stat.S_IRGRP | stat.S_IROTH


@attrs.frozen
class Settings:
    """The settings to examine, as they were given; what is `None` comes from the environment."""

    api_key: str | None = attrs.field(default=None, repr=False)
    base_url: str | None = None
    plan: str | None = None
    metered: str | None = None
    quota: str | None = attrs.field(default=MEMORY, repr=False)
    """The store of spent requests; `None` if this user has no folder for one."""
    speed: float = 1.0
    proxy: str | None = attrs.field(default=None, repr=False)


class Examination:
    """One examination of a setting.

    Args:
        settings: The settings.
        tell: Told of each finding, in order.
        requests: Requests that will be sent, at least one.
    """

    def __init__(
        self, settings: Settings, tell: Callable[[Finding], None], *, requests: int = 1
    ) -> None:
        self.client: LlamaGenClient | None = None
        """The client that asks the server; `None` if there can be none."""
        self.usage: Usage | None = None
        """The server's answer about usage, if there was one."""
        self.problems: int = 0
        """How many problems were found."""
        self._settings = settings
        self._tell_user = tell
        self._requests = whole_number("requests", requests, at_least=1)
        self._exchange: Exchange | None = None
        self._refused = asyncio.Event()

    async def run(self) -> None:
        """Examine everything; close the client with `aclose` when done."""
        for one in judge_versions(installed()):
            self.tell(one)
        url = self._address()
        key = self._key(url)
        plan, source = self._plan()
        self.client = self._client(key, url, plan)
        reached = url is not None and await self._way(url)
        is_kept = await self._store()
        why_not = ""
        snapshot = None
        if self.client is not None and is_kept:
            snapshot = await self.client.limits()
            found, why_not = judge_limits(snapshot, needed=self._requests, is_auto=source == "auto")
            self.tell(found)
        if self.client is not None and reached and is_kept and not why_not:
            snapshot = await self._ask(self.client)
        elif why_not:
            self.tell(ok("server", f"not asked: {why_not}"))
        if plan is not None:
            self.tell(judge_plan(plan, source, self.usage))
        if self.usage is not None and snapshot is not None:
            self.tell(judge_usage(self.usage, snapshot))

    def tell(self, finding: Finding) -> None:
        """Hand a finding on, and count it."""
        self.problems += finding.level is Level.PROBLEM
        self._tell_user(finding)

    async def aclose(self) -> None:
        """Close the client."""
        if self.client is not None:
            await self.client.aclose()

    def _address(self) -> URL | None:
        given, source = find_base_url(self._settings.base_url)
        source = source or "--base-url"
        try:
            url = URL(normalize_base_url(given))
        except InvalidRequestError as error:
            said = str(error).removeprefix("base_url: ")
            self.tell(problem("address", f"{source}: {said}", "correct it"))
            return None
        self.tell(ok("address", f"{url} ({source})", url=str(url), source=source))
        return url

    def _key(self, url: URL | None) -> str | None:
        key, source = find_key(self._settings.api_key)
        found = FoundKey(source or "--api-key")
        checked = None
        if key is not None and key.strip():
            try:
                checked = check_key(key)
            except InvalidRequestError as error:
                found = attrs.evolve(found, error=f"it can't be one: allowed is {error.allowed}")
            else:
                found = attrs.evolve(
                    found,
                    length=len(checked),
                    is_vendors=checked.startswith("sk-"),
                    was_trimmed=checked != key,
                    is_readable=os.sep in source and _others_may_read(Path(source)),
                )
        self.tell(judge_key(found, at_vendor=url is not None and is_vendors(str(url))))
        return checked

    def _plan(self) -> tuple[Plan | None, str]:
        """Return the plan that is kept until the server has said otherwise, and who has set it."""
        named = self._settings.plan or os.environ.get("LLAMAGEN_PLAN") or ""
        source = "--plan" if self._settings.plan else "LLAMAGEN_PLAN" if named else "default"
        is_auto = named.strip().lower() == "auto"
        metered = self._settings.metered or os.environ.get("LLAMAGEN_METERED")
        try:
            plan = Plan.parse(Plan.DEMO if is_auto or not named else named)
            plan = attrs.evolve(plan, metered=metered) if metered else plan
        except InvalidRequestError as error:
            self.tell(problem("plan", str(error), "correct --plan (LLAMAGEN_PLAN) or --metered"))
            return None, source
        return plan, "auto" if is_auto else source

    def _client(self, key: str | None, url: URL | None, plan: Plan | None) -> LlamaGenClient | None:
        if key is None or url is None or plan is None or self._settings.quota is None:
            return None
        given: dict[str, Any] = {
            "plan": plan,
            "base_url": str(url),
            "quota": self._settings.quota,
            "speed": self._settings.speed,
            "max_retries": 0,
            "timeout": _TIMEOUT,
            "proxy": self._settings.proxy,
        }
        try:
            LlamaGenClient(key, **given)  # with a transport of one's own less is checked
            http = HTTPTransport(str(url), key, timeout=_TIMEOUT, proxy=self._settings.proxy)
        except InvalidRequestError as error:
            if error.field != "quota" and not error.field.endswith("_PROXY"):  # told elsewhere
                self.tell(problem("settings", str(error), "correct it"))
            return None
        return LlamaGenClient(key, transport=ObservedTransport(http, self._observe), **given)

    def _observe(self, exchange: Exchange) -> None:
        self._exchange = exchange
        if exchange.status == HTTPStatus.TOO_MANY_REQUESTS:
            self._refused.set()

    async def _way(self, url: URL) -> bool:
        """Go the way to the server; return whether it leads there."""
        given = self._settings.proxy
        is_here = is_loopback(url.host or "")
        name = f"{url.scheme.upper()}_PROXY"
        try:
            proxy = proxy_for(url, given)
            # With a proxy for all other hosts, NO_PROXY keeps this one from it.
            is_set = (
                given is None
                and proxy is None
                and proxy_for(url.with_host("elsewhere.example")) is not None
            )
        except InvalidRequestError as error:
            self.tell(problem("proxy", str(error), "correct the variable, or use --proxy"))
            return False
        shown = None if proxy is None else f"{proxy.scheme}://{proxy.host_port_subcomponent}"
        source = name if proxy else "NO_PROXY names this host" if is_set else f"{name} is not set"
        source = source if given is None else "--proxy"
        self.tell(judge_proxy(shown, source, is_loopback=is_here))
        found: Reach = await reach(url, proxy)
        now, uses_tls = datetime.now(UTC), url.scheme == "https"
        for one in judge_reach(found, now, uses_tls=uses_tls, through_proxy=proxy is not None):
            self.tell(one)
        return found.failed_at is None

    async def _store(self) -> bool:
        """Try the store; return whether it can be used."""
        if self._settings.quota is None:
            text = "this user has no home folder, so there is no file for spent requests"
            self.tell(problem("store", text, "name one with --quota sqlite:///PATH"))
            return False
        facts = await examine_store(self._settings.quota)
        self.tell(judge_store(facts))
        return facts.error is None

    async def _ask(self, client: LlamaGenClient) -> LimitsSnapshot | None:
        """Ask for the usage; tell what came of it, and what the server's clock says."""
        asking = asyncio.create_task(client.comics.usage())
        refused = asyncio.create_task(self._refused.wait())
        await asyncio.wait(
            {asking, refused}, timeout=_LONGEST_WAIT, return_when=asyncio.FIRST_COMPLETED
        )
        refused.cancel()
        asking.cancel()
        (outcome, _) = await asyncio.gather(asking, refused, return_exceptions=True)
        exchange = self._exchange
        if isinstance(outcome, Usage):
            self.usage = outcome
            self.tell(ok("server", "answers, and accepts the key"))
        else:
            of_exchange = exchange.error if exchange is not None else None
            self.tell(_unanswered(outcome if isinstance(outcome, LlamaGenError) else of_exchange))
        self._judge_clock(exchange)
        return await client.limits() if self.usage is not None else None

    def _judge_clock(self, exchange: Exchange | None) -> None:
        if exchange is None or exchange.status is None:
            return
        if self._settings.speed != 1:
            self.tell(ok("clock", "not compared: the server's runs at a speed of its own"))
            return
        told = parse_http_date(_header(exchange, "date"))
        if told is None:
            self.tell(ok("clock", "the server does not tell its time"))
            return
        # The header has whole seconds, cut off.
        ahead = told.timestamp() + 0.5 - (exchange.began + exchange.ended) / 2
        self.tell(judge_clock(ahead, 0.5 + (exchange.ended - exchange.began) / 2))


def _unanswered(error: Exception | None) -> Finding:
    """Judge why the usage call brought no answer."""
    text = "no answer in time" if error is None else str(error)
    if isinstance(error, RateLimitError):
        wait = error.retry_after
        text = "it refuses to answer: HTTP 429" + (f", wait {wait:.0f} s" if wait else "")
        advice = "another program uses this key, or --plan is not the key's: see `usage` later"
        return warning("server", text, advice, status=error.status)
    if isinstance(error, AuthenticationError | PermissionDeniedError):
        advice = "check the key, and that it belongs to this server"
        return problem("server", f"it does not accept the key: {error.summary}", advice)
    if isinstance(error, NotFoundError | InvalidResponseError):
        advice = "check --base-url (LLAMAGEN_API_URL): this is not the API"
        return problem("server", text, advice)
    return problem("server", text, "try again later; if it stays so, ask the vendor")


def _others_may_read(path: Path) -> bool:
    try:
        return os.name != "nt" and bool(path.stat().st_mode & _OTHERS)
    except OSError:
        return False


def _header(exchange: Exchange, name: str) -> str | None:
    return next((value for key, value in exchange.headers.items() if key.lower() == name), None)
