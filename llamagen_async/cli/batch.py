"""`llamagen-async batch`: many stories, each paid once, with live progress and a gallery."""

from __future__ import annotations

import click

from llamagen_async.cli.closing import close, save
from llamagen_async.cli.estimate import Outlook, affordable, requests_each, time_left
from llamagen_async.cli.options import (
    Connection,
    connection_options,
    json_option,
    prepared_folder,
)
from llamagen_async.cli.output import Output
from llamagen_async.cli.running import run_async
from llamagen_async.cli.session import Session
from llamagen_async.cli.stories import Stories, open_stories
from llamagen_async.cli.text import counted, lasting, rule
from llamagen_async.client import LlamaGenClient
from llamagen_async.comics import DEFAULT_TIMEOUT

__all__ = ["announce", "batch"]


@click.command(short_help="Generate a comic from each story of a file.")
@click.argument("stories")
@click.option(
    "--out",
    default="comics",
    show_default=True,
    metavar="DIR",
    help="Where pictures, index.html and results.jsonl go.",
)
@click.option(
    "--timeout",
    type=float,
    default=DEFAULT_TIMEOUT,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for each comic once it was accepted.",
)
@click.option(
    "--wait-for-quota",
    is_flag=True,
    help="Wait for tomorrow's quota instead of leaving stories unsent.",
)
@json_option
@connection_options
def batch(
    *,
    connection: Connection,
    stories: str,
    out: str,
    timeout: float,
    wait_for_quota: bool,
    as_json: bool,
) -> int:
    """Generate a comic from each story in STORIES.

    \b
    STORIES is one of
      FILE.jsonl  a JSON object of request fields a line, such as
                  {"prompt": "A cat in space", "size": "1024x768", "fix_panel_num": 4}
      FILE.txt    a prompt a line; lines that start with # are left out
      -           stdin, either of the two; sent as the lines arrive

    A file is checked to its end before anything is sent. The pictures of each comic are in DIR,
    index.html there shows them all, and results.jsonl says what became of every story. A folder
    may be used again: comics that are in it stay in it.

    Ctrl-C stops the batch and says which comics are still being drawn. Stories that were not
    sent are in DIR/unsent.jsonl, ready to be given to this command.
    """  # noqa: D301 - \b is click's mark for text that is not to be wrapped
    source = open_stories(stories)
    client = connection.client()
    folder = prepared_folder(out)
    output = Output(as_json=as_json, command="batch")
    session = Session(
        client,
        source,
        output,
        speed=connection.speed,
        folder=folder,
        timeout=timeout,
        wait_for_quota=wait_for_quota,
    )

    async def work() -> int:
        await connection.prove_quota()
        async with client:
            await announce(
                output, client, source, speed=connection.speed, wait_for_quota=wait_for_quota
            )
            try:
                await session.run()
            finally:
                # Whatever happened: an id that is not written down is money that is lost.
                unsent = save(folder, session.records, title=f"Comics from {source.name}")
        return close(output, session, client.stats(), folder=folder, unsent=unsent)

    return run_async(work)


async def announce(
    output: Output,
    client: LlamaGenClient,
    stories: Stories,
    *,
    speed: float,
    wait_for_quota: bool = False,
) -> None:
    """Say beforehand how long it will take, and what today's quota does not pay for."""
    limits = await client.limits()
    plan = client.plan  # known by now, if the server had to be asked for it
    rules = " and ".join(map(rule, plan.limits))
    if stories.checked is None:
        output.say(f"Comics from {stories.name}; the limit is {rules}.")
        here = ""
    else:
        wanted = number = len(stories.checked)
        room = affordable(plan, limits)
        if room is not None and room < wanted and not wait_for_quota:
            number = room
            output.say(
                f"The limit of {rule(plan.quotas[0])} pays for about {counted(room, 'comic')} now: "
                f"{wanted - room} of the {counted(wanted, 'story')} will probably not be sent."
            )
        outlook = Outlook(number, each=requests_each(plan))
        left = time_left(outlook, limits, quotas=wait_for_quota)
        output.say(f"{counted(number, 'comic')}, about {lasting(left)}; the limit is {rules}.")
        here = f", so that is about {lasting(max(1.0, left / speed))} here"
    if speed != 1:
        output.say(f"Times are the server's: its clock runs {speed:g} times as fast{here}.")
