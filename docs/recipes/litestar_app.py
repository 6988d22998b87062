"""Comics in a Litestar application: the routes as a mounted ASGI application.

pip install 'llamagen-async[web]' litestar
uvicorn litestar_app:app
"""

import os
import secrets

from litestar import Litestar, Request, asgi, get, post
from litestar.exceptions import NotAuthorizedException
from litestar.params import FromPath, FromQuery
from litestar.types import Receive, Scope, Send
from starlette.requests import Request as ComicsRequest

from llamagen_async.web import create_app


def is_known(authorization: str) -> bool:
    token = f"Bearer {os.environ['SHOP_TOKEN']}".encode()
    return secrets.compare_digest(authorization.encode(), token)


def authorize(request: ComicsRequest) -> bool:
    return is_known(request.headers.get("authorization", ""))


comics = create_app(authorize=authorize)


@asgi("/comics-api", is_mount=True, copy_scope=True)
async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
    # Litestar does not say where an application is mounted, and links begin there.
    await comics({**scope, "root_path": "/comics-api"}, receive, send)


@post("/buy/{order:str}")
async def buy(request: Request, order: FromPath[str], story: FromQuery[str]) -> dict[str, str]:
    if not is_known(request.headers.get("authorization", "")):
        raise NotAuthorizedException
    job = await comics.queue.submit(story, key=order)
    return {"follow": f"/comics-api/comics/{job.key}/events"}


@get("/plan")
async def plan() -> str:
    return comics.client.plan.name


app = Litestar([mounted, buy, plan], lifespan=[comics.lifespan])
