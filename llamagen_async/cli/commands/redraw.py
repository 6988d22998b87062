"""`llamagen-async redraw`: one panel of a batch's comic drawn again, in its folder."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from llamagen_async.batch.journal.journal import Journal
from llamagen_async.batch.task import BatchTask
from llamagen_async.cli.commands.options import Connection
from llamagen_async.cli.commands.panel_options import check_change
from llamagen_async.cli.errors import describe_error
from llamagen_async.cli.exit_status import ALL_DONE, FAILED, INTERRUPTED, CommandError
from llamagen_async.cli.input.journal_summary import open_journal
from llamagen_async.cli.input.money import Money
from llamagen_async.cli.interrupts import run_async
from llamagen_async.cli.output import Output
from llamagen_async.cli.results.folder import check_apart, prepared_folder
from llamagen_async.cli.results.unrecorded import Unrecorded
from llamagen_async.cli.results.writer import write_results
from llamagen_async.cli.run.money import print_spending
from llamagen_async.cli.text import one_line
from llamagen_async.errors import (
    BudgetReachedError,
    InvalidRequestError,
    LlamaGenError,
    SubmissionUncertainError,
)
from llamagen_async.models import BatchState
from llamagen_async.redraw import JOURNAL, Redraw, RedrawOptions, redraw_panel
from llamagen_async.requests import UpdateRequest
from llamagen_async.uploads import check_files
from llamagen_async.validation import checked_path

if TYPE_CHECKING:
    from llamagen_async.client import LlamaGenClient

__all__ = ["redraw"]


def redraw(
    *,
    connection: Connection,
    out: str,
    key: str,
    panel: int | None,
    page: int | None,
    fields: dict[str, Any],
    journal: str | None,
    again: bool,
    resend_uncertain: bool,
    timeout: float,
    wait_for_quota: bool,
    money: Money,
    output: Output,
) -> int:
    """Have one panel of a comic in DIR drawn again, and replace its picture there."""
    name, request = _request(key, panel, page, fields)
    path = checked_path("--journal", journal) if journal else checked_path("DIR", out) / JOURNAL
    if not path.is_file():
        raise CommandError(f"there is no journal {path}: DIR is the folder of a batch")
    check_apart(checked_path("DIR", out), "--journal", path)
    client = connection.client()
    folder = prepared_folder(out, "DIR")
    options = RedrawOptions(
        again=again,
        resend_uncertain=resend_uncertain,
        timeout=timeout,
        wait_for_quota=wait_for_quota,
        budget=money.budget,
        prices=money.prices,
    )

    async def work() -> int:
        await connection.prove_quota()
        async with client, open_journal(path, client, folder=folder, start_over=False) as opened:
            done = await _drawn(client, opened, folder, name, request, options, output)
        if done is None:
            return INTERRUPTED
        _show(done, request, output)
        return ALL_DONE

    return run_async(work)


def _request(
    key: str, panel: int | None, page: int | None, fields: dict[str, Any]
) -> tuple[str, UpdateRequest]:
    """Return the name of the story and what is to change; a picture's file names the panel."""
    check_change(fields)
    name, page, panel = _named(key, page, panel)
    if panel is None:
        raise click.UsageError("--panel is missing; or name the picture's file instead of KEY")
    request = UpdateRequest(panel=panel, page=page, **fields)
    check_files(request)
    return name, request


async def _drawn(
    client: LlamaGenClient,
    journal: Journal,
    folder: Path,
    name: str,
    request: UpdateRequest,
    options: RedrawOptions,
    output: Output,
) -> Redraw | None:
    """Redraw and write the results anew; `None` after an interrupt, which is reported."""
    seen: list[BatchTask] = []

    def tell(task: BatchTask) -> None:
        seen[:] = [task]
        if task.state is BatchState.RUNNING and task.generation is not None:
            output.print(f"{one_line(task.generation.id)}  accepted")

    try:
        with output.spinner(f"Panel {request.panel} is being drawn again"):
            done = await redraw_panel(
                client.comics, journal, folder, name, request, options, changed=tell
            )
    except asyncio.CancelledError:
        await _write(journal, folder, client)
        output.error(_interrupted(seen))
        return None
    except InvalidRequestError as error:
        is_key, said = error.field == "key", describe_error(error)
        raise CommandError(said.replace("key", "KEY", 1) if is_key else said) from None
    except BudgetReachedError as error:
        if error.price is not None:
            raise CommandError(describe_error(error), FAILED) from None
        raise CommandError(f"{describe_error(error)}: --price redraw=CREDITS") from None
    except LlamaGenError as error:
        await _write(journal, folder, client)
        raise CommandError(_described(error), FAILED) from None
    await _write(journal, folder, client)
    return done


def _named(key: str, page: int | None, panel: int | None) -> tuple[str, int | None, int | None]:
    """Return the story, page and panel that are meant: a picture's file says all three."""
    found = re.fullmatch(r"(.+)-p([0-9]{2,9})-([0-9]{2,9})\.[a-z0-9]{2,4}", Path(key).name)
    if found is None or panel is not None or page is not None:
        return key, page, panel
    return found[1], int(found[2]) - 1, int(found[3]) - 1


async def _write(journal: Journal, folder: Path, client: LlamaGenClient) -> None:
    """Write the results anew, under the heading that they had."""
    title = "Comics"
    async for row in journal.rows():
        if row.label:
            title = f"Comics from {row.label.rpartition(':')[0]}"
            break
    unrecorded = Unrecorded()
    try:
        await write_results(
            folder,
            journal,
            unrecorded,
            title=title,
            speed=client.speed,
            began=datetime.now(UTC),
        )
    finally:
        unrecorded.close()


def _interrupted(seen: Sequence[BatchTask]) -> str:
    """Return what is known of a redraw whose command was interrupted."""
    state = seen[0].state if seen else BatchState.QUEUED
    if state in (BatchState.RUNNING, BatchState.SUCCEEDED):
        return "interrupted; it is paid for, and the same command again goes on with it"
    if state in (BatchState.SENDING, BatchState.UNCERTAIN):
        return "interrupted while the answer was awaited: it may have been accepted and charged"
    return "interrupted: nothing was sent"


def _described(error: LlamaGenError) -> str:
    said = describe_error(error, wait_with="--wait-for-quota")
    if isinstance(error, SubmissionUncertainError):
        return f"{said}; --resend-uncertain does so, and it may be paid twice"
    return said


def _show(done: Redraw, request: UpdateRequest, output: Output) -> None:
    output.emit_json(
        {
            "id": done.comic.id,
            "page": request.page or 0,
            "panel": request.panel,
            "file": str(done.file),
            "kept": None if done.kept is None else str(done.kept),
            "is_new": done.is_new,
            "spending": {**attrs.asdict(done.spending), "left": done.spending.left},
            "raw": dict(done.comic.raw),
        }
    )
    if output.as_json:
        return
    if not done.is_new:
        output.print("This redraw was paid for before, and is not paid for again.", is_prose=True)
    output.print(f"{one_line(done.comic.id)}  {one_line(str(done.file))} is the new picture")
    if done.kept is not None:
        output.print(f"the one before is {one_line(str(done.kept))}")
    print_spending(output, done.spending)
    if not done.is_new:
        output.print("--again has it drawn once more.")
