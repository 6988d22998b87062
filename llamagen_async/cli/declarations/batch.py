"""Arguments, options and help of `llamagen-async batch`."""

from __future__ import annotations

from typing import Any

import click

from llamagen_async.cli.declarations.completion import complete_file, complete_folder
from llamagen_async.cli.declarations.shared import (
    TIMEOUT,
    connection_options,
    examples,
    money_options,
    output_options,
)

__all__ = ["batch"]


FORMATS = ("jsonl", "csv", "txt")
"""Allowed values of --format."""


@click.command(
    short_help="Generate a comic from each story of a file.",
    epilog=examples(
        "batch stories.jsonl --out comics/",
        "batch stories.csv --with cast.json --dry-run",
        "batch stories.txt --budget 3000 --quiet",
        "batch --out comics/",
    ),
)
@click.argument("stories", required=False, shell_complete=complete_file)
@click.option(
    "--out",
    default="comics",
    show_default=True,
    metavar="DIR",
    help="Where pictures, index.html and results.jsonl go.",
    shell_complete=complete_folder,
)
@click.option(
    "--journal",
    metavar="FILE",
    help="Where everything is written down before it happens.  [default: journal.db in DIR]",
    shell_complete=complete_file,
)
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="How STORIES is written.  [default: what its name or, in a pipe, its first line says]",
)
@click.option(
    "--with",
    "cast",
    metavar="CAST",
    help="A JSON file of fields that all stories have in common: characters, places, preset, "
    "language, size. A story's own fields win.",
    shell_complete=complete_file,
)
@click.option(
    "--resend-uncertain",
    is_flag=True,
    help="Send those again that may have been accepted; they may be paid twice.",
)
@click.option(
    "--start-over",
    is_flag=True,
    help="Go on although results.jsonl, or another file beside the journal, knows comics that the "
    "journal does not: it was lost or replaced. They may be paid for again.",
)
@click.option(
    "--timeout",
    type=float,
    default=TIMEOUT,
    metavar="SECONDS",
    help=f"How long to wait for each comic once it was accepted.  [default: {TIMEOUT:g}]",
)
@click.option(
    "--wait-for-quota",
    is_flag=True,
    help="Wait for tomorrow's quota instead of leaving stories unsent.",
)
@click.option(
    "--dry-run",
    "is_dry",
    is_flag=True,
    help="Send nothing: check all stories, and say what would be sent, what it would cost and how "
    "long it would take.",
)
@money_options
@output_options
@connection_options
def batch(**given: Any) -> int:
    """Generate a comic from each story in STORIES.

    \b
    STORIES is one of
      FILE.jsonl  a JSON object of request fields a line, such as
                  {"prompt": "A cat in space", "size": "1024x768", "fix_panel_num": 4}
                  and, if you like, a name of your own: "key": "order-42"
      FILE.csv    the same as a table: the first row names the columns, which are fields;
                  an empty cell is no field, and JSON may stand in a cell
      FILE.txt    a prompt a line; lines that start with # are left out
      -           stdin, any of these; sent as the lines arrive

    \b
    A story is a comic, or by its "type"
      continue      "of": the key of another story, or "id": a comic's; "prompt"
      update_panel  the same, with "panel" and "page", from 0: draws one panel again
      animation     "prompt"; "video_options"
    A change waits until its comic is there, wherever that stands; changes of one comic go one
    after the other, and none is sent twice.

    A file is checked to its end before anything is sent. The pictures of each comic are in DIR,
    index.html there shows the latest ones, and results.jsonl says what became of every story.
    Where a story or the cast takes a URL, the path of a picture or a document may stand, from the
    folder of that file on: it is uploaded once, for all stories and for further runs.

    The journal remembers what was sent and what came of it. So the same command again goes on
    where the last one was stopped, by Ctrl-C or by anything else: what is done is not done again.
    Without STORIES it goes on with all that is in the journal.
    """  # noqa: D301 - \b is click's mark for text that is not to be wrapped
    from llamagen_async.cli.commands import batch

    return batch.batch(**given)
