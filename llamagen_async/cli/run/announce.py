"""The lines before a run: how long it will take, and what today's quota does not pay for."""

from __future__ import annotations

from llamagen_async.cli.input.journal_summary import JournalSummary
from llamagen_async.cli.input.stories import Stories
from llamagen_async.cli.output import Output
from llamagen_async.cli.run.estimate import Outlook, affordable, requests_each, time_left
from llamagen_async.cli.text import format_duration, format_limit, pluralize
from llamagen_async.client import LlamaGenClient
from llamagen_async.models import BatchState

__all__ = ["announce"]


async def announce(
    output: Output,
    client: LlamaGenClient,
    stories: Stories,
    summary: JournalSummary,
    *,
    wait_for_quota: bool = False,
) -> None:
    """Print how long a run will take, and how many stories today's quota does not pay for."""
    limits, speed = await client.limits(), client.speed
    plan = client.plan  # known by now, if the server had to be asked for it
    rules = " and ".join(map(format_limit, plan.limits))
    running, wanted = summary.counts[BatchState.RUNNING], summary.to_send
    if wanted is None:
        output.print(f"Comics from {stories.name}; the limit is {rules}.")
        here = ""
    else:
        if not wanted + running:
            return
        number, room = wanted, affordable(plan, limits)
        if room is not None and room < wanted and not wait_for_quota:
            number = room
            output.print(
                f"The limit of {format_limit(plan.quotas[0])} pays for about "
                f"{pluralize(room, 'comic')} now: {wanted - room} of the "
                f"{pluralize(wanted, 'story')} will probably not be sent."
            )
        outlook = Outlook(number, ages=[0.0] * running, each=requests_each(plan))
        left = time_left(outlook, limits, quotas=wait_for_quota)
        output.print(
            f"{pluralize(number + running, 'comic')}, about {format_duration(left)}; "
            f"the limit is {rules}."
        )
        here = f", so that is about {format_duration(max(1.0, left / speed))} here"
    if speed != 1:
        output.print(f"Times are the server's: its clock runs {speed:g} times as fast{here}.")
