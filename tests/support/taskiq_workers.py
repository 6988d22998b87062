"""The app of the tests with real workers: `taskiq worker tests.support.taskiq_workers:broker`."""

from __future__ import annotations

import os

import redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from llamagen_async import LlamaGenClient
from llamagen_async.taskiq import register

__all__ = ["broker", "comics"]

URL = os.environ["REDIS_URL"]
retry = Retry(ExponentialBackoff(cap=0.5, base=0.05), 60)  # type: ignore[no-untyped-call]  # theirs
errors = [redis.ConnectionError, redis.TimeoutError]
# Each task that takes longer than this is delivered again.
broker = RedisStreamBroker(
    URL,
    idle_timeout=1_000,
    xread_block=200,
    unacknowledged_lock_timeout=5.0,
    retry=retry,
    retry_on_error=errors,
)
broker.result_backend = RedisAsyncResultBackend(URL, retry=retry, retry_on_error=errors)
client = LlamaGenClient(quota=URL, timeout=3.0)
# At the speed of the tests a second is minutes of the server's clock.
comics = register(broker, client, lease=3.0, timeout=360_000.0)
