"""A program whose main thread has ended: executors take no work then, and event loops go on."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from llamagen_async.sqlite_file import in_thread

ROOT = Path(__file__).parent.parent

IN_A_THREAD = """
import asyncio, sys, threading
from llamagen_async import LlamaGenClient
from llamagen_async.sandbox import PAID_KEY, Durations, SandboxService
from llamagen_async.simulation import SimulatedTransport

FOLDER, begun = sys.argv[1], threading.Event()

def transport():
    service = SandboxService(durations=Durations.constant(0.05))
    return SimulatedTransport(service, PAID_KEY)

async def stories():
    yield "before"
    begun.set()
    while threading.main_thread().is_alive():
        await asyncio.sleep(0.001)
    yield "after"

async def main():
    quota = f"sqlite:///{FOLDER}/quota.db"
    client = LlamaGenClient(PAID_KEY, plan="paid", quota=quota, transport=transport(), speed=60)
    async with client:
        async for item in client.comics.batch(stories(), journal=f"{FOLDER}/run.db"):
            print(item.state.value)

threading.Thread(target=lambda: asyncio.run(main())).start()
begun.wait()
"""

AT_EXIT = """
import asyncio, atexit, sys
from llamagen_async import LlamaGenClient
from llamagen_async.sandbox import PAID_KEY, SandboxService
from llamagen_async.simulation import SimulatedTransport

loop = asyncio.new_event_loop()
client = LlamaGenClient(
    PAID_KEY,
    plan="paid",
    quota=f"sqlite:///{sys.argv[1]}/quota.db",
    transport=SimulatedTransport(SandboxService(), PAID_KEY),
)

def close():
    loop.run_until_complete(client.aclose())
    print("closed")
    loop.close()

atexit.register(close)
print(loop.run_until_complete(client.comics.create("x")).status.value.lower())
"""


@pytest.mark.once
@pytest.mark.parametrize(
    ("program", "expected"),
    [(IN_A_THREAD, ["succeeded", "succeeded"]), (AT_EXIT, ["pending", "closed"])],
    ids=["thread", "atexit"],
)
def test_work_goes_on_after_the_main_thread(
    program: str, expected: list[str], tmp_path: Path
) -> None:
    """Nothing that was paid for is lost, nothing hangs, and what is closed is closed."""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout.split(), done.stderr, done.returncode) == (expected, "", 0)


async def test_what_no_thread_does_any_more_is_done_here_and_after_the_rest() -> None:
    loop, thread, order = asyncio.get_running_loop(), ThreadPoolExecutor(1), list[str]()
    first = in_thread(loop, thread, order.append, "first")
    thread.shutdown(wait=False)
    await in_thread(loop, thread, order.append, "second")
    await first
    assert order == ["first", "second"]
    with pytest.raises(ZeroDivisionError):
        await in_thread(loop, thread, lambda: 1 // 0)


def test_a_closed_loop_is_told_as_ever() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    with ThreadPoolExecutor(1) as thread, pytest.raises(RuntimeError, match="closed"):
        in_thread(loop, thread, list)
