"""Arguments, options and help of `llamagen-async serve`."""

from __future__ import annotations

from typing import Any

import click

from llamagen_async.cli.declarations.completion import complete_file, complete_folder
from llamagen_async.cli.declarations.shared import connection_options, examples, output_options

__all__ = ["serve"]


@click.command(
    short_help="Take orders for comics over HTTP.",
    epilog=examples("serve --out comics/", "serve --port 9000 --journal orders.db"),
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: a free one."
)
@click.option(
    "--out",
    metavar="DIR",
    envvar="LLAMAGEN_OUT",
    show_envvar=True,
    default="comics",
    show_default=True,
    help="Fetch the pictures into this folder.",
    shell_complete=complete_folder,
)
@click.option(
    "--journal",
    metavar="FILE",
    envvar="LLAMAGEN_JOURNAL",
    help="Remember the orders in this file.  [env var: LLAMAGEN_JOURNAL; default: journal.db in "
    "DIR]",
    shell_complete=complete_file,
)
@click.option(
    "--webhook-secret",
    metavar="S",
    envvar="LLAMAGEN_WEBHOOK_SECRET",
    show_envvar=True,
    help="The secret with which the vendor signs its events, sent to /webhooks.",
)
@click.option(
    "--max-queued",
    type=click.IntRange(1),
    metavar="N",
    help="Refuse more orders with 503 while so many wait.  [default: 1000]",
)
@output_options
@connection_options
def serve(**given: Any) -> int:
    """Serve the routes of llamagen_async.web, and a page to try them.

    Orders are on disk before they are confirmed; Ctrl-C ends the server in order, and the next one
    goes on. Only programs on this machine are answered: to serve others, mount the routes in an
    application of yours with create_app(authorize=...).
    """
    with given["output"].loading():
        from llamagen_async.cli.commands import serve

    return serve.serve(**given)
