"""`llamagen-async doctor`: what works, what does not, and what the server meters."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import click

from llamagen_async.batch.journal.journal import Journal
from llamagen_async.cli.commands.options import Connection
from llamagen_async.cli.errors import describe_error
from llamagen_async.cli.exit_status import ALL_DONE, FAILED, CommandError
from llamagen_async.cli.interrupts import run_async
from llamagen_async.cli.output import Output
from llamagen_async.cli.streams import is_terminal
from llamagen_async.cli.text import broken, format_duration, one_line
from llamagen_async.diagnosis import (
    STEPS,
    Examination,
    Finding,
    Level,
    Metering,
    Settings,
    measure,
)
from llamagen_async.diagnosis.findings import ok, problem, warning
from llamagen_async.diagnosis.measuring import MOMENT
from llamagen_async.diagnosis.metering import sent_by, setting_for
from llamagen_async.errors import JournalError, LlamaGenError
from llamagen_async.models import BatchState
from llamagen_async.plan_detection import plan_for
from llamagen_async.validation import checked_id, checked_path

if TYPE_CHECKING:
    from llamagen_async.client import LlamaGenClient

__all__ = ["doctor"]

_COLOURS: Final = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "red"}
_WIDTHS: Final = (7, 10)
"""Columns of a finding's level and of its subject."""
_COMMAND: Final = re.compile(r'python -m pip install "[^"]*"')
"""A command in a finding's text, which is pasted as a whole."""


def doctor(
    *,
    connection: Connection,
    measures: bool,
    yes: bool,
    id_: str | None,
    journal: str | None,
    output: Output,
) -> int:
    """Examine key, network, clock, stores and plan; say what is wrong and what to do."""
    if id_ is not None:
        checked_id("--id", id_)
    path = None if journal is None else checked_path("--journal", journal)
    if measures and not _may_send(output, yes=yes):
        return FAILED
    if not measures:
        output.tell("Sends one usage call at most, which counts as every request; no credits.")

    async def work() -> int:
        settings = _settings(connection)
        tell: Callable[[Finding], None] = _Teller(output).tell
        examination = Examination(settings, tell, requests=len(STEPS) if measures else 1)
        try:
            with output.spinner("Examining"):
                await examination.run()
            if measures:
                await _measure(examination, output, id_=id_, journal=path)
        finally:
            await examination.aclose()
        output.emit_json({"problems": examination.problems})
        return FAILED if examination.problems else ALL_DONE

    return run_async(work)


def _settings(connection: Connection) -> Settings:
    try:
        quota: str | None = connection.quota
    except CommandError:
        quota = None  # which is a finding of its own
    return Settings(
        connection.api_key,
        connection.base_url,
        connection.plan,
        connection.metered,
        quota,
        connection.speed,
        connection.proxy,
    )


def _may_send(output: Output, *, yes: bool) -> bool:
    """Say what a measurement sends, and ask whether it may."""
    output.tell(f"Sends {sent_by(STEPS)}, which count as every request; no credits.")
    if yes:
        return True
    if not is_terminal(sys.stdin):
        raise CommandError(f"--measure: sends {len(STEPS)} requests; allow it with --yes")
    if click.confirm("Go on?", err=True):
        return True
    output.print("Nothing was sent.")
    return False


async def _measure(
    examination: Examination, output: Output, *, id_: str | None, journal: Path | None
) -> None:
    """Measure what is metered, and say which plan to use."""
    client, usage = examination.client, examination.usage
    if client is None or usage is None:
        why = "not measured: the server did not answer, or was not asked"
        examination.tell(warning("metering", why, "see the lines before this one"))
        return
    try:
        known = id_ or (None if journal is None else await _id_of(journal, client))
        rate = client.plan.rate
        windows = (len(STEPS) - 1) // rate.limit  # that have to pass, and a moment
        wait = (windows * rate.per + MOMENT) / client.speed
        with output.spinner(f"Measuring, at least {format_duration(wait)}"):
            measured = await measure(client, known, first=usage)
    except JournalError as error:
        examination.tell(problem("journal", str(error), "name a comic with --id"))
        return
    except LlamaGenError as error:
        examination.tell(warning("metering", f"not measured: {describe_error(error)}", "try again"))
        return
    examination.tell(_judged(measured, is_known=known is not None))
    plan = plan_for(usage)
    setting = setting_for(plan, measured.metered)
    output.emit_json({"plan": attrs.asdict(setting), "metered": sorted(measured.metered)})
    if not output.as_json:
        output.print()
        output.print("The plan to use:")
        output.print(f"  in Python     {setting.python}")
        output.print(f"  as options    {setting.options}")
        output.print(f"  as variables  {setting.environment}")


def _judged(measured: Metering, *, is_known: bool) -> Finding:
    names = {"usage calls": measured.usage, "status checks": measured.status}
    said = {True: "count", False: "do not count", None: "can't be told"}
    listed = ", ".join(f"{name}: {said[counts]}" for name, counts in names.items())
    facts: dict[str, Any] = {"usage": measured.usage, "status": measured.status}
    facts["moves"] = list(measured.moves)
    if not measured.reason:
        return ok("metering", f"{listed}, by the server's own count", **facts)
    advice = "measure again while nothing else uses the key"
    if measured.usage is not None and not is_known:
        advice = "name a comic of yours with --id, or a --journal"
    elif not measured.moves:
        advice = "until it is known, count all of them"
    return warning("metering", f"{listed}: {measured.reason}", advice, **facts)


async def _id_of(path: Path, client: LlamaGenClient) -> str | None:
    """Return the id of a comic in a journal, the last one that it has."""
    if not path.is_file():  # noqa: ASYNC240  # nothing else runs here
        raise JournalError(f"there is no journal {path}")
    async with Journal(path, client.account) as journal:
        found = None
        async for row in journal.rows(BatchState.SUCCEEDED, BatchState.RUNNING):
            found = row.generation_id or found
        return found


@attrs.frozen
class _Teller:
    """Prints each finding as soon as it is known."""

    output: Output

    def tell(self, finding: Finding) -> None:
        self.output.emit_json(attrs.asdict(finding))
        if self.output.as_json:
            return
        level = finding.level.value.ljust(_WIDTHS[0])
        if self.output.has_colours:
            level = click.style(level, fg=_COLOURS[finding.level])
        margin = sum(_WIDTHS) + 2
        room = self.output.width - margin
        text = _COMMAND.sub(lambda command: command[0].replace(" ", "\0"), one_line(finding.text))
        lines = [line.replace("\0", " ") for line in broken(text, room)]
        if finding.advice:
            lines += broken(one_line(finding.advice), room, first="-> ", later="   ")
        first, *rest = lines
        self.output.print(f"{level} {finding.subject:<{_WIDTHS[1]}} {first}")
        for line in rest:
            self.output.print(f"{'':{margin}}{line}")
