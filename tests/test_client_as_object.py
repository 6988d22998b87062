"""A client is an object like others: it is mocked, looked at, copied with what holds it."""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from llamagen_async import ClientClosedError, ComicQueue, LlamaGenClient
from tests.support.scripted import Network

URL = "https://objects.invalid"
IN_VIRTUAL_TIME = pytest.mark.virtual_time


def made() -> LlamaGenClient:
    return LlamaGenClient("the-key", base_url=URL, quota="memory", transport=Network())


def looked_at(client: LlamaGenClient, folder: Path) -> None:
    """Look at all there is, as mocks, debuggers and completion do."""
    queue = ComicQueue(client, journal=folder / "queue.db")
    for one in (client, client.comics, client.animations, client.comics.batch(["a"]), queue):
        assert inspect.getmembers(one)
        for way in (
            lambda one: mock.MagicMock(spec=one),
            lambda one: mock.AsyncMock(spec=one),
            mock.create_autospec,
        ):
            assert isinstance(way(one), type(one))


def test_it_is_looked_at_without_a_loop(tmp_path: Path) -> None:
    """A fixture that makes a mock of a client is no coroutine."""
    client = made()
    looked_at(client, tmp_path)
    mocked = mock.create_autospec(client)
    mocked.comics.create.return_value.id = "c1"

    async def program(client: LlamaGenClient) -> str:
        return (await client.comics.create("a cat")).id

    assert asyncio.run(program(mocked)) == "c1"


@IN_VIRTUAL_TIME
async def test_it_is_looked_at_when_it_is_open_or_closed(tmp_path: Path) -> None:
    async with made() as client:
        looked_at(client, tmp_path)
    looked_at(client, tmp_path)
    with pytest.raises(ClientClosedError):
        client.assets.open_asset("https://pictures.invalid/a.png")


@IN_VIRTUAL_TIME
async def test_it_is_copied_as_itself_and_not_pickled() -> None:
    """Settings that hold a client are copied; another process is told to make one of its own."""
    unopened: Any = made()
    async with made() as client:
        await client.limits()
        for one in (unopened, client, client.with_key("another-key")):
            assert copy.copy(one) is one
            assert copy.deepcopy({"client": one})["client"] is one
            with pytest.raises(TypeError, match="make one in each"):
                pickle.dumps({"client": one})
