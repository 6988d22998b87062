"""Arguments, options and help of `llamagen-async limits` and `usage`."""

from __future__ import annotations

from typing import Any

import click

from llamagen_async.cli.declarations.shared import connection_options, examples, output_options

__all__ = ["limits", "usage"]


@click.command(
    short_help="Show how many requests may still be sent.",
    epilog=examples("limits", "limits --plan paid --json"),
)
@output_options
@connection_options
def limits(**given: Any) -> int:
    """Show what the key may still send: used and free slots, the next free one, a pause.

    It is what this machine has counted, and takes no request; only --plan auto asks the server
    once. What the server has counted is told by `llamagen-async usage`.
    """
    from llamagen_async.cli.commands import limits

    return limits.limits(**given)


@click.command(
    short_help="Ask the server what the key has used.", epilog=examples("usage", "usage --json")
)
@output_options
@connection_options
def usage(**given: Any) -> int:
    """Print what the key has used, as the server counts. Takes one request.

    What this machine has counted is told by `llamagen-async limits`, for no request.
    """
    from llamagen_async.cli.commands import limits

    return limits.usage(**given)
