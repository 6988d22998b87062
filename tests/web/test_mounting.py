"""The routes in other people's applications: where they are mounted, how they start and end."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import pytest
from aiohttp import web
from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from llamagen_async import ClientClosedError, InvalidRequestError, LlamaGenClient
from llamagen_async.sandbox import PAID_KEY
from llamagen_async.web import ComicsApp, client_lifespan, create_app, get_client
from llamagen_async.web.aiohttp import CLIENT, QUEUE, client_context
from llamagen_async.web.aiohttp import create_app as create_aiohttp_app
from tests.support.web import asgi_client, events_in, fast_sandbox, running, sandbox_client


@pytest.fixture
def _settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LLAMAGEN_API_KEY", "sk-of-the-tests")
    monkeypatch.setenv("LLAMAGEN_JOURNAL", str(tmp_path / "orders.db"))
    monkeypatch.setenv("LLAMAGEN_OUT", str(tmp_path / "out"))


async def test_in_fastapi_with_routes_of_ones_own(tmp_path: Path) -> None:
    """One lifespan starts all of it: the mounted routes, the queue and the client."""
    async with fast_sandbox() as server, sandbox_client(server) as client:
        comics = create_app(client, journal=tmp_path / "orders.db", out=tmp_path)
        app = FastAPI(lifespan=comics.lifespan)
        app.mount("/comics-api", comics)

        @app.get("/draw")
        async def draw(
            prompt: str, found: Annotated[LlamaGenClient, Depends(get_client)]
        ) -> dict[str, Any]:
            assert found is client
            job = await comics.queue.submit(prompt, key="mine")
            return {"key": job.key, "plan": found.plan.name}

        with pytest.raises(ClientClosedError, match="lifespan"):
            _ = comics.queue
        async with running(app) as http:
            drawn = await http.get("/draw", params={"prompt": "a cat"})
            assert drawn.json() == {"key": "mine", "plan": "paid"}
            followed = await http.get("/comics-api/comics/mine/events")
            assert events_in(followed.text)[-1]["event"] == "done"
            page = await http.get("/comics-api/")
            assert 'data-root="/comics-api"' in page.text
            assert (await http.get("/comics-api")).status_code in (200, 307)


@pytest.mark.usefixtures("_settings")
async def test_lifespans_of_applications_are_entered(tmp_path: Path) -> None:
    """And again, as applications are started again in tests."""
    comics = create_app()
    inner = FastAPI(lifespan=comics.lifespan)
    inner.mount("/api", comics)

    @inner.get("/plan")
    def plan(client: Annotated[LlamaGenClient, Depends(get_client)]) -> str:
        return client.plan.name

    outer = Starlette(routes=[Mount("/in", comics)], lifespan=comics.lifespan)
    for app, root in ((inner, "/api"), (comics, ""), (outer, "/in"), (comics, "")):
        async with running(app) as http:
            assert (await http.get(f"{root}/comics")).json() == {"comics": []}
            assert (await http.get(f"{root}/readyz")).json()["status"] == "ready"
            if app is inner:
                assert (await http.get("/plan")).json() == "demo"
        with pytest.raises(ClientClosedError):
            _ = comics.client
    assert (tmp_path / "orders.db").exists()


@pytest.mark.usefixtures("_settings")
def test_an_application_may_be_started_in_another_loop() -> None:
    comics = create_app()

    async def once() -> None:
        async with running(comics) as http:
            answers = await asyncio.gather(*(http.get("/comics") for _ in range(3)))
            assert {answer.status_code for answer in answers} == {200}

    for _ in range(2):
        asyncio.run(once())


async def test_without_a_lifespan_the_first_request_starts_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And the log says what is lost by that."""
    async with fast_sandbox() as server, sandbox_client(server) as client:
        comics = create_app(client, journal=tmp_path / "orders.db", out=tmp_path)
        app = Starlette(routes=[Mount("/api", comics)])
        async with asgi_client(app) as http:
            with caplog.at_level(logging.WARNING):
                answers = await asyncio.gather(*(http.get("/api/comics") for _ in range(5)))
            assert {answer.status_code for answer in answers} == {200}
            assert caplog.text.count("give your app its lifespan") == 1
        await comics.service.aclose()
        async with asgi_client(app) as http:
            answer = await http.get("/api/comics")
            assert answer.status_code == 503
            assert "closes" in answer.json()["detail"]


@pytest.mark.usefixtures("_settings")
def test_without_a_lifespan_each_request_may_have_a_loop_of_its_own() -> None:
    """So has it each one of a test client that is not entered; and one that is entered later
    starts it in order."""
    comics = create_app()

    async def asked() -> int:
        async with asgi_client(comics) as http:
            answers = await asyncio.gather(*(http.get("/comics") for _ in range(3)))
            return max(answer.status_code for answer in answers)

    async def started() -> int:
        async with running(comics) as http:
            return (await http.get("/comics")).status_code

    for ask in (asked, asked, started, started):
        assert asyncio.run(ask()) == 200


@pytest.mark.usefixtures("_settings")
async def test_an_app_works_in_one_loop_at_a_time() -> None:
    """Others are told so, also while it starts; they waited for ever."""
    comics = create_app()

    def asked() -> int:
        async def ask() -> int:
            async with asgi_client(comics) as http:
                return (await http.get("/comics")).status_code

        return asyncio.run(ask())

    async with asgi_client(comics) as http:
        here = [asyncio.create_task(http.get("/comics")) for _ in range(3)]
        await asyncio.sleep(0)
        elsewhere = [asyncio.to_thread(asked) for _ in range(3)]
        assert set(await asyncio.gather(*elsewhere)) == {503}
        assert {one.status_code for one in await asyncio.gather(*here)} == {200}
    await comics.service.aclose()


@pytest.mark.parametrize("root", ["/\u6f2b\u753b", "/a shop", "/50%"])
async def test_links_are_encoded_wherever_the_routes_are_mounted(root: str, tmp_path: Path) -> None:
    """An order was taken and its answer could not be sent, as no header may have such text."""
    async with fast_sandbox() as server, sandbox_client(server) as client:
        comics = create_app(client, journal=tmp_path / "orders.db", out=tmp_path)
        app = Starlette(routes=[Mount(root, comics)])
        async with comics.lifespan(), asgi_client(app) as http:
            headers = {"Idempotency-Key": '"a/b"'}
            body = {"prompt": "a cat"}
            answer = await http.post(f"{quote(root)}/comics", json=body, headers=headers)
            assert answer.status_code == 202
            link = answer.headers["location"]
            assert link == f"{quote(root)}/comics/a%2Fb" == answer.json()["links"]["self"]
            assert (await http.get(link)).json()["key"] == "a/b"
            assert f'data-root="{quote(root)}"' in (await http.get(f"{quote(root)}/")).text


async def test_below_a_server_that_tells_its_own_root(tmp_path: Path) -> None:
    """A proxy may hide a part of the path, which the server is told and links have."""
    async with fast_sandbox() as server, sandbox_client(server) as client:
        comics = create_app(client, journal=tmp_path / "orders.db", out=tmp_path)
        async with comics.lifespan(), asgi_client(comics, root_path="/outside") as http:
            for path in ("/comics", "/outside/comics"):
                headers = {"Idempotency-Key": '"a/b"'}
                answer = await http.post(path, json={"prompt": "a cat"}, headers=headers)
                assert answer.headers["location"] == "/outside/comics/a%2Fb"
            for path in ("/comics/a%2Fb", "/outside/comics/a%2Fb"):
                assert (await http.get(path)).json()["key"] == "a/b"


async def test_a_server_that_tells_no_raw_path(tmp_path: Path) -> None:
    async with fast_sandbox() as server, sandbox_client(server) as client:
        comics = create_app(client, journal=tmp_path / "orders.db", out=tmp_path)

        async def plain(scope: Any, receive: Any, send: Any) -> None:
            del scope["raw_path"]
            await comics(scope, receive, send)

        async with comics.lifespan(), asgi_client(plain) as http:
            headers = {"Idempotency-Key": '"50% off"'}
            answer = await http.post("/comics", json={"prompt": "a cat"}, headers=headers)
            found = await http.get(answer.headers["location"])
            assert found.json()["key"] == "50% off"


@pytest.mark.usefixtures("_settings")
async def test_a_client_alone() -> None:
    """For those who write their own routes; who forgets the lifespan is told."""

    async def plan(request: Request) -> JSONResponse:
        return JSONResponse(get_client(request).plan.name)

    routes = [Route("/", plan)]
    async with running(Starlette(routes=routes, lifespan=client_lifespan())) as http:
        assert (await http.get("/")).json() == "demo"
    mine = LlamaGenClient("sk-mine", plan="paid", quota="memory")
    async with running(Starlette(routes=routes, lifespan=client_lifespan(mine))) as http:
        assert (await http.get("/")).json() == "paid"
    async with asgi_client(Starlette(routes=routes)) as http:
        with pytest.raises(TypeError, match=r"lifespan=client_lifespan\(\)"):
            await http.get("/")


async def test_an_aiohttp_application_has_client_and_queue(tmp_path: Path) -> None:
    async with fast_sandbox() as server, sandbox_client(server) as client:
        app = create_aiohttp_app(client, journal=tmp_path / "orders.db", out=tmp_path)
        runner = web.AppRunner(app)
        await runner.setup()
        assert app[CLIENT] is client
        job = await app[QUEUE].submit("a cat", key="k")
        assert (await app[QUEUE].result(job)).succeeded
        await runner.cleanup()
        with pytest.raises(ClientClosedError):
            await app[QUEUE].submit("late")
        await client.limits()  # it was given, so it is still open


@pytest.mark.usefixtures("_settings")
async def test_an_aiohttp_application_with_a_client_alone() -> None:
    app = web.Application()
    app.cleanup_ctx.append(client_context)
    runner = web.AppRunner(app)
    await runner.setup()
    assert app[CLIENT].plan.name == "demo"
    await app[CLIENT].limits()
    await runner.cleanup()
    with pytest.raises(ClientClosedError):
        await app[CLIENT].limits()


async def test_an_app_is_made_from_the_environment_when_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Importing it needs no key and opens nothing; its start says what is missing."""
    import llamagen_async.web

    for name in ("LLAMAGEN_API_KEY", "LLAMAGEN_JOURNAL", "LLAMAGEN_OUT", "LLAMAGEN_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LLAMAGEN_CONFIG_HOME", str(tmp_path / "nothing"))
    monkeypatch.chdir(tmp_path)
    app = llamagen_async.web.app
    assert isinstance(app, ComicsApp)
    assert app is llamagen_async.web.app
    assert os.listdir(tmp_path) == []  # noqa: PTH208  # an async function may not use Path's
    with pytest.raises(InvalidRequestError, match="LLAMAGEN_API_KEY"):
        async with running(app):
            pass
    async with asgi_client(create_app()) as http:
        answer = await http.get("/comics")
    assert answer.status_code == 503
    assert "LLAMAGEN_API_KEY" in answer.json()["detail"]
    monkeypatch.setenv("LLAMAGEN_API_KEY", PAID_KEY)
    async with running(app) as http:
        assert (await http.get("/comics")).json() == {"comics": []}
    assert (tmp_path / "comics" / "journal.db").exists()
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(llamagen_async.web, "nothing")  # noqa: B009  # type checkers know better


def test_a_missing_extra_is_named_with_its_command() -> None:
    """And aiohttp's routes need none."""
    code = (
        "import sys\n"
        "for extra in ('starlette', 'sse_starlette', 'uvicorn', 'anyio', 'fastapi'):\n"
        "    sys.modules[extra] = None\n"
        "import llamagen_async.web\n"
        "from llamagen_async.web.aiohttp import create_app\n"
        "create_app()\n"
        "for name in ('create_app', 'app', 'get_client', 'client_lifespan', 'ComicsApp'):\n"
        "    try:\n"
        "        getattr(llamagen_async.web, name)\n"
        "    except ImportError as error:\n"
        "        assert \"pip install 'llamagen-async[web]'\" in str(error), error\n"
        "    else:\n"
        "        raise SystemExit(name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_wrong_settings_are_refused_when_the_app_is_made() -> None:
    for number in (0, -1, 1.5, True, "many"):
        with pytest.raises(InvalidRequestError, match=r"^max_queued"):
            create_app(max_queued=number)  # type: ignore[arg-type]  # as a user might
