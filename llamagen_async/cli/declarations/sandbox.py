"""Arguments, options and help of `llamagen-async sandbox`."""

from __future__ import annotations

from typing import Any, Final

import click

from llamagen_async.cli.declarations.shared import ALGORITHM_HELP, ALGORITHMS, output_options

__all__ = ["sandbox"]

DIALECTS: Final = ("documented", "production")
"""Allowed values of --dialect."""
EVENT_DATA: Final = ("status", "result")
"""Allowed values of --webhook-data."""
_FAULTS: Final = """\b
Faults (NAME[:VALUE][:rate=SHARE][:times=N][:skip=N][:on=WHAT,...]):
  error[:STATUS]           An error (500), and nothing was done.
  error-after[:STATUS]     An error (500), though it was done and billed.
  drop                     It is done, and the connection closes.
  drop-before              Nothing is done, and the connection closes.
  not-json                 It is done, and answered with a web page.
  cut-json                 It is done, and the answer stops in its middle.
  delay[:SECONDS]          The answer comes late (20).
  no-credits[:STATUS]      Credits are spent: 402, or a 429 like it.
  artwork                  Creates answer {"artwork": {"id": ...}}.
  empty-asset-url          Running comics have panels without a URL ("").
  early-pictures           Running comics show the panels drawn so far.
  stale[:SECONDS]          A changed comic is shown as before (for 30).
  expired-links[:SECONDS]  Links to pictures expire (after 0).
  event-lost               The event is never sent.
  event-late[:SECONDS]     The event is sent late (60).
  event-doubled            The event is sent again after it was accepted.
  event-out-of-order       The event comes after the next one.
  event-forged             A copy with a wrong signature comes first.
The value is what stands in brackets if none is given. WHAT is create, continue,
update, status, usage or upload; of events: created, updated, completed or failed.
Without options a fault happens always.

\b
Examples:
  llamagen-async sandbox --speed 60
  llamagen-async sandbox --fault error:503:rate=0.2         # every fifth request
  llamagen-async sandbox --fault error:429:retry-after=30   # nothing but 429
  llamagen-async sandbox --fault drop:on=create:times=1     # the first is lost, and paid
"""
"""The end of the command's help: the faults, and how they are written."""


@click.command(short_help="Run a stand-in for the API on this machine.", epilog=_FAULTS)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default=True,
    help="0 takes a free one.",
)
@click.option(
    "--algorithm",
    type=click.Choice(ALGORITHMS),
    default="sliding",
    show_default=True,
    help=ALGORITHM_HELP,
)
@click.option(
    "--speed",
    type=float,
    default=1.0,
    show_default=True,
    metavar="S",
    help="How many times faster than real time its clock runs.",
)
@click.option(
    "--dialect",
    type=click.Choice(DIALECTS),
    default="documented",
    show_default=True,
    help="Whose status words and error bodies it speaks.",
)
@click.option(
    "--seed",
    type=int,
    metavar="N",
    help="Decides all chance, and the ids.  [default: another one each time]",
)
@click.option(
    "--metered",
    metavar="KINDS",
    help="Which requests count, separated by commas: create,continue,update for a server that "
    "counts no reads.  [default: all]",
)
@click.option(
    "--latency",
    default="0",
    show_default=True,
    metavar="SECONDS",
    help="How long a round trip takes by its clock: 0.3, or 0.1-0.5.",
)
@click.option(
    "--failure-rate",
    type=float,
    default=0.0,
    show_default=True,
    metavar="SHARE",
    help="The share of comics that fail, 0 to 1.",
)
@click.option(
    "--webhook",
    metavar="URL",
    help="Send an event to this URL when a comic is accepted, begun, done or failed.",
)
@click.option(
    "--webhook-secret",
    metavar="S",
    envvar="LLAMAGEN_WEBHOOK_SECRET",
    show_envvar=True,
    help="The secret with which events are signed.",
)
@click.option(
    "--webhook-data",
    type=click.Choice(EVENT_DATA),
    default="status",
    show_default=True,
    help="What an event tells: the comic's id and status, or its pictures too.",
)
@click.option(
    "--fault",
    multiple=True,
    metavar="FAULT",
    help="Something that goes wrong, one of those below. May be given several times.",
)
@output_options
def sandbox(**given: Any) -> int:
    """Run a stand-in for the LlamaGen Comic API that enforces its limits for real.

    It listens on this machine only, needs no key and costs nothing. Ctrl-C ends it and prints
    what it has seen. GET /_sandbox/stats shows the same at any time, and GET /openapi.json is a
    description of all endpoints for other tools.
    """
    with given["output"].loading():
        from llamagen_async.cli.commands import sandbox

    return sandbox.sandbox(**given)
