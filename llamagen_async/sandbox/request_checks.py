"""Checks of a request's content: the sandbox answers 400 where the real API would.

The checks share no code and no list with the client's own on purpose, so that a mistake in one of
them shows. Unknown fields are accepted: the real API knows more fields than its documentation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Literal, cast

from llamagen_async.sandbox.wire import HTTPError

__all__ = [
    "SIZES",
    "change_action",
    "check_animation",
    "check_continue",
    "check_create",
    "panel_choice",
    "picture_size",
    "query_index",
]

SIZES: Final = frozenset(
    {"1024x1024", "512x768", "512x1024", "576x1024", "768x1024"}
    | {"1024x768", "768x512", "1024x576", "1024x512"}
)
"""The picture sizes in pixels, width first, that the vendor's own clients offer.

They were read from the clients' source; a page of the vendor's site lists others.
"""
_SIZE: Final = r"([0-9]{2,4})x([0-9]{2,4})"
_SIDES: Final = range(64, 2049)
"""The pixels that a side of a picture may have: both lists, and whatever else can be drawn soon."""

_MAX_COUNT: Final = 20
"""The most panels of a request, pages of a request, and panels of a page (the clients' source)."""
_MOST_DIGITS: Final = 18
"""Digits of a number in a query: Python refuses to read thousands of them."""
_PANEL_NAMES: Final = ("panel", "panelIndex", "panel_index")
"""The names under which the vendor's clients send the number of the panel to redraw."""
_PAGE_NAMES: Final = ("page", "pageIndex", "page_index")
"""The names under which they send the number of its page."""
_REDRAW_FIELDS: Final = (
    *("panelPrompt", "panel_prompt", "prompt"),
    *("images", "images_url", "caption"),
)
"""The fields of which a redraw needs at least one, to say what is to change."""


def check_create(payload: Mapping[str, Any]) -> str:
    """Return the prompt of a create request.

    Raises:
        HTTPError: The API would not accept the request (400).
    """
    _check_counts(payload)
    picture_size(payload)
    if payload.get("prompt") is not None:
        return _text(payload, "prompt")
    if payload.get("promptUrl") is not None:
        return f"The story at {_text(payload, 'promptUrl')}"
    raise _invalid("prompt or promptUrl is required")


def check_continue(payload: Mapping[str, Any]) -> str:
    """Return the prompt of a continueWrite request.

    Raises:
        HTTPError: The API would not accept the request (400).
    """
    _check_counts(payload)
    return _text(payload, "prompt")


def check_animation(payload: Mapping[str, Any]) -> str:
    """Return the prompt of an animation request.

    Raises:
        HTTPError: The API would not accept the request (400).
    """
    options = payload.get("videoOptions")
    if options is not None and not isinstance(options, dict):
        raise _invalid("videoOptions must be an object")
    return _text(payload, "prompt")


def change_action(payload: Mapping[str, Any]) -> Literal["continueWrite", "regeneratePanel"]:
    """Return which change a PATCH request asks for.

    Raises:
        HTTPError: The action is neither of the two known ones (400).
    """
    action = payload.get("action")
    if action == "continueWrite":
        return "continueWrite"
    if action == "regeneratePanel":
        return "regeneratePanel"
    raise _invalid("action must be continueWrite or regeneratePanel")


def panel_choice(payload: Mapping[str, Any]) -> tuple[int, int, str | None]:
    """Return page, panel (both from 0) and the new caption of a regeneratePanel request.

    Raises:
        HTTPError: The API would not accept the request (400).
    """
    name = _given(payload, _PANEL_NAMES)
    if name is None:
        raise _invalid("panel is required")
    if not any(payload.get(field) for field in _REDRAW_FIELDS):
        raise _invalid(f"one of {', '.join(_REDRAW_FIELDS)} is required")
    page = _given(payload, _PAGE_NAMES)
    texts = (payload.get(field) for field in ("caption", *_REDRAW_FIELDS[:3]))
    caption = next((text for text in texts if isinstance(text, str) and text.strip()), None)
    page_number = 0 if page is None else _index(page, payload[page])
    return page_number, _index(name, payload[name]), caption


def picture_size(payload: Mapping[str, Any]) -> tuple[int, int]:
    """Return the width and height of the pictures in pixels.

    Raises:
        HTTPError: The size is none, or one that the sandbox does not draw (400).
    """
    size = payload.get("size")
    if size is None:
        return 1024, 1024
    sides = re.fullmatch(_SIZE, size) if isinstance(size, str) else None
    width, height = map(int, sides.groups()) if sides else (0, 0)
    if width not in _SIDES or height not in _SIDES:
        least, most = _SIDES[0], _SIDES[-1]
        raise _invalid(f"size must be WIDTHxHEIGHT, each from {least} to {most}")
    return width, height


def query_index(query: Mapping[str, str], name: str) -> int | None:
    """Return the number, from 0, that a query parameter holds; `None` if it is not there.

    Raises:
        HTTPError: The parameter holds something else (400).
    """
    text = query.get(name)
    if text is None:
        return None
    is_number = text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
    return _index(name, int(text) if is_number else None)


def _given(payload: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    """Return the one of these names under which there is something."""
    return next((name for name in names if payload.get(name) is not None), None)


def _check_counts(payload: Mapping[str, Any]) -> None:
    panels: object = payload.get("fixPanelNum")
    pagination: object = payload.get("pagination")
    if panels is not None and pagination is not None:
        raise _invalid("fixPanelNum and pagination exclude each other")
    if panels is not None:
        _check_count("fixPanelNum", panels)
    if pagination is not None:
        if not isinstance(pagination, dict):
            raise _invalid("pagination must be an object")
        for name in ("totalPages", "panelsPerPage"):
            _check_count(f"pagination.{name}", cast("dict[str, object]", pagination).get(name))


def _check_count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MAX_COUNT:
        raise _invalid(f"{name} must be a whole number from 1 to {_MAX_COUNT}")


def _index(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _invalid(f"{name} must be a whole number of at least 0")
    return value


def _text(payload: Mapping[str, Any], name: str) -> str:
    value: object = payload.get(name)
    if not isinstance(value, str) or not value.strip():
        raise _invalid(f"{name} must be text that is not empty")
    return value


def _invalid(message: str) -> HTTPError:
    return HTTPError(400, "invalid_request", message)
