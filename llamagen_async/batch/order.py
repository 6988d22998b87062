"""The order of a batch's changes: after their comic, one at a time, as they stand in the input.

What waits is not in memory but for its number: the stories that it waits for may come much later.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import Final

import attrs

from llamagen_async.batch.journal.codec import Row
from llamagen_async.batch.journal.reading import JournalReader
from llamagen_async.batch.lifecycle import Lifecycle
from llamagen_async.batch.task import BatchTask
from llamagen_async.errors import InvalidRequestError, LlamaGenError
from llamagen_async.models import BatchState
from llamagen_async.requests import RequestType

__all__ = ["ChangeOrder", "waits_for"]

_ENDED: Final = (BatchState.SUCCEEDED, BatchState.FAILED, BatchState.CANCELLED)
"""States after which the next change of a comic may be sent."""
_WORDS: Final = {
    BatchState.QUEUED: "which was not sent",
    BatchState.SENDING: "which is on its way",
    BatchState.RUNNING: "which has not ended",
    BatchState.CANCELLED: "which was cancelled",
    BatchState.UNCERTAIN: "of which nobody knows whether it was accepted",
}


@attrs.frozen
class _Name:
    """The name of what a change waits for: another story's key, or a comic's id."""

    key: str | None = None
    target: str | None = None


class ChangeOrder:
    """The changes of one run that wait.

    Args:
        journal: The journal that has them.
        lifecycle: The stories that are being worked at.
    """

    def __init__(self, journal: JournalReader, lifecycle: Lifecycle) -> None:
        self._journal = journal
        self._lifecycle = lifecycle
        self._parked: dict[int, list[int]] = {}
        """The positions of each change that waits, by the number of its row."""
        self._behind: dict[_Name, deque[int]] = {}
        """The changes that wait, by what they wait for, in the order in which they came."""
        self._busy: dict[str, int] = {}
        """The row of the change that is at work, by the comic's id."""
        self._blocked: dict[str, LlamaGenError] = {}
        """Why no further change of a comic is sent in this run, by the comic's id."""
        self._ends = 0
        """How many stories have ended."""
        self.size: int = 0
        """How many positions of the input wait."""

    def __bool__(self) -> bool:
        return bool(self._parked)

    def add_position(self, row: Row, position: int) -> bool:
        """Note a further position of a change that waits; return whether it is one."""
        if row.id not in self._parked:
            return False
        self._parked[row.id].append(position)
        self.size += 1
        return True

    async def admit(
        self, task: BatchTask, *, is_last: bool = False, has_turn: bool = False
    ) -> bool:
        """Return whether a story may be started now; if not, it is kept until `next_ready`.

        A change that can't be sent may be started, too: it is given the reason, and ends with it.

        Args:
            task: The story.
            is_last: Whether no further story is to come, and none is at work.
            has_turn: Whether it is the first of those that wait.
        """
        if not task.row.type.is_change or task.state is not BatchState.QUEUED:
            self._begin(task)
            return True
        if self._lifecycle.halted is None:
            found = await self._obstacle(task.row, is_last=is_last, has_turn=has_turn)
            if isinstance(found, _Name):
                self._behind.setdefault(found, deque()).append(task.row.id)
                self._parked[task.row.id] = task.positions
                self.size += len(task.positions)
                return False
            task.held_by = found
        self._begin(task)
        return True

    async def released_by(self, task: BatchTask) -> list[BatchTask]:
        """Return the changes that may be started now, as a story has ended."""
        self._ends += 1
        row, target = task.row, task.row.target
        ready = await self._ready(_Name(key=row.key), is_last=False)
        if target is not None and self._busy.get(target) == row.id:
            del self._busy[target]
            if task.state not in _ENDED:
                self._blocked[target] = waits_for(row.key, task.state)
            ready += await self._ready(_Name(target=target), is_last=False)
        return ready

    async def leftover(self) -> list[BatchTask]:
        """Return changes that wait for what does not come, each with the reason."""
        ready: list[BatchTask] = []
        for name in list(self._behind):
            ready += await self._ready(name, is_last=True)
        if not ready:  # they wait for each other: a journal that was tampered with
            for id_, positions in list(self._parked.items()):
                task = await self._taken(id_, positions)
                task.held_by = LlamaGenError(f"{task.row.key!r} waits for itself")
                ready.append(task)
            self._behind.clear()
        return ready

    def forget(self) -> Iterator[int]:
        """Yield the positions that wait, and let go of them."""
        for positions in self._parked.values():
            yield from positions
        self._parked.clear()
        self._behind.clear()
        self.size = 0

    def _begin(self, task: BatchTask) -> None:
        target = task.row.target
        if target is None or task.held_by is not None:
            return
        if task.state in (BatchState.QUEUED, BatchState.RUNNING):
            self._busy[target] = task.row.id
        elif task.state is BatchState.UNCERTAIN and self._may_be_at_work(task.row):
            self._blocked[target] = waits_for(task.row.key, task.state)

    async def _ready(self, name: _Name, *, is_last: bool) -> list[BatchTask]:
        """Take the changes that wait for something, as far as they may be started now."""
        waiting, ready = self._behind.get(name), list[BatchTask]()
        # It stays where it is meanwhile, so that no other goes before it.
        for _ in range(len(waiting or ())):
            if waiting is None or name.target in self._busy:
                return ready
            task = await self._taken(waiting[0], self._parked[waiting[0]])
            waiting.popleft()
            if await self.admit(task, is_last=is_last, has_turn=True):
                ready.append(task)
        if not waiting:
            self._behind.pop(name, None)
        return ready

    async def _taken(self, id_: int, positions: list[int]) -> BatchTask:
        task = BatchTask.of(await self._journal.at(id_))
        del self._parked[id_]
        self.size -= len(positions)
        task.positions = positions
        return task

    async def _obstacle(
        self, row: Row, *, is_last: bool, has_turn: bool
    ) -> _Name | LlamaGenError | None:
        """Return what a change waits for, or why it can't be sent; `None` if it can."""
        of, target = await self._of(row), row.target
        if of is not None and of.type is RequestType.ANIMATION:
            field, value = ("id", row.target) if row.of is None else ("of", row.of)
            return InvalidRequestError(field, value, "a comic's; this is an animation's")
        if row.of is not None:
            if of is None or of.state is not BatchState.SUCCEEDED or self._is_here(of):
                return self._without(row.of, of, is_last=is_last)
        elif of is not None and of.id != row.id and not of.type.is_change:
            # A comic of this very input or journal, which is named by its id.
            if self._is_here(of):
                return _Name(key=of.key)
            if of.state is BatchState.RUNNING:
                return waits_for(of.key, of.state)
        if target is None:
            return LlamaGenError(f"{row.key!r} changes {row.of!r}, whose comic is not known")
        if (blocked := self._blocked.get(target)) is not None:
            return blocked
        names = [_Name(target=target), *([_Name(key=row.of)] if row.of else [])]
        if target in self._busy:
            return names[0]
        return None if has_turn else next(filter(self._behind.__contains__, names), None)

    async def _of(self, row: Row) -> Row | None:
        """Return the story whose comic a change changes, as it is now."""
        journal, ends = self._journal, -1
        of: Row | None = None
        while ends != self._ends:  # one that ends meanwhile looks for those that wait, only once
            ends = self._ends
            if row.of is not None:
                of = await journal.get(row.of)
            else:
                of = await journal.find(generation_id=row.target or "")
        return of

    def _without(self, key: str, of: Row | None, *, is_last: bool) -> _Name | LlamaGenError:
        """Return what a change waits for whose comic is not there, or why it waits no longer."""
        if of is not None and of.state in (BatchState.FAILED, BatchState.CANCELLED):
            return InvalidRequestError("of", key, "the key of a story that has not failed")
        if not is_last or (of is not None and self._is_here(of)):
            return _Name(key=key)
        if of is None:
            allowed = "the key of a story in the input or in the journal"
            return InvalidRequestError("of", key, allowed)
        return waits_for(key, of.state)

    def _is_here(self, row: Row) -> bool:
        return row.id in self._lifecycle.tasks or row.id in self._parked

    def _may_be_at_work(self, row: Row) -> bool:
        """Whether a change that may have been accepted could still be at work."""
        return time.time() - (row.sent_at or 0.0) < self._lifecycle.timeout


def waits_for(key: str, state: BatchState) -> LlamaGenError:
    """Return the error of a change that waits for a story."""
    return LlamaGenError(f"it waits for {key!r}, {_WORDS[state]}; nothing was sent")
