"""Comics in a FastAPI application: mounted routes, an order of your own, and the client.

pip install 'llamagen-async[web]' fastapi
uvicorn fastapi_app:app
"""

import os
import secrets
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request

from llamagen_async import LlamaGenClient
from llamagen_async.web import create_app, get_client


def authorize(request: Request) -> bool:
    given = request.headers.get("authorization", "").encode()
    if not secrets.compare_digest(given, f"Bearer {os.environ['SHOP_TOKEN']}".encode()):
        raise HTTPException(401, "a token is needed", {"WWW-Authenticate": "Bearer"})
    return True


comics = create_app(authorize=authorize)
app = FastAPI(lifespan=comics.lifespan)
app.mount("/comics-api", comics)


@app.post("/buy/{order}", dependencies=[Depends(authorize)])
async def buy(order: str, story: str) -> dict[str, str]:
    job = await comics.queue.submit(story, key=order)
    return {"follow": f"/comics-api/comics/{job.key}/events"}


@app.get("/plan")
async def plan(client: Annotated[LlamaGenClient, Depends(get_client)]) -> str:
    return client.plan.name
