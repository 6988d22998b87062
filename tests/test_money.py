"""Money in sight: what comics will cost, what they have cost, and what the sandbox has charged."""

from __future__ import annotations

from typing import Any

import pytest

from llamagen_async import (
    BatchState,
    BudgetReachedError,
    ComicGeneration,
    ComicRequest,
    ContinueRequest,
    InvalidRequestError,
    UpdateRequest,
)
from llamagen_async.sandbox import PAID_KEY
from tests.support.scripted import ROOMY, Network, Recorder, minute

pytestmark = pytest.mark.virtual_time

STORIES: list[Any] = [
    "a",
    ComicRequest("b", fix_panel_num=3),
    {"prompt": "c", "fixPanelNum": 1, "key": "k"},
]


async def test_an_estimate_costs_no_request() -> None:
    network = Recorder()
    async with network.client(ROOMY) as client:
        estimate = client.comics.estimate(STORIES)
        assert (estimate.comics, estimate.panels, estimate.credits) == (3, 8, 1200)
        assert client.comics.estimate(iter(STORIES)) == estimate
        assert client.comics.estimate("a").credits == 600
        assert client.comics.estimate(ContinueRequest("x")).unpriced == {"continued_panel": 1}
        redraw = client.comics.estimate(UpdateRequest(panel=0, prompt="x"), prices={"redraw": 9})
        assert (redraw.credits, redraw.unpriced) == (9, {})
        assert (await client.limits()).windows[0].used == 0
    assert not network.requests


@pytest.mark.parametrize("wrong", [5, None, [""], [{"prompt": "x", "sise": "y"}], b"x", {}])
async def test_an_estimate_of_what_would_be_refused_is_refused(wrong: Any) -> None:
    async with Recorder().client(ROOMY) as client:
        with pytest.raises(InvalidRequestError):
            client.comics.estimate(wrong)


async def test_an_estimate_and_the_end_agree() -> None:
    """The credits of the account go down by what was estimated, and `usage` says the same."""
    network = Network(minute(plans={PAID_KEY: ROOMY}, credits=5_000), key=PAID_KEY)
    async with network.client(ROOMY) as client:
        estimate = client.comics.estimate(STORIES)
        comics = [item.generation async for item in client.comics.batch(STORIES)]
        charged = [
            comic.usage.amount
            for comic in comics
            if isinstance(comic, ComicGeneration) and comic.usage
        ]
        assert sum(filter(None, charged)) == estimate.credits
        assert (await client.comics.usage()).credits == 5_000 - estimate.credits


async def test_a_budget_is_a_hard_stop() -> None:
    """A story that does not fit stays unsent and says why; a cheaper one may still fit."""
    network = Network(minute(plans={PAID_KEY: ROOMY}), key=PAID_KEY)
    stories = [{"prompt": f"s{n}", "fix_panel_num": 4} for n in range(5)]
    async with network.client(ROOMY) as client:
        batch = client.comics.batch([*stories, {"prompt": "x", "fix_panel_num": 1}], budget=2_000)
        items = {item.index: item async for item in batch}
    sent = {n: item.state for n, item in items.items() if item.state is not BatchState.QUEUED}
    assert sent == dict.fromkeys((0, 1, 2, 5), BatchState.SUCCEEDED)
    assert isinstance(items[4].error, BudgetReachedError)
    assert (items[4].error.spent, items[4].error.price) == (1_950, 600)
    spending = batch.progress.spending
    assert (spending.credits, spending.estimated, spending.total) == (1_950, 0, 1_950)
    assert (spending.left, spending.unsent) == (50, 2)
    assert str(spending) == (
        "1,950 credits spent; 50 credits of the budget of 2,000 credits are left"
    )
