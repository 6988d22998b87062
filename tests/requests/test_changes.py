"""Continuations and redraws: every spelling of the vendor's clients is read, one is sent."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from llamagen_async import ContinueRequest, InvalidRequestError, UpdateRequest
from llamagen_async.requests import ContinueFields, UpdateFields


@pytest.mark.parametrize(
    "fields",
    [
        {"panel": 1, "page": 0, "panel_prompt": "p", "images": "https://i"},
        {"panelIndex": 1, "pageIndex": 0, "panelPrompt": "p", "images_url": "https://i"},
        {"panel_index": 1, "page_index": 0, "panel_prompt": "p", "images_url": ["https://i"]},
        {"panel": None, "panelIndex": 1, "page": 0, "panelPrompt": "p", "images": ["https://i"]},
        {"action": "regeneratePanel", "panel": 1, "page": 0, "panelPrompt": "p",
         "images": ["https://i"]},
    ],
)  # fmt: skip
def test_a_redraw_is_read_in_every_spelling(fields: dict[str, Any]) -> None:
    """All of them are one request, which is sent with the plainest names."""
    assert UpdateRequest.parse(fields).to_payload() == {
        "action": "regeneratePanel",
        "panel": 1,
        "page": 0,
        "panelPrompt": "p",
        "images": ["https://i"],
    }


def test_a_continuation_is_read_in_both_spellings() -> None:
    """A prompt alone is enough."""
    pages = {"totalPages": 1, "panelsPerPage": 4}
    request = ContinueRequest.parse(
        {"prompt": "more", "pagination": pages, "attachments": [{"url": "https://a"}]}
    )
    assert request.to_payload() == {
        "action": "continueWrite",
        "prompt": "more",
        "pagination": pages,
        "attachments": [{"url": "https://a"}],
    }
    assert ContinueRequest.parse("more") == ContinueRequest("more")
    assert ContinueRequest.parse(request) is request


@pytest.mark.parametrize("name", ["prompt", "panel_prompt", "caption", "images"])
def test_one_of_four_fields_says_what_changes(name: str) -> None:
    """Any of them is enough, also by `extra`."""
    fields: dict[str, Any] = {"panel": 0, name: "https://x"}
    assert UpdateRequest(**fields).to_payload()
    assert UpdateRequest(panel=0, extra={"caption": "x"}).to_payload()["caption"] == "x"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"prompt": "x"}, "panel"),
        ({"panel": -1, "prompt": "x"}, "panel"),
        ({"panel": True, "prompt": "x"}, "panel"),
        ({"panel": "0", "prompt": "x"}, "panel"),
        ({"panel": 0, "page": 1.5, "prompt": "x"}, "page"),
        ({"panel": 0}, "prompt"),
        ({"panel": 0, "prompt": " "}, "prompt"),
        ({"panel": 0, "caption": 5}, "caption"),
        ({"panel": 0, "images": ["here.png"]}, "images[0]"),
        ({"panel": 0, "images": []}, "prompt"),
        ({"panel": 0, "panelIndex": 1, "prompt": "x"}, "panelIndex"),
        ({"panel": 0, "promt": "x"}, "promt"),
    ],
)
def test_a_redraw_that_makes_no_sense_is_refused_by_name(
    fields: dict[str, Any], named: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        UpdateRequest.parse(fields)
    assert caught.value.field == named


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": "x", "fixPanelNum": 21}, "fix_panel_num"),
        ({"prompt": "x", "fix_panel_num": 1, "pagination": {"total_pages": 1,
          "panels_per_page": 1}}, "fix_panel_num"),
        ({"prompt": "x", "attachments": [{"url": 3}]}, "attachments[0].url"),
        ({"prompt": "x", "size": "1024x1024"}, "size"),
    ],
)  # fmt: skip
def test_a_continuation_that_makes_no_sense_is_refused_by_name(
    fields: dict[str, Any], named: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        ContinueRequest.parse(fields)
    assert caught.value.field == named


def test_the_keyword_arguments_are_the_fields() -> None:
    """`continue_write(**fields)` and `update_panel(**fields)` have the type of every field."""
    of = {
        cls: {field.name for field in attrs.fields(cls)} for cls in (ContinueRequest, UpdateRequest)
    }
    assert set(ContinueFields.__annotations__) == of[ContinueRequest] - {"prompt"}
    assert set(UpdateFields.__annotations__) == of[UpdateRequest]
