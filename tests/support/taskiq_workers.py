"""The app of the tests with real workers: `taskiq worker tests.support.taskiq_workers:broker`.

`uvicorn tests.support.taskiq_workers:app` takes the orders and tells of them.
"""

from __future__ import annotations

import os
from typing import Any

import redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from taskiq import TaskiqMessage, TaskiqMiddleware
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from llamagen_async import LlamaGenClient
from llamagen_async.taskiq import register
from llamagen_async.web import create_app

__all__ = ["app", "broker", "comics"]


URL = os.environ["REDIS_URL"]
retry = Retry(ExponentialBackoff(cap=0.5, base=0.05), 60)
errors = [redis.ConnectionError, redis.TimeoutError]


class Takers(TaskiqMiddleware):
    """Notes in Redis, for the test, which process is the first to be given each task."""

    def __init__(self) -> None:
        super().__init__()
        self._redis: Any = redis.asyncio.Redis.from_url(URL, retry=retry, retry_on_error=errors)

    async def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        await self._redis.hsetnx("takers", message.kwargs["key"], os.getpid())
        return message


# Each task that takes longer than this is delivered again.
broker = RedisStreamBroker(
    URL,
    idle_timeout=1_000,
    xread_block=200,
    unacknowledged_lock_timeout=5.0,
    retry=retry,
    retry_on_error=errors,
)
broker.add_middlewares(Takers())
broker.result_backend = RedisAsyncResultBackend(URL, retry=retry, retry_on_error=errors)
client = LlamaGenClient(quota=URL, timeout=3.0)
# At the speed of the tests a second is minutes of the server's clock.
comics = register(broker, client, lease=3.0, timeout=360_000.0)
app = create_app(client, queue=comics)
