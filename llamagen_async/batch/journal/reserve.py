"""The reserve of a journal: room on the disk for ids that the journal itself has no room for.

A disk can fill up between a create and its answer. So room for a short receipt is taken before each
create is sent, in a file beside the journal that is written in place. What is noted there is taken
into the journal when it is opened again, and the file is gone when nothing is noted in it.

Each worker of a shared journal has a file of its own. Others read it once that worker is dead.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, Final

import attrs

from llamagen_async.batch.journal.codec import AccountId, Row
from llamagen_async.batch.journal.schema import check_account
from llamagen_async.models import AnyGeneration, BatchState

__all__ = ["RECEIPT_SIZE", "Receipt", "Reserve", "receipt_of"]

_SUFFIX: Final = "-ids"
RECEIPT_SIZE: Final = 256
"""Bytes that are kept free for each create: an id of 150 characters and what names its story."""
_DIGEST: Final = 16
"""Hex digits of a story's digest in a receipt: enough to tell it from any other in the journal."""
_STEP: Final = 16 * 1024
"""Bytes by which the file grows: room for 64 creates, more than a minute's of the paid plan."""


@attrs.frozen
class Receipt:
    """The outcome of a create that the journal could not be told."""

    row: int
    """The number of the story's row."""
    digest: str
    """The beginning of the hash of its content, in hex."""
    state: BatchState = attrs.field(converter=BatchState)
    """`RUNNING` if it was accepted, `QUEUED` if it was not."""
    id: str | None = None
    """The generation's id."""


class Reserve:
    """The reserve of one journal; for one thread at a time, which holds the journal's lock.

    Args:
        journal: The journal's file.
        account: The account whose generations are noted.
        worker: The worker whose reserve it is; empty for a journal with one owner.
    """

    def __init__(self, journal: Path, account: AccountId, worker: str = "") -> None:
        self._journal = journal
        self.path: Final = self._path_of(worker)
        self.account: AccountId = account
        """The account of the receipts: of an earlier program, if that has left any."""
        self.receipts: list[Receipt] = []
        """The receipts that are on disk."""
        self.left: list[Path] = []
        """The files of others whose receipts were read."""
        self._mine: Final = account
        self._file = -1
        self._size = 0
        self._end = 0

    def open(self) -> None:
        """Read what is noted, and take room.

        Raises:
            OSError: There is no room, or it is no file to write to.
        """
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
        self._file = os.open(self.path, flags, 0o600)
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            raise FileExistsError(f"{self.path} is no file")
        content = b""
        while some := os.read(self._file, _STEP):
            content += some
        self._size = len(content)
        self.account, self.receipts, self._end = _read(content, self._mine)
        self._grow(_STEP)

    def of_dead(self, workers: Iterable[str] | None = None) -> list[Receipt]:
        """Return what others have noted that are dead; their files are `left` from now on.

        Args:
            workers: Their names; `None` is everybody else who has ever worked with the journal.

        Raises:
            OSError: A file can't be read.
            JournalError: A file is of another account.
        """
        check_account(self.path, attrs.asdict(self.account), self._mine)
        if workers is None:
            prefix = self._path_of("").name
            files = [
                file
                for file in sorted(self._journal.parent.iterdir())
                if file.name == prefix or file.name.startswith(f"{prefix}-")
            ]
        else:
            files = [self._path_of(worker) for worker in workers]
        receipts: list[Receipt] = []
        for file in files:
            if file != self.path and file.is_file():
                account, found, _ = _read(file.read_bytes(), self._mine)
                if found:
                    check_account(file, attrs.asdict(account), self._mine)
                receipts += found
                self.left.append(file)
        return receipts

    def ensure(self, creates: int) -> None:
        """Have room for the receipts of so many creates, beside those that are there.

        Raises:
            OSError: There is no room.
        """
        self._grow(self._end + creates * RECEIPT_SIZE)

    def add(self, receipt: Receipt) -> None:
        """Write a receipt; it is on disk when this returns.

        Raises:
            OSError: It could not be written.
        """
        if receipt in self.receipts:
            return
        head = b"" if self.receipts else _line(attrs.asdict(self.account))
        content = head + _line(attrs.asdict(receipt))
        self._write(content + b"\0", self._end)
        self._end += len(content)
        self.receipts.append(receipt)

    def clear(self) -> None:
        """Forget all receipts: the journal has them.

        Raises:
            OSError: They are still there.
        """
        self.clear_left()
        if self.receipts:
            self._write(bytes(self._end), 0)
            self.receipts, self._end, self.account = [], 0, self._mine

    def clear_left(self) -> None:
        """Remove the files of others that were read: the journal has what they noted.

        Raises:
            OSError: They are still there.
        """
        while self.left:
            self.left[-1].unlink(missing_ok=True)
            self.left.pop()

    def close(self) -> None:
        """Let go of the file, and remove it if nothing is noted in it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            if not self._end:
                with contextlib.suppress(OSError):
                    self.path.unlink()

    def _path_of(self, worker: str) -> Path:
        suffix = f"{_SUFFIX}-{worker}" if worker else _SUFFIX
        return self._journal.with_name(self._journal.name + suffix)

    def _grow(self, size: int) -> None:
        """Have at least so many bytes on disk."""
        if size <= self._size:
            return
        size = -(-size // _STEP) * _STEP
        # Written and not only asked for: some file systems promise room that they do not have.
        self._write(bytes(size - self._size), self._size)
        self._size = size

    def _write(self, content: bytes, offset: int) -> None:
        os.lseek(self._file, offset, os.SEEK_SET)
        while content:
            content = content[os.write(self._file, content) :]
        os.fsync(self._file)


def receipt_of(
    row: Row,
    state: BatchState,
    generation: AnyGeneration | None,
    origins: Collection[BatchState],
) -> Receipt | None:
    """Return what has to be known of a change of a row even if the journal can't be written.

    An uncertain story that is queued again may have been accepted: who did not know better would
    forget what it may have cost.
    """
    digest = row.digest.hex()[:_DIGEST]
    if generation is not None:
        return Receipt(row.id, digest, BatchState.RUNNING, generation.id)
    is_unsent = state is BatchState.QUEUED and BatchState.SENDING in origins
    return Receipt(row.id, digest, state) if is_unsent else None


def _read(content: bytes, mine: AccountId) -> tuple[AccountId, list[Receipt], int]:
    """Return whose receipts a file has, the receipts, and where they end."""
    account, receipts, end = mine, list[Receipt](), 0
    lines = content.partition(b"\0")[0].splitlines(keepends=True)
    with contextlib.suppress(ValueError, TypeError, KeyError):  # the last line may be torn
        for number, line in enumerate(lines):
            fields: dict[str, Any] = json.loads(line)
            if number:
                receipts.append(Receipt(**fields))
            else:
                account = AccountId(**fields)
            end += len(line)
    return (account, receipts, end) if receipts else (mine, [], 0)


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
