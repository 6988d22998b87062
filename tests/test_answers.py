"""Answers of every method: read as far as they can be, or an error that shows the place.

A 2xx whose id can be read is never lost, and a finished comic whose pictures can be read is never
uncollectable, whatever else is in the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any, cast

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamagen_async import Animation, APIError, ComicGeneration, InvalidRequestError
from llamagen_async.animations import Animations
from llamagen_async.clock import Clock
from llamagen_async.comics import Comics
from llamagen_async.core import ClientCore
from llamagen_async.models import Upload, Usage
from llamagen_async.transport import APIRequest, decode
from llamagen_async.webhooks import WebhookEvent, announcement_of

NOW = datetime(2026, 11, 27, tzinfo=UTC)
URL = "https://cdn.example/"
COMIC: dict[str, Any] = {
    "id": "c1",
    "status": "PROCESSED",
    "createdAt": "2026-11-27T12:00:00.000Z",
    "prompt": "Ein Bär trifft 🐉 و مرحبا",
    "output": f"{URL}0.png",
    "comics": [
        {
            "page": 0,
            "panels": [
                {"panel": 0, "assetUrl": f"{URL}0.png", "caption": "Oh!"},
                {"panel": 1, "assetUrl": f"{URL}1.png", "caption": "Ah!"},
            ],
        },
        {"page": 1, "panels": [{"panel": 0, "assetUrl": f"{URL}2.png", "caption": "Ha."}]},
    ],
    "pagination": {"totalPages": 2, "panelsPerPage": 2},
    "usage": {"amount": 450, "unit": "credits", "total_comics": 3, "redraw_panels": 0},
}
VIDEO: dict[str, Any] = {
    "id": "c1",
    "status": "SUCCEEDED",
    "createdAt": "2026-11-27T12:00:00.000Z",
    "prompt": "A boat",
    "videoUrl": f"{URL}v.mp4",
    "output": f"{URL}v.mp4",
    "videoOptions": {"duration": 5, "reference_images": [f"{URL}i.png"]},
}
USAGE = {"apiUsageCount": 3, "apiMaxUsage": 15, "credits": 7, "isPaidPlan": True}
UPLOAD = {"fileUrl": f"{URL}f.png", "code": "f1"}

Call = Callable[[Comics, Animations], Awaitable[Any]]
METHODS: dict[str, tuple[Call, dict[str, Any]]] = {
    "comics.create": (lambda comics, _: comics.create("x"), COMIC),
    "comics.create_and_wait": (lambda comics, _: comics.create_and_wait("x"), COMIC),
    "comics.get": (lambda comics, _: comics.get("c1"), COMIC),
    "comics.get, one panel": (lambda comics, _: comics.get("c1", page=0, panel=0), COMIC),
    "comics.wait_for_completion": (lambda comics, _: comics.wait_for_completion("c1"), COMIC),
    "comics.continue_write": (lambda comics, _: comics.continue_write("c1", "x"), COMIC),
    "comics.update_panel": (
        lambda comics, _: comics.update_panel("c1", panel=0, prompt="x"),
        COMIC,
    ),
    "comics.usage": (lambda comics, _: comics.usage(), USAGE),
    "comics.upload": (lambda comics, _: comics.upload(b"x"), UPLOAD),
    "animations.create": (lambda _, animations: animations.create("x"), VIDEO),
    "animations.get": (lambda _, animations: animations.get("c1"), VIDEO),
    "animations.wait_for_completion": (
        lambda _, animations: animations.wait_for_completion("c1"),
        VIDEO,
    ),
}
"""A call of each method that reads an answer, and a real answer to it."""

ODD: list[Any] = [
    *(None, "", " ", 0, -1, 7, 1.5, True, [], {}, [None], [{}], {"x": 1}, [[]]),
    *("x", "\ud83d", "\0\x1b[2J", "مرحبا", "👩‍🚀" * 50, "a" * 100_000, 10**400, float("nan")),
    *(float("inf"), "DONE", {"id": "p1"}, ["https://other.example/1.png"], "2026-13-99"),
]
"""Values that stand where another is expected."""


class Captured(Exception):  # noqa: N818  # it is no error
    """The request of a method, and the function that reads its answer."""

    def __init__(self, request: APIRequest, parse: Callable[[object], Any]) -> None:
        super().__init__()
        self.request, self.parse = request, parse

    def read(self, content: bytes, kind: str = "application/json") -> Any:
        """Read an answer as the method does; a `ValueError` becomes the caller's `APIError`."""
        billed = self.request.kind.is_billed
        answer = decode(200, {"Content-Type": kind}, content, now=NOW, is_billed=billed)
        return self.parse(answer.body)


@attrs.frozen
class Capturing:
    """Stands in for the core of a client: nothing is sent."""

    settings: Any = attrs.field(factory=lambda: type("Settings", (), {"clock": Clock()}))
    observer: None = None

    async def send(self, request: APIRequest, parse: Callable[[object], Any], **_: Any) -> None:
        raise Captured(request, parse)

    async def read(
        self, _name: str, request: APIRequest, parse: Callable[[object], Any], **_: Any
    ) -> None:
        raise Captured(request, parse)

    async def wait(self, wait: Any) -> None:
        raise Captured(wait.request, wait.parse)

    async def usage(self) -> None:
        await ClientCore.usage(cast("ClientCore", self))


def captured(name: str) -> Captured:
    core = cast("ClientCore", Capturing())
    call, _ = METHODS[name]
    animations = Animations(core)
    with pytest.raises(Captured) as caught:
        asyncio.run(_run(call(Comics(core, animations), animations)))
    return caught.value


async def _run(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


CAPTURED = {name: captured(name) for name in METHODS}
GENERATIONS = [name for name, (_, answer) in METHODS.items() if "id" in answer]
each_method = pytest.mark.parametrize("name", METHODS)
each_generation = pytest.mark.parametrize("name", GENERATIONS)


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each value within a JSON value."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for name, inner in items:
        yield (*path, name)
        yield from paths(inner, (*path, name))


def changed(answer: Any, path: tuple[Any, ...], value: Any = ...) -> Any:
    """Return an answer with another value at a path; without it if there is no other."""
    answer = copy.deepcopy(answer)
    place = answer
    for name in path[:-1]:
        place = place[name]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return answer


def urls(value: Any) -> list[str]:
    """Return the URLs of the pictures that stand in a comic or animation at the usual places."""
    pages = [page for page in _list(value.get("comics")) if isinstance(page, dict)]
    panels = [panel for page in pages for panel in _list(page.get("panels"))]
    given = [panel.get("assetUrl") for panel in panels if isinstance(panel, dict)]
    return [url for url in (*given, value.get("videoUrl")) if str(url).startswith(URL)]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


# --- one field at a time ------------------------------------------------------------------------


@pytest.mark.once
@each_method
def test_each_field_may_be_missing_or_anything(name: str) -> None:
    """All others are read all the same, and an error names what can't be."""
    method, (_, answer) = CAPTURED[name], METHODS[name]
    for path in paths(answer):
        for odd in (..., *ODD):
            one = changed(answer, path, odd)
            try:
                read = method.read(json.dumps(one).encode("utf-8", "surrogatepass"))
            except (APIError, ValueError) as error:
                is_billed = method.request.kind.is_billed
                wanted = "id" if is_billed and "id" in answer else "fileUrl"
                is_named = path == (wanted,) and wanted in str(error)
                assert is_named, (path, odd)  # most answers are no error
                continue
            if isinstance(read, Usage | Upload):
                continue
            # The id is read, or the one that was asked for.
            assert read.id == "c1" or path == ("id",), (path, odd)
            # All pictures that are left can be collected.
            assert set(urls(one)) <= set(read.asset_urls), (path, odd)
            is_other_word = path == ("status",) and isinstance(odd, str) and odd.strip()
            assert read.succeeded or is_other_word or not read.asset_urls, (path, odd)


@each_generation
def test_an_answer_without_words_is_a_finished_one_if_all_of_it_is_there(name: str) -> None:
    """Otherwise nobody could ever collect it; what is not all there is waited for."""
    method, (_, answer) = CAPTURED[name], METHODS[name]
    for word in (..., None, "", "DONE", 200, {"code": 1}):
        one = changed(answer, ("status",), word)
        assert method.read(json.dumps(one).encode()).succeeded
        for path in (("output",), ("videoUrl",)):
            one.pop(path[0], None)
        if answer is COMIC:
            assert not method.read(json.dumps(one).encode()).is_done
            one = changed(answer, ("status",), word)
            one["comics"][0]["panels"][0]["assetUrl"] = ""
        assert not method.read(json.dumps(one).encode()).is_done


@each_generation
@pytest.mark.parametrize(
    "around", ["artwork", "data", "generation", "comic", "animation", "result"]
)
def test_a_generation_is_found_within_other_objects(name: str, around: str) -> None:
    method, (_, answer) = CAPTURED[name], METHODS[name]
    for one in ({around: answer}, {"ok": True, "data": {around: [answer]}}, [answer]):
        read = method.read(json.dumps(one).encode())
        assert read.id == "c1"
        assert set(read.asset_urls) >= set(urls(answer))
        assert type(read).parse(json.loads(json.dumps(read.raw))) == read


@pytest.mark.parametrize("name", ["comics.get", "comics.wait_for_completion", "animations.get"])
@pytest.mark.parametrize(
    ("one", "is_read"),
    [
        ({"status": "PROCESSING"}, True),
        ({"status": "SUCCEEDED", "output": f"{URL}0.png"}, True),
        ({"data": {"status": "SUCCEEDED", "output": f"{URL}0.png"}}, True),
        ({"status": "error", "message": "no database"}, False),
        ({"status": "SUCCEEDED"}, False),
        ({"message": "ok"}, False),
        ({}, False),
        (None, False),
    ],
)
def test_an_answer_without_an_id_is_about_what_was_asked_for(
    name: str, one: object, *, is_read: bool
) -> None:
    """But a failure without an id may be that of anything, and is not taken for the end."""
    content = json.dumps(one).encode()
    if not is_read:
        with pytest.raises(ValueError, match="no id in it"):
            CAPTURED[name].read(content)
        return
    read = CAPTURED[name].read(content)
    assert (read.id, read.raw["id"]) == ("c1", "c1")


@pytest.mark.parametrize(
    "comics",
    [
        {"panels": [{"assetUrl": f"{URL}0.png"}]},
        [{"panels": {"assetUrl": f"{URL}0.png"}}],
        [{"panels": [f"{URL}0.png"]}],
        [{"assetUrl": f"{URL}0.png"}],
        [f"{URL}0.png"],
        json.dumps([{"panels": [{"image": f"{URL}0.png"}]}]),
        {"pages": [{"panels": [{"image": f"{URL}0.png"}]}]},
        {"0": {"panels": {"1": {"assetUrl": f"{URL}0.png"}}}},
        {"pages": {"3": {"page": 0, "panels": {"7": f"{URL}0.png"}}}},
        [{"panels": [{"assetUrl": f" {URL}0.png\n"}]}],
        [{"panels": [{"assetUrl": {"url": f"{URL}0.png"}}]}],
        [{"panels": [{"assetUrl": [f"{URL}0.png"]}]}],
        [{"panels": [{"assetUrl": "", "image": [{"url": f"{URL}0.png"}]}]}],
    ],
    ids=[
        *("one page", "one panel", "URLs", "panels", "URLs of panels", "text", "pages"),
        *("objects for lists", "objects for lists within"),
        *("with blanks", "an object", "a list", "a list of objects"),
    ],
)
def test_pictures_are_found_in_other_forms(comics: object) -> None:
    read = ComicGeneration.parse({"id": "c1", "status": "SUCCEEDED", "comics": comics})
    assert read.asset_urls == (f"{URL}0.png",)


@pytest.mark.parametrize("form", [f"{URL}a.mp4 ", [f"{URL}a.mp4"], {"url": f"{URL}a.mp4"}])
@pytest.mark.parametrize("name", ["videoUrl", "output"])
def test_a_video_is_found_in_other_forms(name: str, form: object) -> None:
    """Some makers of videos answer with a list of them."""
    read = Animation.parse({"id": "a1", "status": "SUCCEEDED", name: form})
    assert read.asset_urls == (f"{URL}a.mp4",)
    assert Animation.parse({"id": "a1", name: form}).succeeded


# --- what is no JSON as a whole -----------------------------------------------------------------


each_billed = pytest.mark.parametrize(
    "name", [one for one in GENERATIONS if CAPTURED[one].request.kind.is_billed]
)


@each_billed
def test_what_was_paid_for_is_known_wherever_its_answer_breaks_off(name: str) -> None:
    """The id is in the first bytes; a cut one is none."""
    content = json.dumps(METHODS[name][1]).encode()
    whole = content.index(b'"c1"') + len(b'"c1"')
    for end in range(len(content)):
        if end >= whole or "generations/c1" in CAPTURED[name].request.path:
            with contextlib.suppress(APIError):
                assert CAPTURED[name].read(content[:end]).id == "c1"
                continue
        assert end < whole


@each_method
def test_broken_json_shows_the_place(name: str) -> None:
    content = json.dumps(METHODS[name][1]).encode()
    for odd in (content[:1], b"{" + content, b"", b"<html>"):
        with pytest.raises((APIError, ValueError)) as caught:
            CAPTURED[name].read(odd)
        assert any(word in str(caught.value) for word in ("character", "not JSON", "no id"))


@pytest.mark.parametrize("name", ["comics.create", "comics.get", "comics.wait_for_completion"])
@pytest.mark.parametrize("text", ["x", "👩‍🚀", "مرحبا", "\ud83d", "\0", "{[", '"'])
def test_five_megabytes_are_read(name: str, text: str) -> None:
    """Every picture is found, whatever is around it."""
    one = copy.deepcopy(COMIC)
    for panel in (panel for page in one["comics"] for panel in page["panels"]):
        panel["caption"] = text * (5_000_000 // 3 // len(json.dumps(text)))
    read = CAPTURED[name].read(json.dumps(one).encode("utf-8", "surrogatepass"))
    assert (read.id, read.succeeded) == ("c1", True)
    assert read.asset_urls == tuple(urls(COMIC))


# --- anything -----------------------------------------------------------------------------------

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from([one for one in ODD if not isinstance(one, str) or len(one) < 1_000])
)
names = st.sampled_from(sorted({str(path[-1]) for path in paths(COMIC)})) | st.text(max_size=6)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=8,
)
mutations = st.lists(st.tuples(st.integers(0, 10_000), values | st.just(...)), max_size=4)
edits = st.lists(
    st.tuples(st.integers(0, 2_000), st.integers(0, 40), st.binary(max_size=8)), max_size=4
)
kinds = st.sampled_from(["application/json", "text/html; charset=latin-1", "", "a; charset=utf-16"])


@pytest.mark.once
@settings(max_examples=60, deadline=None)
@given(mutations=mutations, edits=edits, kind=kinds, raw=st.none() | st.binary(max_size=200))
@each_method
def test_nothing_but_an_api_error_comes_of_any_answer(
    name: str, mutations: list[Any], edits: list[Any], kind: str, raw: bytes | None
) -> None:
    """Answers whose fields, and whose bytes, were replaced, removed and wrapped by chance."""
    answer: Any = METHODS[name][1]
    for number, value in mutations:
        places = list(paths(answer))
        if places:
            answer = changed(answer, places[number % len(places)], value)
    content = json.dumps(answer).encode("utf-8", "surrogatepass")
    for begin, length, new in edits:
        content = content[:begin] + new + content[begin + length :]
    for one in (content, raw):
        if one is None:
            continue
        with contextlib.suppress(APIError, ValueError):
            read = CAPTURED[name].read(one, kind)
            if not isinstance(read, Usage | Upload):
                assert read.id
                assert all(read.asset_urls)
                json.dumps(read.raw)
                assert type(read).parse(read.raw).id == read.id
                read.failure_reason  # noqa: B018  # it may raise
                read.missing_pictures  # noqa: B018  # as well


# --- events -------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["completed", "failed", "updated", "created"])
def test_each_field_of_an_event_may_be_missing_or_anything(word: str) -> None:
    """An event ends a wait only with all pictures; else a status check has to bring them."""
    event = {"id": "e1", "type": f"comic.generation.{word}", "created": 1, "data": COMIC}
    for path in paths(event):
        for odd in (..., *ODD):
            one = changed(event, path, odd)
            try:
                announcement = announcement_of(WebhookEvent.parse(one))
            except InvalidRequestError as error:
                is_named = error.field == "event.data.id"
                assert is_named, (path, odd)  # most events are no error
                continue
            if announcement is None:
                continue
            read = announcement.read(ComicGeneration.parse)
            assert read is None or read.is_done
            if read is not None and read.succeeded:
                assert read.asset_urls
                assert not read.missing_pictures
