"""Comics on any number of hosts: web processes take orders, taskiq workers make the comics.

pip install 'llamagen-async[taskiq,web]'
taskiq worker taskiq_app:broker --workers 2 --wait-tasks-timeout 10
uvicorn taskiq_app:app --workers 2
"""

import os

import redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from llamagen_async import LlamaGenClient
from llamagen_async.taskiq import register
from llamagen_async.web import create_app

REDIS = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
# A Redis that restarts is waited for, so that no worker ends in the midst of a create.
PATIENT = {"retry": Retry(ExponentialBackoff(cap=2, base=0.05), 60)}
PATIENT["retry_on_error"] = [redis.ConnectionError, redis.TimeoutError]

broker = RedisStreamBroker(REDIS, unacknowledged_lock_timeout=30, **PATIENT)
broker.result_backend = RedisAsyncResultBackend(REDIS, result_ex_time=86_400, **PATIENT)
client = LlamaGenClient(quota=REDIS)
comics = register(broker, client, out=os.environ.get("COMICS_OUT"))
app = create_app(client, queue=comics)
