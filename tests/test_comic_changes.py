"""Continuations and redraws: paid once, reported with their id, and waited for to their own end."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from llamagen_async import (
    APIConnectionError,
    BadRequestError,
    ComicGeneration,
    ContinueRequest,
    InvalidRequestError,
    LlamaGenClient,
    NotFoundError,
    Plan,
    QuotaExhaustedError,
    RateLimit,
    RateLimitError,
    RequestKind,
    ServerError,
    SubmissionUncertainError,
    UpdateRequest,
)
from llamagen_async.plans import DAY
from llamagen_async.sandbox import Durations, Fault, SandboxService
from llamagen_async.simulation import simulated_client
from llamagen_async.webhooks import WebhookEvent
from tests.support.scripted import ROOMY, Network, Recorder, Sent, minute, now

pytestmark = pytest.mark.virtual_time

CHANGES: dict[str, tuple[RequestKind, dict[str, Any]]] = {
    "continue_write": (RequestKind.CONTINUE, {"prompt": "more", "fix_panel_num": 2}),
    "update_panel": (RequestKind.UPDATE, {"panel": 1, "prompt": "brighter"}),
}


async def change(client: LlamaGenClient, name: str, id_: str, **more: Any) -> ComicGeneration:
    changed: ComicGeneration = await getattr(client.comics, name)(id_, **CHANGES[name][1], **more)
    return changed


async def finished(client: LlamaGenClient) -> str:
    return (await client.comics.create_and_wait("x", fix_panel_num=4)).id


def has_changed(name: str, comic: ComicGeneration) -> bool:
    """Whether a comic shows what the change has made of it."""
    assert comic.usage is not None
    if name.startswith("continue"):
        return sum(len(page.panels) for page in comic.pages) == 6
    return comic.usage.redraw_panels == 1


def answered_by(name: str, answer: dict[str, Any]) -> Network:
    """Return a network whose server answers a change so, and does nothing."""
    kind = CHANGES[name][0]
    return Recorder(body=lambda sent, body: answer if sent.kind is kind else body)


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize(
    "answer",
    [
        {"code": 402, "message": "no credits"},
        {"success": False, "msg": "no credits"},
        {"error": {"message": "no credits"}, "data": None},
        {"code": "429", "status": 429, "detail": "no credits"},
        {"status": 402, "message": "no credits"},
        {"status": "402", "message": "no credits"},
        {"status": "error", "message": "no credits"},
        {"status": "Fail", "data": {"credits": "no credits"}},
    ],
    ids=str,
)
async def test_an_error_that_is_called_a_success_is_no_change(
    name: str, answer: dict[str, Any]
) -> None:
    """Else the comic as it was would be taken for the new one."""
    network = answered_by(name, answer)
    async with network.client(ROOMY) as client:
        id_ = await finished(client)
        with pytest.raises(SubmissionUncertainError, match="no credits") as caught:
            await change(client, name, id_)
    assert caught.value.id == id_
    assert len(network.of(CHANGES[name][0])) == 1


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"success": True, "error": None, "errors": []},
        {"code": 200, "message": "ok"},
        {"status": "PROCESSING", "error": "an old one"},
        {"status": "ok"},
        {"status": 200},
        {"status": "200"},
    ],
    ids=str,
)
async def test_an_answer_to_a_change_may_leave_out_the_id(
    name: str, answer: dict[str, Any]
) -> None:
    async with answered_by(name, answer).client(ROOMY) as client:
        id_ = await finished(client)
        assert (await change(client, name, id_)).id == id_


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize(
    "error",
    [
        APIConnectionError("broke off"),
        ServerError(500, None, "broken"),
        ServerError(503, None, "overloaded"),
    ],
    ids=str,
)
async def test_a_change_whose_answer_was_lost_is_never_sent_again(
    name: str, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """The error carries the id and the request."""
    kind = CHANGES[name][0]
    network = Recorder(after=lambda sent: error if sent.kind is kind else None)
    async with network.client(ROOMY) as client:
        id_ = await finished(client)
        with pytest.raises(SubmissionUncertainError) as caught:
            await change(client, name, id_, max_wait=600.0)
        await asyncio.sleep(600)
        assert len(network.of(kind)) == 1
        assert caught.value.id == id_
        assert id_ in str(caught.value)
        assert isinstance(caught.value.request, ContinueRequest | UpdateRequest)
        assert caught.value.request.prompt == CHANGES[name][1]["prompt"]


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize(
    "error",
    [
        RateLimitError(429, None, "slow", None, 5.0),
        APIConnectionError("no connection", request_sent=False),
    ],
    ids=str,
)
async def test_a_change_that_provably_did_not_arrive_is_sent_again(
    name: str, error: Exception
) -> None:
    kind = CHANGES[name][0]

    def before(sent: Sent) -> Exception | None:
        return error if sent.kind is kind and sent.n == 0 else None

    network = Recorder(before=before)
    async with network.client(ROOMY) as client:
        id_ = await finished(client)
        assert (await change(client, name, id_)).id == id_
    assert len(network.of(kind)) == 2


@pytest.mark.parametrize("name", CHANGES)
async def test_a_change_that_is_refused_carries_the_id(name: str) -> None:
    """The server's refusal is about that comic."""
    network = Recorder()
    async with network.client(ROOMY) as client:
        comic = await client.comics.create("x")
        with pytest.raises(BadRequestError) as caught:
            await change(client, name, comic.id)
        assert caught.value.id == comic.id
        with pytest.raises(NotFoundError) as unknown:
            await change(client, name, "nobody")
        assert unknown.value.id == "nobody"


@pytest.mark.parametrize("name", CHANGES)
async def test_a_change_that_can_not_be_sent_today_speaks_of_no_generation(name: str) -> None:
    """Nothing was sent: there is nothing that goes on."""
    daily = Plan("daily", limits=RateLimit(3, per=DAY))
    network = Network(minute(1.0, plans={"the-key": daily}), key="the-key")
    async with network.client(daily) as client:
        comic = await client.comics.create("x")
        await client.comics.get(comic.id)
        await client.comics.get(comic.id)
        with pytest.raises(QuotaExhaustedError, match="nothing was sent") as caught:
            await change(client, name, comic.id)
        assert caught.value.id is None


@pytest.mark.once
@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize(
    "answer", [{}, {"success": True}, {"id": None}, {"id": ""}, [], None, "ok"], ids=str
)
async def test_an_answer_without_an_id_is_about_the_comic_that_was_asked_for(
    name: str, answer: Any
) -> None:
    """Nothing that was accepted is lost for want of an id that is known."""
    kind = CHANGES[name][0]
    network = Recorder(body=lambda sent, body: answer if sent.kind is kind else body)
    async with network.client(ROOMY) as client:
        id_ = await finished(client)
        assert (await change(client, name, id_)).id == id_
        comic = await client.comics.wait_for_completion(id_)
        assert has_changed(name, comic)


async def test_an_answer_with_another_id_is_the_one_to_wait_for() -> None:
    """Should a change make a generation of its own, its id is what was paid for."""
    network = Recorder(
        body=lambda sent, body: {**body, "id": "new"} if sent.kind.value == "continue" else body
    )
    async with network.client(ROOMY) as client:
        id_ = await finished(client)
        with pytest.raises(NotFoundError) as caught:
            await client.comics.continue_and_wait(id_, "x")
        assert caught.value.id == "new"


@pytest.mark.once
@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize(
    ("stale", "seconds"), [(0.0, 60.0), (5.0, 60.0), (40.0, 60.0), (10.0, 5.0), (50.0, 120.0)]
)
async def test_a_change_is_waited_for_to_its_own_end(
    name: str, stale: float, seconds: float, *, is_known: bool
) -> None:
    """Checks that show the comic as it was are not taken for the end.

    It makes no difference whether this client has seen the comic before.
    """
    service = SandboxService(
        durations=Durations.constant(seconds),
        plans={"the-key": ROOMY},
        faults=[Fault("stale", stale)],
    )
    network = Recorder(service)
    async with network.client(ROOMY) as client, network.client(ROOMY) as other:
        id_ = await finished(client)
        changing = client if is_known else other
        began = now()
        comic = await getattr(changing.comics, _and_wait(name))(id_, **CHANGES[name][1])
        assert comic.succeeded
        assert has_changed(name, comic)
        assert now() >= began + max(stale, seconds)
        if seconds >= 60:
            assert now() < began + max(stale, seconds) + 15


@pytest.mark.parametrize("name", CHANGES)
async def test_a_wait_of_its_own_after_a_change_is_for_the_change(name: str) -> None:
    """`wait_for_completion` knows of the change, also the second time."""
    network = Recorder(
        SandboxService(
            durations=Durations.constant(60),
            plans={"the-key": ROOMY},
            faults=[Fault("stale", 30.0)],
        )
    )
    async with network.client(ROOMY) as client:
        id_ = await finished(client)
        for number in (1, 2):
            await change(client, name, id_)
            comic = await client.comics.wait_for_completion(id_)
            assert comic.usage is not None
            panels = sum(len(page.panels) for page in comic.pages)
            assert (panels if name == "continue_write" else comic.usage.redraw_panels) == (
                4 + 2 * number if name == "continue_write" else number
            )
        began = now()
        assert (await client.comics.wait_for_completion(id_)).succeeded
        assert now() < began + 5  # nothing is pending any more


async def test_a_get_of_a_comic_that_was_changed_does_not_end_the_wait_for_it() -> None:
    """The answer to `get` is what the server says, but no reason to stop waiting."""
    network = Recorder(
        SandboxService(
            durations=Durations.constant(60),
            plans={"the-key": ROOMY},
            faults=[Fault("stale", 30.0)],
        )
    )
    async with network.client(ROOMY) as client:
        id_ = await finished(client)
        await change(client, "update_panel", id_)
        assert (await client.comics.get(id_)).succeeded  # before anybody waits
        waiting = asyncio.create_task(client.comics.wait_for_completion(id_))
        await asyncio.sleep(1)
        assert (await client.comics.get(id_)).succeeded  # and while somebody does
        assert has_changed("update_panel", await waiting)


@pytest.mark.parametrize("name", CHANGES)
async def test_who_is_cancelled_hears_of_what_was_paid(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The id is in the log, and a note on what ended the wait."""
    network = Recorder()
    async with network.client(ROOMY) as client:
        id_ = await finished(client)
        task = asyncio.create_task(getattr(client.comics, _and_wait(name))(id_, **CHANGES[name][1]))
        await asyncio.sleep(5)
        task.cancel()
        with caplog.at_level(logging.WARNING), pytest.raises(asyncio.CancelledError):
            await task
        assert f"{CHANGES[name][0].value} {id_} goes on" in caplog.text


@pytest.mark.parametrize("name", CHANGES)
async def test_a_bad_timeout_is_refused_before_it_is_paid(name: str) -> None:
    network = Recorder()
    async with network.client(ROOMY) as client:
        with pytest.raises(InvalidRequestError, match=r"^timeout: got"):
            await getattr(client.comics, _and_wait(name))("c", **CHANGES[name][1], timeout=-1)
    assert not network.requests


def _and_wait(name: str) -> str:
    return {"continue_write": "continue_and_wait", "update_panel": "update_panel_and_wait"}[name]


async def test_an_event_of_the_time_before_does_not_end_the_wait_for_a_change() -> None:
    """Old events may come late, twice, or before anybody waits; a new one ends the wait."""
    service = SandboxService(durations=Durations.constant(60), plans={"the-key": ROOMY})
    network = Recorder(service)

    def completed(shown: dict[str, Any]) -> WebhookEvent:
        event = {"type": "comic.generation.completed", "id": "e", "data": shown}
        return WebhookEvent.parse(event)

    async with simulated_client(
        service, plan=ROOMY, api_key="the-key", webhooks=True, transport=network
    ) as client:
        id_ = await finished(client)
        old = dict((await client.comics.get(id_)).raw)
        client.deliver(completed(old))
        await change(client, "update_panel", id_)
        client.deliver(completed(old))
        waiting = asyncio.create_task(client.comics.wait_for_completion(id_))
        await asyncio.sleep(10)
        client.deliver(completed(old))
        await asyncio.sleep(51)
        assert not waiting.done()
        checks = len(network.checks)
        new = {**old, "usage": {**old["usage"], "redraw_panels": 1}}
        client.deliver(completed(new))
        assert has_changed("update_panel", await waiting)
        assert len(network.checks) == checks


async def test_an_event_that_was_kept_before_the_change_is_no_news_of_it() -> None:
    """Nobody had waited for the first end, so its event was kept for who would."""
    service = SandboxService(durations=Durations.constant(60), plans={"the-key": ROOMY})
    async with simulated_client(service, plan=ROOMY, api_key="the-key", webhooks=True) as client:
        id_ = (await client.comics.create("x", fix_panel_num=4)).id
        await asyncio.sleep(61)
        event = {"type": "comic.generation.completed", "id": "e"}
        shown = service.shown(next(iter(service._endpoints.generations.values())), now())
        assert not client.deliver(WebhookEvent.parse({**event, "data": shown}))
        await change(client, "update_panel", id_)
        assert has_changed("update_panel", await client.comics.wait_for_completion(id_))


async def test_a_get_before_a_change_is_enough_to_know_how_it_was() -> None:
    """Then even answers that are stale for long are told from the change's own end."""
    service = SandboxService(
        durations=Durations.constant(5), plans={"the-key": ROOMY}, faults=[Fault("stale", 200.0)]
    )
    network = Recorder(service)
    async with network.client(ROOMY) as client, network.client(ROOMY) as other:
        id_ = await finished(client)
        await other.comics.get(id_)
        comic = await other.comics.update_panel_and_wait(id_, panel=1, prompt="brighter")
        assert has_changed("update_panel", comic)


@pytest.mark.parametrize("name", CHANGES)
async def test_a_change_that_was_cancelled_and_lost_is_logged_with_its_id(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody else hears of it."""
    kind = CHANGES[name][0]
    lost = APIConnectionError("broke off")
    network = Recorder(latency=2.0, after=lambda sent: lost if sent.kind is kind else None)
    async with network.client(ROOMY) as client:
        id_ = await finished(client)
        task = asyncio.create_task(change(client, name, id_))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.sleep(10)
    assert f"{kind.value} may be accepted (broke off (generation {id_}))" in caplog.text


@pytest.mark.once
@pytest.mark.parametrize("told", ["before", "answer", "before, again"])
@pytest.mark.parametrize("name", CHANGES)
async def test_another_process_that_is_told_how_a_comic_was_waits_for_the_change(
    name: str, told: str
) -> None:
    """A state that was stored tells the old end, which is shown for a while, from the new one."""
    service = SandboxService(
        durations=Durations.constant(20), plans={"the-key": ROOMY}, faults=[Fault("stale", 40.0)]
    )
    network = Recorder(service)
    async with network.client(ROOMY) as client, network.client(ROOMY) as other:
        id_ = await finished(client)
        before = await client.comics.get(id_)
        answer = await change(client, name, id_)
        stored = json.dumps(dict((before if told.startswith("before") else answer).raw))
        after = ComicGeneration.parse(json.loads(stored))
        comic = await other.comics.wait_for_completion(id_, after=after)
        assert has_changed(name, comic)
        if told.endswith("again"):  # such as a job that is done twice
            began = now()
            assert has_changed(name, await other.comics.wait_for_completion(id_, after=after))
            assert now() == began


async def test_what_another_process_is_told_changes_nothing_for_the_one_that_knows() -> None:
    """A change of this client is known better than by any state that was stored."""
    service = SandboxService(
        durations=Durations.constant(20), plans={"the-key": ROOMY}, faults=[Fault("stale", 40.0)]
    )
    network = Recorder(service)
    async with network.client(ROOMY) as client:
        id_ = await finished(client)
        answer = await change(client, "update_panel", id_)
        await asyncio.sleep(45)
        began = now()
        comic = await client.comics.wait_for_completion(id_, after=answer)
        assert has_changed("update_panel", comic)
        assert now() < began + 5


@pytest.mark.parametrize("after", ["c", 5, {"id": "c"}, ComicGeneration.parse({"id": "another"})])
async def test_a_state_that_is_none_of_the_comics_is_refused(after: Any) -> None:
    network = Recorder()
    async with network.client(ROOMY) as client:
        with pytest.raises(InvalidRequestError, match=r"^after: got .*ComicGeneration of that id"):
            await client.comics.wait_for_completion("c", after=after)
    assert not network.requests
