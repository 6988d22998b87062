"""A batch of the command line once its stories are read: they are sent, or what would be is said.

This stands apart from the command because it loads all that sends and shows progress, for which
nobody need wait who has mistyped a story.
"""

from __future__ import annotations

import contextlib
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from llamagen_async.batch.journal.journal import Journal
from llamagen_async.cli.input.journal_summary import open_journal, summarize_journal
from llamagen_async.cli.input.money import Money
from llamagen_async.cli.input.stories import Stories
from llamagen_async.cli.output import Output
from llamagen_async.cli.quota import prove_quota
from llamagen_async.cli.results.writer import Written, write_results
from llamagen_async.cli.run.announce import announce
from llamagen_async.cli.run.batch_run import BatchRun
from llamagen_async.cli.run.dry_run import dry_run
from llamagen_async.cli.run.summary import RunOutcome, print_summary
from llamagen_async.cli.text import one_line, pluralize
from llamagen_async.errors import JournalError

if TYPE_CHECKING:
    from llamagen_async.client import LlamaGenClient

__all__ = ["BatchCommand"]


@attrs.frozen(kw_only=True)
class BatchCommand:
    """A batch as it was asked for, with its stories read as far as they can be beforehand."""

    client: LlamaGenClient
    """The client that sends; it is not open yet."""
    quota: str
    """The URL of the store of spent requests, or `MEMORY`."""
    stories: Stories
    journal: Path
    """The journal's file; it need not be there."""
    folder: Path
    """The folder of the pictures and results."""
    start_over: bool
    """Whether a journal is begun that other files in the folder speak against."""
    resend_uncertain: bool
    timeout: float
    """Seconds that a comic may take."""
    wait_for_quota: bool
    """Whether tomorrow's quota is waited for."""
    money: Money
    output: Output
    may_ask: bool
    """Whether a run that sends nothing may still ask the server for the plan, and what is left."""
    again: str
    """The command that goes on with what is in the journal."""

    async def rehearse(self) -> int:
        """Say what would be sent, send nothing, and return the exit status."""
        opening = open_journal(
            self.journal,
            self.client,
            folder=self.folder,
            start_over=self.start_over,
            is_missing=not self.journal.is_file(),
        )
        async with self.client, opening as opened:
            return await dry_run(
                self.output,
                self.client,
                opened,
                self.stories,
                money=self.money,
                resend=self.resend_uncertain,
                wait_for_quota=self.wait_for_quota,
                may_ask=self.may_ask,
            )

    async def send(self) -> int:
        """Send what is to be sent, write the results, and return the exit status."""
        await prove_quota(self.quota)
        # The journal stays open to the end: on a full disk it could not be opened again.
        opening = open_journal(
            self.journal, self.client, folder=self.folder, start_over=self.start_over
        )
        async with self.client, opening as opened:
            number = await self._announce(opened)
            run = BatchRun(
                self.client,
                self.stories,
                self.output,
                journal=opened,
                number=number,
                folder=self.folder,
                timeout=self.timeout,
                wait_for_quota=self.wait_for_quota,
                resend_uncertain=self.resend_uncertain,
                money=self.money,
            )
            with closing(run.unrecorded):
                try:
                    await run.run()
                finally:
                    # Whatever happened: an id that is not written down is money that is lost.
                    written = await self._write(run, opened)
        is_repeatable = self.stories.lines is None
        return print_summary(
            self.output,
            run,
            self.client.stats(),
            RunOutcome(self.folder, *written, self.again, is_repeatable),
        )

    async def _announce(self, journal: Journal) -> int | None:
        """Say what will be sent; return the number of stories, if it is known."""
        summary = await summarize_journal(journal, self.stories, resend=self.resend_uncertain)
        if not summary.is_new:
            self.output.tell(f"going on with {self.journal}: {summary}")
        if summary.others:
            self.output.tell(
                f"{pluralize(summary.others, 'story')} would be different with this cast "
                f"({one_line(summary.example)}); what was sent stays as it is, and is not paid "
                "for again."
            )
        await announce(
            self.output,
            self.client,
            self.stories,
            summary,
            money=self.money,
            spent=journal.spent,
            wait_for_quota=self.wait_for_quota,
        )
        return summary.total

    async def _write(
        self, run: BatchRun, journal: Journal
    ) -> tuple[Written | None, Exception | None]:
        """Write the results of a run; return what was written, or why it could not be."""
        with contextlib.suppress(JournalError):  # what can't be written may still be read
            await journal.open()
        try:
            written = await write_results(
                self.folder,
                journal,
                run.unrecorded,
                title=f"Comics from {run.stories.name}",
                speed=self.client.speed,
                began=run.began,
                keep_unsent=run.stories.lines is not None,
            )
        except (JournalError, OSError) as error:
            return None, error
        for record in written.unfinished:
            self.output.emit_json(record.to_json())
        return written, None
