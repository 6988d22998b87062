"""Arguments, options and help of `llamagen-async redraw`."""

from __future__ import annotations

from typing import Any

import click

from llamagen_async.cli.declarations.completion import complete_file, complete_folder, complete_key
from llamagen_async.cli.declarations.panels import panel_options
from llamagen_async.cli.declarations.shared import (
    budget_options,
    connection_options,
    examples,
    output_options,
    text,
    time_options,
)

__all__ = ["redraw"]


@click.command(
    short_help="Have one panel of a batch's comic drawn again.",
    epilog=examples(
        'redraw comics/ order-42 --panel 2 --prompt "The cat smiles"',
        'redraw comics/ cmc_1-p01-03.png --prompt "The cat smiles"',
    ),
)
@click.argument("out", metavar="DIR", shell_complete=complete_folder)
@click.argument("key", type=text, shell_complete=complete_key)
@panel_options(required=False)
@click.option(
    "--journal",
    metavar="FILE",
    help="The batch's journal.  [default: journal.db in DIR]",
    shell_complete=complete_file,
)
@click.option(
    "--again",
    is_flag=True,
    help="Draw it once more, although the very same redraw was done before. It is paid for again.",
)
@click.option(
    "--resend-uncertain",
    is_flag=True,
    help="Send it again if nobody knows whether it was accepted before; it may be paid twice.",
)
@time_options
@budget_options
@output_options
@connection_options
def redraw(**given: Any) -> int:
    """Have one panel of a comic in DIR drawn again, and replace its picture there.

    DIR is the folder of a batch. KEY is the story's key, its comic's id, its line such as
    stories.jsonl:7, its position from 0, the beginning of a key or id that no other one has, or the
    picture's file, which says the panel, too.

    One of --prompt, --caption and --image says what is to change. It is billed like an
    update-panel, at a price that is not documented: with --price redraw=CREDITS it counts, also
    for the --budget of later runs with that journal. The new picture takes the name of the old one,
    which is kept beside it (cmc_1-p01-03.1.png); index.html and results.jsonl are written anew, and
    nothing else is touched. However this ends, the same command again goes on, and pays no second
    time.
    """
    with given["output"].loading():
        from llamagen_async.cli.commands import redraw

    return redraw.redraw(**given)
