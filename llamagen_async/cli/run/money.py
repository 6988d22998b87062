"""The money of a run: its cost, what the server says is left, and lines about both for people."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final

import attrs

from llamagen_async.cli.exit_status import CommandError
from llamagen_async.cli.input.money import Money
from llamagen_async.cli.output import Output
from llamagen_async.cli.text import pluralize
from llamagen_async.errors import LlamaGenError
from llamagen_async.plans import Plan
from llamagen_async.prices import ChargeKind, Estimate, format_credits, listed

if TYPE_CHECKING:
    from llamagen_async.batch.budget import Spending
    from llamagen_async.cli.input.journal_summary import JournalSummary
    from llamagen_async.client import LlamaGenClient
    from llamagen_async.models import Usage

__all__ = ["ask_usage", "paid_for", "print_cost", "print_spending"]

_USAGE_TIMEOUT: Final = 10.0
"""Real seconds that the server may take to say what was used."""


async def ask_usage(client: LlamaGenClient, *, is_told_to: bool = False) -> Usage | None:
    """Return what the server says of the key, or `None` if it can't be asked.

    It is a request like any other: on a plan with a daily quota, or while no slot is free, the
    server is only asked if somebody wants it to be.
    """
    if client.plan.quotas and not is_told_to:
        return None
    try:
        limits = await client.limits()
        if limits.next_free_in > 0 and not is_told_to:
            return None
        async with asyncio.timeout(_USAGE_TIMEOUT):
            return await client.comics.usage()
    except (LlamaGenError, TimeoutError):
        return None


async def print_cost(
    output: Output,
    client: LlamaGenClient,
    summary: JournalSummary,
    money: Money,
    *,
    spent: float,
) -> None:
    """Print what the stories that will be sent cost, and what is left to pay for them.

    Args:
        output: The streams to print to.
        client: The client that will send.
        summary: The stories of the input as the journal has them.
        money: The options about money.
        spent: Credits that earlier runs have spent.

    """
    estimate = money.prices.estimate(summary.charges)
    if not estimate.requests:
        return
    on_paid = ", if the key is on a paid plan" if client.plan.name == Plan.DEMO.name else ""
    output.tell(f"{estimate}{on_paid}.")
    if money.budget is not None:
        output.tell(_budget_line(estimate, money.budget, spent))
    if not money.asks_for(estimate):
        return
    usage = await ask_usage(client, is_told_to=bool(money.asks))
    if usage is not None and usage.credits is not None:
        output.tell(f"The server says that {format_credits(usage.credits)} are left.")
        if usage.credits < estimate.credits and usage.is_paid_plan is not False:
            number = within(usage.credits, estimate)
            output.error(
                f"the credits that are left pay for about {number} of "
                f"{pluralize(estimate.requests, 'story')}"
            )
    elif money.asks:
        output.error("the server did not say how many credits are left")


def paid_for(summary: JournalSummary, money: Money, *, spent: float) -> JournalSummary:
    """Return a summary in which those stories are to be sent that the budget pays for.

    Args:
        summary: The stories of the input as the journal has them.
        money: The options about money.
        spent: Credits that earlier runs have spent.

    Raises:
        CommandError: There is a budget, and a story whose price nobody knows.
    """
    if money.budget is None or summary.to_send is None:
        return summary
    estimate = money.prices.estimate(summary.charges)
    if estimate.unpriced:
        kinds = [kind for kind in estimate.unpriced if kind is not ChargeKind.OTHER]
        given = " ".join(f"--price {kind.replace('_', '-')}=CREDITS" for kind in kinds)
        more = f": give it with {given} if you know it" if kinds else ""
        raise CommandError(
            f"--budget: the price of {listed(estimate.unpriced)} is not known, so no budget can be "
            f"kept{more}; nothing was sent"
        )
    number = within(money.budget - spent, estimate)
    return attrs.evolve(summary, to_send=min(summary.to_send, number))


def print_spending(output: Output, spending: Spending) -> None:
    """Print what was spent, and what is left of the budget."""
    if spending.total or spending.unpriced or spending.budget is not None:
        output.print(f"{str(spending)[:1].upper()}{str(spending)[1:]}.", is_prose=True)
    if spending.budget is not None:
        output.emit_json({"spending": {**attrs.asdict(spending), "left": spending.left}})


def _budget_line(estimate: Estimate, budget: float, spent: float) -> str:
    """Return what a budget pays for."""
    number, stories = within(budget - spent, estimate), pluralize(estimate.requests, "story")
    pays = f"about {number} of {stories}" if number else f"none of {stories}"
    pays = f"all of {stories}" if number >= estimate.requests else pays
    before = f", of which {format_credits(spent)} are spent," if spent else ""
    return f"The budget of {format_credits(budget)}{before} pays for {pays}."


def within(credits_: float, estimate: Estimate) -> int:
    """Return for how many of the requests that have a price these credits are about enough."""
    priced = estimate.requests - sum(estimate.unpriced.values())
    if estimate.credits <= max(0.0, credits_):  # less than nothing is left if comics cost more
        return priced
    return max(0, math.floor(priced * credits_ / estimate.credits))
