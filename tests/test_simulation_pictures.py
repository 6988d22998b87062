"""The pictures of a simulation: the sandbox draws them, and no network is asked."""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from llamagen_async import APIError, BatchState, ComicGeneration
from llamagen_async.sandbox import PAID_KEY, Durations, SandboxService
from llamagen_async.simulation import SimulatedTransport, run, simulated_client

pytestmark = pytest.mark.virtual_time

SMALL: dict[str, Any] = {"prompt": "a cat", "size": "512x768", "fix_panel_num": 2}


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: Any, **_options: Any) -> Any:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def service() -> SandboxService:
    return SandboxService(seed=7, durations=Durations.constant(60))


async def test_a_batch_has_its_pictures(tmp_path: Path) -> None:
    async with simulated_client(service()) as client:
        items = [item async for item in client.comics.batch([SMALL, SMALL], out=tmp_path)]
    assert [(item.state, item.error) for item in items] == [(BatchState.SUCCEEDED, None)] * 2
    files = [file for item in items for file in item.files]
    assert len(files) >= 4
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)
    assert len({file.read_bytes() for file in files}) == len(files)
    assert asyncio.get_running_loop().time() < 200


async def test_a_transport_of_a_test_has_them_too(tmp_path: Path) -> None:
    sandbox = service()
    transport = SimulatedTransport(sandbox, PAID_KEY, latency=(1.0, 2.0))
    async with simulated_client(sandbox, transport=transport) as client:
        comic = await client.comics.create_and_wait(**SMALL)
        assert await client.comics.download(comic, tmp_path)


async def test_a_picture_that_the_service_does_not_have_is_not_found(tmp_path: Path) -> None:
    comic = ComicGeneration.parse(
        {"id": "c1", "status": "SUCCEEDED", "output": "https://elsewhere.example/a.png"}
    )
    async with simulated_client(service()) as client:
        with pytest.raises(APIError, match="404: elsewhere"):
            await client.comics.download(comic, tmp_path)


async def test_without_pillow_it_says_so_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with simulated_client(service()) as client:
        comic = await client.comics.create_and_wait(**SMALL)
        monkeypatch.setitem(sys.modules, "llamagen_async.sandbox.pictures.drawing", None)
        before = asyncio.get_running_loop().time()
        with pytest.raises(APIError, match="pictures need Pillow"):
            await client.comics.download(comic, tmp_path)
        assert asyncio.get_running_loop().time() == before


@pytest.mark.parametrize("speed", ["60", "0.5", "nonsense"])
def test_the_speed_in_the_environment_does_not_count(
    speed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop's clock is the server's: a comic of a minute takes one."""

    async def main() -> tuple[float, float]:
        async with simulated_client(service()) as client:
            await client.comics.create_and_wait("a story")
            return client.speed, asyncio.get_running_loop().time()

    plain = run(main())
    monkeypatch.setenv("LLAMAGEN_SPEED", speed)
    assert run(main()) == plain
    assert plain[0] == 1.0
