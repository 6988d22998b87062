"""What all tests share."""

from __future__ import annotations

import pytest
from support.redis_server import account_name, fake_clock, own_redis_server, redis_server

__all__ = ["account_name", "fake_clock", "own_redis_server", "redis_server"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Measure no coverage in the long tests, which it makes four times as long.

    They run all the same; only what the others cover counts, so the bound is as hard as before.
    """
    for item in items:
        if item.get_closest_marker("once"):
            item.add_marker(pytest.mark.no_cover)
