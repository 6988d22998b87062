"""A run that sends nothing: all stories are checked, and what a real run would do is said."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from llamagen_async.batch.journal.codec import Row
from llamagen_async.batch.journal.journal import Journal
from llamagen_async.cli.exit_status import ALL_DONE, FAILED
from llamagen_async.cli.input.journal_summary import JournalSummary
from llamagen_async.cli.input.money import Money
from llamagen_async.cli.input.stories import InputStory, Stories
from llamagen_async.cli.output import Output
from llamagen_async.cli.results.records import prompt_of
from llamagen_async.cli.results.states import STATE_WORDS
from llamagen_async.cli.run.announce import print_time
from llamagen_async.cli.run.money import paid_for, print_cost
from llamagen_async.cli.text import columns, fitted, pluralize
from llamagen_async.errors import InvalidRequestError
from llamagen_async.models import BatchState
from llamagen_async.prices import Charge, format_credits
from llamagen_async.requests.files import paths_of
from llamagen_async.uploads import missing_uploads

if TYPE_CHECKING:
    from llamagen_async.client import LlamaGenClient

__all__ = ["dry_run"]

_AT_ONCE: Final = 256
"""Stories that the journal is asked for at the same time, so that they share a transaction."""
_LISTED: Final = 10
"""Stories that are named one by one to a person, at most."""
_OWN_KEY: Final = "a key of its own: an earlier story of this input has this one"
_TITLE: Final = 60
"""Columns of a story's title, at most."""
_LEAST: Final = 16
"""Columns that it has on any terminal."""


async def dry_run(
    output: Output,
    client: LlamaGenClient,
    journal: Journal,
    stories: Stories,
    *,
    money: Money,
    resend: bool,
    wait_for_quota: bool,
    may_ask: bool,
) -> int:
    """Print what a run would send, what that would cost and how long it would take.

    Args:
        output: The streams to print to.
        client: The client that would send.
        journal: The journal of the run, open.
        stories: The input.
        money: The options about money; the server is asked what is left only if they say so.
        resend: Whether uncertain stories would be sent again.
        wait_for_quota: Whether tomorrow's quota would be waited for.
        may_ask: Whether the client may send a request to find out the plan.

    Returns:
        The exit status: success if all stories would be sent.

    Raises:
        CommandError: There is a budget, and a story whose price nobody knows.
    """
    output.is_quiet = False  # what it tells is its result
    preview = _Preview(output, money, resend=resend, spent=journal.spent)
    async for one, row in _matched(stories, journal):
        preview.add(one, row)
    counts = Counter(await journal.counts())
    preview.counts[BatchState.RUNNING] = counts[BatchState.RUNNING]
    uploads = await missing_uploads(preview.files, journal)
    summary = JournalSummary(
        preview.counts, preview.total, preview.to_send, not counts.total(), preview.charges, uploads
    )
    more = preview.to_send - _LISTED
    if more > 0:
        output.print(f"  and {more} more")
    output.print(f"{pluralize(preview.total, 'story')}: {summary}.", is_prose=True)
    paid, seconds = paid_for(summary, money, spent=journal.spent), None
    if may_ask:
        seconds = await print_time(output, client, stories, paid, wait_for_quota=wait_for_quota)
    else:
        unknown = "Only the server knows the plan, and so how long it takes; --usage asks it."
        output.print(unknown, is_prose=True)
    asking = attrs.evolve(money, asks=bool(money.asks))
    await print_cost(output, client, summary, asking, spent=journal.spent)
    output.print("Nothing was sent.")
    output.emit_json({**preview.to_json(), "uploads": uploads, "seconds": seconds})
    return FAILED if preview.wrong or preview.over_budget else ALL_DONE


class _Preview:
    """The stories of the input, taken one by one, and what would become of them."""

    def __init__(self, output: Output, money: Money, *, resend: bool, spent: float) -> None:
        self.counts: Final[Counter[BatchState]] = Counter()
        """The stories that the journal has, by state, without those that would be sent."""
        self.charges: Final[Counter[Charge]] = Counter()
        """Charges of the stories that would be sent."""
        self.files: Final[set[Path]] = set()
        """The files that these need."""
        self.total = 0
        """Stories in all."""
        self.to_send = 0
        """Stories that would be sent."""
        self.wrong = 0
        """Stories that no run would send."""
        self.over_budget = 0
        """Stories that the budget would not pay for."""
        self._keys: dict[str, bytes] = {}
        """The content that is sent under each key."""
        self._left = math.inf if money.budget is None else money.budget - spent
        self._output = output
        self._money = money
        self._sent = {None, BatchState.QUEUED, *([BatchState.UNCERTAIN] if resend else [])}

    def add(self, one: InputStory, found: Row | InvalidRequestError | None) -> None:
        """Count a story, and say what would become of it."""
        self.total += 1
        story = one.story
        if story is None or isinstance(found, InvalidRequestError):
            self.wrong += 1
            self._output.error(f"{one.label}: {one.problem or found}")
            return
        state = found.state if found else None
        is_sent, before = state in self._sent, self._keys.get(story.key or "")
        if is_sent and before not in (None, story.digest):
            self.wrong += 1
            problem = InvalidRequestError("key", story.key, _OWN_KEY)
            self._output.error(f"{one.label}: {problem}")
            return
        is_again = is_sent and before is not None
        price = 0.0 if is_again else self._money.prices.of(story.request)
        is_over = is_sent and not is_again and (price or 0.0) > self._left
        if is_sent and story.key is not None:
            self._keys[story.key] = story.digest
        if is_sent and not is_again:
            self.charges[Charge.of(story.request)] += 1
            self.files.update(paths_of(story.request))
            self.to_send += 1
            self.over_budget += is_over
            self._left -= 0.0 if is_over else price or 0.0
        elif state is not None and not is_sent:
            self.counts[state] += 1
        title = prompt_of(story.request)
        self._output.emit_json(
            {
                "index": one.number,
                "label": one.label,
                "key": found.key if found else story.key,
                "prompt": title,
                "state": BatchState.QUEUED if is_sent else state,
                "id": found.generation_id if found else None,
                "credits": price if is_sent else 0,
                "over_budget": is_over,
            }
        )
        if is_sent and self.to_send <= _LISTED and not self._output.as_json:
            panels = Charge.of(story.request).panels
            words = pluralize(panels, "panel") if panels else "a video"
            cost = "price not known" if price is None else f"about {format_credits(price)}"
            cost += ", more than the budget has" if is_over else ""
            cost = "the same comic as before, by its key" if is_again else f"{words}, {cost}"
            room = self._output.width - columns(f"  {one.label}  : {cost}")
            name = f"{one.label}  {fitted(title, max(_LEAST, min(room, _TITLE)))}".strip()
            self._output.print(f"  {name}: {cost}", is_prose=True)

    def to_json(self) -> dict[str, Any]:
        """Return the sums, as the last line of JSON."""
        estimate = self._money.prices.estimate(self.charges)
        states = {STATE_WORDS[state]: number for state, number in self.counts.items() if number}
        return {
            "dry_run": True,
            "stories": self.total,
            "to_send": self.to_send,
            "wrong": self.wrong,
            **states,
            "comics": estimate.comics,
            "panels": estimate.panels,
            "credits": estimate.credits,
            "unpriced": dict(estimate.unpriced),
            "over_budget": self.over_budget,
        }


async def _matched(
    stories: Stories, journal: Journal
) -> AsyncIterator[tuple[InputStory, Row | InvalidRequestError | None]]:
    """Yield each story, and what the journal has of it or why it refuses it."""
    some: list[InputStory] = []
    async for one in stories.read(journal):
        some.append(one)
        if len(some) >= _AT_ONCE:
            for pair in await _seek(some, journal):
                yield pair
            some = []
    for pair in await _seek(some, journal):
        yield pair


async def _seek(
    some: list[InputStory], journal: Journal
) -> list[tuple[InputStory, Row | InvalidRequestError | None]]:
    asked = [journal.seek(one.story, edit=True) if one.story else _nothing() for one in some]
    found = await asyncio.gather(*asked, return_exceptions=True)
    pairs: list[tuple[InputStory, Row | InvalidRequestError | None]] = []
    for one, row in zip(some, found, strict=True):
        if isinstance(row, BaseException) and not isinstance(row, InvalidRequestError):
            raise row
        pairs.append((one, row))
    return pairs


async def _nothing() -> None:
    """Return what the journal has of a story that is wrong."""
