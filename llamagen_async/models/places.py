"""The places at which an answer may have a generation's fields and its pictures.

The usual one is documented: the fields on top, the pages in `comics`. Others are those of older
answers, of answers about one page or one panel, and of wrappers such as APIs put around answers.
What stands at a known place is found also if it is one object or text instead of a list of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from llamagen_async.foreign import bounded
from llamagen_async.models.reading import integer_of, is_url, list_of, mapping_of, single
from llamagen_async.validation import generation_id

__all__ = ["PLACES", "fields_of", "fields_with", "pages_of", "refuses", "tells"]

_AROUND: Final = ("artwork", "data", "generation", "comic", "animation", "result")
"""The names of objects in which an answer may have the generation: old creates have the first."""
_MOST_AROUND: Final = 3
"""Objects around a generation that are looked into, one in the other."""
_IDS: Final = ("id", "generationId", "generation_id")
"""The names under which an id may stand: the documented one first, then those of events."""
_PICTURES: Final = ("assetUrl", "image")
"""The names under which a panel has its picture."""
PLACES: Final = frozenset(("comics", "comicData", "pages", "panels", "page", "panel", *_PICTURES))
"""The names under which an answer may have pictures."""
_ERRORS: Final = ("error", "errors", "errorCode", "error_code", "errorMessage")
"""The names under which an error stands (vendor's clients)."""
_FAILURES: Final = frozenset(range(400, 600))
"""The codes of an error, where they are those of HTTP."""
_REFUSALS: Final = ("error", "fail", "failed", "failure")
"""The words of a status that say so."""
_STATES: Final = frozenset(("status", "output", "videoUrl"))
"""Further names of what an answer may say of a generation."""


def tells(fields: Mapping[str, Any]) -> bool:
    """Whether fields say anything of a generation."""
    return not (PLACES.isdisjoint(fields) and _STATES.isdisjoint(fields))


def refuses(fields: Mapping[str, Any]) -> bool:
    """Whether fields without a generation say that nothing was done.

    Some servers write an error into an answer that has the status of a success.
    """
    status: object = fields.get("status")
    if isinstance(status, str) and integer_of(status, None) is None:
        return status.strip().lower() in _REFUSALS and PLACES.isdisjoint(fields)
    has_failed = fields.get("success") is False or any(map(fields.get, _ERRORS))
    return has_failed or not _FAILURES.isdisjoint(
        (integer_of(status, 0), integer_of(fields.get("code"), 0))
    )


def fields_of(value: object) -> Mapping[str, Any]:
    """Return the fields of a generation, with its `id`, from wherever in an answer they are.

    Without an id they are those of all objects that may be around a generation.
    """
    inner = fields = mapping_of(single(value))
    for _ in range(_MOST_AROUND + 1):
        id_ = next(filter(None, (generation_id(inner.get(name)) for name in _IDS)), None)
        if id_ is not None:
            return {**fields, "id": id_}
        around = (mapping_of(single(inner.get(name))) for name in _AROUND)
        inner = next(filter(None, around), mapping_of(None))
        if not inner:
            break
        fields = {**fields, **inner}
    return fields


def fields_with(value: object, id_: str) -> Mapping[str, Any] | None:
    """Return the fields of an answer that are about a generation; `None` if none are.

    An answer may have an id of its own around them, and a server may write ids in another case.
    """
    inner = mapping_of(single(value))
    for _ in range(_MOST_AROUND + 1):
        found = (generation_id(inner.get(name)) or "" for name in _IDS)
        if any(one.casefold() == id_.casefold() for one in found):
            return {**inner, "id": id_}
        around = (mapping_of(single(inner.get(name))) for name in _AROUND)
        inner = next(filter(None, around), mapping_of(None))
    return None


def pages_of(fields: Mapping[str, Any]) -> Iterable[object]:
    """Return the pages of a comic.

    They are in `comics`, or in older answers in `comicData`, both maybe as a JSON string; or there
    are the panels of one page, one page, or one panel.
    """
    for one in (fields.get("comics"), fields.get("comicData")):
        if pages := _pages_in(_decoded(one) if isinstance(one, str) else one):
            return pages
    if pages := _pages_in(fields):
        return pages
    if page := mapping_of(fields.get("page")):
        return [page]
    panel = mapping_of(fields.get("panel"))
    if not panel and any(map(fields.get, _PICTURES)):
        panel = {name: fields.get(name) for name in ("panel", "caption", *_PICTURES)}
    return [{"page": fields.get("page"), "panels": [panel]}] if panel else []


def _pages_in(value: object) -> list[object]:
    """Return the pages of a list of them, or of an object that has pages, or the panels of one."""
    if pages := list_of(value):
        return [{"panels": pages}] if _is_panel(pages[0]) else pages
    one = mapping_of(value)
    if pages := _pages_in(one.get("pages")) if "pages" in one else []:
        return pages
    panels: object = one.get("panels")
    has_panels = list_of(panels) or mapping_of(panels) or is_url(panels)
    return [{"page": one.get("page"), "panels": panels}] if has_panels else []


def _is_panel(value: object) -> bool:
    """Whether what stands where a page should be is a panel."""
    fields = mapping_of(value)
    return is_url(value) or ("panels" not in fields and any(name in fields for name in _PICTURES))


def _decoded(text: str) -> object:
    """Return what a JSON string holds, bounded; `None` if it is none."""
    try:
        return bounded(json.loads(text, strict=False))
    except (ValueError, RecursionError):
        return None
