"""The meaning of the options that several commands share."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

import attrs
import click

from llamagen_async.cli.quota import default_store, prove_quota
from llamagen_async.observing import logger_of
from llamagen_async.plans import PlanName
from llamagen_async.quota import MEMORY

if TYPE_CHECKING:
    from llamagen_async.client import LlamaGenClient
    from llamagen_async.scheduling import RequestReport
    from llamagen_async.settings import ClientSettings
    from llamagen_async.transport import Transport

__all__ = ["Connection", "pages_option"]

_logger = logger_of(__name__)


@attrs.frozen
class Connection:
    """The connection to the API, as far as the command line describes it."""

    api_key: str | None = attrs.field(default=None, repr=False)
    base_url: str | None = None
    plan: PlanName | None = None
    speed: float = 1.0
    given_quota: str | None = attrs.field(default=None, repr=False)
    """The value of --quota; `None` is this user's own store."""
    metered: str | None = None
    """Kinds of request that count against the limits, separated by commas; `None` is the plan's."""
    proxy: str | None = attrs.field(default=None, repr=False)
    """The URL of a proxy, `""` for none; `None` is what the environment says."""

    @property
    def quota(self) -> str:
        """The URL of the store of spent requests, or `MEMORY`.

        Raises:
            CommandError: None is named, and this user has no folder for one.
        """
        given = (self.given_quota or "").strip()
        return (MEMORY if given.lower() == MEMORY else given) or default_store()

    def client(
        self, transport: Transport | None = None, *, webhooks: bool = False
    ) -> LlamaGenClient:
        """Return a client; settings that are not given come from the environment.

        Args:
            transport: Carries the requests instead of the client's own.
            webhooks: Whether the vendor's events are handed to it.

        Raises:
            InvalidRequestError: A setting is not allowed, or there is no key.
        """
        from llamagen_async.client import LlamaGenClient  # noqa: PLC0415  # it loads aiohttp

        log = _log_request if _logger.isEnabledFor(logging.INFO) else None
        return LlamaGenClient(**self._given, webhooks=webhooks, transport=transport, on_request=log)

    def settings(self) -> ClientSettings:
        """Return the settings of such a client, for a command that sends nothing.

        Raises:
            InvalidRequestError: A setting is not allowed, or there is no key.
        """
        from llamagen_async.settings import checked_settings  # noqa: PLC0415

        return checked_settings(**self._given)

    @property
    def _given(self) -> dict[str, Any]:
        return {
            "api_key": self.api_key,
            "plan": self.plan,
            "metered": self.metered,
            "base_url": self.base_url,
            "speed": self.speed,
            "quota": self.quota,
            "proxy": self.proxy,
        }

    @property
    def asks_plan(self) -> bool:
        """Whether the server is asked for the plan, which takes a request."""
        named = self.plan or os.environ.get("LLAMAGEN_PLAN", "")
        return named.strip().lower() == "auto"

    async def prove_quota(self) -> None:
        """Open the store of spent requests before anything else is done.

        Raises:
            CommandError: It can't be opened; nothing was sent.
        """
        await prove_quota(self.quota)


def pages_option(
    panels: int | None, pages: int | None, panels_per_page: int | None
) -> dict[str, int | None] | None:
    """Return the pagination that --pages and --panels-per-page ask for, if there is one.

    Raises:
        click.UsageError: The options do not go together.
    """
    if (pages is None) != (panels_per_page is None):
        raise click.UsageError("--pages and --panels-per-page go together")
    if pages is None:
        return None
    if panels is not None:
        raise click.UsageError("--panels does not go together with --pages")
    return {"total_pages": pages, "panels_per_page": panels_per_page}


def _log_request(report: RequestReport) -> None:
    """Say of each request what has become of it."""
    text = "%s request: %s after %.1f s, having waited for %.1f s"
    _logger.info(text, report.kind.value, report.outcome, report.took, report.waited)
