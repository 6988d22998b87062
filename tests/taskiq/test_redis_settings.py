"""Facts read of a broker's Redis: its URL, and whether it keeps what is written to it."""

from __future__ import annotations

import logging
import ssl
from typing import Any, cast

import attrs
import pytest
from taskiq import InMemoryBroker
from taskiq_redis import ListQueueBroker, PubSubBroker, RedisStreamBroker

from llamagen_async import InvalidRequestError
from llamagen_async.stored_values import StoreError
from llamagen_async.taskiq.address import url_of
from llamagen_async.taskiq.durability import check_durability
from llamagen_async.taskiq.store import RedisJobs
from tests.support.redis_server import RedisServer, connected
from tests.support.taskiq_app import fresh_prefix


@pytest.mark.parametrize("kind", [ListQueueBroker, PubSubBroker, RedisStreamBroker])
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("redis://somewhere", "redis://somewhere:6379/0"),
        ("redis://somewhere:7000/3", "redis://somewhere:7000/3"),
        ("redis://:p%40ss@somewhere", "redis://:p%40ss@somewhere:6379/0"),
        ("redis://us%2Fer:p%3Ass@somewhere", "redis://us%2Fer:p%3Ass@somewhere:6379/0"),
        ("rediss://somewhere", "rediss://somewhere:6379/0"),
        ("rediss://somewhere?ssl_ca_certs=/a b", "rediss://somewhere:6379/0?ssl_ca_certs=/a%20b"),
        ("redis://[2001:db8::5]:7000", "redis://[2001:db8::5]:7000/0"),
        ("rediss://somewhere?ssl_cert_reqs=none", "rediss://somewhere:6379/0?ssl_cert_reqs=none"),
        (
            "rediss://somewhere?ssl_certfile=/a&ssl_keyfile=/b&ssl_check_hostname=no",
            "rediss://somewhere:6379/0?ssl_certfile=/a&ssl_keyfile=/b&ssl_check_hostname=False",
        ),
    ],
)
def test_the_url_of_a_broker_leads_to_its_redis(kind: Any, given: str, expected: str) -> None:
    assert url_of(kind(given)) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"ssl_cert_reqs": None, "ssl_ca_certs": None}, "?ssl_cert_reqs=none"),
        ({"ssl_cert_reqs": ssl.CERT_OPTIONAL}, "?ssl_cert_reqs=optional"),
    ],
)
def test_a_broker_tells_how_it_checks_its_redis(given: Any, expected: str) -> None:
    """The jobs' connection is as the broker's, whatever was said by arguments."""
    broker = RedisStreamBroker("rediss://somewhere", **given)
    assert url_of(broker) == f"rediss://somewhere:6379/0{expected}"


@pytest.mark.parametrize(
    "broker",
    [
        InMemoryBroker(),
        RedisStreamBroker("unix:///somewhere.sock"),
        RedisStreamBroker("rediss://somewhere", ssl_include_verify_flags=[ssl.VERIFY_X509_STRICT]),
    ],
    ids=["memory", "unix", "flags"],
)
def test_a_broker_that_tells_no_address_is_refused(broker: Any) -> None:
    with pytest.raises(InvalidRequestError, match="the URL of a Redis that keeps the jobs"):
        url_of(broker)


@attrs.frozen
class Kept:
    """Jobs in a Redis with these settings."""

    said: tuple[bool, str] | StoreError
    address: str = "somewhere:6379"

    async def durability(self) -> tuple[bool, str]:
        if isinstance(self.said, StoreError):
            raise self.said
        return self.said


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        (Kept((True, "noeviction")), []),
        (Kept((True, "")), []),
        (Kept((False, "noeviction")), ["`appendonly yes`"]),
        (Kept((True, "allkeys-lru")), ["`maxmemory-policy noeviction`, not allkeys-lru"]),
        (Kept((False, "volatile-ttl")), ["`appendonly yes`", "not volatile-ttl"]),
        (Kept(StoreError("INFO is not allowed")), ["not known whether Redis keeps the jobs"]),
    ],
)
async def test_a_setting_that_loses_jobs_is_told(
    kept: Kept, words: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        await check_durability(cast("RedisJobs", kept))
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == len(words)
    assert all(word in text for word, text in zip(words, told, strict=True))


async def test_the_settings_are_those_of_the_server(own_redis_server: RedisServer) -> None:
    jobs = RedisJobs(
        own_redis_server.url, prefix=fresh_prefix(), lease=30.0, timeout=60.0, fetches=False
    )
    async with connected(own_redis_server.url) as admin:
        for policy in ("noeviction", "allkeys-lru"):
            await admin.config_set("maxmemory-policy", policy)
            assert await jobs.durability() == (False, policy)
    await jobs.disconnect()
