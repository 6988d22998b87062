"""Comics in an aiohttp.web application: the routes as a sub-application, and its queue.

pip install llamagen-async
python aiohttp_app.py
"""

import os
import secrets

from aiohttp import web

from llamagen_async.web.aiohttp import CLIENT, QUEUE, create_app

routes = web.RouteTableDef()


def authorize(request: web.Request) -> bool:
    given = request.headers.get("Authorization", "").encode()
    if not secrets.compare_digest(given, f"Bearer {os.environ['SHOP_TOKEN']}".encode()):
        raise web.HTTPUnauthorized(headers={"WWW-Authenticate": "Bearer"})
    return True


@routes.post("/buy/{order}")
async def buy(request: web.Request) -> web.Response:
    authorize(request)
    queue = request.app[COMICS][QUEUE]
    job = await queue.submit(request.query["story"], key=request.match_info["order"])
    return web.json_response({"follow": f"/comics-api/comics/{job.key}/events"})


@routes.get("/plan")
async def plan(request: web.Request) -> web.Response:
    return web.json_response(request.app[COMICS][CLIENT].plan.name)


COMICS = web.AppKey("comics", web.Application)


def main() -> web.Application:
    app = web.Application()
    app[COMICS] = create_app(authorize=authorize)
    app.add_subapp("/comics-api", app[COMICS])
    app.add_routes(routes)
    return app


if __name__ == "__main__":
    web.run_app(main(), host="127.0.0.1", port=8000)
