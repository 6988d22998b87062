"""The applications of the README and of docs/web.md run as printed."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web
from starlette.responses import PlainTextResponse

from llamagen_async.sandbox import PAID_KEY
from tests.support.web import events_in, fast_sandbox, running

ROOT = Path(__file__).parents[2]
MOST_LINES = 25


def blocks(name: str) -> list[str]:
    """Return the Python blocks of a document."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


def run(block: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "documented"}
    exec(compile(block, "documented", "exec", dont_inherit=True), names)
    return names


@asynccontextmanager
async def served(app: Any, patch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    """Serve an application beside a sandbox that the environment names."""
    async with fast_sandbox() as server:
        patch.setenv("LLAMAGEN_API_URL", server.url)
        patch.setenv("LLAMAGEN_SPEED", f"{server.speed:g}")
        async with running(app) as http:
            yield http


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLAMAGEN_API_KEY", PAID_KEY)
    monkeypatch.setenv("LLAMAGEN_PLAN", "paid")
    monkeypatch.setenv("SHOP_TOKEN", "token")


async def test_the_fastapi_application_of_the_readme(monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = [block for block in blocks("README.md") if "FastAPI" in block]
    assert len(block.splitlines()) <= MOST_LINES
    app = run(block)["app"]
    async with served(app, monkeypatch) as http:
        bought = await http.post("/buy/42", params={"story": "a cat"})
        follow = bought.json()["follow"]
        assert follow == "/comics-api/comics/42/events"
        assert (await http.get(follow)).status_code == 403
        allowed = {"Authorization": "Bearer token"}
        events = events_in((await http.get(follow, headers=allowed)).text)
        assert events[-1]["event"] == "done"
        assert (await http.get("/comics-api/comics", headers=allowed)).status_code == 200


async def test_the_application_for_many_customers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two customers with keys of their own, one with a wrong key, and one with none."""
    (block,) = blocks("docs/tenants.md")
    app = run(block)["app"]
    async with served(app, monkeypatch) as http:

        async def draw(key: str) -> Any:
            headers = {"X-Comic-Key": key}
            return await http.post("/comics", params={"story": "a cat"}, headers=headers)

        drawn = [await draw(PAID_KEY), await draw(PAID_KEY)]
        assert [one.status_code for one in drawn] == [200, 200]
        assert all(url.startswith("http") for one in drawn for url in one.json())
        assert [(await draw(key)).status_code for key in ("sk-wrong", "two words")] == [401] * 2
        assert (await http.post("/comics", params={"story": "x"})).status_code == 422


async def test_the_applications_of_the_documentation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has the routes where it says, and yours stay where they were."""
    mine = types.ModuleType("myproject.asgi")
    mine.application = PlainTextResponse("mine")  # type: ignore[attr-defined]  # made here
    monkeypatch.setitem(sys.modules, "myproject", types.ModuleType("myproject"))
    monkeypatch.setitem(sys.modules, "myproject.asgi", mine)
    found = [block for block in blocks("docs/web.md") if not re.search(r"@app\.", block)]
    assert len(found) == 3
    for block in found:
        app = run(block)["app"]
        if isinstance(app, web.Application):
            runner = web.AppRunner(app)
            await runner.setup()
            routes = [str(resource) for resource in app.router.resources()]
            assert any("/comics-api" in route for route in routes)
            await runner.cleanup()
            continue
        async with running(app) as http:
            assert (await http.get("/comics-api/comics")).json() == {"comics": []}
            if "myproject" in block:
                assert (await http.get("/other")).text == "mine"


async def test_a_route_of_the_documentation_tells_what_is_not_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (block,) = [block for block in blocks("docs/web.md") if "exception_handler" in block]
    async with served(run(block)["app"], monkeypatch) as http:
        stories = ("", "a cat", "a dog", "a cat")
        answers = [await http.post("/buy/a", params={"story": one}) for one in stories]
        assert [one.status_code for one in answers] == [422, 200, 422, 200]
        assert answers[0].json()["detail"].startswith("prompt: got ''")
        assert answers[2].json()["detail"].startswith("key: got 'a'")


async def test_a_request_of_the_documentation_waits_for_its_comic(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (block,) = [block for block in blocks("docs/web.md") if "client_lifespan" in block]
    async with served(run(block)["app"], monkeypatch) as http:
        drawn = await http.post("/comics", params={"prompt": "a cat"})
        assert drawn.status_code == 200
        assert len(drawn.json()) == 5
