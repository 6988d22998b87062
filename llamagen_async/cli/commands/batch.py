"""`llamagen-async batch`: many stories, each paid once, with live progress and a gallery."""

from __future__ import annotations

from typing import Final

from llamagen_async.cli.commands.options import Connection
from llamagen_async.cli.exit_status import CommandError
from llamagen_async.cli.input.cast import open_cast
from llamagen_async.cli.input.journal_file import JOURNAL
from llamagen_async.cli.input.money import Money
from llamagen_async.cli.input.stories import Format, Stories, open_stories
from llamagen_async.cli.interrupts import run_async
from llamagen_async.cli.output import Output
from llamagen_async.cli.results.folder import check_apart, prepared_folder
from llamagen_async.cli.text import quoted
from llamagen_async.cli.typed import connection_words, typed_words
from llamagen_async.validation import checked_path, seconds

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
    with output.loading():
        client = connection.client()
        # What sends takes far longer to load than all that finds mistakes.
        from llamagen_async.cli.run.batch import BatchCommand  # noqa: PLC0415
    folder = checked_path("--out", out) if is_dry else prepared_folder(out)
    journal_option = ["--journal", journal] if journal else []
    again = " ".join(map(quoted, ["llamagen-async", "batch", "--out", out, *journal_option]))
    command = BatchCommand(
        client=client,
        quota=connection.quota,
        stories=source,
        journal=path,
        folder=folder,
        start_over=start_over,
        resend_uncertain=resend_uncertain,
        timeout=timeout,
        wait_for_quota=wait_for_quota,
        money=money,
        output=output,
        may_ask=bool(money.asks) or not connection.asks_plan,
        again=again + connection_words() + typed_words(_KEPT),
    )
    return run_async(command.rehearse if is_dry else command.send)
