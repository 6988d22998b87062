"""The recipes of docs/recipes: each runs in its framework as it stands, against a sandbox."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType

import httpx
import pytest
from aiohttp import web

from llamagen_async.sandbox import PAID_KEY
from tests.support.web import events_in, fast_sandbox, running

RECIPES = Path(__file__).parents[2] / "docs" / "recipes"
NAMES = ("aiohttp_app", "django_app", "fastapi_app", "litestar_app", "quart_app")
TOKEN = {"Authorization": "Bearer token"}
REFUSED = {401, 403}


def recipe(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Run a recipe's file, as a server does that imports it."""
    found = importlib.util.spec_from_file_location(name, RECIPES / f"{name}.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    monkeypatch.setitem(sys.modules, name, module)
    found.loader.exec_module(module)
    return module


@asynccontextmanager
async def opened(module: ModuleType) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a recipe's application, from its start to its end."""
    if not hasattr(module, "main"):
        async with running(module.app) as http:
            yield http
        return
    runner = web.AppRunner(module.main())
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with httpx.AsyncClient(base_url=url) as http:
            yield http
    finally:
        await runner.cleanup()


@pytest.mark.filterwarnings("default")  # frameworks may have any in their lowest versions
@pytest.mark.parametrize("name", NAMES)
async def test_a_recipe_sells_a_comic(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The routes of its own order, the mounted ones follow; both know who may."""
    monkeypatch.chdir(tmp_path)
    async with fast_sandbox() as server:
        variables = {
            "LLAMAGEN_API_KEY": PAID_KEY,
            "LLAMAGEN_API_URL": server.url,
            "LLAMAGEN_SPEED": f"{server.speed:g}",
            "LLAMAGEN_PLAN": "paid",
            "LLAMAGEN_QUOTA": "memory",
            "LLAMAGEN_JOURNAL": "orders.db",
            "SHOP_TOKEN": "token",
        }
        for variable, value in variables.items():
            monkeypatch.setenv(variable, value)
        async with opened(recipe(name, monkeypatch)) as http:
            path, story = "/buy/order%2042", {"story": "a cat"}
            assert (await http.post(path, params=story)).status_code in REFUSED
            bought = await http.post(path, params=story, headers=TOKEN)
            follow = bought.json()["follow"]
            assert (await http.get(follow)).status_code in REFUSED
            events = events_in((await http.get(follow, headers=TOKEN)).text)
            assert events[-1]["event"] == "done"
            comic = json.loads(events[-1]["data"])
            assert comic["state"] == "succeeded"
            assert comic["links"]["self"] == "/comics-api/comics/order%2042"
            picture = await http.get(comic["pictures"][0], headers=TOKEN)
            assert picture.headers["content-type"] == "image/png"
            key = {**TOKEN, "Idempotency-Key": '"a/b"'}
            ordered = await http.post("/comics-api/comics", json={"prompt": "b"}, headers=key)
            found = await http.get(ordered.headers["location"], headers=TOKEN)
            assert found.json()["key"] == "a/b"
            assert "paid" in (await http.get("/plan")).text
            page = await http.get("/comics-api/", headers=TOKEN)
            assert 'data-root="/comics-api"' in page.text
    assert (tmp_path / "orders.db").exists()
