"""Arguments, options and help of `llamagen-async doctor`."""

from __future__ import annotations

from typing import Any

import click

from llamagen_async.cli.declarations.completion import complete_file
from llamagen_async.cli.declarations.shared import (
    connection_options,
    examples,
    output_options,
    text,
)

__all__ = ["doctor"]


@click.command(
    short_help="Find out what works, what does not, and what the server meters.",
    epilog=examples("doctor", "doctor --measure --yes --journal comics/journal.db"),
)
@click.option(
    "--measure",
    "measures",
    is_flag=True,
    help="Find out which requests count, by the server's own count: takes some requests, and no "
    "credits.",
)
@click.option("--yes", is_flag=True, help="Send what --measure takes without asking.")
@click.option(
    "--id", "id_", metavar="ID", type=text, help="A comic of yours to check in --measure."
)
@click.option(
    "--journal",
    metavar="FILE",
    help="A batch's journal, of which --measure takes a comic's id.",
    shell_complete=complete_file,
)
@output_options
@connection_options
def doctor(**given: Any) -> int:
    """Examine key, network, clock, stores and plan; say what is wrong and what to do.

    Sends one request at most, a usage call, and no credits are spent. Exit status 1 means that a
    problem was found. With --measure, some more requests tell which of them the server counts.
    """
    with given["output"].loading():
        from llamagen_async.cli.commands import doctor

    return doctor.doctor(**given)
