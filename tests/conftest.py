"""What all tests share."""

from __future__ import annotations

from hypothesis import settings

from tests.support.redis_server import (
    account_name,
    certificate,
    fake_clock,
    own_redis_server,
    redis_server,
)

__all__ = ["account_name", "certificate", "fake_clock", "own_redis_server", "redis_server"]

# How long an example takes depends on what else the machine does.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
