"""Wrong arguments of every method: refused before anything is sent, with field, value, allowed.

The parameters are read from the methods themselves, so that a new one needs its wrong values here.
"""

from __future__ import annotations

import asyncio
import inspect
import typing
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from llamagen_async import Animation, ComicGeneration, InvalidRequestError, LlamaGenClient, requests
from llamagen_async import webhooks as hooks_module
from llamagen_async.animations import Animations
from llamagen_async.comics import Comics
from llamagen_async.validation import shown
from llamagen_async.webhooks import ReplayGuard, sign
from tests.support.scripted import ROOMY, Recorder

pytestmark = pytest.mark.virtual_time

NAN = float("nan")
SECONDS = [None, 0, -5, "60", True, NAN, float("inf"), [1]]
FLAG: list[Any] = [None, "no", 0, 1, "False", []]
TEXT = ["", " ", 5, b"x", ["x"], "a\0", "\ud800"]
ID = [None, 3, b"c", "", " ", ".", "..", "a\0", "\ud800", " c "]
INDEX = [-1, "1", 1.5, True, NAN, [0]]
COUNT = [0, 21, -1, "4", 1.5, True, NAN]
URLS = [5, "x", ["x"], [5], [None], {"a": 1}, b"x", ["https://a", "ftp://b"], [""]]
PATH = [5, "a\0", ["x"], object()]
COMIC = ComicGeneration.parse(
    {
        "id": "c",
        "status": "SUCCEEDED",
        "comics": [{"panels": [{"assetUrl": "https://a.example/0"}]}],
    }
)
VIDEO = Animation.parse({"id": "c", "status": "SUCCEEDED", "output": "https://a.example/v"})

WRONG: dict[str, list[Any]] = {
    "again": FLAG,
    "age": [-1, None, "5", NAN, float("inf"), [1]],
    "after": ["c", 5, {"id": "c"}, ComicGeneration.parse({"id": "another"})],
    "animation": [None, 5, "c", {"id": "c"}, COMIC, Animation.parse({"id": "c"})],
    "attachments": [5, "x", [5], [{}], [{"url": "x"}], [{"url": "https://a", "type": "sound"}]],
    "body": [None, 7, {"type": "x"}, [1]],
    "budget": [-1, "5", True, NAN, float("inf"), [1]],
    "caption": TEXT,
    "comic": [None, 5, "c", {"id": "c"}, VIDEO, ComicGeneration.parse({"id": "c"})],
    "comic_locations": [5, "x", [5], [{}], [{"name": ""}], [{"name": "x", "image": "y"}]],
    "comic_roles": [5, "x", [5], [{}], [{"name": ""}], [{"name": "x", "age": []}]],
    "content_type": [*TEXT, "png", "image/", "image/png\r\nX: y", "a b/c"],
    "defaults": [5, "x", [], {"nonsense": 1}, {"size": "big"}, {"comic_roles": [{}]}],
    "event": [None, 5, "x", {"type": "x"}],
    "extra": [5, [], "x", {"a": object()}, {"a": NAN}, {"a": "\0"}],
    "file": [None, 5, "", object(), "no/such/file", b"", ["x"]],
    "filename": TEXT,
    "fix_panel_num": COUNT,
    "folder": [None, *PATH],
    "headers": [None, 7, "X-Llama", [("a", "b", "c")]],
    "hooks": [5, "x", object()],
    "id": ID,
    "images": URLS,
    "journal": [*PATH, "no/such/journal.db"],
    "key": [None, "", " ", 5, b"x"],
    "language": TEXT,
    "max_wait": [one for one in SECONDS if one is not None],
    "model": TEXT,
    "most": [0, -1, "10", 1.5, True, None],
    "out": PATH,
    "page": INDEX,
    "pagination": [5, "x", {}, {"totalPages": 0, "panelsPerPage": 1}, {"total_pages": 1}, [2, 3]],
    "panel": INDEX,
    "panel_prompt": TEXT,
    "preset": TEXT,
    "prices": [5, "x", {"comic": -1}, {"nonsense": 1}],
    "progress": [5, "x", [], object()],
    "prompt": [one for one in TEXT if one != " "],
    "prompt_url": [5, "", "x", "ftp://x", b"x"],
    "request": [5, "x", [], {}, {"panel": 0}, {"panels": 0, "prompt": "x"}],
    "requests": [None, 5, object()],
    "resend_uncertain": FLAG,
    "secret": [None, "", b"", [], [""], ["a", ""], 7, {"a": 1}],
    "size": [5, "", "big", "0x0", "1024", "9x9", "1024X1024", b"1024x1024"],
    "start_over": FLAG,
    "style": TEXT,
    "timeout": SECONDS,
    "timestamp": [0, -1, "1", True, NAN, 1e12],
    "tolerance": SECONDS,
    "upscale": [5, "8K", "yes", 0, []],
    "urgent": FLAG,
    "video_options": [
        5,
        "x",
        [],
        {"duration": 0},
        {"seed": "x"},
        {"resolution": 5},
        {"image": "x"},
    ],
    "wait_for_quota": FLAG,
}
"""Wrong values of each parameter, by its name; those of one method under `method.parameter`."""
WRONG |= {
    "with_key.api_key": [None, 5, "", " ", "a b", "\u00e9", "a\nb", b"x"],
    "with_key.plan": [5, "nonsense", "", object(), []],
}
WRONG |= {"batch.journal": PATH}
WRONG |= {"batch.requests": [*WRONG["requests"], "a story", b"x", {"prompt": "x"}], "sign.id": TEXT}
OTHERS = {
    f"comics.{name}" for name in ("download_changed", "recall_end", "resume_change", "uploaded")
}
"""Methods for batches and queues, which check what they are given before."""
GOOD: dict[str, dict[str, Any]] = {
    "comics.batch": {"requests": ["x"]},
    "comics.continue_and_wait": {"id": "c", "prompt": "x"},
    "comics.continue_write": {"id": "c", "prompt": "x"},
    "comics.create": {"prompt": "x"},
    "comics.create_and_wait": {"prompt": "x"},
    "comics.download": {"comic": COMIC, "folder": "nowhere"},
    "comics.download_panel": {"comic": COMIC, "folder": "nowhere", "panel": 0},
    "comics.estimate": {"requests": ["x"]},
    "comics.get": {"id": "c"},
    "comics.redraw": {"out": "nowhere", "key": "x", "panel": 0, "prompt": "x"},
    "comics.update_panel": {"id": "c", "panel": 0, "prompt": "x"},
    "comics.update_panel_and_wait": {"id": "c", "panel": 0, "prompt": "x"},
    "comics.upload": {"file": b"x"},
    "comics.usage": {},
    "comics.wait_for_completion": {"id": "c"},
    "animations.create": {"prompt": "x"},
    "animations.create_and_wait": {"prompt": "x"},
    "animations.download": {"animation": VIDEO, "folder": "nowhere"},
    "animations.get": {"id": "c"},
    "animations.wait_for_completion": {"id": "c"},
    "client.aclose": {},
    "client.deliver": {},
    "client.limits": {},
    "client.pace": {},
    "client.stats": {},
    "client.with_key": {"api_key": "sk-another"},
    "webhooks.construct_event": {"body": b"{}", "headers": sign(b"{}", "s"), "secret": "s"},
    "webhooks.verify_signature": {"body": b"{}", "headers": sign(b"{}", "s"), "secret": "s"},
    "webhooks.sign": {"body": b"{}", "secret": "s"},
    "webhooks.announcement_of": {},
    "webhooks.ReplayGuard": {},
    "webhooks.ReplayGuard.claim": {},
    "webhooks.ReplayGuard.release": {},
}
"""A good call of each method; what is wrong takes the place of one argument."""


def functions() -> Iterator[tuple[str, Any]]:
    """Yield every public method and function that takes arguments, with its name."""
    for prefix, owner in (
        *(("comics", Comics), ("animations", Animations), ("client", LlamaGenClient)),
        ("webhooks.ReplayGuard", ReplayGuard),
    ):
        for name, one in inspect.getmembers(owner, inspect.isfunction):
            if not name.startswith("_") and f"{prefix}.{name}" not in OTHERS:
                yield f"{prefix}.{name}", one
    for name in hooks_module.__all__:
        one = getattr(hooks_module, name)
        if inspect.isfunction(one) or one is ReplayGuard:
            yield f"webhooks.{name}", one


def parameters(function: Any) -> Iterator[str]:
    """Yield the names of the parameters of a method, its fields included."""
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            fields = str(parameter.annotation).removeprefix("Unpack[").removesuffix("]")
            yield from typing.get_type_hints(getattr(requests, fields))
        elif parameter.name != "self":
            yield parameter.name


CASES = [(name, one) for name, function in functions() for one in parameters(function)]


def wrong_values(name: str, parameter: str) -> list[Any]:
    own = f"{name.rpartition('.')[2]}.{parameter}"
    assert own in WRONG or parameter in WRONG, f"no wrong values for {parameter} of {name}"
    return WRONG.get(own) or WRONG[parameter]


def good_call(name: str, parameter: str) -> dict[str, Any]:
    """Return good arguments that go with a wrong value of one parameter."""
    given = GOOD[name]
    if parameter != "request":
        return given
    return {one: given[one] for one in given if one not in ("panel", "prompt")}  # it stands alone


async def outcome(function: Callable[..., Any], **given: Any) -> Any:
    """Return what a method returns, awaited if it has to be."""
    result = function(**given)
    if inspect.isasyncgen(result) or not inspect.isawaitable(result):
        return result
    waiting: Awaitable[Any] = result
    return await waiting


def test_every_method_has_a_good_call() -> None:
    assert sorted(GOOD) == sorted(name for name, _ in functions())


@pytest.mark.parametrize(("name", "parameter"), CASES)
async def test_a_wrong_argument_is_refused_before_anything_is_sent(
    name: str, parameter: str
) -> None:
    """The message holds the field, the beginning of the value, and what is allowed."""
    network = Recorder()
    async with network.client(ROOMY) as client:
        owner: Any = {"webhooks": hooks_module, "client": client}.get(name.partition(".")[0])
        if name.startswith("webhooks.ReplayGuard."):
            owner = ReplayGuard()
        elif owner is None:
            owner = getattr(client, name.partition(".")[0])
        function = getattr(owner, name.rpartition(".")[2])
        for value in wrong_values(name, parameter):
            given = {**good_call(name, parameter), parameter: value}
            with pytest.raises(InvalidRequestError) as caught:
                await asyncio.wait_for(outcome(function, **given), 1.0)
            error, message = caught.value, str(caught.value)
            assert error.allowed
            assert message == f"{error.field}: got {shown(error.value)}, allowed is {error.allowed}"
            assert len(shown(error.value)) <= 80
            if parameter not in ("extra", "defaults", "request", "requests", "prices"):
                assert error.field.partition("[")[0].partition(".")[0] == parameter, message
        assert client.stats().total == 0
    assert not network.requests
