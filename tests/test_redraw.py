"""One panel of a batch's comic drawn again: paid once, that picture replaced, the old one kept."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from llamagen_async import (
    APIConnectionError,
    BatchState,
    BatchStory,
    BudgetReachedError,
    InvalidRequestError,
    JournalError,
    LlamaGenError,
    RequestKind,
    SubmissionUncertainError,
    UpdateRequest,
)
from llamagen_async.batch.journal.story import Story
from llamagen_async.redraw import Redraw
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


class FinishedBatch(Machine):
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


@pytest.mark.parametrize("gone", [False, True])
async def test_the_old_picture_is_kept_of_a_comic_that_has_grown(
    tmp_path: Path, gone: bool
) -> None:
    """Pictures that its story does not know of, or that were deleted, are fetched."""
    machine = FinishedBatch(tmp_path)
    more: Any = {"type": "continue", "of": "order-1", "prompt": "It sails away"}
    await machine.finish([STORIES[0], more])
    before = machine.pictures()
    if gone:
        (deleted,) = machine.out.glob("*-p01-01.png")
        deleted.unlink()
    done = await machine.redraw()
    after = machine.pictures()
    assert done.kept is not None
    assert after[done.kept.name] == before[done.file.name] != after[done.file.name]
    assert before.keys() <= after.keys()
    assert set(before.values()) <= set(after.values())


async def test_that_picture_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    machine = FinishedBatch(tmp_path)
    await machine.finish()
    before = machine.pictures()
    done = await machine.redraw()
    name = f"{done.comic.id}-p01-03"
    after = machine.pictures()
    assert done.kept == machine.out / f"{name}.1.png"
    assert (done.file, done.is_new) == (machine.out / f"{name}.png", True)
    assert after.pop(f"{name}.1.png") == before[f"{name}.png"]
    assert after.pop(f"{name}.png") != before.pop(f"{name}.png")
    assert after == before
    assert machine.updates == 1
    fetched = [asked.url for asked in machine.assets.asked[len(before) + 1 :]]
    assert len(fetched) == 1


async def test_the_journal_has_the_comic_as_it_is_now(tmp_path: Path) -> None:
    """A batch that is run again sends nothing and fetches nothing."""
    machine = FinishedBatch(tmp_path)
    await machine.finish()
    done = await machine.redraw(caption="Hello")
    async with opened(machine.journal, machine.open().account) as journal:
        row = await journal.get("order-1")
        assert row.generation.pages[0].panels[2].caption == "Hello"
        assert row.generation == done.comic
        assert done.file.name in row.files
    sent, asked = len(machine.sent), len(machine.assets.asked)
    items = await machine.batch(STORIES, out=machine.out)
    assert {item.state for item in items} == {BatchState.SUCCEEDED}
    assert (len(machine.sent), len(machine.assets.asked)) == (sent, asked)


async def test_the_same_redraw_is_paid_for_once_unless_another_is_wanted(tmp_path: Path) -> None:
    machine = FinishedBatch(tmp_path)
    await machine.finish()
    first = await machine.redraw()
    for page in (None, 0):
        again = await machine.redraw(page=page)
        assert (again.is_new, again.file) == (False, first.file)
    assert machine.updates == 1
    second = await machine.redraw(again=True)
    assert second.is_new
    assert second.kept is not None
    assert second.kept.name.endswith("-p01-03.2.png")
    assert machine.updates == 2
    other = await machine.redraw(prompt="It laughs")
    assert (other.is_new, machine.updates) == (True, 3)


async def test_ended_while_it_is_drawn_it_is_waited_for_by_the_next_call(tmp_path: Path) -> None:
    machine = FinishedBatch(tmp_path)
    await machine.finish()
    first = asyncio.create_task(machine.redraw())
    await asyncio.sleep(20)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    done = await machine.redraw()
    assert (done.is_new, machine.updates) == (False, 1)
    assert done.kept is not None


async def test_another_redraw_of_the_comic_waits_for_the_first_one(tmp_path: Path) -> None:
    """An earlier program was ended; its picture is replaced, too, and then the new one drawn."""
    machine = FinishedBatch(tmp_path)
    await machine.finish()
    first = asyncio.create_task(machine.redraw(panel=0))
    await asyncio.sleep(20)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await machine.redraw(panel=1)
    assert machine.updates == 2
    kept = [name for name in machine.pictures() if name.endswith(".1.png")]
    assert [name[-12:] for name in kept] == ["-p01-01.1.png"[1:], "-p01-02.1.png"[1:]]


async def test_a_redraw_that_may_have_been_accepted_is_not_sent_again(tmp_path: Path) -> None:
    """Killed while its answer was awaited; sent again only if the user says so."""
    machine = FinishedBatch(tmp_path)
    await machine.finish()
    (id_, _) = [str(row[0]) for row in machine.rows("generation_id")]
    request = UpdateRequest(panel=2, page=0, prompt="It smiles")
    story = Story.parse(BatchStory(request, id=id_))
    async with opened(machine.journal, machine.open().account) as journal:
        row, _ = await journal.add(story)
        await changed(journal, row, BatchState.SENDING)  # and no more, as a kill leaves it
    for _ in range(2):
        with pytest.raises(SubmissionUncertainError):
            await machine.redraw()
    assert machine.updates == 0
    assert (await machine.redraw(resend_uncertain=True)).is_new
    assert machine.updates == 1


@pytest.mark.parametrize("ends", ["refused by the budget", "given up"])
async def test_what_is_not_sent_again_after_all_stays_uncertain(tmp_path: Path, ends: str) -> None:
    """The journal does not forget that it may have been paid for, nor what it has cost."""
    machine = FinishedBatch(tmp_path)
    await machine.finish()
    priced: Any = {"prices": {"redraw": 100}}
    lost = APIConnectionError("it broke off")
    machine._after = lambda sent: lost if sent.kind is RequestKind.UPDATE else None
    with pytest.raises(SubmissionUncertainError):
        await machine.redraw(**priced)
    machine._after = None
    spent = await spent_in(machine)
    if ends == "given up":
        refusal = LlamaGenError("no")
        machine._before = lambda sent: refusal if sent.kind is RequestKind.UPDATE else None
        with pytest.raises(LlamaGenError, match="no"):
            await machine.redraw(resend_uncertain=True, **priced)
        machine._before = None
    else:
        with pytest.raises(BudgetReachedError):
            await machine.redraw(resend_uncertain=True, budget=spent, **priced)
    assert await spent_in(machine) == spent
    assert ("update_panel", "uncertain") in machine.rows("type, state")
    with pytest.raises(SubmissionUncertainError, match="it broke off"):
        await machine.redraw(**priced)
    assert machine.updates == (2 if ends == "given up" else 1)
    await asyncio.sleep(300)  # a comic that is being changed can't be changed
    assert (await machine.redraw(resend_uncertain=True, **priced)).is_new
    assert await spent_in(machine) == spent + 100


async def spent_in(machine: FinishedBatch) -> float:
    async with opened(machine.journal, machine.open().account) as journal:
        spent: float = journal.spent
        return spent


async def test_what_was_not_sent_is_sent_by_no_other_command(tmp_path: Path) -> None:
    """Given up before it was sent, it is nothing that a batch would go on with."""
    machine = FinishedBatch(tmp_path)
    await machine.finish()

    def refuse(sent: Any) -> Exception | None:
        return LlamaGenError("no") if sent.kind is RequestKind.UPDATE else None

    machine._before = refuse
    with pytest.raises(LlamaGenError, match="no"):
        await machine.redraw()
    machine._before = None
    rows = machine.rows("type, state")
    assert ("update_panel", "queued") not in rows


async def test_a_picture_that_does_not_come_is_fetched_by_the_next_call(tmp_path: Path) -> None:
    """While its host is away, the redraw is paid for, and not lost."""
    machine = FinishedBatch(tmp_path)
    await machine.finish()
    before = machine.pictures()
    machine.assets._script = [Answer(503)]
    with pytest.raises(LlamaGenError):
        await machine.redraw(timeout=120)
    assert machine.pictures() == before
    machine.assets._script = drawn
    done = await machine.redraw()
    assert (done.is_new, machine.updates) == (False, 1)
    assert done.kept is not None


async def test_pictures_that_are_gone_are_fetched_with_it(tmp_path: Path) -> None:
    machine = FinishedBatch(tmp_path)
    await machine.finish()
    before = machine.pictures()
    for path in list(machine.out.iterdir())[:2]:
        path.unlink()
    await machine.redraw("order-1")
    await machine.redraw("order-2", page=1, panel=1)
    assert before.keys() <= machine.pictures().keys()


async def test_a_redraw_of_a_batch_keeps_the_picture_as_well(tmp_path: Path) -> None:
    machine = FinishedBatch(tmp_path)
    line = {"type": "update_panel", "of": "order-1", "panel": 0, "prompt": "It smiles"}
    await machine.finish([*STORIES, line])
    assert [name[-9:] for name in machine.pictures() if ".1." in name] == ["-01.1.png"]


@pytest.mark.once
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
    machine = FinishedBatch(tmp_path)
    await machine.finish()
    with pytest.raises((InvalidRequestError, LlamaGenError), match=words) as caught:
        await machine.redraw(key, **given)
    assert getattr(caught.value, "field", field) == field
    assert machine.updates == 0


@pytest.mark.parametrize("column", ["generation", "request", "error"])
async def test_a_damaged_story_is_told(tmp_path: Path, column: str) -> None:
    machine = FinishedBatch(tmp_path)
    await machine.finish()
    raw(machine.journal, f"UPDATE job SET {column} = '{{'")
    with pytest.raises(JournalError, match="the journal is damaged at 'order-1'"):
        await machine.redraw()
    assert machine.updates == 0


async def test_a_story_that_is_not_done_has_no_panel(tmp_path: Path) -> None:
    machine = FinishedBatch(tmp_path)
    await machine.finish()
    raw(
        machine.journal,
        "UPDATE job SET state = 'running', generation = json_object('id', generation_id) "
        "WHERE key = 'order-1'",
    )
    with pytest.raises(InvalidRequestError, match="a story that is done"):
        await machine.redraw()


@pytest.mark.once
@pytest.mark.parametrize("name", ["order-1", "id", "beginning", "0", "s.jsonl:1"])
async def test_a_story_has_many_names(tmp_path: Path, name: str) -> None:
    machine = FinishedBatch(tmp_path)
    await machine.finish()
    raw(machine.journal, "UPDATE job SET label = 's.jsonl:1' WHERE key = 'order-1'")
    (id_,) = [str(row[1]) for row in machine.rows("key, generation_id") if row[0] == "order-1"]
    named = {"id": id_, "beginning": id_[:-1]}.get(name, name)
    assert (await machine.redraw(named)).comic.id == id_


PRICED = {"redraw": 100.0}


async def spent(machine: FinishedBatch) -> float:
    async with opened(machine.journal, machine.open().account) as journal:
        credits_: float = journal.spent
        return credits_


async def test_what_a_redraw_costs_is_in_the_journal(tmp_path: Path) -> None:
    """A later batch of the same journal counts it; the same redraw again costs nothing."""
    machine = FinishedBatch(tmp_path)
    await machine.finish()
    before = await spent(machine)
    done = await machine.redraw(prices=PRICED)
    assert (done.spending.credits, done.spending.total) == (100.0, before + 100.0)
    again = await machine.redraw(prices=PRICED)
    assert (again.is_new, again.spending.credits) == (False, 0.0)
    assert again.spending.total == await spent(machine) == before + 100.0
    another = [*STORIES, {"key": "order-3", "prompt": "A bird", "fix_panel_num": 1}]
    for budget, state in ((before + 249, BatchState.QUEUED), (before + 250, BatchState.SUCCEEDED)):
        items = {item.key: item for item in await machine.batch(another, budget=budget)}
        assert items["order-3"].state is state


async def test_a_budget_of_a_redraw_is_a_hard_stop(tmp_path: Path) -> None:
    """Earlier runs count, and nothing of what was not sent is left behind."""
    machine = FinishedBatch(tmp_path)
    await machine.finish()
    before = await spent(machine)
    with pytest.raises(BudgetReachedError, match="nothing was sent") as caught:
        await machine.redraw(prices=PRICED, budget=before + 99)
    assert caught.value.price == 100.0
    assert (machine.updates, await spent(machine)) == (0, before)
    done = await machine.redraw(prices=PRICED, budget=before + 100)
    assert (done.spending.left, machine.updates) == (0.0, 1)


async def test_a_budget_needs_the_price_of_a_redraw(tmp_path: Path) -> None:
    """The vendor's page has none, and none is made up; without a budget it is told apart."""
    machine = FinishedBatch(tmp_path)
    await machine.finish()
    with pytest.raises(BudgetReachedError, match="its price is not known") as caught:
        await machine.redraw(budget=1e6)
    assert caught.value.price is None
    assert machine.updates == 0
    done = await machine.redraw()
    assert (done.spending.credits, done.spending.unpriced) == (0.0, 1)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"budget": -1}, "budget"),
        ({"budget": "100"}, "budget"),
        ({"prices": {"redrawing": 100}}, "prices"),
        ({"prices": {"redraw": -1}}, r"prices\.redraw"),
    ],
)
async def test_money_that_is_not_allowed(tmp_path: Path, given: dict[str, Any], field: str) -> None:
    machine = FinishedBatch(tmp_path)
    await machine.finish()
    with pytest.raises(InvalidRequestError, match=field):
        await machine.redraw(**given)
    assert machine.updates == 0
