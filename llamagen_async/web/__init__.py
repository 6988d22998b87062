"""Comics over HTTP, for async web backends: routes to mount, or a whole server.

```python
from fastapi import FastAPI
from llamagen_async.web import create_app

comics = create_app(journal="orders.db", out="comics/")
app = FastAPI(lifespan=comics.lifespan)
app.mount("/comics-api", comics)
```

`uvicorn llamagen_async.web:app` and `llamagen-async serve` serve the same routes alone. Programs of
aiohttp.web find them in `llamagen_async.web.aiohttp`, which needs no extra.

This module is only the door: importing it needs neither the extra nor an API key.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llamagen_async.web.clients import client_lifespan, get_client
    from llamagen_async.web.starlette import ComicsApp, create_app

    app: ComicsApp

__all__ = ["ComicsApp", "app", "client_lifespan", "create_app", "get_client"]

_MODULES = {
    "ComicsApp": "starlette",
    "client_lifespan": "clients",
    "create_app": "starlette",
    "get_client": "clients",
}
"""The module that has each export; `app` is made when it is first asked for."""
_NEEDED = ("starlette", "sse_starlette", "anyio")
"""The packages without which nothing here can be loaded."""

if not TYPE_CHECKING:  # else type checkers would take any name for an export

    def __getattr__(name):
        """Load an export when it is first used."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            module = importlib.import_module(f"{__name__}.{_MODULES.get(name, 'starlette')}")
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in _NEEDED:
                raise
            raise ImportError(
                f"llamagen_async.web needs {error.name}: install it with "
                "pip install 'llamagen-async[web]'"
            ) from None
        value = module.create_app() if name == "app" else getattr(module, name)
        globals()[name] = value
        return value
