"""Stores as they are found: a file, a Redis with and without a password, and none that answers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import redis

from llamagen_async.diagnosis import stores
from llamagen_async.diagnosis.findings import Level
from llamagen_async.diagnosis.stores import examine_store
from llamagen_async.diagnosis.surroundings import judge_store
from tests.support.redis_server import RedisServer


async def test_a_redis_describes_itself(redis_server: RedisServer) -> None:
    """Version, clock and persistence are told; whatever is left in it expires."""
    known = redis.Redis.from_url(redis_server.url)
    before = set(known.scan_iter())
    facts = (await examine_store(redis_server.url)).redis
    assert facts is not None
    assert facts.version
    assert facts.ping is not None
    assert facts.ahead == pytest.approx(0.0, abs=5)
    assert facts.has_log is False
    assert facts.policy == "noeviction"
    assert all(known.ttl(key) > 0 for key in known.scan_iter() if key not in before)
    known.close()


async def test_a_password_is_never_told(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, password="se/cret@word")
    try:
        wrong = server.url.replace("word", "other")
        for url in (server.url, wrong):
            facts = await examine_store(url)
            assert (facts.error is None) is (url == server.url)
            for part in ("cret", "word", "other@"):
                assert part not in str(facts).replace("the password", "")
    finally:
        server.stop()


async def test_a_user_who_may_not_ask_for_everything(own_redis_server: RedisServer) -> None:
    """A user of a shared server may evaluate a script and not see the settings."""
    own = redis.Redis.from_url(own_redis_server.url)
    rules = ("on", ">pass", "~*", "+@all", "-info", "-config")
    own.execute_command("ACL", "SETUSER", "joe", *rules)  # type: ignore[no-untyped-call]  # redis-py's
    own.close()
    facts = await examine_store(own_redis_server.url.replace("//", "//joe:pass@"))
    assert facts.error is None
    assert facts.redis is not None
    assert (facts.redis.version, facts.redis.has_log) == (None, None)
    assert facts.redis.ahead is not None
    assert judge_store(facts).level is Level.OK


async def test_a_redis_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The examination goes on after a moment."""
    monkeypatch.setattr(stores, "_TIMEOUT", 0.2)
    writers: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    facts = await examine_store(f"redis://joe:secret@127.0.0.1:{port}/0")
    for writer in writers:
        writer.close()
    silent.close()
    assert facts.error is not None
    assert "secret" not in str(facts)


async def test_a_file_is_tried(tmp_path: Path) -> None:
    assert (await examine_store(f"sqlite:///{tmp_path / 'new' / 'quota.db'}")).error is None
    (tmp_path / "text").write_text("no database at all, however long one looks", "utf-8")
    damaged = await examine_store(f"sqlite:///{tmp_path / 'text'}")
    assert damaged.error is not None
    told = judge_store(damaged)
    assert told.level is Level.PROBLEM
    assert told.text.count(str(tmp_path / "text")) == 1
