"""`llamagen-async demo`: a dozen comics against a sandbox in this process, at high speed.

No key, no credits, no network but this machine's own. What it claims is counted by the server.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from contextlib import closing
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, cast

import attrs
from rich import box
from rich.table import Table

from llamagen_async import batch
from llamagen_async.batch.journal.story import Story
from llamagen_async.cli.exit_status import ALL_DONE, FAILED, INTERRUPTED, CommandError
from llamagen_async.cli.input.journal_summary import JournalSummary
from llamagen_async.cli.input.stories import InputStory, Stories
from llamagen_async.cli.interrupts import run_async
from llamagen_async.cli.logs import errors_only
from llamagen_async.cli.output import Output
from llamagen_async.cli.results.folder import INDEX, prepared_folder
from llamagen_async.cli.results.writer import write_results
from llamagen_async.cli.run.announce import print_time
from llamagen_async.cli.run.batch_run import BatchRun
from llamagen_async.cli.run.summary import counts_of
from llamagen_async.client import LlamaGenClient
from llamagen_async.clock import DEFAULT_TIMEOUT
from llamagen_async.errors import QuotaExhaustedError
from llamagen_async.plans import Plan, PlanName
from llamagen_async.quota import MEMORY
from llamagen_async.sandbox import (
    DEMO_KEY,
    PAID_KEY,
    Algorithm,
    Bound,
    SandboxServer,
    SandboxService,
    best_possible,
)

__all__ = ["DEMO_STORIES", "demo"]

_LINES: Final = (
    files("llamagen_async.cli.commands").joinpath("demo_stories.jsonl").read_text("utf-8")
)
DEMO_STORIES: Final[tuple[dict[str, Any], ...]] = tuple(map(json.loads, _LINES.splitlines()))
"""The dozen stories of the demo, as a user would write them: every size, several languages."""
_KEYS: Final = {"demo": DEMO_KEY, "paid": PAID_KEY, "auto": PAID_KEY}


def demo(
    *, out: str, speed: float, seed: int, plan: PlanName, algorithm: str, output: Output
) -> int:
    """Generate a dozen comics against a sandbox in this process, and show how it went."""
    if importlib.util.find_spec("PIL") is None:
        raise CommandError("the pictures need Pillow: pip install 'llamagen-async[sandbox]'")
    service = SandboxService(algorithm=cast("Algorithm", algorithm), seed=seed)
    server = SandboxServer(service, speed=speed)
    folder = prepared_folder(out)
    return run_async(lambda: _run(server, plan, folder, output))


async def _run(server: SandboxServer, named: PlanName, folder: Path, output: Output) -> int:
    stories = Stories(
        "the demo",
        checked=tuple(
            InputStory(number, "", Story.parse(fields, f"demo-{number}"))
            for number, fields in enumerate(DEMO_STORIES)
        ),
    )
    key, number = _KEYS[named], len(DEMO_STORIES)
    async with server:
        # The server forgets with this process, and so may the client.
        client = LlamaGenClient(
            key, plan=named, base_url=server.url, speed=server.speed, quota=MEMORY
        )
        # However fast the server's clock runs, its comics need real time, too: a minute at least.
        timeout = max(DEFAULT_TIMEOUT, 60.0 * server.speed)
        run = BatchRun(client, stories, output, number=number, folder=folder, timeout=timeout)
        output.tell(f"A sandbox of the LlamaGen Comic API runs at {server.url}, plan {named}.")
        async with client:
            summary = JournalSummary(total=number, to_send=number)
            await print_time(output, client, stories, summary)
            plan, began = client.plan, server.now()
            # What is left there is nobody's: its server ends with the demo.
            with errors_only(batch.__name__):
                await run.run()
        score = _Score.count(server, key, plan, began, run)
    with closing(run.unrecorded):
        written = await write_results(
            folder,
            None,
            run.unrecorded,
            title="A dozen comics",
            speed=server.speed,
            began=run.began,
            facts=score.facts(),
            durations=score.durations,
        )
    if run.interrupted:
        output.error(f"interrupted: {counts_of(run.tally)}")
        return INTERRUPTED
    output.emit_json(
        attrs.asdict(score, filter=lambda field, _value: field.name != "durations")
        | {"index": str(folder / INDEX)}
    )
    if not output.as_json:
        output.print_table(score.table(has_terminal=output.has_terminal))
        output.print(f"Look at {folder / INDEX}")
    for record in written.shown:
        if not record.is_done and record.error_type != QuotaExhaustedError.__name__:
            output.error(f"missing: {record.error or record.state.value}")
    return ALL_DONE if score.is_clean else FAILED


@attrs.frozen
class _Score:
    """The result of a demo, as counted by the server; times are seconds of its clock."""

    wanted: int
    """Comics that were asked for."""
    done: int
    """Comics that are on disk."""
    over_quota: int
    """Stories that the plan's daily quota did not pay for."""
    requests: int
    """Requests of all kinds."""
    refused: int
    """Requests that were answered with 429."""
    busiest: str
    """The most requests in any window, and the limit."""
    last: float
    """The time at which the client saw the last comic done."""
    mean: float
    """The average of the times at which it saw a comic done."""
    best: Bound
    """The result of a scheduler that knows all durations beforehand."""
    durations: Mapping[str, float]
    """How long each comic that was seen done took to be drawn, by id."""

    @classmethod
    def count(
        cls, server: SandboxServer, key: str, plan: Plan, began: float, run: BatchRun
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
            done=run.tally.done,
            over_quota=run.tally.deferred,
            requests=seen["total"],
            refused=seen["refused"],
            busiest=", ".join(
                f"{window['most']} of {limit}"
                for window, limit in zip(seen["windows"], plan.limits, strict=True)
            ),
            last=max(noticed, default=0.0),
            mean=sum(noticed) / len(noticed) if noticed else 0.0,
            best=best_possible(durations, plan.rate),
            durations={
                one["id"]: one["ready_at"] - one["accepted_at"]
                for one in generations
                if one["first_seen_ready_at"] is not None
            },
        )

    @property
    def is_clean(self) -> bool:
        """Whether nothing is missing that could be had, and nothing was refused."""
        return self.done + self.over_quota == self.wanted and not self.refused

    @property
    def each(self) -> float:
        """Requests per comic."""
        return self.requests / self.done if self.done else 0.0

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

    def table(self, *, has_terminal: bool) -> Table:
        """Return the table that the demo ends with."""
        table = Table(box=box.ROUNDED if has_terminal else box.ASCII, show_header=True)
        table.add_column("counted by the server")
        table.add_column("", justify="right")
        table.add_column("best possible", justify="right", style="dim")
        more = f", {self.over_quota} need tomorrow's quota" if self.over_quota else ""
        table.add_row("comics done", f"{self.done} of {self.wanted}{more}", "")
        table.add_row("requests", str(self.requests), str(2 * self.done))
        table.add_row("requests per comic", f"{self.each:.2f}", "2.00")
        table.add_row("refused (429)", str(self.refused), "0")
        table.add_row("most requests in any window", self.busiest, "")
        table.add_row("last comic done after", f"{self.last:.0f} s", f"{self.best.last:.0f} s")
        table.add_row("mean comic done after", f"{self.mean:.0f} s", f"{self.best.mean:.0f} s")
        return table
