"""Arguments, options and help of `llamagen-async demo`."""

from __future__ import annotations

from typing import Any

import click

from llamagen_async.cli.declarations.completion import complete_folder
from llamagen_async.cli.declarations.shared import (
    ALGORITHM_HELP,
    ALGORITHMS,
    PLANS,
    examples,
    output_options,
)

__all__ = ["demo"]


@click.command(
    short_help="See it work: a dozen comics, no key, no cost.",
    epilog=examples("demo", "demo --out look --plan demo", "demo --speed 60 --algorithm fixed"),
)
@click.option(
    "--out", default="demo-comics", show_default=True, metavar="DIR", shell_complete=complete_folder
)
@click.option(
    "--speed",
    type=float,
    default=30.0,
    show_default=True,
    metavar="S",
    help="How many times faster than real time the sandbox's clock runs.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Decides all chance.")
@click.option(
    "--plan",
    type=click.Choice(PLANS),
    default="paid",
    show_default=True,
    help="demo: today's 15 requests do not pay for all twelve. auto: the server is asked.",
)
@click.option(
    "--algorithm",
    type=click.Choice(ALGORITHMS),
    default="sliding",
    show_default=True,
    help=ALGORITHM_HELP,
)
@output_options
def demo(**given: Any) -> int:
    """Generate a dozen comics against a sandbox in this process, and show how it went.

    It needs no key, costs nothing and takes some seconds: the sandbox enforces the API's limits
    for real, but its clock runs faster. DIR/index.html shows the comics.
    """
    with given["output"].loading():
        from llamagen_async.cli.commands import demo

    return demo.demo(**given)
