"""Changes in the sandbox: every spelling of the vendor's clients, and answers that are stale."""

from __future__ import annotations

from typing import Any

import pytest

from llamagen_async.models import ComicGeneration
from llamagen_async.sandbox import PAID_KEY, Fault
from tests.support.sandbox import (
    call,
    change,
    check,
    create,
    finished_comic,
    multipart,
    roomy_service,
    upload,
)


@pytest.mark.parametrize(
    "fields",
    [
        {"panel": 1, "page": 0, "prompt": "x"},
        {"panelIndex": 1, "pageIndex": 0, "panelPrompt": "x"},
        {"panel_index": 1, "page_index": 0, "panel_prompt": "x"},
        {"panel": 1, "images_url": "https://i"},
        {"panel": 1, "images": ["https://i"]},
        {"panel": 1, "caption": "x"},
    ],
)
def test_a_redraw_is_understood_in_every_spelling(fields: dict[str, Any]) -> None:
    service = roomy_service()
    id_ = finished_comic(service)
    assert change(service, id_, 60.0, action="regeneratePanel", **fields).status == 200
    comic = ComicGeneration.parse(check(service, id_, 120.0).json())
    assert [(panel.asset_url or "").endswith("?v=1") for panel in comic.pages[0].panels] == [
        *(False, True, False, False)
    ]


def test_a_story_that_speaks_of_a_redraw_is_none() -> None:
    """The kind is told by the action, not by what else is in the body."""
    service = roomy_service()
    id_ = finished_comic(service)
    change(service, id_, 60.0, action="continueWrite", prompt='"regeneratePanel"')
    assert set(service.stats(0.0)["keys"][PAID_KEY]["requests"]) == {"create", "continue"}


@pytest.mark.parametrize(
    "fields",
    [
        {"action": "continueWrite", "prompt": "more"},
        {"action": "regeneratePanel", "panel": 0, "prompt": "x"},
    ],
)
def test_status_checks_are_stale_for_as_long_as_asked(fields: dict[str, Any]) -> None:
    """The answer to the change is true, then the old state is shown, then the new one."""
    service = roomy_service(faults=[Fault("stale", 20.0)])
    id_ = finished_comic(service)
    before = check(service, id_, 60.0).json()
    answer = change(service, id_, 100.0, **fields).json()
    assert answer["status"] == "PENDING"
    assert check(service, id_, 100.0).json() == before
    assert check(service, id_, 119.9).json() == before
    assert check(service, id_, 120.0).json()["status"] == "PROCESSING"
    assert check(service, id_, 160.0).json() != before
    again = check(service, id_, 160.0).json()
    change(service, id_, 200.0, **fields)
    assert check(service, id_, 210.0).json() == again
    one = call(service, "GET", f"/v1/comics/generations/{id_}", now=210.0, query={"page": "0"})
    assert one.json()["status"] == "SUCCEEDED"


@pytest.mark.parametrize("size", ["512x512", "768x768", "1024x1536", "1792x1024", "640x480"])
def test_any_size_that_can_be_drawn_is_taken(size: str) -> None:
    assert create(roomy_service(), size=size).status == 200


@pytest.mark.parametrize("size", ["10x10", "4096x4096", "1024", "1024X1024", 5, "1024x1024x2"])
def test_what_is_no_size_or_too_large_is_a_400(size: object) -> None:
    assert create(roomy_service(), size=size).status == 400


def test_a_file_of_more_than_10_mb_is_refused() -> None:
    service = roomy_service()
    most = 10 * 1024 * 1024
    assert upload(service, *multipart(content=b"x" * most)).status == 200
    assert upload(service, *multipart(content=b"x" * (most + 1))).status == 413
