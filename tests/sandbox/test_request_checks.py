"""Requests whose content is wrong: a 400, and nothing is billed or changed."""

from __future__ import annotations

from typing import Any

import pytest

from llamagen_async import requests
from llamagen_async.sandbox import (
    PAID_KEY,
)
from llamagen_async.sandbox.schemas import SIZES
from tests.support.sandbox import (
    ANIMATIONS,
    call,
    change,
    check,
    create,
    finished_comic,
    roomy_service,
)


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": None},
        {"prompt": ""},
        {"prompt": 5},
        {"prompt": None, "promptUrl": ""},
        {"size": "10x10"},
        {"fixPanelNum": 0},
        {"fixPanelNum": 21},
        {"fixPanelNum": True},
        {"fixPanelNum": "4"},
        {"fixPanelNum": 4, "pagination": {"totalPages": 1, "panelsPerPage": 1}},
        {"pagination": {"totalPages": 1}},
        {"pagination": {"totalPages": 1, "panelsPerPage": 21}},
        {"pagination": [1, 2]},
    ],
)
def test_a_create_that_makes_no_sense_is_a_400_that_is_counted_but_not_billed(
    fields: dict[str, Any],
) -> None:
    service = roomy_service(credits=1_000)
    assert create(service, **fields).status == 400
    key = service.stats(0.0)["keys"][PAID_KEY]
    assert key["requests"] == {"create": {"400": 1}}
    assert key["creates_accepted"] == 0
    assert call(service, "GET", "/v1/comics/usage").json()["credits"] == 1_000


@pytest.mark.parametrize("payload", [{}, {"prompt": ""}, {"prompt": "x", "videoOptions": []}])
def test_an_animation_needs_a_prompt_and_options_that_are_an_object(payload: object) -> None:
    assert call(roomy_service(), "POST", ANIMATIONS, payload).status == 400


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"action": "erase"},
        {"action": "continueWrite"},
        {"action": "continueWrite", "prompt": " "},
        {"action": "continueWrite", "prompt": "x", "fixPanelNum": 0},
        {"action": "regeneratePanel", "prompt": "x"},
        {"action": "regeneratePanel", "panel": 0},
        {"action": "regeneratePanel", "panel": -1, "prompt": "x"},
        {"action": "regeneratePanel", "panel": "0", "prompt": "x"},
        {"action": "regeneratePanel", "panel": 4, "prompt": "x"},
        {"action": "regeneratePanel", "panel": 0, "page": 1, "prompt": "x"},
    ],
)
def test_a_change_that_makes_no_sense_is_refused_and_changes_nothing(
    fields: dict[str, Any],
) -> None:
    service = roomy_service()
    name = finished_comic(service)
    before = check(service, name, 60.0).body
    assert change(service, name, 60.0, **fields).status == 400
    assert check(service, name, 61.0).body == before


@pytest.mark.parametrize("size", requests.SIZES)
def test_every_size_that_the_client_allows_is_accepted(size: str) -> None:
    """The sandbox has a list of its own, so a slip in one of the two lists shows here."""
    assert create(roomy_service(), size=size).status == 200
    assert len(SIZES) == len(requests.SIZES)
