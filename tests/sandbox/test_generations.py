"""A generation from its acceptance on, and its changes."""

from __future__ import annotations

from typing import get_args

import pytest

from llamagen_async.models import ComicGeneration, GenerationStatus
from llamagen_async.sandbox import (
    Dialect,
)
from tests.support.sandbox import (
    GENERATIONS,
    call,
    change,
    check,
    create,
    finished_comic,
    roomy_service,
)

# A comic's life.


def test_a_comic_goes_from_pending_to_processing_to_succeeded() -> None:
    service = roomy_service()
    name = finished_comic(service)
    words = [check(service, name, now).json()["status"] for now in (1.0, 30.0, 59.9, 60.0)]
    assert words == ["PENDING", "PROCESSING", "PROCESSING", "SUCCEEDED"]


def test_production_speaks_of_loading_and_processed() -> None:
    service = roomy_service(dialect="production")
    name = finished_comic(service)
    words = [check(service, name, now).json()["status"] for now in (1.0, 30.0, 60.0)]
    assert words == ["LOADING", "LOADING", "PROCESSED"]


def test_a_finished_comic_is_read_by_the_models() -> None:
    service = roomy_service(public_url="http://127.0.0.1:9", epoch=1_700_000_000.5)
    name = finished_comic(service, prompt="A cat finds a hat. It flies!", fixPanelNum=8)
    comic = ComicGeneration.parse(check(service, name, 60.0).json())
    assert comic.status is GenerationStatus.SUCCEEDED
    assert comic.prompt == "A cat finds a hat. It flies!"
    assert [(page.page, len(page.panels)) for page in comic.pages] == [(0, 6), (1, 2)]
    assert [panel.panel for panel in comic.pages[1].panels] == [0, 1]
    assert comic.pages[0].panels[0].caption == "A cat finds a hat."
    base = f"http://127.0.0.1:9/_sandbox/assets/{name}"
    assert comic.pages[1].panels[1].asset_url == f"{base}/1-1.png"
    assert comic.output == f"{base}/0.png"
    assert comic.usage is not None
    assert (comic.usage.amount, comic.usage.total_comics) == (8 * 150, 8)
    assert comic.created_at is not None
    assert comic.created_at.timestamp() == 1_700_000_000.5


def test_an_unfinished_comic_shows_no_pictures() -> None:
    service = roomy_service()
    body = check(service, finished_comic(service), 30.0).json()
    assert set(body) == {"id", "status", "createdAt", "prompt", "sandbox"}


@pytest.mark.parametrize("dialect", get_args(Dialect))
def test_every_answer_says_that_it_comes_from_the_sandbox(dialect: Dialect) -> None:
    """The vendor has no such field; a reader of the result can tell the two apart by it."""
    service = roomy_service(dialect=dialect)
    created = create(service).json()
    assert created["sandbox"] is True
    comic = ComicGeneration.parse(check(service, created["id"], 60.0).json())
    assert comic.raw["sandbox"] is True


def test_four_panels_on_one_page_are_drawn_if_nothing_is_said() -> None:
    service = roomy_service()
    comic = ComicGeneration.parse(check(service, finished_comic(service), 60.0).json())
    assert [len(page.panels) for page in comic.pages] == [4]


def test_pagination_decides_pages_and_panels() -> None:
    service = roomy_service()
    name = finished_comic(service, pagination={"totalPages": 3, "panelsPerPage": 2})
    comic = ComicGeneration.parse(check(service, name, 60.0).json())
    assert [len(page.panels) for page in comic.pages] == [2, 2, 2]


def test_a_prompt_url_is_enough() -> None:
    service = roomy_service()
    reply = call(service, "POST", GENERATIONS, {"promptUrl": "https://example.com/story.txt"})
    assert reply.json()["prompt"] == "The story at https://example.com/story.txt"


def test_unknown_fields_are_accepted() -> None:
    assert create(roomy_service(), style="noir", somethingNew={"a": 1}).status == 200


def test_page_and_panel_pick_one() -> None:
    service = roomy_service()
    name = finished_comic(service, pagination={"totalPages": 2, "panelsPerPage": 3})
    path = f"{GENERATIONS}/{name}"
    body = call(service, "GET", path, now=60.0, query={"page": "1", "panel": "2"}).json()
    assert [page["page"] for page in body["comics"]] == [1]
    assert [panel["panel"] for panel in body["comics"][0]["panels"]] == [2]
    assert call(service, "GET", path, now=60.0, query={"page": "2"}).status == 404
    assert call(service, "GET", path, now=60.0, query={"panel": "-1"}).status == 400


def test_a_failed_comic_says_why() -> None:
    service = roomy_service(failure_rate=1.0)
    comic = ComicGeneration.parse(check(service, finished_comic(service), 60.0).json())
    assert comic.status is GenerationStatus.FAILED
    assert comic.failure_reason
    assert not comic.asset_urls


def test_outcomes_are_running_succeeded_or_failed() -> None:
    for failure_rate, outcome in ((0.0, "succeeded"), (1.0, "failed")):
        service = roomy_service(failure_rate=failure_rate)
        create(service)
        outcomes = [service.stats(now)["generations"][0]["outcome"] for now in (59.0, 60.0)]
        assert outcomes == ["running", outcome]


# Changes of a comic.


def test_continuing_adds_pages_and_runs_again() -> None:
    service = roomy_service()
    name = finished_comic(service)
    reply = change(
        service, name, 100.0, action="continueWrite", prompt="It sails away.", fixPanelNum=2
    )
    assert reply.json()["status"] == "PENDING"
    assert check(service, name, 159.0).json()["status"] == "PROCESSING"
    comic = ComicGeneration.parse(check(service, name, 160.0).json())
    assert [len(page.panels) for page in comic.pages] == [4, 2]
    assert comic.pages[1].panels[0].caption == "It sails away."
    assert comic.output is not None
    assert comic.output.endswith("/0.png?v=1")


@pytest.mark.parametrize("field", ["panel", "panelIndex", "panel_index"])
def test_redrawing_a_panel_gives_it_another_url_and_caption(field: str) -> None:
    service = roomy_service()
    name = finished_comic(service)
    before = ComicGeneration.parse(check(service, name, 60.0).json()).pages[0].panels
    fields = {"action": "regeneratePanel", field: 1, "page": 0, "caption": "Now with a dog"}
    assert change(service, name, 100.0, **fields).status == 200
    after = ComicGeneration.parse(check(service, name, 160.0).json()).pages[0].panels
    assert after[1].caption == "Now with a dog"
    assert after[1].asset_url == f"{before[1].asset_url}?v=1"
    assert (after[0], after[2]) == (before[0], before[2])


def test_a_panel_redrawn_from_images_keeps_its_caption() -> None:
    service = roomy_service()
    name = finished_comic(service)
    before = check(service, name, 60.0).json()["comics"][0]["panels"][0]["caption"]
    images = ["https://example.com/a.png"]
    change(service, name, 60.0, action="regeneratePanel", panel=0, images=images)
    body = check(service, name, 120.0).json()
    assert body["comics"][0]["panels"][0]["caption"] == before
    assert body["usage"] == {
        "amount": 5 * 150,
        "unit": "credits",
        "total_comics": 4,
        "redraw_panels": 1,
    }


def test_an_unfinished_comic_cannot_be_changed() -> None:
    service = roomy_service()
    name = finished_comic(service)
    assert change(service, name, 30.0, action="continueWrite", prompt="x").status == 400


def test_a_change_puts_a_comic_back_to_not_seen() -> None:
    service = roomy_service()
    name = finished_comic(service)
    check(service, name, 60.0)
    change(service, name, 70.0, action="continueWrite", prompt="x")
    assert service.stats(70.0)["generations"][0]["first_seen_ready_at"] is None
    assert service.stats(70.0)["generations"][0]["ready_at"] == 130.0
