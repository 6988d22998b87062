"""A client for the whole application, for those who write their own routes.

```python
app = FastAPI(lifespan=client_lifespan())

@app.get("/draw")
async def draw(prompt: str, client: Annotated[LlamaGenClient, Depends(get_client)]):
    return (await client.comics.create_and_wait(prompt)).asset_urls
```
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from starlette.requests import HTTPConnection

from llamagen_async.client import LlamaGenClient

__all__ = ["client_lifespan", "get_client"]

Lifespan = Callable[[Any], AbstractAsyncContextManager[dict[str, Any]]]


def client_lifespan(client: LlamaGenClient | None = None) -> Lifespan:
    """Return a lifespan for FastAPI or Starlette that opens a client and closes it in order.

    Args:
        client: The client; `None` makes one from the environment when the application starts.
    """

    @asynccontextmanager
    async def lifespan(_app: object) -> AsyncGenerator[dict[str, Any], None]:
        async with client or LlamaGenClient() as opened:
            yield {"llamagen_client": opened}

    return lifespan


def get_client(connection: HTTPConnection) -> LlamaGenClient:
    """Return the application's client, as a dependency: `Depends(get_client)`.

    Raises:
        TypeError: The application has neither this lifespan nor that of a comics app.
    """
    client = getattr(connection.state, "llamagen_client", None)
    if not isinstance(client, LlamaGenClient):
        raise TypeError(
            "the application has no client: give it lifespan=client_lifespan(), or the lifespan "
            "of its comics app"
        )
    return client
