"""How far a batch reads its input, and how far it has come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llamagen_async import (
    BatchItem,
    BatchProgress,
    BatchState,
    ComicQueue,
    InvalidRequestError,
    JournalError,
    Plan,
    QuotaExhaustedError,
    RateLimit,
    Spending,
)
from llamagen_async.sandbox import DEMO_KEY
from tests.support.batches import FORMS, Source, collect, read_into, roomy
from tests.support.machine import ROOMY, named, states
from tests.support.scripted import Network, left_over, minute

pytestmark = pytest.mark.virtual_time


@FORMS
async def test_input_is_read_only_as_far_as_needed(form: str) -> None:
    """A list of a million stories is not in memory: 64 wait, the rest is not read."""
    network = Network()
    source = Source(1_000_000)

    async with network.client() as client, client.comics.batch(source.stories(form)) as batch:
        async for _item in batch:
            assert source.read <= len(network.creates) + 65
            assert batch.progress.total is None
            break
    assert source.read < 100


async def test_input_is_not_read_faster_than_items_are_taken() -> None:
    """Stories that need no waiting, such as bad ones, do not pile up in memory either."""
    read = 0

    def bad() -> Iterator[str]:
        nonlocal read
        while read < 5_000:
            read += 1
            yield ""

    async with roomy().client(ROOMY) as client:
        number = 0
        async for _item in client.comics.batch(bad()):
            number += 1
            await asyncio.sleep(0.01)
            assert read <= number + 1_001
        assert number == 5_000


@FORMS
async def test_a_source_that_fails_ends_the_batch_after_what_was_started(form: str) -> None:
    """Stories that had been read are delivered; then the source's own error comes out."""
    network = roomy()
    source = Source(3, error=OSError("the file is gone"))

    items: list[BatchItem] = []
    async with network.client(ROOMY) as client:
        batch = client.comics.batch(source.stories(form))
        with pytest.raises(OSError, match="the file is gone"):
            await read_into(items, batch)
        assert states(items) == {BatchState.SUCCEEDED: 3}
        assert not left_over()


async def test_progress_tells_where_every_story_stands() -> None:
    """Queued, running and done add up, and what runs is named."""
    plan = Plan("three", limits=RateLimit(3, per=60))
    network = Network(minute(200.0, plans={"the-key": plan}), key="the-key")

    async with network.client(plan) as client:
        batch = client.comics.batch(named(5))
        assert (batch.progress.total, batch.progress.done) == (5, 0)
        task = asyncio.ensure_future(anext(aiter(batch)))
        await asyncio.sleep(1)
        progress = batch.progress
        assert progress.counts == {BatchState.RUNNING: 3, BatchState.QUEUED: 2}
        assert [index for index, _ in progress.running] == [0, 1, 2]
        assert [id_ for _, id_ in progress.running] == [
            one["id"] for one in network.service.stats(0)["generations"]
        ]
        await task
        assert 1 <= batch.progress.done < 5
        rest = [item async for item in batch]
        assert len(rest) == 4
        spent = Spending(3_000.0, 0.0, 3_000.0)
        ended = BatchProgress(5, {BatchState.SUCCEEDED: 5}, (), done=5, spending=spent)
        assert batch.progress == ended
        assert batch.progress.done == 5


async def test_done_counts_all_for_which_nothing_more_will_happen() -> None:
    """Stories that came back unsent or were not waited for any longer are over, too."""
    network = Network(minute(), key=DEMO_KEY)

    async with network.client("demo") as client:
        batch = client.comics.batch(named(10))
        items = [item async for item in batch]
        assert sum(isinstance(item.error, QuotaExhaustedError) for item in items) == 3
        assert batch.progress.done == 10


async def test_the_total_is_known_when_the_input_has_been_read() -> None:
    """A generator has no length; at its end there is one."""
    network = roomy()

    async with network.client(ROOMY) as client:
        batch = client.comics.batch(Source(3).plain())
        assert batch.progress.total is None
        async for _item in batch:
            assert batch.progress.total == 3


@pytest.mark.parametrize("in_file", [True, False])
async def test_a_story_that_is_refused_keeps_its_name(tmp_path: Path, *, in_file: bool) -> None:
    """The user's own name tells which order was refused."""
    stories: list[Any] = [
        {"prompt": "", "key": "order-1"},
        {"prompt": "a cat", "size": "1x1", "key": 7},
        {"prompt": "a cat", "key": ["no", "name"]},
        {"prompt": "", "key": " "},
        "",
        {"prompt": "a dog", "key": "order-2"},
        {"prompt": "another", "key": "order-2"},
    ]
    network = roomy()
    async with network.client(ROOMY) as client:
        journal = tmp_path / "run.db" if in_file else None
        items = await collect(client, stories, journal=journal)
    keys = {item.index: (item.key, item.state.value) for item in items}
    assert keys == {
        0: ("order-1", "failed"),
        1: ("7", "failed"),
        2: (None, "failed"),
        3: (None, "failed"),
        4: (None, "failed"),
        5: ("order-2", "succeeded"),
        6: ("order-2", "failed"),
    }


async def test_a_folder_that_can_not_be_written_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch and a queue find out before the first create."""
    out = tmp_path / "out"

    def refuse(**_where: Any) -> None:
        raise PermissionError(13, "Permission denied", "tmp-file")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    network = roomy()
    async with network.client(ROOMY) as client:
        with pytest.raises(InvalidRequestError, match=r"out: got .*Permission denied"):
            await collect(client, ["a cat"], out=out)
        queue = ComicQueue(client, out=out)
        with pytest.raises(InvalidRequestError):
            await queue.start()
        await queue.aclose()
        (tmp_path / "file").write_text("")
        with pytest.raises(InvalidRequestError, match="File exists"):
            await collect(client, ["a cat"], out=tmp_path / "file")
    assert not network.sent


async def test_an_empty_journal_beside_results_is_not_a_new_one(tmp_path: Path) -> None:
    """Nothing is sent for a journal that was lost, unless somebody says so."""
    journal = tmp_path / "run.db"
    journal.write_bytes(b"")
    record = {"id": "c1", "key": "k", "state": "succeeded"}
    (tmp_path / "results.jsonl").write_text(json.dumps(record), encoding="utf-8")
    network = roomy()
    async with network.client(ROOMY) as client:
        for given in ({"journal": journal}, {"journal": tmp_path / "gone.db"}):
            with pytest.raises(JournalError, match=r"c1.*start_over=True"):
                await collect(client, ["a cat"], **given)
        with pytest.raises(JournalError, match="c1"):
            await ComicQueue(client, journal).start()
        assert not network.sent
        assert await collect(client, ["a cat"], journal=journal, start_over=True)
    assert network.accepted == 1
