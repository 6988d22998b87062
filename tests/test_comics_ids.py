"""The id of a paid comic is told, whatever happens after the server has accepted it."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, cast

import pytest

from llamagen_async import (
    APIConnectionError,
    AuthenticationError,
    BatchState,
    ClientClosedError,
    ComicGeneration,
    ComicQueue,
    GenerationFailedError,
    InvalidRequestError,
    LlamaGenClient,
    LlamaGenError,
    NotFoundError,
    PermissionDeniedError,
    RequestKind,
    WaitTimeoutError,
)
from llamagen_async.sandbox import Durations, SandboxService
from tests.support.machine import ROOMY, Machine
from tests.support.scripted import Network, Sent, minute

pytestmark = pytest.mark.virtual_time


def network(**settings: Any) -> Network:
    return Network(minute(plans={"the-key": ROOMY}), key="the-key", **settings)


def id_of(net: Network, number: int = 0) -> str:
    id_: str = net.service.stats(0.0)["generations"][number]["id"]
    return id_


def failing(error: Exception) -> Any:
    return lambda sent: error if sent.kind == "status" else None


@pytest.mark.parametrize(
    "error",
    [
        AuthenticationError(401, None, "no"),
        NotFoundError(404, None, "gone"),
        PermissionDeniedError(403, None, "no"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_an_error_while_waiting_has_the_id(error: LlamaGenError) -> None:
    """As a field and in its words; an error that others were told of, too, is left as it is."""
    net = network(before=failing(error))
    async with net.client(ROOMY, max_retries=1) as client:
        with pytest.raises(type(error)) as caught:
            await client.comics.create_and_wait("a cat")
        assert caught.value.id == id_of(net)
        assert id_of(net) in str(caught.value)
        assert error.id is None
        for call in (client.comics.wait_for_completion, client.comics.get):
            with pytest.raises(type(error)) as caught:
                await call(id_of(net))
            assert caught.value.id == id_of(net)


@pytest.mark.parametrize("url", ["data:image/png;base64,AAAA", "/pictures/1.png"])
async def test_a_picture_with_an_odd_url_is_told_with_the_id(url: str, tmp_path: Path) -> None:
    """Nobody has given that URL: without the id, nobody would know which comic it is of."""
    comic = ComicGeneration.parse(
        {"id": "c1", "status": "SUCCEEDED", "comics": [{"panels": [{"assetUrl": url}]}]}
    )
    async with network().client(ROOMY) as client:
        with pytest.raises(InvalidRequestError, match=rf"'{url}'.*\(generation c1\)"):
            await client.comics.download(comic, tmp_path)


async def test_an_error_that_all_waits_meet_has_the_id_of_each() -> None:
    net = network(latency=1.0)
    async with net.client(ROOMY) as client:
        waiting = [asyncio.create_task(client.comics.create_and_wait(f"s{n}")) for n in range(3)]
        await asyncio.sleep(5)
        await client.aclose()
        errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(error, ClientClosedError) for error in errors)
    assert all("accepted and goes on" in str(error) for error in errors)
    ids = {error.id for error in errors if isinstance(error, LlamaGenError)}
    assert ids == {id_of(net, n) for n in range(3)}


async def test_ends_of_the_wait_have_the_id_too() -> None:
    """A comic that failed, time that is up: the same attribute, once in the words."""
    net = network()
    async with net.client(ROOMY) as client:
        with pytest.raises(WaitTimeoutError) as late:
            await client.comics.create_and_wait("a cat", timeout=10)
    assert late.value.id == id_of(net)
    service = SandboxService(
        durations=Durations.constant(10), failure_rate=1.0, plans={"the-key": ROOMY}
    )
    net = Network(service, key="the-key")
    async with net.client(ROOMY) as client:
        with pytest.raises(GenerationFailedError) as failed:
            await client.comics.create_and_wait("a cat")
    assert failed.value.id == id_of(net)
    assert str(failed.value).count(id_of(net)) == 1


async def test_an_id_that_can_not_be_asked_for_is_told() -> None:
    """Whatever is refused after the acceptance is not refused without the id."""
    net = network(body=lambda sent, body: {**body, "id": ".."} if sent.kind == "create" else body)
    async with net.client(ROOMY) as client:
        with pytest.raises(LlamaGenError) as caught:
            await client.comics.create_and_wait("a cat")
    assert "'..'" in str(caught.value)


@pytest.mark.parametrize("given", ["PAID\ud800", "\udcffPAID", "PAID\x00ID", "PAID" * 200_000])
async def test_an_id_that_is_hard_to_store_is_no_foreign_error(tmp_path: Path, given: str) -> None:
    """The part that can be stored is stored, and every error of the package has it."""

    def body(sent: Sent, answer: Any) -> Any:
        return {**answer, "id": given} if sent.kind == "create" else answer

    machine = Machine(tmp_path, body=body)
    (item,) = await machine.batch(["a cat"], timeout=100)
    assert isinstance(item.error, LlamaGenError)
    ((state, id_),) = machine.rows()
    assert (state, item.state) == ("running", BatchState.RUNNING)
    assert "PAID" in id_
    assert item.generation is not None
    assert item.generation.id == id_
    async with machine.open() as client:
        with pytest.raises(LlamaGenError) as caught:
            await client.comics.create_and_wait("a dog")
        assert caught.value.id == id_


@pytest.mark.once
@pytest.mark.parametrize("number", [90, 150, 500, 940, 960, 980, 990, 1_000])
async def test_an_answer_that_is_too_deep_to_store_loses_no_id(tmp_path: Path, number: int) -> None:
    nested: Any = []
    for _ in range(number):
        nested = [nested]
    machine = Machine(tmp_path, body=lambda _sent, body: {**body, "x": nested})
    (item,) = await machine.batch(["a cat"], timeout=100)
    assert item.state is BatchState.SUCCEEDED
    assert item.error is None
    assert machine.rows() == [("succeeded", item.generation.id if item.generation else None)]
    (again,) = await machine.batch(["a cat"], timeout=100)
    assert again.state is BatchState.SUCCEEDED


# --- cancelled ----------------------------------------------------------------------------------


def cancel_at_answer(client: LlamaGenClient, task: asyncio.Task[Any]) -> None:
    """Cancel a caller when its answer is handed over, before it runs again."""
    dispatcher = client._core.open().scheduler._dispatcher
    submit = dispatcher.submit

    def watched(submission: Any) -> None:
        submission.future.add_done_callback(lambda _future: task.cancel())
        submit(submission)

    dispatcher.submit = watched  # type: ignore[method-assign]  # before the caller waits


@pytest.mark.parametrize("method", ["create", "create_and_wait"])
async def test_a_cancel_in_the_very_turn_of_the_answer_tells_the_id(
    caplog: pytest.LogCaptureFixture, method: str
) -> None:
    """The answer was handed over, and its caller had not run yet."""
    net = network(latency=1.0)
    async with net.client(ROOMY) as client:
        task = asyncio.create_task(getattr(client.comics, method)("a cat"))
        cancel_at_answer(client, task)
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert f"create {id_of(net)} was accepted" in "".join(caught.value.__notes__)
        assert f"create {id_of(net)} goes on" in caplog.text


@pytest.mark.parametrize("when", [0.5, 1.0, 1.5, 30.0])
async def test_a_cancel_at_any_time_tells_the_id(
    caplog: pytest.LogCaptureFixture, when: float
) -> None:
    net = network(latency=1.0)
    async with net.client(ROOMY) as client:
        task = asyncio.create_task(client.comics.create_and_wait("a cat"))
        await asyncio.sleep(when)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(5)
        assert id_of(net) in caplog.text


async def test_a_lost_answer_in_the_turn_of_a_cancel_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    net = network(latency=1.0, after=lambda _sent: APIConnectionError("it broke off"))
    async with net.client(ROOMY) as client:
        task = asyncio.create_task(client.comics.create("a cat"))
        cancel_at_answer(client, task)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert "create may be accepted" in caplog.text


class Owner:
    """A program that keeps a record of its own, and fails at it."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    since = None

    async def before_send(self) -> None: ...

    async def not_sent(self) -> None: ...

    async def accepted(self, _answer: object) -> None:
        raise self.error

    def held_up(self, error: LlamaGenError) -> None: ...

    async def written(self) -> None: ...

    def abandoned(self, _outcome: object) -> None: ...


async def test_an_owner_that_fails_does_not_cost_the_id(caplog: pytest.LogCaptureFixture) -> None:
    """The answer goes to the caller all the same, and the failure to the log."""
    net = network()
    async with net.client(ROOMY) as client:
        comic = await client.comics.create("a cat", hooks=Owner(RuntimeError("no database")))
        assert comic.id == id_of(net)
        assert comic.id in caplog.text
        assert "no database" in caplog.text


# --- batches ------------------------------------------------------------------------------------


@pytest.mark.once
@pytest.mark.parametrize("end", ["break", "cancel", "raise"])
async def test_a_batch_without_a_journal_that_is_left_tells_its_ids(
    caplog: pytest.LogCaptureFixture, end: str
) -> None:
    """Comics that run are told, and those that are done and that nobody took."""
    net = network()

    async def use(client: Any) -> None:
        async for _ in client.comics.batch([f"s{n}" for n in range(4)]):
            if end == "break":
                break
            if end == "raise":
                raise ZeroDivisionError
            await asyncio.Event().wait()

    with caplog.at_level(logging.WARNING):
        async with net.client(ROOMY) as client:
            task = asyncio.create_task(use(client))
            await asyncio.sleep(200)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            del task
            gc.collect()
            await asyncio.sleep(100)
    told = {id_of(net, n) for n in range(4) if id_of(net, n) in caplog.text}
    assert len(told) >= 3  # the first one was taken


async def test_a_batch_whose_end_is_cut_short_tells_its_ids(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A reader who cancels twice has taken no more items than one who does it once."""
    net = network()
    async with net.client(ROOMY) as client:
        results = aiter(client.comics.batch([f"s{n}" for n in range(4)]))
        taken = await anext(results)
        await asyncio.sleep(200)
        closing = asyncio.create_task(cast("AsyncGenerator[Any]", results).aclose())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
    assert closing.cancelled()
    assert taken.generation is not None
    ids = {id_of(net, n) for n in range(4)} - {taken.generation.id}
    assert {id_ for id_ in ids if id_ in caplog.text} == ids


@pytest.mark.parametrize("latency", [1.0, 20.0])
@pytest.mark.parametrize("as_queue", [True, False])
async def test_whatever_has_no_journal_tells_what_it_leaves(
    caplog: pytest.LogCaptureFixture, latency: float, *, as_queue: bool
) -> None:
    """Also a create that is still on its way when the client has closed: it may be paid for."""
    net = network(latency=latency)

    async def use(client: Any) -> None:
        stories = [{"prompt": f"s{n}", "key": f"order-{n}"} for n in range(3)]
        if not as_queue:
            async for _ in client.comics.batch(stories):
                pass
            return
        async with ComicQueue(client) as queue:
            for story in stories:
                await queue.submit(story)
            await queue.result("order-0")

    with pytest.raises(TimeoutError):
        async with net.client(ROOMY) as client, asyncio.timeout(10):
            await use(client)
    left = [one for one in caplog.records if "has no journal" in one.getMessage()]
    assert {vars(one)["job_key"] for one in left} == {f"order-{n}" for n in range(3)}
    if latency < 10:
        assert {vars(one)["generation_id"] for one in left} == {id_of(net, n) for n in range(3)}
    else:
        assert all("may have been accepted" in one.getMessage() for one in left)


async def test_a_batch_with_a_journal_has_its_ids_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    machine = Machine(tmp_path)
    await machine.batch([f"s{n}" for n in range(4)], leave_after=1)
    assert "has no journal" not in caplog.text
    assert all(id_ for _, id_ in machine.rows())


@pytest.mark.parametrize(
    "around",
    [
        lambda comic: {**comic, "id": comic["id"].upper()},
        lambda comic: {"id": "req-1", "status": "ok", "data": comic},
        lambda comic: {"id": 7, "data": [{"result": comic}]},
    ],
    ids=["another case", "an id of the answer", "further out"],
)
async def test_a_check_is_about_the_comic_that_was_asked_for(around: Any) -> None:
    """Nobody could ever collect a comic whose answers seem to be about another one."""
    is_check = RequestKind.STATUS
    net = network(body=lambda sent, body: around(body) if sent.kind is is_check else body)
    async with net.client(ROOMY) as client:
        comic = await client.comics.create("x")
        done = await client.comics.wait_for_completion(comic.id, timeout=600)
    assert (done.id, bool(done.asset_urls)) == (comic.id, True)
