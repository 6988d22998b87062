"""The store of spent requests: whether it can be used, and how a Redis server keeps what it has."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final, cast

import attrs

from llamagen_async.errors import InvalidRequestError
from llamagen_async.quota import MEMORY, shown_quota
from llamagen_async.ratelimit.stores import prove_store
from llamagen_async.stored_values import StoreError

__all__ = ["RedisFacts", "StoreFacts", "examine_store"]

_TIMEOUT: Final = 5.0
"""Real seconds that a store may take to answer (chosen)."""


@attrs.frozen
class RedisFacts:
    """A Redis server, as it describes itself; `None` is what it does not tell."""

    version: str | None = None
    """Version of the server."""
    ping: float | None = None
    """Seconds until it answered."""
    ahead: float | None = None
    """Seconds by which its clock is ahead of this machine's."""
    has_log: bool | None = None
    """Whether it writes each change into a file (`appendonly yes`)."""
    policy: str | None = None
    """The policy for a memory that is full (`maxmemory-policy`)."""


@attrs.frozen
class StoreFacts:
    """A store of spent requests."""

    shown: str
    """Path or URL, without a password."""
    is_memory: bool = False
    """Whether it is the memory of one process."""
    error: str | None = None
    """The reason for which it can't be used."""
    redis: RedisFacts | None = None
    """The server, if it is one of Redis."""


async def examine_store(quota: str) -> StoreFacts:
    """Try a store. Nothing is counted.

    Args:
        quota: Its URL, or `MEMORY`.
    """
    if quota == MEMORY:
        return StoreFacts(shown_quota(quota), is_memory=True)
    try:
        async with asyncio.timeout(_TIMEOUT):
            await prove_store(quota)
            facts = None if quota.startswith("sqlite:") else await _examine_redis(quota)
    except InvalidRequestError as error:
        return StoreFacts("what was given", error=f"allowed is {error.allowed}")
    except TimeoutError:
        return StoreFacts(shown_quota(quota), error=f"no answer within {_TIMEOUT:g} s")
    except (StoreError, OSError) as error:
        return StoreFacts(shown_quota(quota), error=str(error))
    return StoreFacts(shown_quota(quota), redis=facts)


async def _examine_redis(quota: str) -> RedisFacts:
    from llamagen_async.redis_server import RedisConnection  # noqa: PLC0415  # extra

    connection = RedisConnection(quota, b"return 1")
    try:
        began = time.perf_counter()
        await connection.execute("PING")
        ping = time.perf_counter() - began
        return RedisFacts(
            version=(await _info(connection, "server")).get("redis_version"),
            ping=ping,
            ahead=await _ahead(connection),
            has_log=_flag((await _info(connection, "persistence")).get("aof_enabled")),
            policy=(await _info(connection, "memory")).get("maxmemory_policy"),
        )
    finally:
        await connection.close()


async def _info(connection: Any, section: str) -> dict[str, str]:
    """Return what a server says of itself; nothing, if this user may not ask."""
    try:
        answer: object = await connection.execute("INFO", section)
    except StoreError:
        return {}
    if isinstance(answer, Mapping):  # newer versions of redis-py have read it already
        told = cast("Mapping[object, object]", answer)
        return {str(name): str(value) for name, value in told.items()}
    text = answer.decode(errors="replace") if isinstance(answer, bytes) else str(answer)
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, _, value in pairs}


async def _ahead(connection: Any) -> float | None:
    before = time.time()
    try:
        seconds, micros = map(int, await connection.execute("TIME"))
    except (StoreError, TypeError, ValueError):
        return None
    return seconds + micros / 1_000_000 - (before + time.time()) / 2


def _flag(text: str | None) -> bool | None:
    return None if text is None else text == "1"
