"""Ctrl-C and requests of the system to end, as one orderly cancellation."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from llamagen_async.cli.interrupts import interruptible, run_async

NUMBERS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Give each test the handlers of a fresh interpreter, and put them back."""
    before = {number: signal.getsignal(number) for number in NUMBERS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_without_an_interrupt_the_status_is_the_commands() -> None:
    async def work() -> int:
        return 7

    assert run_async(work) == 7
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("number", NUMBERS)
def test_the_first_interrupt_cancels_and_the_second_is_ignored(number: signal.Signals) -> None:
    cancelled = 0

    async def work() -> int:
        nonlocal cancelled
        try:
            signal.raise_signal(number)
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled += 1
            signal.raise_signal(number)
            await asyncio.sleep(0)
        return 5

    assert run_async(work) == 5
    assert cancelled == 1
    # Another one does not hit the interpreter while it shuts down.
    assert signal.getsignal(number) is signal.SIG_IGN


def test_a_cancellation_that_is_not_caught_is_status_130() -> None:
    async def work() -> int:
        signal.raise_signal(signal.SIGINT)
        await asyncio.Event().wait()
        return 0

    assert run_async(work) == 130


def test_the_third_interrupt_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)

    async def work() -> int:
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)
        return 0

    run_async(work)
    assert ended == [128 + signal.SIGTERM]


def test_signals_that_somebody_else_handles_are_left_alone() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

    async def work() -> int:
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        return 0

    assert run_async(work) == 0


@pytest.mark.parametrize("number", NUMBERS)
def test_work_without_a_loop_ends_at_the_first_interrupt_and_cleans_up(
    number: signal.Signals,
) -> None:
    cleaned = 0

    def work() -> None:
        nonlocal cleaned
        try:
            signal.raise_signal(number)
        finally:
            signal.raise_signal(number)  # which is ignored
            cleaned += 1

    with pytest.raises(KeyboardInterrupt), interruptible():
        work()
    assert cleaned == 1
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
