"""The order of the changes of one comic, also while the journal takes its time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llamagen_async import BatchState
from llamagen_async.batch.journal.codec import Row
from llamagen_async.batch.journal.story import Story
from llamagen_async.batch.order import ChangeOrder
from llamagen_async.batch.task import BatchTask
from llamagen_async.plans import RequestKind
from tests.support.journals import added, changed, comic, opened
from tests.support.machine import Machine
from tests.support.scripted_assets import Answer, Asked, ScriptedAssets, png

pytestmark = pytest.mark.virtual_time


def change(number: int) -> dict[str, Any]:
    return {"type": "redraw", "id": "g1", "panel": 0, "prompt": f"r{number}", "key": number}


async def test_nobody_goes_before_the_one_whose_turn_is_coming() -> None:
    """A change that is read while the journal is asked for the next one waits behind that."""
    async with opened(None) as journal:
        tasks = []
        for number in range(3):
            row, _ = await journal.add(Story.parse(change(number)))
            tasks.append(BatchTask(row, row.state))
        lifecycle: Any = SimpleNamespace(journal=journal, tasks={}, halted=None, timeout=60.0)
        order, at, is_asked = ChangeOrder(journal, lifecycle), journal.at, asyncio.Event()

        async def slow(id_: int) -> Row:
            is_asked.set()
            await asyncio.sleep(10)
            row: Row = await at(id_)
            return row

        journal.at = slow
        assert [await order.admit(task) for task in tasks[:2]] == [True, False]
        tasks[0].state = BatchState.SUCCEEDED
        releasing = asyncio.ensure_future(order.released_by(tasks[0]))
        await is_asked.wait()
        assert not await order.admit(tasks[2])
        assert [task.row.key for task in await releasing] == ["1"]
        tasks[1].state = BatchState.SUCCEEDED
        assert [task.row.key for task in await order.released_by(tasks[1])] == ["2"]
        assert not order


async def test_a_comic_that_has_not_ended_is_not_changed() -> None:
    """Also if it is named by its id; the error names its key."""
    async with opened(None) as journal:
        row = await added(journal, key="a")
        await changed(journal, row, BatchState.RUNNING, generation=comic("g1"))
        found, _ = await journal.add(Story.parse(change(1)))
        lifecycle: Any = SimpleNamespace(journal=journal, tasks={}, halted=None, timeout=60.0)
        task = BatchTask(found, found.state)
        assert await ChangeOrder(journal, lifecycle).admit(task)
        assert "it waits for 'a', which has not ended" in str(task.held_by)


@pytest.mark.parametrize("seconds", [0, 200])
async def test_a_comic_has_its_pictures_before_it_is_changed(seconds: int, tmp_path: Path) -> None:
    """Otherwise they might be fetched in the midst of the change."""

    def host(asked: Asked, _number: int) -> Answer:
        return Answer(503) if asked.at < 700 else png()

    machine = Machine(tmp_path, assets=ScriptedAssets(host))

    async def stories() -> AsyncIterator[Any]:
        yield {"prompt": "a cat", "fix_panel_num": 1, "key": "a"}
        await asyncio.sleep(seconds)
        yield {"type": "redraw", "of": "a", "panel": 0, "prompt": "a dog"}

    items = await machine.batch(stories(), out=tmp_path / "out")
    assert [item.state for item in items] == [BatchState.SUCCEEDED] * 2
    (sent,) = machine.of(RequestKind.UPDATE)
    assert sent.at > 700
