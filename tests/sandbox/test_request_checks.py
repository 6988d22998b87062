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


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": None}, "prompt or promptUrl is required"),
        ({"prompt": " "}, "prompt must be text that is not empty"),
        ({"fixPanelNum": 21}, "fixPanelNum must be a whole number from 1 to 20"),
        ({"pagination": {"totalPages": 1}}, "pagination.panelsPerPage is required"),
        (
            {"pagination": {"totalPages": 1, "panelsPerPage": 0}},
            "pagination.panelsPerPage must be a whole number from 1 to 20",
        ),
        (
            {"fixPanelNum": 1, "pagination": {"totalPages": 1, "panelsPerPage": 1}},
            "fixPanelNum and pagination exclude each other",
        ),
        ({"size": "10x10"}, "size must be WIDTHxHEIGHT, each from 64 to 2048"),
        ({"size": "640x480\n"}, "size must be WIDTHxHEIGHT, each from 64 to 2048"),
        ({"comicRoles": [{"name": "a"}, {"image": "b"}]}, "comicRoles[1].name is required"),
        ({"comicRoles": "Ada"}, "comicRoles must be a list of objects"),
        ({"images": [1]}, "images[0] must be text"),
        ({"attachments": [{"type": "image"}]}, "attachments[0].url is required"),
    ],
)
def test_a_400_names_the_field_and_what_is_allowed(fields: dict[str, Any], message: str) -> None:
    reply = create(roomy_service(), **fields)
    assert (reply.status, reply.json()["message"]) == (400, message)


def test_a_redraw_is_told_what_it_needs() -> None:
    service = roomy_service()
    id_ = finished_comic(service)
    for fields, message in (
        ({"prompt": "x"}, "one of panel, panelIndex, panel_index is required"),
        ({"panel": 0}, "one of panelPrompt, panel_prompt, prompt, caption, images, images_url"),
        ({"panel": 0, "images": []}, "one of panelPrompt, panel_prompt, prompt, caption, images"),
        ({"panel": -1, "prompt": "x"}, "panel must be a whole number of at least 0"),
    ):
        reply = change(service, id_, 60.0, action="regeneratePanel", **fields)
        assert reply.json()["message"].startswith(message)


@pytest.mark.parametrize(("number", "status"), [(4.0, 200), (4, 200), (4.5, 400), (1e300, 400)])
def test_numbers_are_those_of_json_which_has_one_kind(number: float, status: int) -> None:
    service = roomy_service()
    reply = create(service, fixPanelNum=number)
    assert reply.status == status
    if status == 200:
        (page,) = check(service, reply.json()["id"], 60.0).json()["comics"]
        assert len(page["panels"]) == 4


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
