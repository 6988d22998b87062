"""A run that goes on with a change waits for its end, whatever the server still shows before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llamagen_async import BatchState, ComicGeneration
from llamagen_async.batch.journal.story import Story
from llamagen_async.sandbox import Durations, Fault, SandboxService
from tests.support.batches import collect
from tests.support.journals import changed, opened
from tests.support.machine import ROOMY
from tests.support.scripted import Network

pytestmark = pytest.mark.virtual_time

COMIC = {"prompt": "a cat", "fix_panel_num": 2, "key": "a"}
MORE = {"type": "continue", "of": "a", "prompt": "then rain", "fix_panel_num": 3, "key": "b"}
REDRAW = {"type": "update_panel", "of": "a", "panel": 0, "prompt": "a dog", "key": "b"}
URL = "https://resumed.invalid"


def panels(generation: Any) -> int:
    assert isinstance(generation, ComicGeneration)
    return sum(len(page.panels) for page in generation.pages)


def urls(generation: Any) -> list[str | None]:
    assert isinstance(generation, ComicGeneration)
    return [panel.asset_url for page in generation.pages for panel in page.panels]


@pytest.mark.parametrize("change", [MORE, REDRAW], ids=["continued", "redrawn"])
@pytest.mark.parametrize("stale", [0.0, 25.0, 250.0])
async def test_the_end_of_the_change_is_waited_for(
    change: dict[str, Any], stale: float, tmp_path: Path
) -> None:
    """The journal knows the state before, so that state is not taken for the end."""
    service = SandboxService(
        durations=Durations.constant(20), faults=[Fault("stale", stale)], plans={"the-key": ROOMY}
    )
    network, journal = Network(service, key="the-key"), tmp_path / "j.db"
    async with network.client(base_url=URL) as client:
        (first,) = await collect(client, [COMIC], journal=journal)
    before = first.generation
    assert before is not None
    story = Story.parse(change)
    async with network.client(base_url=URL) as client:  # which is killed when it has the answer
        if change is MORE:
            answer = await client.comics.continue_write(before.id, story.request)  # type: ignore[arg-type]  # it is one
        else:
            answer = await client.comics.update_panel(before.id, story.request)  # type: ignore[arg-type]  # it is one
        async with opened(journal, client.account) as kept:
            row, _ = await kept.add(story)
            await changed(kept, row, BatchState.SENDING)
            answer = ComicGeneration.parse({"id": answer.id, "status": "PENDING"})
            await changed(kept, row, BatchState.RUNNING, generation=answer)
    async with network.client(base_url=URL) as client:
        items = await collect(client, [COMIC, change], journal=journal)
    by_key = {item.key: item for item in items}
    after = by_key["b"].generation
    assert by_key["b"].state is BatchState.SUCCEEDED
    assert len([sent for sent in network.sent if sent.kind.is_billed]) == 2
    assert urls(after) != urls(before)
    assert panels(after) == (5 if change is MORE else 2)


@pytest.mark.parametrize("change", [MORE, REDRAW], ids=["continued", "redrawn"])
async def test_a_later_run_knows_how_the_comic_was(change: dict[str, Any], tmp_path: Path) -> None:
    """Another client has seen the comic end: the journal tells this one."""
    service = SandboxService(
        durations=Durations.constant(20), faults=[Fault("stale", 250.0)], plans={"the-key": ROOMY}
    )
    network, journal = Network(service, key="the-key"), tmp_path / "j.db"
    async with network.client(base_url=URL) as client:
        (first,) = await collect(client, [COMIC], journal=journal)
    async with network.client(base_url=URL) as client:
        items = await collect(client, [COMIC, change], journal=journal)
    after = next(item.generation for item in items if item.key == "b")
    assert urls(after) != urls(first.generation)
