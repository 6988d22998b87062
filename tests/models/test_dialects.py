"""Both dialects of the API make equal models, and equal errors, of equal states of the server."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, get_args

import attrs
import pytest

from llamagen_async.errors import APIError
from llamagen_async.models import Animation, ComicGeneration, GenerationStatus, Upload, Usage
from llamagen_async.sandbox import DEMO_KEY, Reply, SandboxService
from llamagen_async.sandbox.settings import Dialect
from llamagen_async.transport import decode
from tests.support.sandbox import (
    ANIMATIONS,
    GENERATIONS,
    call,
    change,
    check,
    create,
    finished_comic,
    multipart,
    roomy_service,
    upload,
)

Get = Callable[[SandboxService], Reply]
LAYOUT: dict[str, Any] = {"pagination": {"totalPages": 2, "panelsPerPage": 3}}


def changed(service: SandboxService, now: float, **fields: Any) -> Reply:
    """Change a comic that was done at 60, and return its state at a time."""
    id_ = finished_comic(service, **LAYOUT)
    assert change(service, id_, 70.0, **fields).status == 200
    return check(service, id_, now)


def animation(service: SandboxService, now: float) -> Reply:
    fields = {"prompt": "A boat", "videoOptions": {"duration": 5}}
    id_ = call(service, "POST", ANIMATIONS, fields).json()["id"]
    return call(service, "GET", f"{ANIMATIONS}/{id_}", now=now)


def picked(service: SandboxService, **query: str) -> Reply:
    path = f"{GENERATIONS}/{finished_comic(service, **LAYOUT)}"
    return call(service, "GET", path, now=60.0, query=query)


MORE = {"action": "continueWrite", "prompt": "more", "fixPanelNum": 2}
REDRAW = {"action": "regeneratePanel", "page": 1, "panel": 2, "prompt": "brighter"}
COMICS: dict[str, Get] = {
    "accepted": lambda service: create(service, **LAYOUT),
    "queued": lambda service: check(service, finished_comic(service), 1.0),
    "running": lambda service: check(service, finished_comic(service), 30.0),
    "done": lambda service: check(service, finished_comic(service, **LAYOUT), 60.0),
    "one page": lambda service: picked(service, page="1"),
    "one panel": lambda service: picked(service, page="1", panel="2"),
    "continuing": lambda service: changed(service, 80.0, **MORE),
    "continued": lambda service: changed(service, 130.0, **MORE),
    "redrawing": lambda service: changed(service, 80.0, **REDRAW),
    "redrawn": lambda service: changed(service, 130.0, **REDRAW),
}
FAILURES: dict[str, Get] = {
    "a failed comic": lambda service: check(service, finished_comic(service), 60.0),
    "a failed animation": lambda service: animation(service, 60.0),
}
VIDEOS: dict[str, Get] = {
    "queued": lambda service: animation(service, 1.0),
    "running": lambda service: animation(service, 30.0),
    "done": lambda service: animation(service, 60.0),
}
ERRORS: dict[str, Get] = {
    "400": lambda service: create(service, prompt=""),
    "400 of a change": lambda service: change(service, finished_comic(service), 1.0, **MORE),
    "401": lambda service: create(service, key="sk-nobody"),
    "402": lambda service: create(service, key="sandbox-empty"),
    "404": lambda service: check(service, "nothing", 0.0),
    "429": lambda service: [create(service, key=DEMO_KEY) for _ in range(9)][-1],
}


def both(get: Get, **options: Any) -> tuple[bytes, bytes, dict[str, str]]:
    """Return the contents of one answer in each dialect, and the headers."""
    first, second = (
        get(roomy_service(dialect=dialect, **options)) for dialect in ("documented", "production")
    )
    assert first.status == second.status == 200
    return first.body, second.body, dict(second.headers)


def read(model: Any, content: bytes, headers: dict[str, str]) -> Any:
    body = decode(200, headers, content, now=datetime(2026, 1, 1, tzinfo=UTC)).body
    return model.parse(body)


def plain(value: object) -> Any:
    """Return all of a model but the answers as they came."""
    cls: Any = type(value)
    if attrs.has(cls):
        names = [one.name for one in attrs.fields(cls) if one.name != "raw"]
        return {name: plain(getattr(value, name)) for name in names}
    return [plain(one) for one in value] if isinstance(value, tuple) else value


def is_queued(model: Any) -> bool:
    """Whether it is queued, which production has no word for."""
    return model.status is GenerationStatus.PENDING


@pytest.mark.parametrize(
    ("model", "get", "failure_rate"),
    [
        *((ComicGeneration, get, 0.0) for get in COMICS.values()),
        *((Animation, get, 0.0) for get in VIDEOS.values()),
        (ComicGeneration, FAILURES["a failed comic"], 1.0),
        (Animation, FAILURES["a failed animation"], 1.0),
    ],
    ids=[*COMICS, *(f"{name}, animation" for name in VIDEOS), *FAILURES],
)
def test_equal_states_make_equal_models(model: Any, get: Get, failure_rate: float) -> None:
    """All fields but the status of what is queued: production says LOADING of that, too."""
    first, second, headers = both(get, failure_rate=failure_rate)
    documented, production = (read(model, content, headers) for content in (first, second))
    assert first != second or failure_rate  # both say FAILED
    if is_queued(documented):
        assert production.status is GenerationStatus.PROCESSING
        documented = attrs.evolve(documented, status=production.status)
    assert plain(documented) == plain(production)
    assert documented.asset_urls == production.asset_urls
    assert documented.failure_reason == production.failure_reason
    assert bool(documented.failure_reason) is bool(failure_rate)
    assert documented.is_done is production.is_done


def test_each_status_of_the_documentation_is_compared() -> None:
    """But that of a cancelled generation, which the API offers no way to make."""
    seen = set[GenerationStatus]()
    for get in (*COMICS.values(), *VIDEOS.values()):
        seen.add(ComicGeneration.parse(get(roomy_service()).json()).status)
    for get in FAILURES.values():
        seen.add(ComicGeneration.parse(get(roomy_service(failure_rate=1.0)).json()).status)
    assert seen == set(GenerationStatus) - {GenerationStatus.CANCELLED}


@pytest.mark.parametrize(
    ("model", "get"),
    [
        (Usage, lambda service: call(service, "GET", "/v1/comics/usage")),
        (Upload, lambda service: upload(service, *multipart())),
    ],
)
def test_usage_and_uploads_are_alike(model: Any, get: Get) -> None:
    first, second, headers = both(get)
    assert read(model, first, headers) == read(model, second, headers)


@pytest.mark.parametrize("name", ERRORS)
def test_equal_refusals_make_equal_errors(name: str) -> None:
    """Production nests code and message, the documentation does not."""
    errors: list[tuple[object, ...]] = []
    dialects: tuple[Dialect, ...] = get_args(Dialect)
    for dialect in dialects:
        reply = ERRORS[name](SandboxService(dialect=dialect))
        with pytest.raises(APIError) as caught:
            decode(reply.status, reply.headers, reply.body, now=datetime(2026, 1, 1, tzinfo=UTC))
        error = caught.value
        errors.append((type(error), error.status, error.code, error.message, error.advice))
        assert error.code
    assert errors[0] == errors[1]
    assert str(errors[0][1]) == name[:3]
    assert len(errors) == 2
