"""`llamagen-async batch`: many stories, each paid once, with live progress and a gallery."""

from __future__ import annotations

import shlex
from contextlib import closing
from pathlib import Path
from typing import Final

import attrs
import click

from llamagen_async.cli.commands.options import (
    Connection,
    connection_options,
    json_option,
    prepared_folder,
)
from llamagen_async.cli.errors import CommandError
from llamagen_async.cli.input.resumed import Spool, Stock, open_journal, take_stock
from llamagen_async.cli.input.stories import Stories, open_stories
from llamagen_async.cli.interrupts import run_async
from llamagen_async.cli.output import Output
from llamagen_async.cli.results.spool import Notes
from llamagen_async.cli.results.writer import Written, settle, write_results
from llamagen_async.cli.run.batch_run import Session
from llamagen_async.cli.run.estimate import Outlook, affordable, requests_each, time_left
from llamagen_async.cli.run.summary import Ending, close
from llamagen_async.cli.text import counted, lasting, rule
from llamagen_async.client import LlamaGenClient
from llamagen_async.comics import DEFAULT_TIMEOUT
from llamagen_async.errors import JournalError
from llamagen_async.models import BatchState

__all__ = ["announce", "batch"]

_JOURNAL: Final = "journal.db"
"""The journal's name in DIR, if no other was given."""


@click.command(short_help="Generate a comic from each story of a file.")
@click.argument("stories", required=False)
@click.option(
    "--out",
    default="comics",
    show_default=True,
    metavar="DIR",
    help="Where pictures, index.html and results.jsonl go.",
)
@click.option(
    "--journal",
    metavar="FILE",
    help="Where everything is written down before it happens.  [default: journal.db in DIR]",
)
@click.option(
    "--resend-uncertain",
    is_flag=True,
    help="Send those again that may have been accepted; they may be paid twice.",
)
@click.option(
    "--timeout",
    type=float,
    default=DEFAULT_TIMEOUT,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for each comic once it was accepted.",
)
@click.option(
    "--wait-for-quota",
    is_flag=True,
    help="Wait for tomorrow's quota instead of leaving stories unsent.",
)
@json_option
@connection_options
def batch(
    *,
    connection: Connection,
    stories: str | None,
    out: str,
    journal: str | None,
    resend_uncertain: bool,
    timeout: float,
    wait_for_quota: bool,
    as_json: bool,
) -> int:
    """Generate a comic from each story in STORIES.

    \b
    STORIES is one of
      FILE.jsonl  a JSON object of request fields a line, such as
                  {"prompt": "A cat in space", "size": "1024x768", "fix_panel_num": 4}
                  and, if you like, a name of your own: "key": "order-42"
      FILE.txt    a prompt a line; lines that start with # are left out
      -           stdin, either of the two; sent as the lines arrive

    A file is checked to its end before anything is sent. The pictures of each comic are in DIR,
    index.html there shows the latest ones, and results.jsonl says what became of every story.

    The journal remembers what was sent and what came of it. So the same command again goes on
    where the last one was stopped, by Ctrl-C or by anything else: what is done is not done again.
    Without STORIES it goes on with all that is in the journal.
    """  # noqa: D301 - \b is click's mark for text that is not to be wrapped
    place = Path(journal) if journal else Path(out) / _JOURNAL
    source = None
    if stories is not None:
        source = open_stories(stories)
    elif not place.is_file():
        raise CommandError(f"STORIES is missing, and there is no journal {place} to go on with")
    client = connection.client()
    run = _Run(
        connection,
        client,
        Output(as_json=as_json, command="batch"),
        folder=prepared_folder(out),
        journal=place,
        timeout=timeout,
        wait_for_quota=wait_for_quota,
        resend_uncertain=resend_uncertain,
        again=shlex.join(
            ["llamagen-async", "batch", "--out", out, *(["--journal", journal] if journal else [])]
        ),
    )
    return run_async(lambda: run.work(source))


@attrs.frozen
class _Run:
    """One call of the command."""

    connection: Connection
    client: LlamaGenClient
    output: Output
    folder: Path = attrs.field(kw_only=True)
    journal: Path = attrs.field(kw_only=True)
    timeout: float = attrs.field(kw_only=True)
    wait_for_quota: bool = attrs.field(kw_only=True)
    resend_uncertain: bool = attrs.field(kw_only=True)
    again: str = attrs.field(kw_only=True)

    async def work(self, source: Stories | None) -> int:
        """Run the batch and return the exit status."""
        await self.connection.prove_quota()
        with closing(Notes()) as notes, closing(Spool()) as spool:
            async with self.client:
                async with open_journal(self.journal, self.client) as journal:
                    stock, stories = await take_stock(
                        journal, source, notes, spool, resend=self.resend_uncertain
                    )
                if not stock.is_new:
                    self.output.say(f"going on with {self.journal}: {stock.words()}")
                await announce(
                    self.output,
                    self.client,
                    stories,
                    speed=self.connection.speed,
                    wait_for_quota=self.wait_for_quota,
                    stock=stock,
                )
                session = self._session(stories, notes, stock)
                try:
                    await session.run()
                finally:
                    # Whatever happened: an id that is not written down is money that is lost.
                    ending = await self._write(session, stories)
            return close(self.output, session, self.client.stats(), ending)

    def _session(self, stories: Stories, notes: Notes, stock: Stock) -> Session:
        return Session(
            self.client,
            stories,
            self.output,
            speed=self.connection.speed,
            folder=self.folder,
            timeout=self.timeout,
            wait_for_quota=self.wait_for_quota,
            journal=self.journal,
            resend_uncertain=self.resend_uncertain,
            notes=notes,
            running=stock.running,
        )

    async def _write(self, session: Session, stories: Stories) -> Ending:
        is_repeatable = stories.checked is not None
        written: Written | None = None
        trouble: Exception | None = None
        try:
            async with open_journal(self.journal, self.client) as journal:
                await settle(
                    journal, session.notes, session.unfinished, keep_unsent=not is_repeatable
                )
                written = await write_results(
                    self.folder, journal, session.notes, title=f"Comics from {stories.name}"
                )
        except (JournalError, OSError) as error:
            trouble = error
        return Ending(self.folder, written, trouble, self.again, is_repeatable)


async def announce(
    output: Output,
    client: LlamaGenClient,
    stories: Stories,
    *,
    speed: float,
    wait_for_quota: bool = False,
    stock: Stock | None = None,
) -> None:
    """Say beforehand how long it will take, and what today's quota does not pay for."""
    limits = await client.limits()
    plan = client.plan  # known by now, if the server had to be asked for it
    rules = " and ".join(map(rule, plan.limits))
    going = stock.counts[BatchState.RUNNING] if stock is not None else 0
    if stories.checked is None:
        output.say(f"Comics from {stories.name}; the limit is {rules}.")
        here = ""
    else:
        wanted = number = _wanted(stories, stock)
        if not wanted + going:
            return
        room = affordable(plan, limits)
        if room is not None and room < wanted and not wait_for_quota:
            number = room
            output.say(
                f"The limit of {rule(plan.quotas[0])} pays for about {counted(room, 'comic')} now: "
                f"{wanted - room} of the {counted(wanted, 'story')} will probably not be sent."
            )
        outlook = Outlook(number, ages=[0.0] * going, each=requests_each(plan))
        left = time_left(outlook, limits, quotas=wait_for_quota)
        output.say(
            f"{counted(number + going, 'comic')}, about {lasting(left)}; the limit is {rules}."
        )
        here = f", so that is about {lasting(max(1.0, left / speed))} here"
    if speed != 1:
        output.say(f"Times are the server's: its clock runs {speed:g} times as fast{here}.")


def _wanted(stories: Stories, stock: Stock | None) -> int:
    """Return how many stories will be sent."""
    if stock is not None and stock.to_send is not None:
        return stock.to_send
    return len(stories.checked or ())
