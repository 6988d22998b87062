"""One id is one comic: a second create that is answered with it is not counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llamagen_async import BatchState, RequestKind, SubmissionUncertainError
from tests.support.batches import collect, roomy
from tests.support.journals import added, changed, comic, opened
from tests.support.machine import Machine, named, states
from tests.support.scripted import Sent

pytestmark = pytest.mark.virtual_time


def one_id() -> Any:
    """Answer each create with what the first one was answered with."""
    accepted: list[Any] = []

    def body(sent: Sent, answer: Any) -> Any:
        if sent.kind is not RequestKind.CREATE:
            return answer
        accepted.append(answer)
        return accepted[0]

    return body


@pytest.mark.parametrize("latency", [0.0, 1.0, (0.0, 3.0)])
async def test_twenty_creates_with_one_id_are_one_comic(latency: Any) -> None:
    """The others are uncertain, and each says whose id it was answered with."""
    network = roomy(body=one_id(), latency=latency)
    async with network.client() as client:
        items = await collect(client, named(20))
    assert states(items) == {BatchState.SUCCEEDED: 1, BatchState.UNCERTAIN: 19}
    (id_,) = {item.generation.id for item in items if item.generation is not None}
    for item in items:
        if item.state is BatchState.UNCERTAIN:
            assert item.generation is None
            assert isinstance(item.error, SubmissionUncertainError)
            assert f"generation {id_}" in str(item.error)
            assert "comic of" in str(item.error)
    assert len(network.creates) == 20


async def test_an_id_of_an_earlier_run_is_not_a_second_comic(tmp_path: Path) -> None:
    """The journal remembers whose it was, and nothing is sent a second time."""
    machine = Machine(tmp_path, body=one_id())
    await machine.batch(["a"])
    (first,) = machine.rows()
    items = await machine.batch(["a", "b"])
    assert states(items) == {BatchState.SUCCEEDED: 1, BatchState.UNCERTAIN: 1}
    assert machine.rows() == [first, ("uncertain", None)]
    items = await machine.batch(["a", "b"])
    assert states(items) == {BatchState.SUCCEEDED: 1, BatchState.UNCERTAIN: 1}
    assert len(machine.creates) == 2


async def test_the_journal_takes_an_id_once() -> None:
    """Two stories can't have one id, while one story may be told its id again."""
    async with opened(None) as journal:
        one, other = await added(journal, "a"), await added(journal, "b")
        one = await changed(journal, one, BatchState.RUNNING, generation=comic("c1"))
        await changed(journal, one, BatchState.SUCCEEDED, generation=comic("c1", "SUCCEEDED"))
        with pytest.raises(SubmissionUncertainError, match=rf"generation c1.*{one.key}"):
            await changed(journal, other, BatchState.RUNNING, generation=comic("c1"))
        row = await journal.at(other.id)
        assert (row.state, row.generation_id) == (BatchState.QUEUED, None)
