"""Arguments, options and help of `llamagen-async export`."""

from __future__ import annotations

from typing import Any, Final

import click

from llamagen_async.cli.declarations.completion import complete_file, complete_folder, complete_key
from llamagen_async.cli.declarations.shared import examples, output_options, text

__all__ = ["export"]

FORMATS: Final = ("cbz", "pdf", "strip")
"""Allowed values of --format."""


@click.command(
    short_help="Make files to read of a batch's comics: cbz, pdf, or a tall png.",
    epilog=examples(
        "export comics/ --format cbz",
        "export comics/ order-42 cmc_1 --format pdf --out books/",
        "export comics/ --format strip --journal run.db",
    ),
)
@click.argument("place", metavar="DIR", shell_complete=complete_folder)
@click.argument("keys", metavar="[KEY]...", nargs=-1, type=text, shell_complete=complete_key)
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    required=True,
    help="cbz: the pictures as they are, for comic readers. pdf: a page for each page of the "
    "comic, its panels in rows of two. strip: one tall png, its panels below each other.",
)
@click.option(
    "--out",
    metavar="FOLDER",
    help="Where the files go.  [default: DIR]",
    shell_complete=complete_folder,
)
@click.option(
    "--journal",
    metavar="FILE",
    help="The batch's journal.  [default: journal.db in DIR]",
    shell_complete=complete_file,
)
@output_options
def export(**given: Any) -> int:
    """Make a file to read of each comic in DIR that is done and whose pictures are there.

    DIR is the folder of a batch, or its journal with the pictures beside it. KEY is a story's key
    or its comic's id; without one, all comics are meant. A file is named by the story's key, or
    else by the comic's id, and written whole or not at all; the same command again writes it anew.
    What no file is made of is named, with the reason.

    The journal and the pictures are only read; no key is needed, and nothing is sent. pdf and strip
    need Pillow: pip install 'llamagen-async[cli,export]'.
    """
    from llamagen_async.cli.commands import export

    return export.export(**given)
