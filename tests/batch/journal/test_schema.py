"""A file that is not this package's, or is about another account, is refused and left alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llamagen_async import (
    BatchState,
    JournalError,
)
from llamagen_async.batch.journal.codec import AccountId
from llamagen_async.batch.journal.journal import Journal
from tests.support.journals import ORIGIN, added, changed, comic, opened, raw


def make_foreign(path: Path) -> None:
    raw(path, "CREATE TABLE theirs (x)")


def make_newer(path: Path) -> None:
    raw(path, "PRAGMA user_version = 99")


def make_text(path: Path) -> None:
    path.write_text("these are my stories\n" * 100, encoding="utf-8")


def make_folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def make_ledger(path: Path) -> None:
    raw(path, f"PRAGMA application_id = {0x6C6C6771}")


@pytest.mark.parametrize(
    ("make", "is_ours", "words"),
    [
        (make_foreign, False, "database of another program; name another file"),
        (make_ledger, False, "database of another program; name another file"),
        (make_newer, True, "a newer version of llamagen-async wrote it (schema 99"),
        (make_text, False, "file is not a database; name another file"),
        (make_folder, False, "name a file, not a folder"),
    ],
)
async def test_another_file_is_refused_and_left_alone(
    tmp_path: Path, make: Callable[[Path], None], words: str, *, is_ours: bool
) -> None:
    path = tmp_path / "run.db"
    if is_ours:
        async with opened(path):
            pass
    make(path)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(JournalError) as caught:
        await Journal(path, ORIGIN).open()
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert (path.read_bytes() if path.is_file() else b"") == before


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        (AccountId.of("the-key", "https://other.example/v1"), "https://other.example/v1"),
        (AccountId.of("another-key", "https://api.example/v1"), "another API key"),
    ],
)
async def test_another_server_or_key_is_refused(
    tmp_path: Path, origin: AccountId, words: str
) -> None:
    """Ids mean nothing at another server. The key is in neither the message nor the file."""
    path = tmp_path / "run.db"
    async with opened(path) as journal:
        row = await changed(journal, await added(journal), BatchState.SENDING)
        await changed(journal, row, BatchState.RUNNING, generation=comic())
    with pytest.raises(JournalError, match=words) as caught:
        await Journal(path, origin).open()
    assert "the-key" not in str(caught.value)
    assert "another-key" not in str(caught.value)
    assert b"the-key" not in path.read_bytes()
    async with opened(path) as journal:
        assert (await journal.counts()) == {BatchState.RUNNING: 1}
