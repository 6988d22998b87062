"""A batch of anything: comics, their continuations and redraws, animations."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from llamagen_async import (
    Animation,
    AnimationRequest,
    BatchItem,
    BatchState,
    BatchStory,
    ComicGeneration,
    ContinueRequest,
    InvalidRequestError,
    UpdateRequest,
)
from llamagen_async.plans import RequestKind
from tests.support.batches import collect, roomy
from tests.support.scripted import Network

pytestmark = pytest.mark.virtual_time

COMIC = {"prompt": "a cat", "fix_panel_num": 2, "key": "a"}
MORE = {"type": "continue", "of": "a", "prompt": "then rain", "fix_panel_num": 3, "key": "b"}
REDRAW = {"type": "regeneratePanel", "of": "b", "panel": 1, "prompt": "a dog", "key": "c"}
VIDEO = {"type": "animation", "prompt": "a cat runs", "key": "v"}
MIXED = [COMIC, MORE, REDRAW, VIDEO]


def by_key(items: list[BatchItem]) -> dict[str | None, BatchItem]:
    return {item.key: item for item in items}


def changes(network: Network) -> list[str]:
    """The billed requests that were sent, in order."""
    return [sent.kind.value for sent in network.sent if sent.kind.is_billed]


def panels(item: BatchItem) -> int:
    assert isinstance(item.generation, ComicGeneration)
    return sum(len(page.panels) for page in item.generation.pages)


async def test_each_type_is_sent_waited_for_and_told() -> None:
    network = roomy()
    async with network.client("paid") as client:
        items = by_key(await collect(client, MIXED))
    assert {item.state for item in items.values()} == {BatchState.SUCCEEDED}
    assert (panels(items["a"]), panels(items["b"]), panels(items["c"])) == (2, 5, 5)
    comics = [items[key].generation for key in "abc"]
    assert len({comic.id for comic in comics if comic}) == 1
    assert isinstance(items["v"].generation, Animation)
    assert isinstance(items["b"].request, ContinueRequest)
    assert isinstance(items["c"].request, UpdateRequest)
    assert isinstance(items["v"].request, AnimationRequest)
    assert sorted(changes(network)) == ["continue", "create", "create", "update"]


class Watch:
    """Watches a network: each change has to find its comic finished."""

    def __init__(self) -> None:
        self.network = roomy(before=self.see)
        self.overlaps: list[str] = []

    def see(self, sent: Any) -> None:
        if sent.kind not in (RequestKind.CONTINUE, RequestKind.UPDATE):
            return
        known = {one["id"]: one for one in self.network.service.stats(sent.at)["generations"]}
        if known[sent.target]["outcome"] == "running":
            self.overlaps.append(str(sent))


def redraw(number: int, of: str = "a", **more: Any) -> dict[str, Any]:
    return {"type": "update_panel", "of": of, "panel": 0, "prompt": f"r{number}", **more}


@pytest.mark.once
@pytest.mark.parametrize("journal", [None, "run.db"])
@pytest.mark.parametrize(
    "order", [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [1, 2, 0, 4, 3]], ids=["first", "last", "midst"]
)
async def test_changes_of_one_comic_run_one_after_the_other(
    order: list[int], journal: str | None, tmp_path: Path
) -> None:
    """None is sent before its comic is there or while another is at work, and they keep order."""
    stories = [COMIC, redraw(1), {**MORE, "key": "b"}, redraw(2), redraw(3, "b")]
    watch = Watch()
    async with watch.network.client("paid") as client:
        given = [stories[number] for number in order]
        items = await collect(client, given, journal=journal and tmp_path / journal)
    assert {item.state for item in items} == {BatchState.SUCCEEDED}
    assert watch.overlaps == []
    sent = [one.prompt for one in watch.network.sent if one.kind.is_billed]
    assert len(sent) == 5
    of_a = [stories[n]["prompt"] for n in order if n in (1, 2, 3)]
    assert [prompt for prompt in sent if prompt in of_a] == of_a
    assert sent.index("r3") > sent.index("then rain")


async def test_a_change_names_its_comic_by_id() -> None:
    """A comic that no journal knows, and one of the same input."""
    watch = Watch()
    async with watch.network.client("paid") as client:
        comic = await client.comics.create_and_wait("before", fix_panel_num=1)
        given = [
            BatchStory(ContinueRequest("more"), id=comic.id, key=1),
            {"action": "regeneratePanel", "id": comic.id, "panel": 0, "prompt": "r"},
            BatchStory({"type": "continue", "prompt": "m2"}, id=comic.id),
        ]
        items = await collect(client, given)
    assert {item.state for item in items} == {BatchState.SUCCEEDED}
    assert watch.overlaps == []
    assert changes(watch.network) == ["create", "continue", "update", "continue"]


@pytest.mark.parametrize(
    ("story", "field"),
    [
        (ContinueRequest("more"), "of"),
        ({"type": "continue", "prompt": "more"}, "of"),
        ({"type": "continue", "prompt": "more", "of": "a", "id": "g1"}, "id"),
        ({"type": "continue", "prompt": "more", "of": "x", "key": "x"}, "of"),
        ({"type": "continue", "prompt": "more", "of": ""}, "of"),
        ({"type": "continue", "prompt": "more", "id": ".."}, "id"),
        ({"type": "continue", "action": "regeneratePanel", "prompt": "m", "of": "a"}, "action"),
        ({"type": "film", "prompt": "more"}, "type"),
        ({"type": 3, "prompt": "more"}, "type"),
        ({"type": "comic", "prompt": "more", "of": "a"}, "of"),
        ({"type": "animation", "prompt": "more", "id": "g1"}, "id"),
        ({"type": "update_panel", "of": "a", "prompt": "more"}, "panel"),
        ({"type": "update_panel", "of": "a", "panel": 0}, "prompt"),
        (BatchStory({"key": "a", "prompt": "p"}, key="b"), "key"),
        (BatchStory(3), "request"),  # type: ignore[arg-type]  # what users may give
    ],
)
async def test_a_wrong_story_says_its_field_and_keeps_what_was_given(
    story: Any, field: str
) -> None:
    network = roomy()
    async with network.client("paid") as client:
        (item,) = await collect(client, [story])
    assert item.state is BatchState.FAILED
    assert isinstance(item.error, InvalidRequestError)
    assert item.error.field == field
    assert item.given is story
    assert network.sent == []


async def test_a_refused_story_keeps_its_key() -> None:
    async with roomy().client("paid") as client:
        given = [
            {"key": "k", "prompt": ""},
            BatchStory(ContinueRequest("more"), key=7),
        ]
        items = await collect(client, given)
    assert [item.key for item in items] == ["k", "7"]


@pytest.mark.parametrize(
    ("stories", "failed", "words"),
    [
        ([redraw(1, "nobody", key="r")], "r", "of: got 'nobody'"),
        ([redraw(1, "y", key="x"), redraw(2, "x", key="y")], "y", "does not wait for this one"),
        ([redraw(1, "y", key="x"), redraw(2, "x", key="y")], "x", "of: got 'y'"),
        ([VIDEO, redraw(1, "v", key="r")], "r", "this is an animation's"),
        ([redraw(1, "v", key="r"), VIDEO], "r", "this is an animation's"),
    ],
)
async def test_what_can_not_be_changed_is_refused(
    stories: list[Any], failed: str, words: str
) -> None:
    """A key that nobody has, a circle, an animation: nothing is sent for it."""
    network = roomy()
    async with network.client("paid") as client:
        items = by_key(await collect(client, stories))
    assert words in str(items[failed].error)
    assert items[failed].state is BatchState.FAILED
    assert not {"continue", "update"} & set(changes(network))


async def test_changes_of_a_comic_that_failed_fail_with_it() -> None:
    """And changes of these; the key is named, and nothing is sent."""
    from llamagen_async.sandbox import SandboxService

    service = SandboxService(failure_rate=1.0)
    network = Network(service)
    async with network.client("paid") as client:
        items = by_key(await collect(client, [REDRAW, MORE, COMIC]))
    assert {item.state for item in items.values()} == {BatchState.FAILED}
    assert "'a'" in str(items["b"].error)
    assert "'b'" in str(items["c"].error)
    assert changes(network) == ["create"]


async def test_a_comic_that_does_not_exist_fails_its_change() -> None:
    network = roomy()
    async with network.client("paid") as client:
        (item,) = await collect(client, [{**REDRAW, "of": None, "id": "nothing"}])
    assert item.state is BatchState.FAILED
    assert "404" in str(item.error)


async def test_what_waits_for_an_unsent_comic_stays_unsent() -> None:
    """Both have an error, and nothing was spent on either."""
    from llamagen_async import InsufficientCreditsError

    def broke(sent: Any) -> Exception | None:
        return InsufficientCreditsError(402, None, "no credits") if sent.prompt == "a cat" else None

    network = roomy(before=broke)
    async with network.client("paid") as client:
        items = by_key(await collect(client, [COMIC, MORE]))
    assert [items[key].state for key in "ab"] == [BatchState.QUEUED] * 2


async def test_what_follows_an_uncertain_change_is_not_sent(tmp_path: Path) -> None:
    """The uncertain one may be at work, and the errors name it; sent again, it lets them go on."""
    lost = True

    def lose(sent: Any) -> Exception | None:
        from llamagen_async import APIConnectionError

        return APIConnectionError("lost") if lost and sent.prompt == "r1" else None

    network = roomy(after=lose)
    given = [COMIC, redraw(1, key="x"), redraw(2, key="y"), redraw(3, "x", key="z"), MORE]
    async with network.client("paid") as client:
        items = by_key(await collect(client, given, journal=tmp_path / "j.db"))
    states = [items[key].state.value for key in "axyzb"]
    assert states == ["succeeded", "uncertain", "queued", "queued", "queued"]
    assert all("'x'" in str(items[key].error) for key in "yzb")
    async with network.client("paid", base_url=client._core.settings.base_url) as client:
        items = by_key(await collect(client, given, journal=tmp_path / "j.db"))
    assert [items[key].state.value for key in "axyzb"] == states
    assert changes(network) == ["create", "update"]
    lost = False
    await asyncio.sleep(100)  # which the server is done with by now
    async with network.client("paid", base_url=client._core.settings.base_url) as client:
        again = await collect(client, given, journal=tmp_path / "j.db", resend_uncertain=True)
    assert {item.state for item in again} == {BatchState.SUCCEEDED}
