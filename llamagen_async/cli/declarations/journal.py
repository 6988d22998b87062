"""Arguments, options and help of `llamagen-async journal`."""

from __future__ import annotations

from typing import Any, Final

import click

from llamagen_async.cli.declarations.completion import complete_file
from llamagen_async.cli.declarations.shared import examples, output_options

__all__ = ["journal"]

STATES: Final = (
    *("queued", "sending", "running", "succeeded"),
    *("failed", "uncertain", "cancelled"),
)
"""Allowed values of --state, as results.jsonl has them."""


@click.command(
    short_help="Show what a batch's journal has, and what it cost.",
    epilog=examples(
        "journal comics/",
        "journal comics/ --state failed --state uncertain",
        "journal comics/ --format csv > comics.csv",
    ),
)
@click.argument("place", metavar="[PATH]", default="comics", shell_complete=complete_file)
@click.option(
    "--format",
    "form",
    type=click.Choice(("table", "csv")),
    default="table",
    show_default=True,
    help="Lines to read, or a table for a spreadsheet.",
)
@click.option(
    "--state",
    "states",
    type=click.Choice(STATES),
    multiple=True,
    help="Only stories in this state. May be given several times.",
)
@output_options
def journal(**given: Any) -> int:
    """Show the stories in a batch's journal: their state, id and credits, and the sums.

    PATH is the folder of a batch or its journal, `comics` if none is given. It is only read, also
    while a batch or a server works with it; no key is needed, and nothing is sent.
    """
    from llamagen_async.cli.commands import journal

    return journal.journal(**given)
