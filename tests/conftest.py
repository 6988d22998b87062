"""What all tests share."""

from __future__ import annotations

from support.redis_server import account_name, fake_clock, own_redis_server, redis_server

__all__ = ["account_name", "fake_clock", "own_redis_server", "redis_server"]
