"""One panel of a batch's comic drawn again: paid once, that picture replaced, the old one kept."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from llamagen_async import (
    BatchState,
    BatchStory,
    InvalidRequestError,
    LlamaGenError,
    RequestKind,
    SubmissionUncertainError,
    UpdateRequest,
)
from llamagen_async.batch.journal.story import Story
from llamagen_async.batch.redraw import Redraw
from tests.support.journals import changed, opened, raw
from tests.support.machine import Machine
from tests.support.scripted_assets import Answer, Asked, ScriptedAssets, png

pytestmark = pytest.mark.virtual_time

STORIES = [
    {"key": "order-1", "prompt": "A cat", "fix_panel_num": 3},
    {"key": "order-2", "prompt": "A dog", "pagination": {"totalPages": 2, "panelsPerPage": 2}},
]


def drawn(asked: Asked, _number: int) -> Answer:
    """Answer with a picture that tells its URL."""
    return png(b"\x89PNG\r\n\x1a\n" + asked.url.encode() * 20 + b"IEND\xaeB`\x82")


class Studio(Machine):
    """A machine with a folder of finished comics."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.assets = ScriptedAssets(drawn)
        super().__init__(folder, assets=self.assets, **settings)
        self.out = folder / "out"

    async def finish(self, stories: Any = STORIES) -> None:
        await self.batch(stories, out=self.out)

    async def redraw(self, key: str = "order-1", **given: Any) -> Redraw:
        """Redraw as a program of its own."""
        async with self.open() as client:
            wanted: Any = {"journal": self.journal, "panel": 2, "prompt": "It smiles"} | given
            return await client.comics.redraw(self.out, key, **wanted)

    @property
    def updates(self) -> int:
        return len(self.of(RequestKind.UPDATE))

    def pictures(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(self.out.iterdir())}


async def test_that_picture_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    await studio.finish()
    before = studio.pictures()
    done = await studio.redraw()
    name = f"{done.comic.id}-p01-03"
    after = studio.pictures()
    assert done.kept == studio.out / f"{name}.1.png"
    assert (done.file, done.is_new) == (studio.out / f"{name}.png", True)
    assert after.pop(f"{name}.1.png") == before[f"{name}.png"]
    assert after.pop(f"{name}.png") != before.pop(f"{name}.png")
    assert after == before
    assert studio.updates == 1
    fetched = [asked.url for asked in studio.assets.asked[len(before) + 1 :]]
    assert len(fetched) == 1


async def test_the_journal_has_the_comic_as_it_is_now(tmp_path: Path) -> None:
    """A batch that is run again sends nothing and fetches nothing."""
    studio = Studio(tmp_path)
    await studio.finish()
    done = await studio.redraw(caption="Hello")
    async with opened(studio.journal, studio.open().account) as journal:
        row = await journal.get("order-1")
        assert row.generation.pages[0].panels[2].caption == "Hello"
        assert row.generation == done.comic
        assert done.file.name in row.files
    sent, asked = len(studio.sent), len(studio.assets.asked)
    items = await studio.batch(STORIES, out=studio.out)
    assert {item.state for item in items} == {BatchState.SUCCEEDED}
    assert (len(studio.sent), len(studio.assets.asked)) == (sent, asked)


async def test_the_same_redraw_is_paid_for_once_unless_another_is_wanted(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    await studio.finish()
    first = await studio.redraw()
    for page in (None, 0):
        again = await studio.redraw(page=page)
        assert (again.is_new, again.file) == (False, first.file)
    assert studio.updates == 1
    second = await studio.redraw(again=True)
    assert second.is_new
    assert second.kept is not None
    assert second.kept.name.endswith("-p01-03.2.png")
    assert studio.updates == 2
    other = await studio.redraw(prompt="It laughs")
    assert (other.is_new, studio.updates) == (True, 3)


async def test_ended_while_it_is_drawn_it_is_waited_for_by_the_next_call(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    await studio.finish()
    first = asyncio.create_task(studio.redraw())
    await asyncio.sleep(20)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    done = await studio.redraw()
    assert (done.is_new, studio.updates) == (False, 1)
    assert done.kept is not None


async def test_another_redraw_of_the_comic_waits_for_the_first_one(tmp_path: Path) -> None:
    """An earlier program was ended; its picture is replaced, too, and then the new one drawn."""
    studio = Studio(tmp_path)
    await studio.finish()
    first = asyncio.create_task(studio.redraw(panel=0))
    await asyncio.sleep(20)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await studio.redraw(panel=1)
    assert studio.updates == 2
    kept = [name for name in studio.pictures() if name.endswith(".1.png")]
    assert [name[-12:] for name in kept] == ["-p01-01.1.png"[1:], "-p01-02.1.png"[1:]]


async def test_a_redraw_that_may_have_been_accepted_is_not_sent_again(tmp_path: Path) -> None:
    """Killed while its answer was awaited; sent again only if the user says so."""
    studio = Studio(tmp_path)
    await studio.finish()
    (id_, _) = [str(row[0]) for row in studio.rows("generation_id")]
    request = UpdateRequest(panel=2, page=0, prompt="It smiles")
    story = Story.parse(BatchStory(request, id=id_))
    async with opened(studio.journal, studio.open().account) as journal:
        row, _ = await journal.add(story)
        await changed(journal, row, BatchState.SENDING)  # and no more, as a kill leaves it
    for _ in range(2):
        with pytest.raises(SubmissionUncertainError):
            await studio.redraw()
    assert studio.updates == 0
    assert (await studio.redraw(resend_uncertain=True)).is_new
    assert studio.updates == 1


async def test_what_was_not_sent_is_sent_by_no_other_command(tmp_path: Path) -> None:
    """It was given up before it was sent: a batch that goes on with the journal knows nothing."""
    studio = Studio(tmp_path)
    await studio.finish()

    def refuse(sent: Any) -> Exception | None:
        return LlamaGenError("no") if sent.kind is RequestKind.UPDATE else None

    studio._before = refuse
    with pytest.raises(LlamaGenError, match="no"):
        await studio.redraw()
    studio._before = None
    rows = studio.rows("type, state")
    assert ("update_panel", "queued") not in rows


async def test_a_picture_that_does_not_come_is_fetched_by_the_next_call(tmp_path: Path) -> None:
    """Its host is away: the redraw is paid for, and not lost."""
    studio = Studio(tmp_path)
    await studio.finish()
    before = studio.pictures()
    studio.assets._script = [Answer(503)]
    with pytest.raises(LlamaGenError):
        await studio.redraw(timeout=120)
    assert studio.pictures() == before
    studio.assets._script = drawn
    done = await studio.redraw()
    assert (done.is_new, studio.updates) == (False, 1)
    assert done.kept is not None


async def test_pictures_that_are_gone_are_fetched_with_it(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    await studio.finish()
    before = studio.pictures()
    for path in list(studio.out.iterdir())[:2]:
        path.unlink()
    await studio.redraw("order-1")
    await studio.redraw("order-2", page=1, panel=1)
    assert before.keys() <= studio.pictures().keys()


async def test_a_redraw_of_a_batch_keeps_the_picture_as_well(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    line = {"type": "update_panel", "of": "order-1", "panel": 0, "prompt": "It smiles"}
    await studio.finish([*STORIES, line])
    assert [name[-9:] for name in studio.pictures() if ".1." in name] == ["-01.1.png"]


@pytest.mark.parametrize(
    ("key", "given", "field", "words"),
    [
        ("nobody", {}, "key", "the journal has none of that name"),
        ("order-", {}, "key", "order-1, order-2"),
        ("order-1", {"panel": 3}, "panel", "0 to 2"),
        ("order-1", {"page": 1}, "page", "0 to 0"),
        ("order-2", {"page": 2, "panel": 0}, "page", "0 to 1"),
        ("order-1", {"panel": -1}, "panel", "at least 0"),
        ("order-1", {"prompt": ""}, "prompt", "not empty"),
        ("order-1", {"images": [Path("none.png")]}, "images[0]", "No such file"),
        ("order-1", {"timeout": 0}, "timeout", "seconds"),
        ("order-1", {"journal": "none.db"}, "journal", "journal of a batch"),
    ],
)
async def test_what_is_wrong_is_named_and_costs_nothing(
    tmp_path: Path, key: str, given: dict[str, Any], field: str, words: str
) -> None:
    studio = Studio(tmp_path)
    await studio.finish()
    with pytest.raises((InvalidRequestError, LlamaGenError), match=words) as caught:
        await studio.redraw(key, **given)
    assert getattr(caught.value, "field", field) == field
    assert studio.updates == 0


async def test_a_story_that_is_not_done_has_no_panel(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    await studio.finish()
    raw(
        studio.journal,
        "UPDATE job SET state = 'running', generation = json_object('id', generation_id) "
        "WHERE key = 'order-1'",
    )
    with pytest.raises(InvalidRequestError, match="a story that is done"):
        await studio.redraw()


@pytest.mark.parametrize("name", ["order-1", "id", "beginning", "0", "s.jsonl:1"])
async def test_a_story_has_many_names(tmp_path: Path, name: str) -> None:
    studio = Studio(tmp_path)
    await studio.finish()
    raw(studio.journal, "UPDATE job SET label = 's.jsonl:1' WHERE key = 'order-1'")
    (id_,) = [str(row[1]) for row in studio.rows("key, generation_id") if row[0] == "order-1"]
    named = {"id": id_, "beginning": id_[:-1]}.get(name, name)
    assert (await studio.redraw(named)).comic.id == id_
