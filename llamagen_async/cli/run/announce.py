"""The lines before a run: how long it will take, what it will cost, and what is left unsent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from llamagen_async.cli.input.journal_summary import JournalSummary
from llamagen_async.cli.input.money import Money
from llamagen_async.cli.input.stories import Stories
from llamagen_async.cli.output import Output
from llamagen_async.cli.run.money import paid_for, print_cost
from llamagen_async.cli.text import format_duration, format_limit, format_time, pluralize
from llamagen_async.models import BatchState
from llamagen_async.plans import HOUR, Plan, RequestKind
from llamagen_async.ratelimit import LimitsSnapshot
from llamagen_async.scheduling.outlook import (
    Outlook,
    affordable,
    checks_late,
    requests_each,
    room_again_in,
    time_left,
)

if TYPE_CHECKING:
    from llamagen_async.client import LlamaGenClient

__all__ = ["announce", "print_time"]


async def announce(
    output: Output,
    client: LlamaGenClient,
    stories: Stories,
    summary: JournalSummary,
    *,
    money: Money,
    spent: float,
    wait_for_quota: bool = False,
) -> None:
    """Print how long a run will take, what it will cost, and what today's quota has no room for.

    Args:
        output: The streams to print to.
        client: The client that will send.
        stories: The input.
        summary: The stories of the input as the journal has them.
        money: The options about money.
        spent: Credits that earlier runs have spent.
        wait_for_quota: Whether tomorrow's quota is waited for.

    Raises:
        CommandError: There is a budget, and a story whose price nobody knows.
    """
    paid = paid_for(summary, money, spent=spent)
    await print_time(output, client, stories, paid, wait_for_quota=wait_for_quota)
    await print_cost(output, client, summary, money, spent=spent)


async def print_time(
    output: Output,
    client: LlamaGenClient,
    stories: Stories,
    summary: JournalSummary,
    *,
    wait_for_quota: bool = False,
) -> float | None:
    """Print how long a run will take, and how many stories today's quota does not pay for.

    Returns:
        Seconds of the server's clock; `None` if nobody can say.
    """
    limits, speed = await client.limits(), client.speed
    plan = client.plan  # known by now, if the server had to be asked for it
    rules = " and ".join(map(format_limit, plan.limits))
    running, wanted = summary.counts[BatchState.RUNNING], summary.to_send
    if wanted is None:
        output.tell(f"Comics from {stories.name}; the limit is {rules}.")
        here, left = "", None
    else:
        if not wanted + running:
            return 0.0
        uploads = summary.uploads if RequestKind.UPLOAD in plan.metered else 0
        each = requests_each(plan)
        outlook = Outlook(wanted, ages=[0.0] * running, each=each, uploads=uploads)
        room = affordable(each, limits, running=running, uploads=uploads)
        number = wanted
        if room is not None and room < wanted:
            number = wanted if wait_for_quota else room
            output.tell(_scarcity(room, summary, plan, limits, speed, waits=wait_for_quota))
        left = time_left(outlook, limits, quotas=wait_for_quota)
        what = ", ".join(
            [
                *([summary.wanted(number)] if number or not running else []),
                *([f"{running} running"] if running else []),
                *([f"{pluralize(summary.uploads, 'file')} to upload"] if summary.uploads else []),
            ]
        )
        output.tell(f"{what}, about {format_duration(left)}; the limit is {rules}.")
        if checks_late(outlook, limits):
            output.tell(
                "Today's requests pay for hardly more than one check of each, so each is checked "
                "when it is most certainly done."
            )
        here = f", so that is about {format_duration(max(1.0, left / speed))} here"
    if speed != 1:
        output.tell(f"Times are the server's: its clock runs {speed:g} times as fast{here}.")
    return left


def _scarcity(
    room: int,
    summary: JournalSummary,
    plan: Plan,
    limits: LimitsSnapshot,
    speed: float,
    *,
    waits: bool,
) -> str:
    """Return what becomes of the stories that a long window has no room for."""
    again = datetime.now(UTC) + timedelta(seconds=room_again_in(limits) / speed)
    # Of a window that is partly spent nobody has asked when each of its requests comes back.
    is_partly_spent = any(one.used and one.free for one in limits.windows if one.limit.per >= HOUR)
    latest = " at the latest" if is_partly_spent else ""
    wanted = summary.to_send or 0
    pays = f"The limit of {format_limit(plan.quotas[0])} pays for about {summary.wanted(room)}"
    rest = f"{wanted - room} of the {pluralize(wanted, 'story')}"
    then = f"from {format_time(again)}{latest}"
    if waits:
        return f"{pays} now: {rest} will wait until there is room again, {then}."
    return f"{pays} now: {rest} will probably not be sent; there is room again {then}."
