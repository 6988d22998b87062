"""The arguments of a client, found, checked, and as the rooms below `client.py` take them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import attrs

from llamagen_async.clock import Clock
from llamagen_async.errors import InvalidRequestError
from llamagen_async.plans import Plan, PlanName, RequestKind
from llamagen_async.quota import MEMORY, check_quota
from llamagen_async.ratelimit import Identity
from llamagen_async.transport import (
    check_key,
    check_proxy,
    is_vendors,
    normalize_base_url,
)
from llamagen_async.validation import HiddenText, check_flags, check_hook, seconds, whole_number

if TYPE_CHECKING:
    import aiohttp

    from llamagen_async.ratelimit import OnStoreFailure
    from llamagen_async.scheduling import RequestReport
    from llamagen_async.transport import AssetSource, Transport

__all__ = ["DEFAULT_BASE_URL", "ClientSettings", "checked_settings", "find_base_url", "find_key"]

DEFAULT_BASE_URL: Final = "https://api.llamagen.ai/v1"
"""Where the API is (vendor's documentation)."""
_LONGEST_TIMEOUT: Final = 600.0
"""Seconds that one request may take at most: a held slot's lease must outlast it."""


@attrs.frozen
class ClientSettings:
    """The checked arguments of a client; each is described at `LlamaGenClient`."""

    api_key: str = attrs.field(repr=False)
    base_url: str
    plan: Plan
    detect_plan: bool
    """Whether the server is asked for the plan before anything else is sent."""
    quota: str | None
    """The store's URL, `MEMORY`, or `None` for the default."""
    clock: Clock
    timeout: float
    max_retries: int
    polling: float | None
    webhooks: bool
    on_store_failure: OnStoreFailure
    session: aiohttp.ClientSession | None
    proxy: str | None = attrs.field(repr=False)
    """The URL of a proxy, which may hold a password."""
    transport: Transport | None
    assets: AssetSource | None
    on_request: Callable[[RequestReport], None] | None

    def identity(self, quota: str) -> Identity:
        """Return the name of the count of this key in a store, or in this process (`MEMORY`)."""
        store = None if quota == MEMORY else quota
        return Identity.of(self.api_key, self.base_url, self.clock.speed, store)


def checked_settings(  # noqa: PLR0913  # the arguments of a client
    api_key: str | None = None,
    *,
    plan: Plan | PlanName | None = None,
    metered: Iterable[RequestKind | str] | None = None,
    base_url: str | None = None,
    quota: str | None = None,
    on_store_failure: OnStoreFailure = "local",
    polling: float | None = None,
    webhooks: bool = False,
    timeout: float = 30.0,
    max_retries: int = 4,
    session: aiohttp.ClientSession | None = None,
    proxy: str | None = None,
    speed: float | None = None,
    on_request: Callable[[RequestReport], None] | None = None,
    transport: Transport | None = None,
    assets: AssetSource | None = None,
) -> ClientSettings:
    """Return the checked arguments of a client, with what the environment says of the rest.

    Nothing is loaded that sends requests. Each argument is described at `LlamaGenClient`.

    Raises:
        InvalidRequestError: An argument is not allowed, or there is no key.
    """
    api_key = HiddenText.of(api_key)  # a report of an error may show the variables of frames
    key = check_key(_given_key(api_key))
    url = normalize_base_url(find_base_url(base_url)[0])
    named = plan or os.environ.get("LLAMAGEN_PLAN") or Plan.DEMO
    detect_plan = isinstance(named, str) and named.strip().lower() == "auto"
    # Until the server has said which plan it is, the stricter one holds.
    kept = Plan.DEMO if detect_plan else Plan.parse(named)
    if metered is None and not isinstance(named, Plan):
        metered = os.environ.get("LLAMAGEN_METERED") or None
    check_flags(webhooks=webhooks)
    check_hook("on_request", on_request, "a function of a RequestReport")
    clock = Clock(_speed_from_environment() if speed is None else speed)
    if transport is None:
        _check_speed(clock.speed, url)
    return ClientSettings(
        api_key=key,
        base_url=url,
        plan=kept if metered is None else attrs.evolve(kept, metered=metered),
        detect_plan=detect_plan,
        quota=_checked_quota(quota, is_real=transport is None),
        clock=clock,
        timeout=seconds("timeout", timeout, at_most=_LONGEST_TIMEOUT),
        max_retries=whole_number("max_retries", max_retries, at_least=0),
        polling=None if polling is None else seconds("polling", polling),
        webhooks=webhooks,
        on_store_failure=_checked_choice(on_store_failure),
        session=None if session is None else _checked_session(session),
        proxy=check_proxy(proxy),
        transport=transport,
        assets=assets,
        on_request=on_request,
    )


def _checked_quota(argument: str | None, *, is_real: bool) -> str | None:
    """Return the store that is named, which may be by the environment if the API is what is used.

    The command line and workers of taskiq count where it says, and one key has one count.
    """
    if argument is None and is_real:
        argument = os.environ.get("LLAMAGEN_QUOTA", "").strip() or None
    return check_quota(argument)


def _speed_from_environment() -> float:
    text = os.environ.get("LLAMAGEN_SPEED") or "1"
    try:
        return float(text)
    except ValueError:
        raise InvalidRequestError("LLAMAGEN_SPEED", text, "a number greater than 0") from None


def _given_key(argument: str | None) -> str:
    key, _ = find_key(argument)
    if not key or not key.strip():
        allowed = "a key, as an argument or in LLAMAGEN_API_KEY"
        without = "llamagen-async sandbox serves the API without one"
        raise InvalidRequestError("api_key", None, f"{allowed} ({without})")
    return key


def find_key(argument: str | None = None) -> tuple[HiddenText | None, str]:
    """Return the key as it is found, unchecked, and where: a variable, a file, or `""` if given."""
    if argument:
        return HiddenText.of(argument), ""
    if key := os.environ.get("LLAMAGEN_API_KEY"):
        return HiddenText(key), "LLAMAGEN_API_KEY"
    # The vendor's command line keeps it for this user (vendor's clients).
    path = Path(os.environ.get("LLAMAGEN_CONFIG_HOME") or "~/.llamagen") / "credentials.json"
    try:
        path = path.expanduser()
        # From its bytes: editors put a mark before UTF-8, and PowerShell writes UTF-16.
        kept: object = json.loads(path.read_bytes())
    except (OSError, ValueError, RuntimeError):  # also of a user without a home folder
        return None, ""
    found = cast("dict[str, object]", kept).get("apiToken") if isinstance(kept, dict) else None
    return (HiddenText(found), str(path)) if isinstance(found, str) else (None, "")


def find_base_url(argument: str | None = None) -> tuple[str, str]:
    """Return the API's URL as it is found, unchecked, and where: a variable, or `""` if given."""
    for name in ("", "LLAMAGEN_API_URL", "LLAMAGEN_BASE_URL"):
        if url := os.environ.get(name) if name else argument:
            return url, name
    return DEFAULT_BASE_URL, "default"


def _check_speed(speed: float, base_url: str) -> None:
    if speed != 1 and is_vendors(base_url):
        # Ten requests in what the server takes for a tenth of a minute would all be refused.
        raise InvalidRequestError("speed", speed, "1 for the vendor's server; more is a sandbox's")


def _checked_choice(choice: OnStoreFailure) -> OnStoreFailure:
    if choice not in ("local", "raise"):
        raise InvalidRequestError("on_store_failure", choice, "'local' or 'raise'")
    return choice


def _checked_session(session: object) -> aiohttp.ClientSession | None:
    from llamagen_async.transport import check_session  # noqa: PLC0415  # which loads aiohttp

    return check_session(session)
