"""`llamagen-async demo`: a dozen comics against a sandbox in this process, at high speed.

No key, no credits, no network but this machine's own. What it claims is counted by the server.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

import attrs
import click
from rich import box
from rich.table import Table

from llamagen_async.cli.commands.batch import announce
from llamagen_async.cli.commands.demo_stories import DEMO_STORIES
from llamagen_async.cli.commands.options import json_option, prepared_folder
from llamagen_async.cli.commands.sandbox import ALGORITHM_HELP
from llamagen_async.cli.errors import ALL_DONE, FAILED, INTERRUPTED, CommandError
from llamagen_async.cli.input.stories import Stories, Story
from llamagen_async.cli.interrupts import run_async
from llamagen_async.cli.output import Output
from llamagen_async.cli.results.gallery import INDEX
from llamagen_async.cli.results.records import Record
from llamagen_async.cli.results.writer import write_all
from llamagen_async.cli.run.batch_run import Session
from llamagen_async.cli.run.summary import counts_of
from llamagen_async.client import LlamaGenClient
from llamagen_async.errors import QuotaExhaustedError
from llamagen_async.models import BatchState
from llamagen_async.plans import Plan
from llamagen_async.requests import ComicRequest
from llamagen_async.sandbox import (
    ALGORITHMS,
    DEMO_KEY,
    PAID_KEY,
    Algorithm,
    Bound,
    SandboxServer,
    SandboxService,
    best_possible,
)

__all__ = ["demo"]

_KEYS: Final = {"demo": DEMO_KEY, "paid": PAID_KEY, "auto": PAID_KEY}


@click.command(short_help="See it work: a dozen comics, no key, no cost.")
@click.option("--out", default="demo-comics", show_default=True, metavar="DIR")
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
    type=click.Choice(tuple(_KEYS)),
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
@json_option
def demo(*, out: str, speed: float, seed: int, plan: str, algorithm: str, as_json: bool) -> int:
    """Generate a dozen comics against a sandbox in this process, and show how it went.

    It needs no key, costs nothing and takes some seconds: the sandbox enforces the API's limits
    for real, but its clock runs faster. DIR/index.html shows the comics.
    """
    if importlib.util.find_spec("PIL") is None:
        raise CommandError("the pictures need Pillow: pip install 'llamagen-async[sandbox]'")
    service = SandboxService(algorithm=cast("Algorithm", algorithm), seed=seed)
    server = SandboxServer(service, speed=speed)
    folder = prepared_folder(out)
    output = Output(as_json=as_json, command="demo")
    return run_async(lambda: _run(server, plan, folder, output))


async def _run(server: SandboxServer, named: str, folder: Path, output: Output) -> int:
    stories = Stories(
        "the demo",
        checked=tuple(
            Story(number, "", ComicRequest.parse(fields))
            for number, fields in enumerate(DEMO_STORIES)
        ),
    )
    key = _KEYS[named]
    async with server:
        client = LlamaGenClient(key, plan=named, base_url=server.url, speed=server.speed)
        session = Session(client, stories, output, speed=server.speed, folder=folder)
        output.say(f"A sandbox of the LlamaGen Comic API runs at {server.url}, plan {named}.")
        async with client:
            await announce(output, client, stories, speed=server.speed)
            plan, began = client.plan, server.now()
            await session.run()
        score = _Score.count(server, key, plan, began, session)
    records = score.timed(session.records)
    write_all(folder, records, title="A dozen comics", facts=score.facts())
    if session.interrupted:
        output.complain(f"interrupted: {counts_of(session.tally)}")
        return INTERRUPTED
    output.emit(
        attrs.asdict(score, filter=lambda field, _value: field.name != "durations")
        | {"index": str(folder / INDEX)}
    )
    if not output.as_json:
        output.show(score.table())
        output.say(f"Look at {folder / INDEX}")
    for record in records:
        if not record.is_done and record.error_type != QuotaExhaustedError.__name__:
            output.complain(f"missing: {record.error or record.state.value}")
    return ALL_DONE if score.is_clean else FAILED


@attrs.frozen
class _Score:
    """How a demo went, as counted by the server; times are seconds of its clock."""

    wanted: int
    """Comics that were asked for."""
    done: int
    """Comics that are on disk."""
    unaffordable: int
    """Stories that the plan's daily quota did not pay for."""
    requests: int
    """Requests of all kinds."""
    refused: int
    """Requests that were answered with 429."""
    busiest: str
    """The most requests in any window, and the limit."""
    last: float
    """When the client saw the last comic done."""
    mean: float
    """When it saw a comic done, on average."""
    best: Bound
    """What a scheduler that knows all durations would achieve."""
    durations: Mapping[str, float]
    """How long each comic took to be drawn, by id."""

    @classmethod
    def count(
        cls, server: SandboxServer, key: str, plan: Plan, began: float, session: Session
    ) -> _Score:
        stats = server.service.stats(server.now())
        seen = stats["keys"][key]
        generations: list[dict[str, Any]] = stats["generations"]
        noticed = [
            one["first_seen_ready_at"] - began
            for one in generations
            if one["first_seen_ready_at"] is not None
        ]
        durations = [server.service.duration_of(n) for n in range(len(generations))]
        return cls(
            wanted=len(DEMO_STORIES),
            done=session.tally.done,
            unaffordable=session.tally.put_off,
            requests=seen["total"],
            refused=seen["refused"],
            busiest=", ".join(
                f"{window['most']} of {limit}"
                for window, limit in zip(seen["windows"], plan.limits, strict=True)
            ),
            last=max(noticed, default=0.0),
            mean=sum(noticed) / len(noticed) if noticed else 0.0,
            best=best_possible(durations, plan.rate),
            durations={one["id"]: one["ready_at"] - one["accepted_at"] for one in generations},
        )

    @property
    def is_clean(self) -> bool:
        """Whether nothing is missing that could be had, and nothing was refused."""
        return self.done + self.unaffordable == self.wanted and not self.refused

    @property
    def each(self) -> float:
        """Requests per comic."""
        return self.requests / self.done if self.done else 0.0

    def timed(self, records: list[Record]) -> list[Record]:
        """Return the records with the times that the server knows better."""
        return [
            attrs.evolve(record, seconds=self.durations[record.id])
            if record.state is BatchState.SUCCEEDED and record.id
            else record
            for record in records
        ]

    def facts(self) -> list[tuple[str, str]]:
        """Return what the gallery says at its top."""
        return [
            ("comics", f"{self.done} of {self.wanted}"),
            ("requests", str(self.requests)),
            ("requests per comic", f"{self.each:.2f}"),
            ("refused with 429", str(self.refused)),
            ("last one done after", f"{self.last:.0f} s"),
            ("done on average after", f"{self.mean:.0f} s"),
        ]

    def table(self) -> Table:
        """Return the table that the demo ends with."""
        is_terminal = sys.stdout.isatty()
        table = Table(box=box.ROUNDED if is_terminal else box.ASCII, show_header=True)
        table.add_column("counted by the server")
        table.add_column("", justify="right")
        table.add_column("best possible", justify="right", style="dim")
        more = f", {self.unaffordable} need tomorrow's quota" if self.unaffordable else ""
        table.add_row("comics done", f"{self.done} of {self.wanted}{more}", "")
        table.add_row("requests", str(self.requests), str(2 * self.done))
        table.add_row("requests per comic", f"{self.each:.2f}", "2.00")
        table.add_row("refused (429)", str(self.refused), "0")
        table.add_row("most requests in any window", self.busiest, "")
        table.add_row("last comic done after", f"{self.last:.0f} s", f"{self.best.last:.0f} s")
        table.add_row("mean comic done after", f"{self.mean:.0f} s", f"{self.best.mean:.0f} s")
        return table
