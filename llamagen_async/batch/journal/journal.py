"""The journal: each story of a batch, how far it has come, and the server's id for it, on disk.

A request's intent is written before it is sent, and the generation's id before anything else is
done with it. So the next run knows of each story whether it was paid for, or that nobody can know.
Nothing here sends anything, and no API key is ever written.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

from llamagen_async.batch.journal.codec import AccountId, Row
from llamagen_async.batch.journal.database import Database, SetAsideError
from llamagen_async.batch.journal.evidence import accepted_in
from llamagen_async.batch.journal.opening import take_in, verify
from llamagen_async.batch.journal.reading import JournalReader
from llamagen_async.batch.journal.reserve import receipt_of
from llamagen_async.batch.journal.schema import (
    INSERT,
    UPDATE,
    bind,
    bound_to,
    derived_key,
    forget,
    is_edited,
    keep_url,
    prepare,
    refuse_second,
    renew,
    same_story,
    spent_in,
    update_values,
    uploaded_url,
)
from llamagen_async.batch.journal.story import Story
from llamagen_async.batch.journal.targets import (
    WAITING,
    aim,
    check_target,
    has_changes,
)
from llamagen_async.batch.journal.workers import forget_all
from llamagen_async.errors import JournalError
from llamagen_async.models import AnyGeneration, BatchState
from llamagen_async.observing import about, logger_of
from llamagen_async.validation import checked_path

__all__ = ["Journal"]

_logger = logger_of(__name__)


class Journal(JournalReader):
    """All stories of one key at one server, and what became of them; for one event loop.

    Args:
        path: The file; `None` keeps nothing beyond the life of this object.
        account: The account whose generations it holds, from the first one that is accepted on.
        out: The folder of the pictures, in which there may be results of earlier runs.
        start_over: Go on with a journal that does not know what the files beside it know.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        account: AccountId,
        *,
        out: str | os.PathLike[str] | None = None,
        start_over: bool = False,
    ) -> None:
        file = None if path is None else checked_path("journal", path)
        self.worker: str | None = self._name_of_worker(file)
        """The name of one of several workers that share it; `None` if it has one owner."""
        database = Database(
            file,
            partial(prepare, file),
            account,
            start_over=start_over,
            worker=self.worker or "",
        )
        super().__init__(file, database)
        self._account = account
        self._out = None if out is None else checked_path("out", out)
        self.spent: float = 0.0
        """Credits that all its stories had cost when it was opened, as far as it is known."""
        self._start_over = start_over
        self._sending: set[int] = set()
        """Rows that are being sent: for each there has to be room in the reserve."""
        self.has_changes: bool = False
        """Whether any story in it changes a comic."""
        self._is_bound = False
        self._is_open = False
        self._stays_open = False

    async def __aenter__(self) -> Self:
        """Open the journal until this is left, whatever works with it and closes it meanwhile."""
        await self.open()
        self._stays_open = True
        return self

    async def __aexit__(self, *_exception: object) -> None:
        self._stays_open = False
        await self.aclose()

    async def open(self) -> None:
        """Open the journal as its only owner; what was being sent in a crash is uncertain now.

        A journal that is open begins anew, as if it had been closed.

        Raises:
            JournalError: The file can't be opened, somebody else works with it, it is about
                another server or key, or it is not the one that the files beside it know.
        """
        is_first = not self._is_open
        try:
            if is_first:
                await self._database.open()
            await self._database.run(partial(self._begin, is_first=is_first), write=True)
            self._rows.behind.clear()
            if not is_first:
                await self._database.apart(self._database.shrink)
            reserve = self._database.reserve
            if reserve is not None and (reserve.receipts or reserve.left):
                await self._database.apart(reserve.clear)
            if self._start_over:
                await self._count_accepted()
        except BaseException:  # also of who is cancelled: it is opened all the same
            if is_first:
                await self._database.aclose()
            raise
        self._is_open = True

    async def give_back(self) -> None:
        """Let others go on with what was accepted, if the journal is shared."""

    async def let_go(self, row: Row, error: BaseException | None) -> None:
        """Note that nothing more is done for a story until somebody asks, and why."""

    async def aclose(self) -> None:
        """Finish what is being written, and let go. Closing twice is fine."""
        if self._stays_open:
            return
        try:
            if self._is_open:
                self._is_open = False
                with contextlib.suppress(JournalError):
                    await self._count_accepted()
        finally:  # who is cancelled while it counts has to let go, too
            await self._database.aclose()

    async def _count_accepted(self) -> None:
        """Have the lock remember how many accepted comics the journal has."""
        lock = self._database.lock
        if lock is not None:
            await self._database.apart(partial(lock.count, await self.ask(accepted_in)))

    async def add(
        self,
        story: Story,
        *,
        key: str | None = None,
        urgent: bool = False,
        position: int | None = None,
        is_last: bool = False,
        edit: bool = False,
    ) -> tuple[Row, bool]:
        """Take a story in, unless it is there; then only its label and position are replaced.

        Args:
            story: The story.
            key: The story's name if the user has none for it. Without it, the name is made of the
                content and of how many of the same content have come since the journal was opened.
            urgent: Whether somebody waits for it interactively.
            position: The story's number in the input, from 0.
            is_last: Whether the story whose comic it changes has to be there already.
            edit: Whether it takes the place of another one with its key that was never sent.

        Returns:
            Its row, and whether it is new.

        Raises:
            InvalidRequestError: Another story has that key, or there is no comic that it can
                change.
            JournalError: The story could not be recorded.
        """
        stands = {"label": story.label, "position": position}
        add = partial(self._add, story, key, stands, urgent=urgent, is_last=is_last, edit=edit)
        return await self._database.run(add, write=True)

    async def seek(self, story: Story, *, edit: bool = False) -> Row | None:
        """Return the row that `add` finds, and add nothing."""
        # The story is counted, but not in the file.
        return await self._database.run(partial(self._seek, story, edit=edit), write=False)

    async def waiting(self, *, urgent: bool, limit: int, since: float = 0.0) -> list[Row]:
        """Return the first stories that can be sent.

        Args:
            urgent: Whether somebody waits for them interactively.
            limit: How many, at most.
            since: The Unix time from which on an uncertain change may still be at work.
        """
        for row in [row for row in self._rows.behind.values() if row.state is BatchState.QUEUED]:
            await self.change(row, BatchState.QUEUED, origins=(BatchState.QUEUED,))
        values = {"urgent": urgent, "limit": limit, "since": since}
        return await self._database.run(partial(self._rows.select, WAITING, values), write=False)

    async def change(
        self,
        row: Row,
        state: BatchState,
        *,
        origins: Sequence[BatchState],
        generation: AnyGeneration | None = None,
        error: BaseException | None = None,
        files: Sequence[str] | None = None,
        credits_: float | None = None,
    ) -> Row:
        """Write how far a story has come, if it is in one of `origins`.

        Args:
            row: The story.
            state: The story's new state.
            origins: The states it may be in now: a step that is told too late changes nothing.
            generation: The server's answer about the comic.
            error: The reason why it failed.
            files: The comic's pictures, relative to the output folder.
            credits_: What it costs: estimated before it is sent, or as the server has said.

        Returns:
            The row as it is now.

        Raises:
            JournalError: The change could not be recorded, and nothing keeps it but this object.
            SubmissionUncertainError: The generation is another story's.
        """
        values = update_values(row.id, state, generation, error, files, credits_)
        values["tried"] = row.attempts
        change = partial(self._change, frozenset(origins), values)
        receipt = receipt_of(row, state, generation, origins)
        try:
            changed = await self._database.run(change, write=True, receipt=receipt)
        except JournalError as failure:
            if state is BatchState.SENDING:
                raise
            behind = self._rows.behind.get(row.id, row).changed(state, values)
            is_news = row.id not in self._rows.behind
            self._rows.behind[row.id] = behind
            if not isinstance(failure, SetAsideError):
                raise
            if is_news:
                known = about(generation_id=behind.generation_id, job_key=row.key)
                text = "%s is %s (%s): %s"
                _logger.warning(text, row.key, state, behind.generation_id, failure, extra=known)
            return behind
        self._rows.behind.pop(row.id, None)
        if generation is not None and not self._is_bound:
            self._is_bound = True
            await self._count_accepted()
        return changed

    async def forget(self, row: Row) -> None:
        """Remove a story's row."""
        await self._database.run(partial(forget, row.id), write=True)

    async def uploaded(self, digest: str, since: float) -> str | None:
        """Return the URL of a content that was uploaded after a unix time; see `UploadStore`."""
        return await self._database.run(partial(uploaded_url, digest, since), write=False)

    async def keep_upload(self, digest: str, url: str, at: float) -> None:
        """Remember the URL of a content, uploaded at a unix time."""
        await self._database.run(partial(keep_url, digest, url, at), write=True)

    def _name_of_worker(self, path: Path | None) -> str | None:  # noqa: ARG002  # see below it
        return None

    # What follows runs inside a transaction.

    def _clear_away(self, connection: sqlite3.Connection) -> None:
        """Forget the workers of queues: an owner is alone."""
        forget_all(connection)

    def _begin(self, connection: sqlite3.Connection, *, is_first: bool) -> None:
        for row in self._rows.behind.values():
            connection.execute(UPDATE, row.values())
        database = self._database
        receipts = database.receipts
        if not is_first and database.reserve:
            receipts = database.reserve.receipts
        self._clear_away(connection)
        # First: what is in the reserve is not unknown.
        take_in(receipts, self._account, connection)
        if is_first and database.path and database.lock:
            folders = [database.path.parent, *([self._out] if self._out else [])]
            verify(
                database.path,
                self._account,
                connection,
                receipts=receipts,
                counted=database.lock.accepted,
                folders=folders,
                start_over=self._start_over,
            )
        self._is_bound = bool(bound_to(connection))
        self.spent = spent_in(connection)
        self.has_changes = has_changes(connection)
        self._sending.clear()
        connection.execute("DELETE FROM seen")

    def _add(
        self,
        story: Story,
        key: str | None,
        stands: dict[str, Any],
        connection: sqlite3.Connection,
        *,
        urgent: bool,
        is_last: bool,
        edit: bool,
    ) -> tuple[Row, bool]:
        name = story.key or key or derived_key(story, connection)
        row = self._rows.of_key(name, connection)
        is_gone = edit and is_edited(row, story, connection)
        if row is not None and not is_gone:
            if renew(same_story(row, story), story, stands, connection):
                (row,) = self._rows.select("WHERE id = ?", (row.id,), connection)
            return row, False
        if row is not None:
            forget(row.id, connection)
        target = check_target(name, story, self._rows, connection, is_last=is_last)
        self.has_changes = self.has_changes or story.type.is_change
        values = {
            "key": name,
            "digest": story.digest,
            "request": story.text,
            "type": story.type.value,
            "of": story.of,
            "target": story.target,
            "urgent": urgent,
            **stands,
            "now": time.time(),
        }
        connection.execute(INSERT, values)
        if target is not None:
            aim(target, connection)
        (added,) = self._rows.select("WHERE key = ?", (name,), connection)
        return added, True

    def _seek(self, story: Story, connection: sqlite3.Connection, *, edit: bool) -> Row | None:
        row = self._rows.of_key(story.key or derived_key(story, connection), connection)
        is_gone = edit and is_edited(row, story, connection)
        return None if row is None or is_gone else same_story(row, story)

    def _change(
        self,
        origins: frozenset[BatchState],
        values: dict[str, Any],
        connection: sqlite3.Connection,
    ) -> Row:
        rows = self._rows.select("WHERE id = ?", (values["id"],), connection)
        if not rows:
            raise JournalError(f"{self._database.path}: a story is gone from it")
        if rows[0].state not in origins:
            return rows[0]
        is_new = values["generation_id"] is not None and rows[0].generation_id is None
        # A change is answered with the id of the comic that it changes.
        if is_new and values["generation_id"] != rows[0].target:
            refuse_second(values, connection)
        self._make_room(values)
        if behind := self._rows.behind.get(values["id"]):
            known = {
                "generation_id": behind.generation_id,
                "generation": behind.generation_text,
                "files": behind.files_text,
                "credits": behind.credits,
            }
            for name, value in known.items():
                values[name] = value if values[name] is None else values[name]
        connection.execute(UPDATE, values)
        if values["generation_id"] and not self._is_bound:
            bind(connection, self._account)
        (row,) = self._rows.read("WHERE id = ?", (values["id"],), connection)
        aim(row, connection)
        return row

    def _make_room(self, values: Mapping[str, Any]) -> None:
        """Have room in the reserve for the id of each create that is on its way."""
        reserve = self._database.reserve
        if values["state"] != BatchState.SENDING:
            self._sending.discard(values["id"])
        elif reserve is not None:
            self._sending.add(values["id"])
            reserve.ensure(len(self._sending))
