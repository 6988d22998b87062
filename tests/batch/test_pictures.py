"""The pictures of a batch: held out for, asked for again, and never paid for twice."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from llamagen_async import APITimeoutError, BatchState
from tests.support.machine import Machine
from tests.support.scripted import Sent, now
from tests.support.scripted_assets import PNG, Answer, Asked, Piece, ScriptedAssets, png

pytestmark = pytest.mark.virtual_time


def signed(sent: Sent, body: Any) -> Any:
    """Give the pictures of each answer URLs of its own."""
    if isinstance(body.get("comics"), list):
        for page in body["comics"]:
            for panel in page["panels"]:
                panel["assetUrl"] = panel["assetUrl"] and f"{panel['assetUrl']}?at={now():.0f}"
    body["output"] = None
    return body


class Host:
    """A host whose URLs are good for a time, and that may be away."""

    def __init__(self, lifetime: float = 1e9) -> None:
        self.lifetime = lifetime
        self.away_until = 0.0
        self.refusal = 403

    def __call__(self, asked: Asked, _number: int) -> Answer:
        if asked.at < self.away_until:
            return Answer(503)
        signed_at = float(asked.url.partition("?at=")[2])
        return png() if asked.at - signed_at < self.lifetime else Answer(self.refusal)


@pytest.mark.parametrize("refusal", [400, 401, 403, 404, 410])
async def test_pictures_whose_urls_are_too_old_cost_one_check(refusal: int, tmp_path: Path) -> None:
    """In the run that saw the comic's end, and in a later one."""
    host = Host(lifetime=300)
    host.refusal = refusal
    assets = ScriptedAssets(host)
    machine = Machine(tmp_path, assets=assets, body=signed)

    host.away_until = 700.0  # longer than the URLs are good for
    (item,) = await machine.batch(["a"], out=tmp_path / "out")
    assert (item.state, item.error) == (BatchState.SUCCEEDED, None)
    assert [file.read_bytes() for file in item.files] == [PNG] * len(item.files)
    checks = len(machine.checks)
    for file in item.files:
        file.unlink()
    await asyncio.sleep(1000)
    (again,) = await machine.batch(["a"], out=tmp_path / "out")
    assert again.files == item.files
    assert all(file.is_file() for file in again.files)
    assert len(machine.checks) == checks + 1
    assert machine.stories == {"a": 1}


@pytest.mark.parametrize("also_gone", [False, True])
async def test_what_is_missing_is_fetched_and_what_was_edited_stays(
    also_gone: bool, tmp_path: Path
) -> None:
    """A picture that somebody has lettered is not written over when another one was deleted."""
    assets = ScriptedAssets(Host())
    machine = Machine(tmp_path, assets=assets, body=signed)
    out = tmp_path / "out"
    (item,) = await machine.batch(["a"], out=out)
    edited, missing = item.files[0], item.files[1]
    edited.write_bytes(PNG + b"lettered")
    missing.unlink()
    if also_gone:
        edited.unlink()
    asked = len(assets.asked)
    (again,) = await machine.batch(["a"], out=out)
    assert again.files == item.files
    assert missing.read_bytes() == PNG
    assert edited.read_bytes() == (PNG if also_gone else PNG + b"lettered")
    assert len(assets.asked) - asked == (2 if also_gone else 1)
    assert sorted(out.iterdir()) == sorted(item.files)


async def test_pictures_that_came_before_one_was_refused_are_not_fetched_again(
    tmp_path: Path,
) -> None:
    """The journal knows of no picture of such a comic; what was lettered meanwhile stays."""
    refused = "0-1"

    def some(asked: Asked, _number: int) -> Answer:
        return Answer(410) if refused and refused in asked.url else png()

    machine = Machine(tmp_path, assets=ScriptedAssets(some), body=signed)
    out = tmp_path / "out"
    (item,) = await machine.batch(["a"], out=out)
    assert item.error is not None
    assert item.files == ()
    there = sorted(out.iterdir())
    assert len(there) == 3
    there[0].write_bytes(PNG + b"lettered")
    refused = ""
    (again,) = await machine.batch(["a"], out=out)
    assert again.error is None
    assert len(again.files) == 4
    assert there[0].read_bytes() == PNG + b"lettered"
    assert sorted(out.iterdir()) == sorted(again.files)


async def test_a_continuation_leaves_what_was_edited_and_keeps_the_whole_of_before(
    tmp_path: Path,
) -> None:
    """Also one that goes on in a later run, whose server gives each picture a new URL."""

    def drawn(asked: Asked, _number: int) -> Answer:
        return png(PNG + asked.url.encode())

    machine = Machine(tmp_path, assets=ScriptedAssets(drawn))
    out = tmp_path / "out"
    comic = {"key": "a", "prompt": "a cat", "fix_panel_num": 2}
    (first,) = await machine.batch([comic], out=out)
    lettered, _, whole = first.files
    before = whole.read_bytes()
    lettered.write_bytes(PNG + b"lettered")
    more = {"key": "b", "type": "continue", "of": "a", "prompt": "then rain", "fix_panel_num": 1}
    items = await machine.batch([comic, more], out=out)
    (grown,) = (item for item in items if item.key == "b")
    assert lettered.read_bytes() == PNG + b"lettered"
    assert len(grown.files) == 4
    assert set(grown.files) > set(first.files)
    assert whole.read_bytes() != before
    assert whole.with_suffix(".1.png").read_bytes() == before
    lettered.write_bytes(PNG + b"lettered again")
    grown.files[1].unlink()
    await machine.batch([comic, more], out=out)
    assert all(file.is_file() for file in grown.files)
    assert lettered.read_bytes() == PNG + b"lettered again"
    assert len(list(out.iterdir())) == 4 + 1


async def test_an_outage_of_the_host_ends_no_batch_before_its_time(tmp_path: Path) -> None:
    host = Host()
    host.away_until = 1500.0
    machine = Machine(tmp_path, assets=ScriptedAssets(host), body=signed)
    items = await machine.batch([f"s{n}" for n in range(10)], out=tmp_path / "out")
    assert [item.error for item in items] == [None] * 10
    assert all(item.files for item in items)
    assert now() < 1500 + 40


async def test_a_dripping_host_ends_with_the_time_of_the_batch(tmp_path: Path) -> None:
    """The comics are done and paid for; the next run fetches what is missing."""
    drips: list[Piece] = [PNG[:1000]]
    drips += [20.0, b"x"] * 1000
    assets = ScriptedAssets([Answer(200, {"Content-Type": "image/png"}, drips)])
    machine = Machine(tmp_path, assets=assets, body=signed)
    out = tmp_path / "out"
    items = await machine.batch(["a", "b"], out=out, timeout=300)
    assert now() < 60 + 300 + 60
    assert [item.state for item in items] == [BatchState.SUCCEEDED] * 2
    assert all(isinstance(item.error, APITimeoutError) for item in items)
    assert list(out.iterdir()) == []
    assets._script = Host()
    items = await machine.batch(["a", "b"], out=out, timeout=300)
    assert all(item.files and item.error is None for item in items)
    assert machine.stories == {"a": 1, "b": 1}
