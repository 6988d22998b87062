"""The jobs of any number of hosts in Redis: each as a row, changed by one script.

A `Lifecycle` writes each step of a job here as it writes those of a batch to a journal. Whoever
works at a job holds its lease, and that it is about to be sent is written only by who holds it: so
a task that is delivered twice, or whose worker was thought to be dead, sends nothing.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import attrs

from llamagen_async.batch.journal.codec import AccountId, Row, dump_error, dump_generation
from llamagen_async.batch.journal.schema import same_story
from llamagen_async.batch.journal.story import Story
from llamagen_async.errors import (
    InvalidRequestError,
    JournalError,
    LlamaGenError,
    SubmissionUncertainError,
)
from llamagen_async.models import AnyGeneration, BatchState
from llamagen_async.taskiq.rows import (
    Claimed,
    Kick,
    Outcome,
    TakenOverError,
    TurnsInRedis,
    load_reason,
    row_of,
)
from llamagen_async.taskiq.script import LONG, SHORT, JobScript

__all__ = ["RedisJobs"]


class RedisJobs:
    """All jobs under one prefix of a Redis; for one event loop.

    Args:
        url: The server's URL.
        prefix: The beginning of the names of all its keys.
        lease: Real seconds after which a worker that says nothing is taken for dead.
        timeout: Real seconds for which a change may be at work that nobody knows more of.
        fetches: Whether pictures are fetched.
        forget_after: Real seconds after its end at which a job is forgotten; `None` for never.

    Raises:
        InvalidRequestError: The URL is not valid, or redis-py is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str,
        lease: float,
        timeout: float,
        fetches: bool,
        forget_after: float | None = None,
    ) -> None:
        common = {"lease": lease, "timeout": timeout, "fetch": fetches, "forget": forget_after or 0}
        self._script = JobScript(url, prefix, common)
        self._prefix = prefix
        self._tokens: dict[str, str] = {}
        """The leases that are held here, by the job's key."""
        self._queued: dict[str, Row] = {}
        """The jobs that are held here and not sent."""
        self._epoch = math.inf
        """The time of the event loop's clock at the beginning of Redis's."""
        self.kicks: list[Kick] = []
        """Jobs whose tasks are to be sent, because of what was changed."""

    @property
    def address(self) -> str:
        """The server's address, without a password."""
        return self._script.address

    async def aclose(self) -> None:
        """Do nothing: the queue that reads the jobs closes the connections when it ends."""

    async def disconnect(self) -> None:
        """Close the connections."""
        await self._script.close()

    @property
    def has_changes(self) -> bool:
        """Whether any job changes a comic: other hosts may have submitted some."""
        return True

    @property
    def held(self) -> tuple[str, ...]:
        """The keys of the jobs whose leases are held here."""
        return tuple(self._tokens)

    async def bind(self, account: AccountId) -> None:
        """Make sure that the jobs are those of an account.

        Raises:
            JournalError: They are another one's.
        """
        _, bound, _ = await self._script.call("bind", attrs.asdict(account))
        base_url, hashed = (one.decode() for one in bound)
        where = f"the jobs under {self._prefix!r} in Redis at {self.address}"
        if base_url != account.base_url:
            raise JournalError(
                f"{where} are for {base_url}, and this client talks to {account.base_url}; use "
                "another prefix"
            )
        if hashed != account.account:
            raise JournalError(f"{where} are of another API key; use that key or another prefix")

    async def add(self, story: Story, *, key: str, task: str, urgent: bool = False) -> Row:
        """Take a job in, unless it is there, and return its row.

        Args:
            story: What is to be made.
            key: The job's name if the user has none for it.
            task: The id of its task.
            urgent: Whether somebody waits for it interactively.

        Raises:
            InvalidRequestError: Another job has that key, or there is no comic that it can change.
            JournalError: It could not be recorded.
        """
        name = story.key or key
        word, flat, kicks = await self._script.call(
            "add",
            {
                "key": name,
                "digest": story.digest.hex(),
                "request": story.text,
                "type": story.type.value,
                "of": story.of or "",
                "target": story.target or "",
                "urgent": str(int(urgent)),
                "task": task,
            },
        )
        refused = {
            "no comic": "the key of a job",
            "an animation": "a comic's; this is an animation's",
            "failed": "the key of a job that has not failed",
        }
        if word in refused:
            raise InvalidRequestError("of", story.of, refused[word])
        self.kicks += kicks
        return same_story(row_of(flat), story)

    async def get(self, key: str) -> Row | None:
        """Return the job of a key."""
        return await self._row("get", {"key": key})

    async def find(self, *, generation_id: str) -> Row | None:
        """Return the job that was answered with an id."""
        return await self._row("find", {"gid": generation_id})

    async def newest(self, generation_id: str, *, failed: bool = False) -> Row | None:
        """Return the job that says how a comic was last seen to end."""
        return await self._row("newest", {"gid": generation_id, "failed": failed})

    async def newest_first(
        self, states: Sequence[BatchState], before: int | None, limit: int
    ) -> list[Row]:
        """Return the newest jobs that are in these states, if there are any, and older than one."""
        words = [state.value for state in states]
        number = "" if before is None else str(before)
        asked = {"states": words, "before": number, "limit": limit}
        _, rows, _ = await self._script.call("list", asked)
        return [row_of(flat) for flat in rows]

    async def turns(self, keys: Sequence[str] = ()) -> TurnsInRedis:
        """Return where jobs stand that are queued."""
        word, places, since, held = await self._script.call("turns", {"keys": list(keys)})
        found = zip(keys, (one.decode() for one in places), strict=True)
        return TurnsInRedis(
            int(word),
            {key: int(place) + 1 for key, place in found if place.isdecimal()},
            tuple(float(one) for one in since if one),
            load_reason(held),
        )

    async def claim(self, key: str, token: str) -> Claimed:
        """Take the lease of a job that is to be worked at, if nobody alive has it."""
        asked = {"key": key, "token": token}
        word, flat, kicks, *now = await self._script.call("claim", asked, wait=LONG)
        self.kicks += kicks
        if now:
            # The least is the best known: answers take their time.
            self._epoch = min(self._epoch, asyncio.get_running_loop().time() - float(now[0]))
        row = row_of(flat, self._epoch) if flat else None
        if word == "mine" and row is not None:
            self._tokens[key] = token
            self._keep(row)
        return Claimed(cast("Outcome", word), row)

    async def renew(self) -> list[str]:
        """Renew all leases that are held here; return the keys of those that are not any more."""
        jobs = list(self._tokens.items())
        if not jobs:
            return []
        _, lost, _ = await self._script.call("renew", {"jobs": jobs}, wait=0.0)
        return [key.decode() for key in lost]

    async def release(self, key: str) -> None:
        """Give a lease back: if the job is not at its end, another worker may go on with it."""
        self._queued.pop(key, None)
        token = self._tokens.pop(key, "")
        if token:
            await self._script.call("release", {"key": key, "token": token}, wait=LONG)

    async def sweep(self) -> None:
        """Take the leases of dead workers, and find jobs whose tasks are to be sent again."""
        _, _, kicks = await self._script.call("sweep", {}, wait=0.0)
        self.kicks += kicks

    async def kicked(self, keys: Sequence[str]) -> None:
        """Remember that tasks were sent for jobs."""
        await self._script.call("kicked", {"keys": list(keys)})

    async def cancel(self, key: str, error: LlamaGenError) -> Row | None:
        """Cancel a job that is queued."""
        return await self._row("cancel", {"key": key, "error": dump_error(error)})

    async def resend(self, key: str) -> Row | None:
        """Queue an uncertain job again."""
        return await self._row("resend", {"key": key})

    async def again(self, key: str) -> Row | None:
        """Go on with a job that was given up."""
        return await self._row("again", {"key": key})

    async def hold(self, error: LlamaGenError | None, seconds: float = 1.0) -> None:
        """Tell all hosts why nothing is sent for a while, or that it is again."""
        text = "" if error is None else dump_error(error)
        await self._script.call(
            "hold", {"error": text, "seconds": max(1, round(seconds))}, wait=0.0
        )

    async def waiting(self, *, urgent: bool, limit: int, since: float = 0.0) -> list[Row]:
        """Return the jobs that are held here and can be sent; `since` is for journals."""
        del since
        rows = [row for row in self._queued.values() if row.urgent is urgent]
        return sorted(rows, key=lambda row: row.id)[:limit]

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
        """Write how far a job has come, if it is in one of `origins`, and return its row then.

        What came of a request is written as soon as Redis is there, whoever has the lease: what
        the server has said is worth more than what was feared.

        Raises:
            JournalError: It could not be written.
            TakenOverError: It was to be sent, and its lease is another worker's.
            SubmissionUncertainError: The generation is another job's.
        """
        asked = {
            "key": row.key,
            "token": self._tokens.get(row.key, ""),
            "state": state.value,
            "origins": [one.value for one in origins],
            "gid": generation.id if generation else "",
            "generation": dump_generation(generation) if generation else "",
            "error": dump_error(error) if error else "",
            "files": "" if files is None else json.dumps(list(files)),
            "credits": "" if credits_ is None else repr(float(credits_)),
        }
        news = f"{row.key} is {state}" + (f" as generation {generation.id}" if generation else "")
        wait = SHORT if state is BatchState.SENDING else LONG
        word, flat, kicks = await self._script.call("change", asked, wait=wait, news=news)
        self.kicks += kicks
        if word == "gone":
            raise self.gone(row.key)
        if word == "lost":
            raise TakenOverError(f"{row.key!r} is worked at by another worker; nothing was sent")
        if word == "second":
            reason = f"the server answered with generation {asked['gid']}, which is the comic of "
            raise SubmissionUncertainError(None, reason + repr(flat[0].decode()))
        changed = row_of(flat, self._epoch)
        self._keep(changed)
        return changed

    async def progress(self, key: str, generation: AnyGeneration) -> None:
        """Write how far the comic of a job that is held here is drawn, for those who follow it."""
        asked = {"key": key, "token": self._tokens.get(key, "")}
        asked["generation"] = dump_generation(generation)
        await self._script.call("progress", asked, wait=0.0)

    @property
    def is_lasting(self) -> bool:
        """Redis keeps it."""
        return True

    @property
    def worker(self) -> str | None:
        """No name: leases are kept in Redis, not in rows."""
        return None

    async def give_back(self) -> None:
        """Nothing is handed over here: each task gives its own lease back."""

    async def let_go(self, row: Row, error: BaseException | None) -> None:
        """Nothing is noted: the engine knows whose tasks have ended."""

    async def forget(self, row: Row) -> None:
        """Keep the row: a key stays the name of its job."""

    async def uploaded(self, digest: str, since: float) -> str | None:
        """Return the URL of a content that was uploaded after a unix time; see `UploadStore`."""
        word, _, _ = await self._script.call("uploaded", {"digest": digest})
        at, _, url = word.partition(" ")
        return url if at and float(at) >= since else None

    async def keep_upload(self, digest: str, url: str, at: float) -> None:
        """Remember the URL of a content, uploaded at a unix time."""
        await self._script.call("upload", {"digest": digest, "value": f"{at} {url}"})

    async def durability(self) -> tuple[bool, str]:
        """Return whether Redis keeps each write, and what it does with keys if memory is short."""
        persistence: dict[str, Any] = await self._script.execute("INFO", "persistence")
        memory: dict[str, Any] = await self._script.execute("INFO", "memory")
        return bool(persistence.get("aof_enabled")), str(memory.get("maxmemory_policy", ""))

    def gone(self, key: str) -> JournalError:
        """Return the error that says that a job was in Redis and is not any more."""
        return JournalError(f"{key!r} is gone from Redis at {self.address}")

    def _keep(self, row: Row) -> None:
        if row.state is BatchState.QUEUED and row.key in self._tokens:
            self._queued[row.key] = row
        else:
            self._queued.pop(row.key, None)

    async def _row(self, verb: str, asked: Mapping[str, Any]) -> Row | None:
        _, flat, kicks = await self._script.call(verb, asked)
        self.kicks += kicks
        return row_of(flat) if flat else None
