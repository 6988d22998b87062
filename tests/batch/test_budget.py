"""A budget holds: whatever is lost, killed or run again, and whatever the server charges."""

from __future__ import annotations

import asyncio
import math
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llamagen_async import (
    APIConnectionError,
    Batch,
    BatchState,
    BudgetReachedError,
    ComicGeneration,
    ComicRequest,
    InvalidRequestError,
    Plan,
    Prices,
    RateLimit,
    RequestKind,
    ServerError,
)
from llamagen_async.batch.budget import Budget
from llamagen_async.comics import Comics
from llamagen_async.sandbox.generations import PANEL_PRICE
from llamagen_async.simulation import run
from tests.support.journals import added, opened
from tests.support.machine import ROOMY, Machine, Pictures, fetching, named
from tests.support.power import Power
from tests.support.scripted import Network, Sent, minute

pytestmark = pytest.mark.virtual_time


def comics(*panels: int) -> list[dict[str, Any]]:
    return [{"prompt": f"s{n}", "fix_panel_num": number} for n, number in enumerate(panels)]


def charging(share: float) -> Any:
    """Return what lets a server say that comics have cost this share of what the page says."""

    def change(_sent: Sent, body: Any) -> Any:
        if isinstance(body, dict) and "usage" in body:
            return {**body, "usage": {**body["usage"], "amount": body["usage"]["amount"] * share}}
        return body

    return change


def machine(folder: Path, *, failure_rate: float = 0.0, **settings: Any) -> Machine:
    folder.mkdir(exist_ok=True)
    service = {"failure_rate": failure_rate}
    return Machine(folder, 60.0, service=service, **settings)


async def spent(one: Machine, stories: Any, **settings: Any) -> tuple[Any, dict[int, Any]]:
    """Run a batch; return what was spent, and the items by their position."""
    async with one.open() as client:
        batch = client.comics.batch(stories, journal=one.journal, **settings)
        items = {item.index: item async for item in batch}
        return batch.progress.spending, items


def unsent(items: dict[int, Any]) -> list[int]:
    """Return the positions of what the budget did not pay for, all of them unsent."""
    over = [n for n, item in items.items() if isinstance(item.error, BudgetReachedError)]
    assert all(items[n].state is BatchState.QUEUED for n in over)
    assert all(items[n].generation is None for n in over)
    return sorted(over)


async def test_a_budget_is_counted_across_runs(tmp_path: Path) -> None:
    """Also what a run without one has spent; a higher budget goes on."""
    one = machine(tmp_path)
    first, _ = await spent(one, comics(4, 4))
    assert (first.credits, first.total, first.budget, first.left) == (1_200, 1_200, None, None)
    second, items = await spent(one, comics(4, 4, 4, 4), budget=1_800)
    assert (second.credits, second.total, second.left) == (600, 1_800, 0)
    assert str(second).startswith("600 credits spent, 1,800 credits with earlier runs; 0 credits")
    assert unsent(items) == [3]
    third, items = await spent(one, comics(4, 4, 4, 4), budget=1_800)
    assert (third.credits, third.total, unsent(items)) == (0, 1_800, [3])
    last, items = await spent(one, comics(4, 4, 4, 4), budget=2_400)
    assert (last.credits, last.left, unsent(items)) == (600, 0, [])
    assert one.accepted == 4
    assert one.rows("credits") == [(600.0,)] * 4


async def test_comics_that_cost_less_than_estimated_leave_room(tmp_path: Path) -> None:
    """A story waits until the server has told what those before it have cost."""
    one = machine(tmp_path, body=charging(0.5))
    spending, items = await spent(one, comics(*[4] * 8), budget=1_300)
    assert (spending.total, spending.estimated) == (900, 0)
    # Two are sent, then one for which there is room, and so on: another would be too many.
    assert len(unsent(items)) == 5
    assert one.accepted == 3


async def test_comics_that_cost_more_than_estimated_stop_it_early(tmp_path: Path) -> None:
    """Only creates that are on their way by then pass the budget."""
    two = Plan("two", limits=RateLimit(2, per=60), metered={RequestKind.CREATE})
    one = machine(tmp_path, plan=two, body=charging(3), latency=0.5)
    spending, items = await spent(one, comics(*[1] * 20), budget=1_200)
    # Two more were on their way when the first one told its price; the others had no slot yet.
    assert (spending.total, one.accepted) == (1_800, 4)
    assert len(unsent(items)) == 16
    # All at once: nobody could know.
    other = machine(tmp_path / "other", body=charging(3))
    spending, items = await spent(other, comics(*[1] * 20), budget=600)
    assert (spending.total, other.accepted, len(unsent(items))) == (1_800, 4, 16)
    again, _ = await spent(other, comics(*[1] * 20), budget=600)
    assert (again.credits, again.left, other.accepted) == (0, 0, 4)


async def test_the_price_is_on_disk_before_the_create_is_sent(tmp_path: Path) -> None:
    """Otherwise the next run would not know of it, if this one were killed now."""
    one = machine(tmp_path, latency=20.0)
    async with one.open() as client, client.comics.batch(comics(4), journal=one.journal) as batch:
        reading = asyncio.ensure_future(anext(aiter(batch)))
        await asyncio.sleep(5)
        assert len(one.sent) == 1
        assert one.rows("state, credits") == [("sending", 600.0)]
        assert batch.progress.spending.estimated == 600
        await reading
    assert one.rows("state, credits") == [("succeeded", 600.0)]


async def test_what_is_on_its_way_costs_what_is_known_by_then() -> None:
    """The first comic to tell its price says that of the others, too."""
    request, budget = ComicRequest("x", fix_panel_num=1), Budget(1_500)
    usage = {"amount": 450, "unit": "credits"}
    comic = ComicGeneration.parse({"id": "c", "status": "SUCCEEDED", "usage": usage})
    async with opened(None) as journal:
        rows = [await added(journal, f"s{n}") for n in range(5)]
    for row in rows:
        await budget.reserve(row.id, request)
    for row in rows[:3]:
        budget.sent(row.id)
    assert budget.charge(rows[0], request, comic) == 450  # three times as much as estimated
    # Two are on their way for 900 more: what was reserved for 150 each does not fit any more.
    with pytest.raises(BudgetReachedError):
        budget.sent(rows[3].id)
    budget.settle(rows[1].id, is_spent=False)
    budget.sent(rows[4].id)
    assert (budget.spending.credits, budget.spending.unsent) == (750, 1)


async def test_a_story_may_turn_out_unsent_after_its_task_has_ended() -> None:
    """A second Ctrl-C ends the task, while the create that was asked for is taken back."""
    budget = Budget(1_500)
    await budget.reserve(1, ComicRequest("x", fix_panel_num=1))
    price = budget.sent(1)
    budget.settle(1, is_spent=True)
    budget.not_sent(1)
    assert budget.spending.credits == price


async def test_what_may_have_been_accepted_counts_as_spent(tmp_path: Path) -> None:
    """Also once it is sent again: it may be paid twice, so it counts twice."""

    def lose(sent: Sent) -> Exception | None:
        is_lost = sent.kind is RequestKind.CREATE and sent.prompt == "s0" and sent.n == 0
        return ServerError(500, None, "lost") if is_lost else None

    one = machine(tmp_path, after=lose)
    spending, items = await spent(one, comics(4, 4), budget=1_200)
    assert items[0].state is BatchState.UNCERTAIN
    assert (spending.total, spending.estimated, spending.left) == (1_200, 600, 0)
    spending, items = await spent(one, comics(4, 4), budget=1_200, resend_uncertain=True)
    assert unsent(items) == [0]
    spending, items = await spent(one, comics(4, 4), budget=1_800)
    assert items[0].state is BatchState.SUCCEEDED
    assert (spending.credits, spending.total) == (600, 1_800)
    assert one.rows("credits, credits_lost") == [(600.0, 600.0), (600.0, 0.0)]


async def test_what_was_not_accepted_costs_nothing(tmp_path: Path) -> None:
    """A story that the server refuses for its content leaves its credits to the next one."""
    one = machine(tmp_path)
    wrong = {"prompt": "wrong", "extra": {"size": "no size"}}
    spending, items = await spent(one, [wrong, *comics(4, 4)], budget=1_200)
    assert items[0].state is BatchState.FAILED
    assert unsent(items) == []
    assert (spending.total, spending.estimated) == (1_200, 0)
    assert one.rows("credits") == [(None,), (600.0,), (600.0,)]


async def test_a_failed_comic_has_cost_what_was_estimated(tmp_path: Path) -> None:
    """Nobody knows whether the server gives credits back."""
    one = machine(tmp_path, failure_rate=1.0)
    spending, items = await spent(one, comics(4, 4), budget=600)
    assert items[0].state is BatchState.FAILED
    assert (spending.total, spending.estimated) == (600, 600)
    assert unsent(items) == [1]


async def test_what_has_no_price_is_not_sent_under_a_budget(tmp_path: Path) -> None:
    one = machine(tmp_path)
    stories: list[Any] = [{"prompt": "a", "upscale": True}, *comics(4)]
    spending, items = await spent(one, stories, budget=2_000)
    assert unsent(items) == [0]
    assert "its price is not known" in str(items[0].error)
    assert (spending.total, spending.unsent) == (600, 1)
    spending, items = await spent(one, stories, budget=2_000, prices={"upscaled_panel": 200})
    assert items[0].state is BatchState.SUCCEEDED
    assert spending.total == 600 + 600  # which is what this server charges


async def test_what_has_no_price_is_counted_without_a_budget(tmp_path: Path) -> None:
    one = machine(tmp_path)
    spending, _ = await spent(one, [{"type": "animation", "prompt": "a"}, *comics(4)])
    assert (spending.credits, spending.unpriced) == (600, 1)
    assert str(spending) == "600 credits spent, and 1 at a price that is not known"


async def test_changes_count_as_they_were_priced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's number is that of the whole comic: it is not charged twice."""
    one = machine(tmp_path)
    change = {"type": "continue", "of": "a", "prompt": "b", "fix_panel_num": 2}
    stories = [{"prompt": "a", "key": "a", "fix_panel_num": 1}, change]
    given: dict[str, float | None] = {"continued_panel": PANEL_PRICE}
    spending, items = await spent(one, stories, budget=450, prices=given)
    assert unsent(items) == []
    assert (spending.total, spending.estimated) == (450, 300)
    async with one.open() as client:
        assert (await client.comics.usage()).credits == 100_000_000 - 450
    # The pictures of the first story are fetched when the comic has gone on already.
    for name in ("download", "download_changed"):
        monkeypatch.setattr(Comics, name, fetching(Pictures()))
    again, _ = await spent(one, stories, budget=450, prices=given, out=tmp_path / "out")
    assert (again.credits, again.total) == (0, 450)
    assert one.rows("credits") == [(150.0,), (300.0,)]


@pytest.mark.parametrize("bad", [-1, math.nan, True, "5"])
async def test_a_budget_that_is_none_is_refused(tmp_path: Path, bad: Any) -> None:
    async with machine(tmp_path).open() as client:
        with pytest.raises(InvalidRequestError, match="budget: got"):
            client.comics.batch(named(1), budget=bad)
        with pytest.raises(InvalidRequestError, match="prices"):
            client.comics.batch(named(1), prices={"panel": bad})


async def test_a_budget_of_nothing_sends_nothing(tmp_path: Path) -> None:
    one = machine(tmp_path)
    spending, items = await spent(one, comics(4, 1), budget=0)
    assert (spending.total, unsent(items), one.sent) == (0, [0, 1], [])


async def test_what_costs_nothing_fits_any_budget(tmp_path: Path) -> None:
    one = machine(tmp_path, body=charging(0))
    spending, items = await spent(one, comics(4, 1), budget=0, prices=Prices(panel=0))
    assert (spending.total, unsent(items), one.accepted) == (0, [], 2)


def in_flight_at_most(net: Network, batches: list[Batch], limit: float) -> None:
    """Assert at each create that what is counted has not passed the budget."""

    def check(sent: Sent) -> None:
        if sent.kind is RequestKind.CREATE and batches:
            assert batches[-1].progress.spending.total <= limit

    net._before = check


async def charged_by(net: Network, power: Power) -> float:
    """Return the credits that the server has taken from the account."""
    async with power.client(ROOMY) as client:
        left = (await client.comics.usage()).credits
    assert left is not None
    return 100_000_000 - left


@pytest.mark.once
@settings(max_examples=25)
@given(
    panels=st.lists(st.integers(1, 4), min_size=1, max_size=5),
    budget=st.integers(0, 15).map(lambda n: n * PANEL_PRICE),
    cuts=st.lists(st.integers(1, 60), max_size=3),
    lost=st.sets(st.integers(0, 5), max_size=2),
    resends=st.booleans(),
)
@example(panels=[1, 1], budget=300, cuts=[12, 7], lost=set(), resends=True)
def test_a_budget_holds_through_kills_and_reruns(
    panels: list[int], budget: float, cuts: list[int], lost: set[int], resends: bool
) -> None:
    """The server never takes more, and the journal never counts less than the server has taken.

    This fails if a story's price is not on disk before it is sent, if it is not reserved while it
    is on its way, or if what is uncertain does not count.
    """

    def lose(sent: Sent) -> Exception | None:
        is_lost = sent.kind is RequestKind.CREATE and sent.n in lost
        return APIConnectionError("lost") if is_lost else None

    async def main(folder: Path) -> None:
        service = minute(30.0, plans={"the-key": ROOMY})
        net = Network(service, key="the-key", latency=(0.1, 2.0), after=lose)
        power, batches = Power(net), list[Batch]()
        left: set[int] = set()
        in_flight_at_most(net, batches, budget)

        async def once() -> None:
            async with power.client(ROOMY) as client:
                batch = client.comics.batch(
                    comics(*panels),
                    journal=folder / "run.db",
                    budget=budget,
                    resend_uncertain=resends,
                )
                batches.append(batch)
                left.clear()
                async for item in batch:
                    if item.state is BatchState.QUEUED:
                        assert isinstance(item.error, BudgetReachedError)
                        left.add(item.index)

        for cut_at in cuts:
            await power.run(once, cut_at=cut_at)
        for _ in range(2):
            assert await power.run(once, cut_at=None)
            counted = batches[-1].progress.spending
            assert counted.total <= budget
            taken = await charged_by(net, power)
            assert taken <= counted.total
            if not cuts and not lost:
                assert taken == counted.total
            # What is left unsent is what does not fit.
            assert all(counted.total + panels[n] * PANEL_PRICE > budget for n in left)

    with tempfile.TemporaryDirectory() as folder:
        run(main(Path(folder)))


async def test_creates_on_their_way_never_pass_it_together(tmp_path: Path) -> None:
    """All of them are sent before the first answer comes."""
    one = machine(tmp_path, latency=20.0)
    batches: list[Batch] = []
    in_flight_at_most(one, batches, 1_000)
    async with one.open() as client:
        batches.append(client.comics.batch(comics(*[1] * 30), budget=1_000))
        states = [item.state async for item in batches[-1]]
    assert states.count(BatchState.SUCCEEDED) == 6
    assert [sent.at for sent in one.creates] == [one.creates[0].at] * 6
    assert batches[0].progress.spending.left == 100
