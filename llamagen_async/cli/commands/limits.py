"""`llamagen-async limits` and `usage`: what a key may still send, as we and as the server count."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from llamagen_async.cli.commands.options import Connection
from llamagen_async.cli.exit_status import ALL_DONE
from llamagen_async.cli.interrupts import run_async
from llamagen_async.cli.output import Output
from llamagen_async.cli.text import format_duration, format_limit, one_line, pluralize
from llamagen_async.plans import HOUR
from llamagen_async.quota import MEMORY, shown_quota
from llamagen_async.ratelimit import LimitsSnapshot, close_limiter, open_limiter
from llamagen_async.web.limits_facts import limits_facts

if TYPE_CHECKING:
    from rich.table import Table

    from llamagen_async.client import LlamaGenClient
    from llamagen_async.models import Usage
    from llamagen_async.settings import ClientSettings

__all__ = ["limits", "print_wait", "usage"]

_WORTH_A_WORD: Final = 1.0
"""Real seconds of waiting from which on a message says so."""


def limits(*, connection: Connection, output: Output) -> int:
    """Show what the key may still send: used and free slots, the next free one, a pause."""
    settings = connection.settings()

    async def work() -> int:
        await connection.prove_quota()
        if settings.detect_plan:
            output.tell("The server is asked for the plan: this takes one request.")
            async with connection.client() as client:
                snapshot = await client.limits()
        else:
            snapshot = await _counted(settings)
        now = datetime.now(UTC)
        facts = {
            **limits_facts(snapshot, now, connection.speed),
            "quota": shown_quota(connection.quota),
        }
        output.emit_json(facts)
        if not output.as_json:
            output.print(f"Plan {snapshot.plan}, counted in {facts['quota']}:")
            output.print_table(_table(snapshot, now, connection.speed, output))
            output.print(_queue_line(snapshot), is_prose=True)
        return ALL_DONE

    return run_async(work)


async def _counted(settings: ClientSettings) -> LimitsSnapshot:
    """Return what is counted, without a client: one takes longer to load than all else here."""
    identity = settings.identity(settings.quota or MEMORY)
    limiter = open_limiter(identity, settings.plan, timeout=settings.timeout)
    try:
        return await limiter.ledger.snapshot()
    finally:
        await close_limiter(identity, limiter)


def usage(*, connection: Connection, output: Output) -> int:
    """Print what the key has used, as the server counts. Takes one request."""
    with output.loading():
        client = connection.client()

    async def work() -> int:
        await connection.prove_quota()
        async with client:
            await print_wait(client, output, speed=connection.speed)
            used = await client.comics.usage()
        output.emit_json(
            {
                "api_usage_count": used.api_usage_count,
                "api_max_usage": used.api_max_usage,
                "credits": used.credits,
                "is_paid_plan": used.is_paid_plan,
                "raw": dict(used.raw),
            }
        )
        if not output.as_json:
            for line in _lines(used):
                output.print(line)
        return ALL_DONE

    return run_async(work)


async def print_wait(
    client: LlamaGenClient,
    output: Output,
    *,
    speed: float,
    max_wait: float | None = None,
    wait_for_quota: bool = False,
) -> None:
    """Print how long the next request has to wait, if it will wait at all and for long.

    Args:
        client: The client that will send it.
        output: The streams to print to.
        speed: How many times faster than real time the server's clock runs.
        max_wait: Seconds of the server's clock that it may wait; `None` is any time.
        wait_for_quota: Whether it waits for tomorrow's quota.
    """
    snapshot = await client.limits()
    wait = snapshot.next_free_in
    spent = any(one.limit.per >= HOUR and not one.free for one in snapshot.windows)
    refused = (spent and not wait_for_quota) or (max_wait is not None and wait > max_wait)
    if not refused and wait / speed >= _WORTH_A_WORD:
        output.tell(f"Waiting for the next free slot: {_time_in(wait / speed)}.")


def _table(snapshot: LimitsSnapshot, now: datetime, speed: float, output: Output) -> Table:
    from rich import box  # noqa: PLC0415  # not needed for JSON, nor by the other commands
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=box.ROUNDED if output.has_terminal else box.ASCII, show_header=True)
    table.add_column("window")
    table.add_column("used", justify="right")
    table.add_column("free", justify="right")
    table.add_column("next free slot")
    table.add_column("paused until")
    paused = _time_in(snapshot.paused_for / speed, now) if snapshot.paused_for > 0 else "-"
    for one in snapshot.windows:
        free_in = max(one.next_free_in, snapshot.paused_for) / speed
        table.add_row(
            format_limit(one.limit),
            str(one.used),
            str(one.free),
            _time_in(free_in, now) if free_in > 0 else "now",
            paused,
        )
    return table


def _queue_line(snapshot: LimitsSnapshot) -> str:
    """Return who shares the key, and what waits before a create that is asked for now."""
    waiting = ", ".join(f"{number} {one.name.lower()}" for one, number in snapshot.waiting.items())
    return (
        f"{pluralize(snapshot.clients, 'client')} at work; "
        f"{pluralize(snapshot.before(), 'request')} before a new create"
        + (f" (waiting: {waiting})." if waiting else ".")
    )


def _time_in(seconds: float, now: datetime | None = None) -> str:
    """Return a time as a local clock shows it, and how long it is until then."""
    now = now or datetime.now(UTC)
    when = (now + timedelta(seconds=seconds)).astimezone()
    form = "%H:%M:%S" if when.date() == now.astimezone().date() else "%Y-%m-%d %H:%M:%S"
    return f"{when:{form}} (in {format_duration(seconds)})"


def _lines(used: Usage) -> list[str]:
    """Return the server's answer in words; any part of it may be missing."""
    lines: list[str] = []
    if used.is_paid_plan is not None:
        lines.append(f"Plan: {'paid' if used.is_paid_plan else 'demo'}")
    if used.api_usage_count is not None:
        limit = f" of {used.api_max_usage}" if used.api_max_usage is not None else ""
        lines.append(f"Requests used: {used.api_usage_count}{limit}")
    if used.credits is not None:
        lines.append(f"Credits left: {used.credits:.12g}")
    if lines:
        return lines
    names = ", ".join(map(one_line, used.raw))
    return [f"The server's answer has {pluralize(len(used.raw), 'field')} of other names: {names}"]
