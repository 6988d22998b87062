"""Arguments, options and help of `llamagen-async continue` and `update-panel`."""

from __future__ import annotations

from typing import Any

import click

from llamagen_async.cli.declarations.completion import complete_id
from llamagen_async.cli.declarations.panels import panel_options, pictures_option
from llamagen_async.cli.declarations.shared import (
    connection_options,
    examples,
    output_options,
    text,
    waiting_options,
)

__all__ = ["continue_comic", "update_panel"]


@click.command(
    name="continue",
    short_help="Have a finished comic go on.",
    epilog=examples('continue cmc_1 "The cat moves to the moon" --panels 2 --out comics/'),
)
@click.argument("id", type=text, shell_complete=complete_id)
@click.argument("prompt", type=text)
@click.option("--panels", type=int, metavar="N", help="How many further panels, 1 to 20.")
@click.option("--pages", type=int, metavar="N", help="How many further pages, 1 to 20.")
@click.option("--panels-per-page", type=int, metavar="N", help="With --pages: 1 to 20.")
@pictures_option
@waiting_options
@output_options
@connection_options
def continue_comic(**given: Any) -> int:
    """Have the finished comic ID go on with PROMPT, and print where all its pictures are.

    It is billed like a new comic of as many panels, and never sent twice. The comic keeps its id.
    """
    with given["output"].loading():
        from llamagen_async.cli.commands import changes

    return changes.continue_comic(**given)


@click.command(
    name="update-panel",
    short_help="Have one panel of a finished comic drawn again.",
    epilog=examples('update-panel cmc_1 --panel 2 --prompt "The cat smiles" --out comics/'),
)
@click.argument("id", type=text, shell_complete=complete_id)
@panel_options(required=True)
@waiting_options
@output_options
@connection_options
def update_panel(**given: Any) -> int:
    """Have one panel of the finished comic ID drawn again, and print where its pictures are.

    One of --prompt, --caption and --image says what is to change. It is billed, and never sent
    twice. The comic keeps its id and all other pictures. Panels are counted from 0.
    """
    with given["output"].loading():
        from llamagen_async.cli.commands import changes

    return changes.update_panel(**given)
