"""Comics in a Quart application: the routes beside Quart's own, in one server.

pip install 'llamagen-async[web]' quart
uvicorn quart_app:app
"""

import os
import secrets
from collections.abc import AsyncIterator

from quart import Quart, abort, request
from starlette.requests import Request
from starlette.routing import Mount, Router

from llamagen_async.web import create_app


def is_known(authorization: str) -> bool:
    token = f"Bearer {os.environ['SHOP_TOKEN']}".encode()
    return secrets.compare_digest(authorization.encode(), token)


def authorize(request: Request) -> bool:
    return is_known(request.headers.get("authorization", ""))


comics = create_app(authorize=authorize)
app = Quart(__name__)


@app.while_serving
async def lifespan() -> AsyncIterator[None]:
    async with comics.lifespan():
        yield


@app.post("/buy/<order>")
async def buy(order: str) -> dict[str, str]:
    if not is_known(request.headers.get("Authorization", "")):
        abort(401)
    job = await comics.queue.submit(request.args["story"], key=order)
    return {"follow": f"/comics-api/comics/{job.key}/events"}


@app.get("/plan")
async def plan() -> dict[str, str]:
    return {"plan": comics.client.plan.name}


quart = app.asgi_app
both = Router([Mount("/comics-api", comics)], default=quart)


async def asgi(scope, receive, send):
    # Quart is told of the server's start and end, and tells `lifespan` above.
    await (quart if scope["type"] == "lifespan" else both)(scope, receive, send)


app.asgi_app = asgi
