"""Options that several commands share, above all those of the connection to the API."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Final

import attrs
import click

from llamagen_async.batch.folder import prove_writable
from llamagen_async.cli.exit_status import ALL_DONE, FAILED, CommandError
from llamagen_async.cli.output import Output
from llamagen_async.cli.quota import default_store, prove_quota
from llamagen_async.cli.results.gallery import INDEX, is_foreign
from llamagen_async.cli.results.records import RESULTS
from llamagen_async.cli.run.money import Money
from llamagen_async.cli.run.single import SlotWait
from llamagen_async.client import LlamaGenClient
from llamagen_async.clock import seconds
from llamagen_async.comics import DEFAULT_TIMEOUT
from llamagen_async.plans import PlanName
from llamagen_async.prices import Prices, checked_credits
from llamagen_async.ratelimit import MEMORY
from llamagen_async.transport import Transport, check_proxy
from llamagen_async.validation import checked_path

__all__ = [
    "ALGORITHM_HELP",
    "PLANS",
    "Connection",
    "budget_options",
    "connection_options",
    "money_options",
    "output_options",
    "pages_option",
    "prepared_folder",
    "text",
    "time_options",
    "waiting_options",
]

ALGORITHM_HELP: Final = "How requests are counted; nobody outside the vendor knows how it does."
"""The help of the option with which a sandbox is told how to count."""


PLANS: Final = ("demo", "paid", "auto")
"""Allowed values of --plan."""


def text(typed: str) -> str:
    """Return an argument that is sent: it was typed in UTF-8, whatever the locale says.

    What is not UTF-8 stays as it is; the check of its field says what is wrong.
    """
    try:
        typed.encode()
    except UnicodeEncodeError:
        with contextlib.suppress(UnicodeError):
            return os.fsencode(typed).decode()
    return typed


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
        return LlamaGenClient(
            self.api_key,
            plan=self.plan,
            metered=self.metered,
            base_url=self.base_url,
            speed=self.speed,
            quota=self.quota,
            webhooks=webhooks,
            proxy=self.proxy,
            transport=transport,
        )

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


def connection_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options of all commands that call the API; they get `connection=Connection`."""

    @click.option(
        "--api-key",
        metavar="KEY",
        help="The API key. LLAMAGEN_API_KEY is safer: others on this machine can read command "
        "lines.  [env var: LLAMAGEN_API_KEY]",
    )
    @click.option(
        "--base-url",
        metavar="URL",
        help="Where the API is.  [env var: LLAMAGEN_API_URL, LLAMAGEN_BASE_URL; default: the "
        "vendor's]",
    )
    @click.option(
        "--plan",
        type=click.Choice(PLANS, case_sensitive=False),
        help="Whose limits are kept: demo has 4 requests a minute and 15 a day, paid has 10 a "
        "minute; auto asks the server, which takes one request each time.  "
        "[env var: LLAMAGEN_PLAN; default: demo]",
    )
    @click.option(
        "--metered",
        metavar="KINDS",
        help="Which requests count against the limits, where that is known, separated by commas; "
        "`llamagen-async doctor --measure` finds out.  [env var: LLAMAGEN_METERED; default: all]",
    )
    @click.option(
        "--quota",
        metavar="URL",
        envvar="LLAMAGEN_QUOTA",
        help="Where spent requests are remembered: sqlite:///PATH, redis://HOST:PORT/DB, or memory "
        "to forget them when the command ends.  [env var: LLAMAGEN_QUOTA; default: a file in "
        "your state folder, so that commands know what earlier ones have spent]",
    )
    @click.option(
        "--proxy",
        metavar="URL",
        help="The proxy on the way to the API and to the pictures, '' for none.  [default: what "
        "HTTPS_PROXY, HTTP_PROXY and NO_PROXY say]",
    )
    @click.option(
        "--speed",
        type=float,
        envvar="LLAMAGEN_SPEED",
        default=1.0,
        metavar="S",
        help="How many times faster than real time the server's clock runs: the sandbox's "
        "--speed, 1 for the real API.  [env var: LLAMAGEN_SPEED; default: 1]",
    )
    @wraps(command)
    def with_connection(
        *,
        api_key: str | None,
        base_url: str | None,
        plan: PlanName | None,
        quota: str | None,
        speed: float,
        metered: str | None,
        proxy: str | None,
        **others: Any,
    ) -> int:
        given = Connection(api_key, base_url, plan, speed, quota, metered, check_proxy(proxy))
        return command(connection=given, **others)

    return with_connection


def output_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add --json; the command gets `output=Output`, and has failed if that lost anything."""

    @click.option(
        "--json", "as_json", is_flag=True, help="Print JSON on stdout, one object a line."
    )
    @wraps(command)
    def with_output(*, as_json: bool, **others: Any) -> int:
        name = click.get_current_context().info_name or ""
        output = Output(as_json=as_json, command=name)
        status = command(output=output, **others)
        return FAILED if output.is_lost and status == ALL_DONE else status

    return with_output


def waiting_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options of all commands that start something and wait for it.

    The command gets `out`, `no_wait`, `timeout` and `slot_wait=SlotWait`.
    """

    @click.option("--out", metavar="DIR", help="Fetch what was drawn into this folder.")
    @click.option("--no-wait", is_flag=True, help="Print the id and leave.")
    @click.option(
        "--max-wait",
        type=float,
        metavar="SECONDS",
        help="How long to wait for a free slot. Without it: minutes, but not for tomorrow's quota.",
    )
    @time_options
    @wraps(command)
    def with_waiting(*, max_wait: float | None, wait_for_quota: bool, **others: Any) -> int:
        return command(slot_wait=SlotWait(max_wait, wait_for_quota), **others)

    return with_waiting


def time_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add --timeout and --wait-for-quota; the command gets `timeout` and `wait_for_quota`."""

    @click.option(
        "--timeout",
        type=float,
        default=DEFAULT_TIMEOUT,
        show_default=True,
        metavar="SECONDS",
        help="How long to wait once it was accepted.",
    )
    @click.option(
        "--wait-for-quota", is_flag=True, help="Wait for tomorrow's quota if today's is used up."
    )
    @wraps(command)
    def with_times(*, timeout: float, **others: Any) -> int:
        seconds("timeout", timeout)  # before anything is paid for
        return command(timeout=timeout, **others)

    return with_times


def budget_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add `--budget` and `--price`; the command gets `money=Money`."""

    @click.option(
        "--budget",
        type=float,
        metavar="CREDITS",
        help="The most credits that all runs with this journal may spend: what would be more is "
        "not sent. Counted by what the server charges where it says so, else by the estimate.",
    )
    @click.option(
        "--price",
        "prices",
        multiple=True,
        metavar="NAME=CREDITS",
        help="A price that you know, for the estimate: panel (150 if not given), continued-panel, "
        "redraw, upscaled-panel or animation. May be given several times.",
    )
    @wraps(command)
    def with_budget(*, budget: float | None, prices: tuple[str, ...], **others: Any) -> int:
        if budget is not None:
            budget = checked_credits("--budget", budget)
        return command(money=Money(_prices(prices), budget), **others)

    return with_budget


def money_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add all options about money; the command gets `money=Money`."""

    @budget_options
    @click.option(
        "--usage/--no-usage",
        "asks",
        default=None,
        help="Ask the server first how many credits are left, which takes a request.  "
        "[default: only for 10 stories or more on a plan without a daily limit]",
    )
    @wraps(command)
    def with_money(*, money: Money, asks: bool | None, **others: Any) -> int:
        return command(money=attrs.evolve(money, asks=asks), **others)

    return with_money


def _prices(given: tuple[str, ...]) -> Prices:
    prices: dict[str, float | None] = {}
    for one in given:
        name, _, number = one.partition("=")
        try:
            prices[name.strip().replace("-", "_")] = float(number)
        except ValueError:
            raise click.UsageError(
                f"--price: got {one!r}, allowed is NAME=CREDITS, such as redraw=100"
            ) from None
    return Prices.parse(prices)


def prepared_folder(given: str) -> Path:
    """Make a folder for pictures, before anything is sent.

    Raises:
        CommandError: It can't be made or written to, or holds a page that is not ours to replace.
    """
    folder = checked_path("--out", given)
    try:
        prove_writable(folder)
        foreign = is_foreign(folder)
        results = folder / RESULTS
        if results.exists() and not results.is_file():
            raise FileExistsError(None, f"its {RESULTS} is no file; choose another folder")
    except OSError as error:
        raise CommandError(f"--out {given}: {error.strerror or error}; nothing was sent") from None
    if foreign:
        raise CommandError(
            f"--out {given}: its {INDEX} was not made by llamagen-async; choose another folder"
        )
    return folder


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
