"""A client that is told nothing remembers what was spent in this user's state folder."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llamagen_async import InvalidRequestError, LlamaGenClient, quota
from llamagen_async.ratelimit.log_ledger import MemoryLedger
from llamagen_async.sandbox import PAID_KEY, Durations, SandboxServer, SandboxService
from llamagen_async.simulation import run, simulated_client
from tests.support.scripted import Network

SPEED = 20
"""The speed of the sandbox's clock: its minute of 3 s is longer than a process takes to start."""
SCRIPT = """
import asyncio
from llamagen_async import LlamaGenClient

async def main():
    async with LlamaGenClient(plan="paid") as client:
        await asyncio.gather(*(client.comics.create(f"story {n}") for n in range(10)))

asyncio.run(main())
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of the test's own, which is not there yet."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(quota, "_warned", set())
    return tmp_path / "home"


async def start(server: SandboxServer) -> asyncio.subprocess.Process:
    """Start a script that sends ten creates and says nothing of a quota."""
    environment = {
        **os.environ,
        "LLAMAGEN_API_KEY": PAID_KEY,
        "LLAMAGEN_API_URL": server.url,
        "LLAMAGEN_SPEED": str(SPEED),
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", SCRIPT, env=environment, stderr=subprocess.PIPE
    )


@pytest.mark.once
@pytest.mark.parametrize("at_once", [False, True])
async def test_a_script_that_runs_twice_is_not_refused(home: Path, at_once: bool) -> None:
    """Neither one run after the other nor two at once send an eleventh request in a minute."""
    service = SandboxService(durations=Durations.constant(20))
    async with SandboxServer(service, speed=SPEED) as server:
        first = await start(server)
        if not at_once:
            await first.wait()
        second = await start(server)
        for script in (first, second):
            assert (await script.communicate())[1] == b""
            assert script.returncode == 0
        counted = service.stats(server.now())["keys"][PAID_KEY]
    assert (counted["creates_accepted"], counted["refused"]) == (20, 0)
    assert (home / "llamagen-async" / "quota.db").is_file()


async def is_in_memory(client: LlamaGenClient) -> bool:
    """Use a client, and return whether it counts in this process only."""
    async with client:
        await client.limits()
        return isinstance(client._core.open().limiter.ledger, MemoryLedger)


def test_the_default_is_a_file_that_the_first_use_makes(home: Path) -> None:
    """Neither the import nor the constructor touches the disk."""
    client = LlamaGenClient("the-key")
    assert not home.exists()
    assert not asyncio.run(is_in_memory(client))
    assert (home / "llamagen-async" / "quota.db").stat().st_size > 0


def test_the_environment_names_a_store(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands and programs share it; what is sent nowhere does not, and an argument says more."""
    monkeypatch.setenv("LLAMAGEN_QUOTA", f" sqlite:///{home / 'named.db'}\n")
    assert not asyncio.run(is_in_memory(LlamaGenClient("the-key")))
    assert [one.name for one in home.iterdir()] == ["named.db"]
    assert asyncio.run(is_in_memory(LlamaGenClient("the-key", transport=Network())))
    assert asyncio.run(is_in_memory(LlamaGenClient("the-key", quota="memory")))
    monkeypatch.setenv("LLAMAGEN_QUOTA", "")
    asyncio.run(is_in_memory(LlamaGenClient("the-key")))
    assert (home / "llamagen-async" / "quota.db").is_file()
    monkeypatch.setenv("LLAMAGEN_QUOTA", "somewhere")
    with pytest.raises(InvalidRequestError, match="quota"):
        LlamaGenClient("the-key")


def test_memory_can_be_asked_for(home: Path) -> None:
    """`quota="memory"` leaves no trace on the disk."""
    assert asyncio.run(is_in_memory(LlamaGenClient("the-key", quota="memory")))
    assert not home.exists()


def test_simulations_and_tests_of_users_count_in_memory(home: Path) -> None:
    """A client with a transport of its own, or in virtual time, does so unless told otherwise."""
    named = f"sqlite:///{home / 'named.db'}"

    async def main() -> None:
        assert await is_in_memory(Network().client())
        assert await is_in_memory(simulated_client(SandboxService()))
        assert await is_in_memory(LlamaGenClient("the-key"))
        assert not await is_in_memory(LlamaGenClient("the-key", quota=named))

    run(main())
    assert asyncio.run(is_in_memory(LlamaGenClient("the-key", transport=Network())))
    assert [one.name for one in home.iterdir()] == ["named.db"]


@pytest.mark.parametrize("obstacle", ["a file", "no home", "a folder"])
def test_without_a_folder_there_is_one_warning_and_memory(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, obstacle: str
) -> None:
    """The warning says what to set; the count is kept all the same."""
    if obstacle == "a file":
        home.write_text("no folder")
    elif obstacle == "a folder":
        (home / "llamagen-async" / "quota.db").mkdir(parents=True)
    else:
        monkeypatch.setenv("XDG_STATE_HOME", "")
        monkeypatch.setattr("platformdirs.user_state_path", lambda *_, **__: Path("~/state"))
    for _ in range(3):
        assert asyncio.run(is_in_memory(LlamaGenClient("the-key")))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "quota='sqlite:///PATH'" in record.getMessage()
    assert "quota='memory'" in record.getMessage()
    assert "the-key" not in record.getMessage()
