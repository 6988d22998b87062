"""Seconds of the server, on the event loop's clock."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import attrs
import pytest

from llamagen_async.clock import Clock
from llamagen_async.errors import InvalidRequestError
from llamagen_async.simulation import run


@pytest.mark.parametrize("speed", [0, -1, True, "2", None, float("inf"), float("nan")])
def test_speed_is_a_number_greater_than_0(speed: Any) -> None:
    """Nothing but a finite number above 0 is a speed."""
    with pytest.raises(InvalidRequestError, match=r"^speed: got"):
        Clock(speed)


def test_a_clock_can_not_be_changed() -> None:
    """The speed can't change while a client is open."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Clock().speed = 2  # type: ignore[misc]


@pytest.mark.parametrize("speed", [1.0, 60, 0.5])
def test_time_runs_at_the_given_speed(speed: float) -> None:
    """A real second is `speed` seconds of the server, and back."""

    async def main() -> None:
        clock = Clock(speed)
        before = clock.now()
        await asyncio.sleep(2)
        assert clock.now() - before == pytest.approx(2 * speed)
        assert clock.real(clock.now()) == pytest.approx(asyncio.get_running_loop().time())

    run(main())


@pytest.mark.parametrize("speed", [1.0, 60.0])
def test_a_wait_ends_with_its_time(speed: float) -> None:
    """A wait whose event is never set is over after its seconds."""

    async def main() -> None:
        clock = Clock(speed)
        await clock.wait(asyncio.Event(), 30)
        assert clock.now() == pytest.approx(30)

    run(main())


@pytest.mark.parametrize("seconds", [30.0, math.inf])
def test_a_wait_ends_with_its_event(seconds: float) -> None:
    """The event ends a wait early, also one that has no end of its own."""

    async def main() -> None:
        event = asyncio.Event()
        asyncio.get_running_loop().call_later(5, event.set)
        await Clock().wait(event, seconds)
        assert event.is_set()
        assert Clock().now() == pytest.approx(5)

    run(main())


def test_an_event_that_is_set_is_not_waited_for() -> None:
    """A wait for an event that is set returns at once, without letting other tasks run."""

    async def main() -> None:
        event = asyncio.Event()
        event.set()
        ran: list[int] = []
        asyncio.get_running_loop().call_soon(ran.append, 1)
        await Clock().wait(event, 30)
        assert not ran
        assert Clock().now() == 0

    run(main())


@pytest.mark.parametrize("speed", [1.0, 60.0, 0.3])
def test_a_sleep_is_never_too_short(speed: float) -> None:
    """A sleep is never cut short by rounding: a slot that is used too early would be refused."""

    async def main() -> None:
        clock = Clock(speed)
        for length in (0.0, 1e-9, 0.1, 7.3, 86_400.0):
            before = clock.now()
            await clock.sleep(length)
            assert before + length <= clock.now() <= before + length + 1e-6

    run(main())


def test_a_wait_can_be_cancelled() -> None:
    """A cancelled wait raises CancelledError; it does not return as if its time were up."""

    async def main() -> None:
        task = asyncio.create_task(Clock().wait(asyncio.Event(), 30))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert Clock().now() == pytest.approx(1)

    run(main())
