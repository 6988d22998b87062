"""Fixtures and settings that all tests share."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator, Mapping

import pytest
from hypothesis import settings

from llamagen_async.simulation import VirtualTimeLoop
from tests.support.names import know_only_loopback
from tests.support.redis_server import (
    account_name,
    certificate,
    fake_clock,
    own_redis_server,
    redis_cluster,
    redis_server,
)

__all__ = [
    "account_name",
    "certificate",
    "fake_clock",
    "own_redis_server",
    "redis_cluster",
    "redis_server",
]

# How long an example takes depends on what else the machine does. Mutation testing runs the same
# tests hundreds of times, and takes fewer examples.
examples = int(os.environ.get("LLAMAGEN_EXAMPLES", "100"))
settings.register_profile("patient", deadline=None, max_examples=examples)
settings.load_profile("patient")

# A job in a shell's background ignores Ctrl-C, and so would the commands that the tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the tests, and the processes that they start, away from the user's state and key."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("LLAMAGEN_CONFIG_HOME", str(tmp_path_factory.mktemp("vendor")))
        patch.delenv("LLAMAGEN_QUOTA", raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def no_name_is_looked_up() -> Iterator[None]:
    """Have no test ask others for a host's address, and maybe wait long for an answer."""
    with pytest.MonkeyPatch.context() as patch:
        know_only_loopback(patch)
        yield


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run the coroutines of tests marked `virtual_time` in a loop whose clock jumps."""
    if item.get_closest_marker("virtual_time"):
        return {"virtual": VirtualTimeLoop}
    return {"real": asyncio.new_event_loop}


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name a case by its number where its value is content: packed content has a time in it, and
    workers that collect different names can't share the tests."""
    return argname if isinstance(val, bytes) and len(val) >= 20 else None
