"""Log records say which job, which comic and which exchange they are about."""

from __future__ import annotations

import ast
import asyncio
import logging
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, cast

import pytest

from llamagen_async import (
    APIConnectionError,
    ComicQueue,
    LlamaGenError,
    NotFoundError,
    ServerError,
)
from llamagen_async.observing import GENERATION_ID, JOB_KEY, about, logger_of
from tests.support.machine import Machine
from tests.support.scheduling import network_of
from tests.support.scripted import ROOMY, Network, Sent, minute

PACKAGE = Path(__file__).parent.parent / "llamagen_async"
ATTRIBUTES = ("job_key", "generation_id", "request_id")
APART = ("observing.py", "cli/logs.py", "sandbox/webhooks.py")
"""Files that use the standard library's loggers: to wrap them, to show them, and one that shares no
code with the client and gives its record the attributes itself."""


def facts(record: logging.LogRecord) -> tuple[Any, ...]:
    return tuple(getattr(record, name) for name in ATTRIBUTES)


def record_of(caplog: pytest.LogCaptureFixture, text: str) -> logging.LogRecord:
    """Return the first record with a text in it."""
    return next(record for record in caplog.records if text in record.getMessage())


@pytest.mark.once
def test_every_logger_of_the_package_is_made_in_one_place() -> None:
    found = [
        path.relative_to(PACKAGE).as_posix()
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "getLogger"
    ]
    assert sorted(set(found)) == sorted(APART)


def test_every_record_has_the_attributes(caplog: pytest.LogCaptureFixture) -> None:
    """A format that names them works for every record."""
    logger_of("llamagen_async.test").warning("something")
    (record,) = caplog.records
    assert facts(record) == (None, None, None)
    assert record.pathname == __file__
    assert logging.Formatter("%(job_key)s %(message)s").format(record) == "None something"


def test_what_is_given_wins_over_the_context(caplog: pytest.LogCaptureFixture) -> None:
    whose = JOB_KEY.set("order-1"), GENERATION_ID.set("cmc_1")
    try:
        logger = logger_of("llamagen_async.test")
        logger.warning("one")
        logger.warning("two", extra=about(generation_id="cmc_2"))
    finally:
        JOB_KEY.reset(whose[0])
        GENERATION_ID.reset(whose[1])
    one, two = caplog.records
    assert facts(one) == ("order-1", "cmc_1", None)
    assert facts(two) == ("order-1", "cmc_2", None)


def test_attributes_that_a_program_gives_its_records_stay_as_they_are(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A web backend names its own request in each record; a name that is given twice raises."""
    usual = logging.getLogRecordFactory()

    def with_request(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = usual(*args, **kwargs)
        record.request_id = "web-1"
        return record

    logging.setLogRecordFactory(with_request)
    try:
        logger_of("llamagen_async.test").warning("one", extra=about(generation_id="cmc_1"))
    finally:
        logging.setLogRecordFactory(usual)
    (record,) = caplog.records
    assert facts(record) == (None, "cmc_1", "web-1")


@pytest.mark.virtual_time
async def test_logging_that_fails_loses_nothing_that_was_paid_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Handlers and filters may raise, of which the one who is told on stderr knows more."""

    def fail(_record: logging.LogRecord) -> bool:
        raise OSError("the log's disk is full")

    handler = logging.Handler()
    handler.addFilter(fail)
    monkeypatch.setattr(logging.getLogger("llamagen_async"), "handlers", [handler])
    network = Network(minute(), latency=1.0)
    async with network.client() as client:
        leaving = asyncio.create_task(client.comics.create("left"))
        await asyncio.sleep(0.5)
        leaving.cancel()  # its id is logged
        comics = await asyncio.gather(*(client.comics.create(f"s{n}") for n in range(4)))
    assert len({comic.id for comic in comics}) == 4
    assert len(network.creates) == 5
    assert "the log's disk is full" in capsys.readouterr().err


def test_an_error_tells_of_its_generation_and_its_exchange() -> None:
    error = NotFoundError(404, None, "gone", None, "req_7").about("cmc_1")
    assert about(error) == {"generation_id": "cmc_1", "request_id": "req_7"}
    assert about(error, generation_id="cmc_2")["generation_id"] == "cmc_2"
    assert about(None) == about(ValueError()) == {}


@pytest.mark.virtual_time
async def test_a_create_whose_caller_is_gone_is_logged_with_its_id(
    caplog: pytest.LogCaptureFixture,
) -> None:
    network = Network(minute(), latency=2.0)
    async with network.client() as client:
        task = asyncio.create_task(client.comics.create("a"))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.sleep(5)
    record = record_of(caplog, "already accepted")
    id_ = network.service.stats(0)["generations"][0]["id"]
    assert facts(record) == (None, id_, None)


@pytest.mark.virtual_time
async def test_a_lost_change_is_logged_with_its_id(caplog: pytest.LogCaptureFixture) -> None:
    lost = APIConnectionError("the line went dead", request_sent=True)

    def after(sent: Sent) -> Exception | None:
        return lost if sent.kind == "continue" else None

    network = Network(minute(), latency=2.0, after=after)
    async with network.client() as client:
        comic = await client.comics.create_and_wait("a")
        task = asyncio.create_task(client.comics.continue_write(comic.id, "b"))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.sleep(5)
    assert facts(record_of(caplog, "its answer was lost")) == (None, comic.id, None)


@pytest.mark.virtual_time
@pytest.mark.parametrize("kind", ["create", "continue"])
async def test_what_a_client_leaves_on_its_way_is_logged(
    caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """A caller gives up, and then the client is closed: nobody else tells that it may be paid."""
    network = Network(minute(), latency=1.0)
    async with network.client() as client:
        id_ = (await client.comics.create_and_wait("a")).id if kind == "continue" else None
    slow = Network(network.service, latency=100.0)
    with pytest.raises(TimeoutError):
        async with slow.client() as client, asyncio.timeout(3):
            await (client.comics.continue_write(id_, "b") if id_ else client.comics.create("a"))
    record = record_of(caplog, f"{kind} may be accepted (the client was closed before the answer")
    assert facts(record) == (None, id_, None)


@pytest.mark.virtual_time
async def test_checks_that_fail_are_logged_with_job_comic_and_exchange(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """The poller knows nothing of jobs; their requests are sent in their context."""

    def before(sent: Sent) -> Exception | None:
        is_check = sent.kind == "status" and sent.at < 900
        return ServerError(500, None, "sick", None, f"req_{sent.n}") if is_check else None

    machine = Machine(tmp_path, before=before)
    async with machine.open() as client, ComicQueue(client, machine.journal) as queue:
        job = await queue.submit("a", key="order-42")
        reads = [client.comics.usage() for _ in range(3)]
        await asyncio.gather(*reads, return_exceptions=True)
        await queue.result(job)
    record = record_of(caplog, "can't be checked")
    job_key, id_, request_id = facts(record)
    assert id_ == machine.rows()[0][1]
    assert job_key == "order-42"
    assert request_id.startswith("req_")


@pytest.mark.virtual_time
async def test_a_picture_that_does_not_come_is_logged_with_its_comic(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    class Away:
        def open_asset(self, url: str, *, headers: Any = None) -> Any:
            raise APIConnectionError("no route to host", request_sent=False)

        async def aclose(self) -> None: ...

    machine = Machine(tmp_path, assets=Away())
    await machine.batch([{"key": "order-42", "prompt": "a"}], out=tmp_path, timeout=300)
    record = record_of(caplog, "not here yet")
    ((_, id_),) = machine.rows()
    assert facts(record) == ("order-42", id_, None)


@pytest.mark.virtual_time
async def test_what_a_download_sets_is_gone_afterwards(tmp_path: Path) -> None:
    network = Network(minute())
    async with network.client() as client:
        comic = await client.comics.create_and_wait("a")
        with pytest.raises(LlamaGenError):
            await client.comics.download(comic, tmp_path, timeout=5)
    assert GENERATION_ID.get() is None


@pytest.mark.virtual_time
async def test_an_outage_is_logged_with_the_exchange(caplog: pytest.LogCaptureFixture) -> None:
    def before(sent: Sent) -> Exception | None:
        return ServerError(503, None, "away", None, f"req_{sent.n}") if sent.at < 30 else None

    network = network_of(ROOMY, before=before)
    async with network.client(ROOMY) as client:
        creating = [client.comics.create_and_wait(f"s{n}", timeout=600) for n in range(5)]
        await asyncio.gather(*creating, return_exceptions=True)
    assert facts(record_of(caplog, "waiting for it"))[2].startswith("req_")


@pytest.mark.virtual_time
async def test_a_batch_that_is_left_logs_each_id(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    network = Network(minute())
    async with network.client() as client:
        results = aiter(client.comics.batch(["a", "b"]))
        await anext(results)
        await cast("AsyncGenerator[Any]", results).aclose()
    ids = {one["id"] for one in network.service.stats(0)["generations"]}
    left = {facts(one)[1] for one in caplog.records if "was left" in one.getMessage()}
    assert left
    assert left <= ids
