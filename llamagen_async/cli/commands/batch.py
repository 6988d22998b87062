"""`llamagen-async batch`: many stories, each paid once, with live progress and a gallery."""

from __future__ import annotations

import contextlib
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from llamagen_async.batch.journal.journal import Journal
from llamagen_async.cli.commands.options import Connection
from llamagen_async.cli.exit_status import CommandError
from llamagen_async.cli.input.cast import open_cast
from llamagen_async.cli.input.journal_file import JOURNAL
from llamagen_async.cli.input.journal_summary import open_journal, summarize_journal
from llamagen_async.cli.input.stories import Format, Stories, open_stories
from llamagen_async.cli.interrupts import run_async
from llamagen_async.cli.output import Output
from llamagen_async.cli.results.folder import check_apart, prepared_folder
from llamagen_async.cli.results.writer import Written, write_results
from llamagen_async.cli.run.announce import announce
from llamagen_async.cli.run.batch_run import BatchRun
from llamagen_async.cli.run.dry_run import dry_run
from llamagen_async.cli.run.money import Money
from llamagen_async.cli.run.summary import RunOutcome, print_summary
from llamagen_async.cli.text import one_line, pluralize, quoted
from llamagen_async.cli.typed import connection_words, typed_words
from llamagen_async.clock import seconds
from llamagen_async.errors import JournalError
from llamagen_async.validation import checked_path

if TYPE_CHECKING:
    from llamagen_async.client import LlamaGenClient

__all__ = ["batch"]

_KEPT: Final = ("budget", "prices", "timeout", "wait_for_quota")
"""The options that hold as well for the command that goes on: without its budget it would send
what this one may not."""


def batch(
    *,
    connection: Connection,
    stories: str | None,
    out: str,
    journal: str | None,
    form: Format | None,
    cast: str | None,
    resend_uncertain: bool,
    start_over: bool,
    timeout: float,
    wait_for_quota: bool,
    is_dry: bool,
    money: Money,
    output: Output,
) -> int:
    """Generate a comic from each story in STORIES."""
    path = checked_path("--journal", journal) if journal else checked_path("--out", out) / JOURNAL
    check_apart(checked_path("--out", out), "--journal", path)
    if stories is not None:
        check_apart(checked_path("--out", out), "STORIES", checked_path("STORIES", stories))
        source = open_stories(stories, None if cast is None else open_cast(cast), form)
    elif form is not None:
        raise CommandError("--format needs STORIES: what is in the journal was read already")
    elif cast is not None:
        raise CommandError("--with needs STORIES: what is in the journal has its cast already")
    elif path.is_file():
        source = Stories("the journal")
    else:
        raise CommandError(f"STORIES is missing, and there is no journal {path} to go on with")
    seconds("timeout", timeout)
    client = connection.client()
    is_missing = not path.is_file()
    folder = checked_path("--out", out) if is_dry else prepared_folder(out)
    journal_option = ["--journal", journal] if journal else []
    again = " ".join(map(quoted, ["llamagen-async", "batch", "--out", out, *journal_option]))
    again += connection_words() + typed_words(_KEPT)

    async def rehearse() -> int:
        opening = open_journal(
            path, client, folder=folder, start_over=start_over, is_missing=is_missing
        )
        async with client, opening as opened:
            return await dry_run(
                output,
                client,
                opened,
                source,
                money=money,
                resend=resend_uncertain,
                wait_for_quota=wait_for_quota,
                may_ask=bool(money.asks) or not connection.asks_plan,
            )

    async def work() -> int:
        await connection.prove_quota()
        # The journal stays open to the end: on a full disk it could not be opened again.
        opening = open_journal(path, client, folder=folder, start_over=start_over)
        async with client, opening as opened:
            summary = await summarize_journal(opened, source, resend=resend_uncertain)
            if not summary.is_new:
                output.tell(f"going on with {path}: {summary}")
            if summary.others:
                output.tell(
                    f"{pluralize(summary.others, 'story')} would be different with this cast "
                    f"({one_line(summary.example)}); what was sent stays as it is, and is not paid "
                    "for again."
                )
            await announce(
                output,
                client,
                source,
                summary,
                money=money,
                spent=opened.spent,
                wait_for_quota=wait_for_quota,
            )
            run = BatchRun(
                client,
                source,
                output,
                journal=opened,
                number=summary.total,
                folder=folder,
                timeout=timeout,
                wait_for_quota=wait_for_quota,
                resend_uncertain=resend_uncertain,
                money=money,
            )
            with closing(run.unrecorded):
                try:
                    await run.run()
                finally:
                    # Whatever happened: an id that is not written down is money that is lost.
                    written = await _write(client, output, run, folder, opened)
        is_repeatable = source.lines is None
        return print_summary(
            output, run, client.stats(), RunOutcome(folder, *written, again, is_repeatable)
        )

    return run_async(rehearse if is_dry else work)


async def _write(
    client: LlamaGenClient, output: Output, run: BatchRun, folder: Path, journal: Journal
) -> tuple[Written | None, Exception | None]:
    """Write the results of a run; return what was written, or why it could not be."""
    with contextlib.suppress(JournalError):  # what can't be written may still be read
        await journal.open()
    try:
        written = await write_results(
            folder,
            journal,
            run.unrecorded,
            title=f"Comics from {run.stories.name}",
            speed=client.speed,
            began=run.began,
            keep_unsent=run.stories.lines is not None,
        )
    except (JournalError, OSError) as error:
        return None, error
    for record in written.unfinished:
        output.emit_json(record.to_json())
    return written, None
