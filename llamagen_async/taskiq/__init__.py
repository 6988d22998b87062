"""Comics as tasks of your own taskiq app, for more than one host.

```python
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from llamagen_async.taskiq import register

url = "redis://localhost:6379"
broker = RedisStreamBroker(url).with_result_backend(RedisAsyncResultBackend(url))
comics = register(broker)
```

`taskiq worker module:broker` makes the comics. Any other process orders and follows them:
`async with comics: job = await comics.submit("a cat", key="order-42")`.
"""

from __future__ import annotations

try:
    from llamagen_async.taskiq.app import register
    from llamagen_async.taskiq.queue import TaskiqQueue
except ModuleNotFoundError as _error:
    if (_error.name or "").partition(".")[0] not in ("redis", "taskiq"):
        raise
    raise ModuleNotFoundError(
        f"llamagen_async.taskiq needs {_error.name}: install it with "
        "pip install 'llamagen-async[taskiq]'",
        name=_error.name,
    ) from None

__all__ = ["TaskiqQueue", "register"]
