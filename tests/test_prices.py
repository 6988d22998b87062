"""Prices and estimates: what is known is counted, what is not is named, nothing is made up."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamagen_async import (
    AnimationRequest,
    ComicRequest,
    ContinueRequest,
    InvalidRequestError,
    Prices,
    UpdateRequest,
)
from llamagen_async.models import ComicGeneration
from llamagen_async.prices import Charge, ChargeKind, format_credits
from llamagen_async.requests import AnyRequest

SCENE = UpdateRequest(panel=0, prompt="x")
NOT_KNOWN: list[tuple[AnyRequest, ChargeKind, int]] = [
    (ContinueRequest("x", fix_panel_num=3), ChargeKind.CONTINUED_PANEL, 3),
    (ContinueRequest("x", pagination={"totalPages": 2, "panelsPerPage": 3}),
     ChargeKind.CONTINUED_PANEL, 6),
    (SCENE, ChargeKind.REDRAW, 1),
    (ComicRequest("x", upscale=True), ChargeKind.UPSCALED_PANEL, 4),
    (ComicRequest("x", upscale="4K", fix_panel_num=1), ChargeKind.UPSCALED_PANEL, 1),
    (ComicRequest("x", extra={"upscale": "8K"}), ChargeKind.UPSCALED_PANEL, 4),
    (AnimationRequest("x"), ChargeKind.ANIMATION, 0),
    (ComicRequest("x", extra={"agentType": "videoModel"}), ChargeKind.ANIMATION, 0),
    (ComicRequest("x", extra={"fixPanelNum": "many"}), ChargeKind.OTHER, 0),
    (ComicRequest("x", extra={"pagination": 5}), ChargeKind.OTHER, 0),
    (ComicRequest("x", extra={"pagination": {"totalPages": 5}}), ChargeKind.OTHER, 0),
]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "panels"),
    [
        ({}, 4),  # which is what the server draws then
        ({"fix_panel_num": 1}, 1),
        ({"fix_panel_num": 20, "upscale": False}, 20),
        ({"pagination": {"totalPages": 3, "panelsPerPage": 2}}, 6),
        ({"extra": {"fixPanelNum": 9}}, 9),
        ({"fix_panel_num": 2, "extra": {"fixPanelNum": 9}}, 9),
        ({"extra": {"pagination": {"totalPages": 2, "panelsPerPage": 30}}}, 60),
        ({"extra": {"newField": 1}}, 4),
    ],
)
def test_a_comic_costs_150_credits_for_each_panel(fields: dict[str, Any], panels: int) -> None:
    request = ComicRequest("x", **fields)
    assert Charge.of(request) == Charge(ChargeKind.PANEL, panels)
    assert Prices().of(request) == 150 * panels
    assert Prices(panel=2.5).of(request) == 2.5 * panels


@pytest.mark.parametrize(("request_", "kind", "panels"), NOT_KNOWN)
def test_what_nobody_knows_has_no_price_until_it_is_given(
    request_: AnyRequest, kind: ChargeKind, panels: int
) -> None:
    assert Charge.of(request_) == Charge(kind, panels)
    assert Prices().of(request_) is None
    if kind is not ChargeKind.OTHER:
        assert Prices.parse({kind: 20}).of(request_) == 20 * max(1, panels)


def test_an_estimate_says_that_it_is_one_and_what_it_could_not_price() -> None:
    prices = Prices()
    comics = prices.estimate({Charge(ChargeKind.PANEL, 4): 3, Charge(ChargeKind.PANEL, 1): 1})
    assert (comics.comics, comics.requests, comics.panels, comics.credits) == (4, 4, 13, 1950)
    assert str(comics) == "4 comics, 13 panels: about 1,950 credits (estimate)"
    charges = {Charge.of(request): 2 for request, _, _ in NOT_KNOWN} | {
        Charge(ChargeKind.PANEL, 1): 1
    }
    mixed = prices.estimate(charges)
    assert mixed.credits == 150
    assert mixed.unpriced[ChargeKind.REDRAW] == 2
    assert str(mixed).startswith("1 comic, 4 continuations, 2 redraws, 4 upscaled comics, ")
    assert str(mixed).endswith("2 animations, 2 comics of an unknown number of panels at a price "
                               "that is not known")  # fmt: skip
    redraw = prices.estimate({Charge.of(SCENE): 1})
    assert str(redraw) == "1 redraw, 1 panel: 1 redraw at a price that is not known"
    assert str(prices.estimate({})) == "nothing, 0 panels: no credits"
    assert hash(mixed) == hash(prices.estimate(charges))


@given(st.dictionaries(st.sampled_from(list(ChargeKind)), st.integers(0, 5)))
def test_an_estimate_counts_each_request_once(numbers: dict[ChargeKind, int]) -> None:
    estimate = Prices().estimate({Charge(kind, 2): number for kind, number in numbers.items()})
    assert estimate.requests == sum(numbers.values())
    assert estimate.credits == numbers.get(ChargeKind.PANEL, 0) * 300
    assert sum(estimate.unpriced.values()) + numbers.get(ChargeKind.PANEL, 0) == estimate.requests


@pytest.mark.parametrize("bad", [-1, math.nan, math.inf, True, "5", 10**400, [5]])
def test_a_price_that_is_none_is_refused(bad: object) -> None:
    with pytest.raises(InvalidRequestError, match=r"prices\.redraw: got .* a number of credits"):
        Prices.parse({"redraw": bad})  # type: ignore[dict-item]  # which is the point


@pytest.mark.parametrize("bad", [5, "redraw=5", {"redraws": 5}, {5: 5}])
def test_prices_that_are_none_are_refused(bad: object) -> None:
    with pytest.raises(InvalidRequestError, match="prices: got"):
        Prices.parse(bad)  # type: ignore[arg-type]  # which is the point


@pytest.mark.parametrize(
    ("usage", "charged"),
    [
        ({"amount": 600, "unit": "credits", "total_comics": 4}, 600),
        ({"amount": "450.5", "unit": "Credit"}, 450.5),
        ({"amount": 0, "unit": "credits"}, 0),
        # Not in credits: the number of comics is worth what the page says.
        ({"amount": 4, "unit": "comics", "total_comics": 4}, 600),
        ({"total_comics": 2}, 300),
        ({"total_comics": 0}, 0),
        ({"amount": -600, "unit": "credits"}, None),
        ({"amount": 4}, None),
        ({"amount": 9, "unit": "usd"}, None),
        ({"total_comics": 4, "redraw_panels": 1}, None),
        ({"total_comics": -4}, None),
        ({}, None),
    ],
)
def test_the_server_says_what_a_comic_has_cost(usage: object, charged: float | None) -> None:
    """Another unit is never taken for credits: a budget would be passed."""
    comic = ComicGeneration.parse({"id": "c", "status": "SUCCEEDED", "usage": usage})
    running = ComicGeneration.parse({"id": "c", "status": "PROCESSING", "usage": usage})
    assert Prices().charged(ComicRequest("x"), comic) == charged
    assert Prices().charged(ComicRequest("x"), running) is None  # the server may know more later
    assert Prices().charged(SCENE, comic) is None
    assert Prices().charged(None, comic) is None
    assert Prices().charged(ComicRequest("x"), None) is None


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 credits"), (1, "1 credit"), (1500, "1,500 credits"), (0.5, "0.5 credits"),
     (1234567.89, "1,234,567.89 credits"), (100, "100 credits"), (2.999, "3 credits")],
)  # fmt: skip
def test_credits_in_words(number: float, text: str) -> None:
    assert format_credits(number) == text
