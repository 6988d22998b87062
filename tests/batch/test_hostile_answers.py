"""Texts of a server are in journal and errors only if they are short, clean and no secret."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from llamagen_async import BatchItem, BatchState, LlamaGenClient
from tests.support.rawserver import Handler, Received, answer, raw_server

KEY = "sk/live/CANARY-12345678"
SPEED = 100_000.0
JSON = "application/json"


async def run(handler: Handler, journal: Path, **options: Any) -> list[BatchItem]:
    async with (
        raw_server(handler) as server,
        LlamaGenClient(
            KEY, plan="paid", base_url=server.url, quota="memory", speed=SPEED, **options
        ) as client,
    ):
        return [
            item async for item in client.comics.batch(["a"], journal=journal, timeout=SPEED * 60)
        ]


def replying(
    create: bytes, check: bytes | None = None, *, status: str = "200 OK", kind: str = JSON
) -> Handler:
    async def handler(received: Received) -> None:
        is_create = received.head.startswith("POST") or check is None
        content = create if is_create else check
        assert content is not None
        await received.reply(answer(content, status=status, content_type=kind))

    return handler


def written(journal: Path) -> str:
    with sqlite3.connect(journal) as database:
        rows = database.execute("select * from job").fetchall()
    database.close()
    return repr(rows)


ECHOES = {
    "a refusal in PHP's JSON": (b'{"message": "bad key %s"}', "401 No"),
    "a refusal in text": (b"bad key %s", "403 No"),
    "a success": (b'{"id": "c1", "status": "FAILED", "apiKey": "%s"}', "200 OK"),
    "a reason": (b'{"id": "c1", "status": "FAILED", "failureReason": "key %s"}', "200 OK"),
    "a status word": (b'{"id": "c1", "status": "%s", "x": 1}', "200 OK"),
    "no JSON": (b"%s", "200 OK"),
    "a failure": (b'{"error": "%s"}', "500 No"),
}


@pytest.mark.parametrize("spelling", [KEY, KEY.replace("/", "\\/")])
@pytest.mark.parametrize(("content", "status"), ECHOES.values(), ids=ECHOES.keys())
async def test_a_key_that_is_repeated_is_in_no_journal_error_or_log(
    tmp_path: Path,
    content: bytes,
    status: str,
    spelling: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    journal = tmp_path / "j.db"
    body = content % spelling.encode()
    failed = b'{"id": "c1", "status": "FAILED"}'
    (item,) = await run(replying(body, failed, status=status, kind=KEY), journal)
    error = item.error
    assert error is not None
    shown = [str(error), repr(error), repr(vars(error)), repr(item), written(journal), caplog.text]
    assert "CANARY" not in "".join(shown)


async def test_a_reason_of_megabytes_makes_neither_error_nor_journal_large(tmp_path: Path) -> None:
    """It stays in `raw`, within a bound, and its control characters steer no terminal."""
    reason = "boom\x1b[2J" * 500_000
    body = json.dumps({"id": "c1", "status": "FAILED", "failureReason": reason}).encode()
    journal = tmp_path / "j.db"
    (item,) = await run(replying(b'{"id": "c1", "status": "PENDING"}', body), journal)
    assert item.state is BatchState.FAILED
    assert item.generation is not None
    assert len(str(item.error)) < 400
    assert str(item.error).isprintable()
    kept = item.generation.raw["failureReason"]
    assert reason.startswith(kept.rstrip("…"))
    assert 10_000 < len(kept) <= 40_000
    assert len(written(journal)) < 100_000


ODD = {
    "NaN": b'"score": NaN',
    "a cut character": b'"prompt": "caf\xc3"',
    "a control character": b'"prompt": "a\nb\x00"',
    "a number of 5,000 digits": b'"seed": ' + b"9" * 5000,
    "half a character": b'"prompt": "\\ud83d"',
    "depth": b'"x": ' + b"[" * 20_000 + b"]" * 20_000,
    "text after the end": b'"x": 1}\n<!-- cached',
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
async def test_a_finished_comic_is_collected_whatever_else_is_in_its_answer(
    tmp_path: Path, odd: bytes
) -> None:
    done = b'{"id": "c1", "status": "PROCESSED", "output": "https://x.invalid/a.png", %s}' % odd
    begun = b'{"id": "c1", "status": "LOADING", %s}' % odd
    journal = tmp_path / "j.db"
    (item,) = await run(replying(begun, done), journal)
    assert (item.state, item.error) == (BatchState.SUCCEEDED, None)
    assert item.generation is not None
    assert item.generation.output == "https://x.invalid/a.png"
    assert "https://x.invalid/a.png" in written(journal)


@pytest.mark.parametrize("given_id", ["..", " ", ""])
async def test_an_id_that_nothing_can_be_asked_by_is_told_as_uncertain(
    tmp_path: Path, given_id: str
) -> None:
    """The create was sent, and it may be paid for: nobody is told that nothing was sent."""
    body = json.dumps({"id": given_id, "status": "PENDING"}).encode()
    (item,) = await run(replying(body), tmp_path / "j.db")
    assert item.state is BatchState.UNCERTAIN
    assert "no id in it" in str(item.error)
    assert given_id[:20] in str(item.error)
