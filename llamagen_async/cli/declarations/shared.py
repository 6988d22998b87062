"""Options that several commands share, and how examples are shown. Loads nothing but click."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Final

import click

from llamagen_async.cli.declarations.completion import complete_folder
from llamagen_async.cli.exit_status import ALL_DONE, FAILED

if TYPE_CHECKING:
    from llamagen_async.cli.input.money import Money
    from llamagen_async.plans import PlanName

__all__ = [
    "ALGORITHMS",
    "ALGORITHM_HELP",
    "PLANS",
    "TIMEOUT",
    "budget_options",
    "connection_options",
    "examples",
    "money_options",
    "output_options",
    "text",
    "time_options",
    "waiting_options",
]

ALGORITHM_HELP: Final = "How requests are counted; nobody outside the vendor knows how it does."
"""The help of the option with which a sandbox is told how to count."""
# A test compares these with what they repeat, which takes longer to load than a help page may.
ALGORITHMS: Final = ("sliding", "fixed", "bucket", "spaced")
"""Allowed values of --algorithm."""
PLANS: Final = ("demo", "paid", "auto")
"""Allowed values of --plan."""
TIMEOUT: Final = 1800.0
"""Seconds of the server's clock that a comic is waited for, if --timeout does not say."""
LEVELS: Final = ("debug", "info", "warning", "error")
"""Allowed values of --log-level."""


def examples(*commands: str) -> str:
    """Return the end of a command's help: what can be typed, as it is typed."""
    return "\n".join(("\b", "Examples:", *(f"  llamagen-async {one}" for one in commands)))


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
        from llamagen_async.cli.commands.options import Connection

        if proxy:
            from llamagen_async.transport import check_proxy

            proxy = check_proxy(proxy)
        given = Connection(api_key, base_url, plan, speed, quota, metered, proxy)
        return command(connection=given, **others)

    return with_connection


def output_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add --json, --quiet and --log-level; the command gets `output=Output`.

    It has failed if that lost anything.
    """

    @click.option(
        "--json", "as_json", is_flag=True, help="Print JSON on stdout, one object a line."
    )
    @click.option(
        "-q", "--quiet", is_flag=True, help="Print results and errors, and nothing on the way."
    )
    @click.option(
        "--log-level",
        type=click.Choice(LEVELS, case_sensitive=False),
        envvar="LLAMAGEN_LOG_LEVEL",
        default="warning",
        help="What is logged on stderr: info and debug name every request.  "
        "[env var: LLAMAGEN_LOG_LEVEL; default: warning]",
    )
    @wraps(command)
    def with_output(*, as_json: bool, quiet: bool, log_level: str, **others: Any) -> int:
        from llamagen_async.cli.logs import logged
        from llamagen_async.cli.output import Output

        name = click.get_current_context().info_name or ""
        output = Output(as_json=as_json, command=name, is_quiet=quiet)
        with logged(log_level):
            status = command(output=output, **others)
        return FAILED if output.is_lost and status == ALL_DONE else status

    return with_output


def waiting_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options of all commands that start something and wait for it.

    The command gets `out`, `no_wait`, `timeout` and `slot_wait=SlotWait`.
    """

    @click.option(
        "--out",
        metavar="DIR",
        help="Fetch what was drawn into this folder.",
        shell_complete=complete_folder,
    )
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
        from llamagen_async.cli.input.slot_wait import SlotWait

        return command(slot_wait=SlotWait(max_wait, wait_for_quota), **others)

    return with_waiting


def time_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add --timeout and --wait-for-quota; the command gets `timeout` and `wait_for_quota`."""

    @click.option(
        "--timeout",
        type=float,
        default=TIMEOUT,
        metavar="SECONDS",
        help=f"How long to wait once it was accepted.  [default: {TIMEOUT:g}]",
    )
    @click.option(
        "--wait-for-quota", is_flag=True, help="Wait for tomorrow's quota if today's is used up."
    )
    @wraps(command)
    def with_times(*, timeout: float, **others: Any) -> int:
        from llamagen_async.validation import seconds

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
        from llamagen_async.cli.input.money import Money, parse_prices
        from llamagen_async.prices import checked_credits

        if budget is not None:
            budget = checked_credits("--budget", budget)
        return command(money=Money(parse_prices(prices), budget), **others)

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
        import attrs

        return command(money=attrs.evolve(money, asks=asks), **others)

    return with_money
