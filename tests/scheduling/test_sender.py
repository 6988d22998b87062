"""The sender: what becomes of a request that is refused or lost, or whose lease is over."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from llamagen_async import (
    APIConnectionError,
    ClientClosedError,
    ComicGeneration,
    ComicRequest,
    LlamaGenError,
    NotFoundError,
    QuotaExhaustedError,
    RateLimitError,
    ServerError,
    SubmissionUncertainError,
)
from llamagen_async.sandbox import DEMO_KEY, Durations, SandboxService
from tests.support.scheduling import (
    ONE,
    TWO,
    accepted_id,
    network_of,
    refusal,
)
from tests.support.scripted import Network, left_over, minute, now

pytestmark = pytest.mark.virtual_time


def refused_once(retry_after: float | None) -> Network:
    return Network(
        minute(),
        before=lambda sent: refusal(retry_after) if sent.n == 1 else None,
    )


@pytest.mark.parametrize("retry_after", [7.5, 90.0])
async def test_a_refused_create_is_sent_once_more_after_the_pause(retry_after: float) -> None:
    """The create goes to the head of the queue, and every request waits for `Retry-After`."""
    network = refused_once(retry_after)
    async with network.client() as client:
        await asyncio.gather(
            *(client.comics.create(story) for story in ("a", "b")), return_exceptions=True
        )
        await client.comics.create("c")
        stats = client.stats()
    assert network.order == ["create a", "create b", "create b", "create c"]
    assert network.sent[2].at == pytest.approx(retry_after)
    assert network.accepted == 3
    assert (stats.refused, stats.retries, stats.requests) == (1, 1, {"create": 4})


async def test_a_refused_request_keeps_its_position_in_the_queue() -> None:
    """No request overtakes another one because that one was refused."""
    network = network_of(TWO, latency=1.0, after=lambda sent: refusal(5.0) if sent.n == 0 else None)
    async with network.client(TWO) as client:
        await asyncio.gather(*(client.comics.create(story) for story in "abc"))
    assert network.order == ["create a", "create b", "create a", "create c"]


async def test_without_retry_after_pauses_become_longer() -> None:
    """A server that refuses without naming a time is asked less and less often."""
    network = Network(minute(), before=lambda sent: refusal(None) if sent.n < 3 else None)
    async with network.client() as client:
        await client.comics.create("a")
    times = [sent.at for sent in network.sent]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps == sorted(gaps)
    assert gaps[0] > 1


async def test_a_create_is_given_up_after_nine_refusals_in_a_row() -> None:
    """The caller gets the server's refusal, and nothing was accepted."""
    network = Network(minute(), before=lambda _sent: refusal(1.0))
    async with network.client() as client:
        with pytest.raises(RateLimitError):
            await client.comics.create("a")
    assert not left_over()
    assert len(network.sent) == 9
    assert network.accepted == 0


async def test_a_cancelled_create_that_is_refused_is_not_sent_again() -> None:
    """A refused create whose caller is gone is dropped."""
    network = Network(minute(), latency=2.0, after=lambda _sent: refusal(1.0))
    async with network.client() as client:
        gone = asyncio.create_task(client.comics.create("gone"))
        await asyncio.sleep(1)
        gone.cancel()
        await asyncio.sleep(30)
    assert len(network.sent) == 1


async def test_without_a_connection_the_slot_is_given_back_and_the_create_repeated() -> None:
    """A create that provably did not arrive is not counted, and is sent again."""
    unsent = APIConnectionError("no connection", request_sent=False)
    network = network_of(ONE, before=lambda sent: unsent if sent.n < 3 else None)
    async with network.client(ONE) as client:
        await client.comics.create("a")
        assert now() < 10  # not the minute that a counted request would cost
        stats = client.stats()
        assert (stats.requests, stats.retries) == ({"create": 1}, 3)
    assert len(network.sent) == 4
    assert network.accepted == 1


async def test_a_server_that_can_not_be_reached_is_given_up() -> None:
    """The error after the last retry says that nothing was sent."""
    unsent = APIConnectionError("no connection", request_sent=False)
    network = Network(minute(), before=lambda _sent: unsent)
    async with network.client(max_retries=2) as client:
        with pytest.raises(APIConnectionError) as caught:
            await client.comics.create("a")
        assert not caught.value.request_sent
        assert (await client.limits()).windows[0].used == 0
    assert len(network.sent) == 3


LOSSES: list[Exception] = [
    APIConnectionError("the connection broke off"),
    ServerError(500, None, "broken"),
    ServerError(503, None, "overloaded"),
]


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("arrives", [True, False])
async def test_a_create_whose_answer_is_lost_is_never_sent_again(
    loss: Exception, *, arrives: bool
) -> None:
    """A create that may have been accepted is reported as uncertain."""
    network = Network(
        minute(),
        before=None if arrives else lambda _sent: loss,
        after=lambda _sent: loss,
    )
    request = ComicRequest("a", style="ink")
    async with network.client() as client:
        with pytest.raises(SubmissionUncertainError) as caught:
            await client.comics.create(request)
        assert caught.value.request is request
        assert caught.value.__cause__ is loss
        assert (await client.limits()).windows[0].used == 1
    assert len(network.sent) == 1
    assert network.accepted == int(arrives)


async def test_an_answer_without_an_id_is_uncertain() -> None:
    """A 200 that can't be read may have been a billed acceptance."""
    network = Network(minute(), body=lambda _sent, _body: {"ok": True})
    async with network.client() as client:
        with pytest.raises(SubmissionUncertainError, match="no id"):
            await client.comics.create("a")
    assert len(network.sent) == 1


async def test_a_create_that_gets_a_404_is_final_and_certain() -> None:
    """A create that is answered with 404 was not accepted, and its slot is spent."""
    network = Network(minute(), before=lambda _sent: NotFoundError(404, None, "gone"))
    async with network.client() as client:
        with pytest.raises(NotFoundError):
            await client.comics.create("a")
        assert (await client.limits()).windows[0].used == 1


async def test_a_request_that_json_can_not_hold_costs_no_slot() -> None:
    """A field that JSON can't hold is found before a slot is spent and anything is sent."""
    network = network_of(ONE)
    async with network.client(ONE) as client:
        with pytest.raises(ValueError, match="JSON"):
            await client.comics.create("a", extra={"when": {1, 2}})
        await client.comics.create("b")
        assert now() == 0
    assert network.accepted == 1


class SleepyOwner:
    """An owner during whose first `before_send` the machine sleeps for an hour."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall = 1_000.0
        self.steps: list[str] = []
        monkeypatch.setattr("llamagen_async.scheduling.sender.wall_time", lambda: self.wall)

    since = None

    async def before_send(self) -> None:
        self.wall += 0.0 if self.steps else 3_600.0
        self.steps.append("before_send")
        await asyncio.sleep(1)

    async def not_sent(self) -> None:
        self.steps.append("not_sent")

    async def accepted(self, answer: ComicGeneration) -> None:
        self.steps.append(f"accepted {answer.id}")

    def held_up(self, error: LlamaGenError) -> None:
        raise AssertionError(error)

    async def written(self) -> None: ...

    def abandoned(self, outcome: object) -> None:
        self.steps.append(f"abandoned {type(outcome).__name__}")


async def test_a_slot_that_the_machine_slept_through_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A slot whose lease may be over by the wall clock is spent; the request takes another."""
    network = network_of(TWO)
    owner = SleepyOwner(monkeypatch)
    async with network.client(TWO) as client:
        comic = await client.comics.create("a", hooks=owner)
        assert owner.steps == ["before_send", "not_sent", "before_send", f"accepted {comic.id}"]
        assert (await client.limits()).windows[0].used == 2
        assert client.stats().total == len(network.sent) == 1


async def test_closing_sends_no_create_whose_slot_the_machine_slept_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The create would need another slot, and a client that closes takes none."""
    network = network_of(TWO)
    client = network.client(TWO)
    creating = asyncio.create_task(client.comics.create("a", hooks=SleepyOwner(monkeypatch)))
    await asyncio.sleep(0.5)
    async with asyncio.timeout(60):
        await client.aclose()
        with pytest.raises(ClientClosedError):
            await creating
    assert not left_over()
    assert network.sent == []


async def test_the_hooks_of_a_submission_are_called_at_each_step() -> None:
    """A refused create is `not_sent` and sent again; an answer without a caller is abandoned."""
    network = Network(
        minute(), latency=2.0, before=lambda sent: refusal(5.0) if sent.n == 0 else None
    )
    calls: list[str] = []

    class Owner:
        since = None

        async def before_send(self) -> None:
            calls.append("before_send")

        async def not_sent(self) -> None:
            calls.append("not_sent")

        def held_up(self, error: LlamaGenError) -> None:
            calls.append(f"held_up {error}")

        async def accepted(self, answer: ComicGeneration) -> None:
            calls.append(f"accepted {type(answer).__name__}")

        async def written(self) -> None: ...

        def abandoned(self, outcome: object) -> None:
            calls.append(f"abandoned {type(outcome).__name__}")

    async with network.client() as client:
        gone = asyncio.create_task(client.comics.create("a", hooks=Owner()))
        await asyncio.sleep(6)
        gone.cancel()
        await asyncio.sleep(5)
    assert calls == [
        "before_send",
        "not_sent",
        "before_send",
        "accepted ComicGeneration",
        "abandoned ComicGeneration",
    ]


async def test_a_create_whose_hook_fails_is_not_sent() -> None:
    """The caller gets the error of `before_send`, and the slot is free again."""
    network = network_of(TWO)

    class Owner(SleepyOwner):
        def __init__(self) -> None:
            self.steps = []

        since = None

        async def before_send(self) -> None:
            raise OSError("no room on the disk")

    async with network.client(TWO) as client:
        with pytest.raises(OSError, match="no room"):
            await client.comics.create("a", hooks=Owner())
        assert (await client.limits()).windows[0].used == 0
    assert network.sent == []


async def test_a_comic_whose_owner_fails_is_its_callers(caplog: pytest.LogCaptureFixture) -> None:
    """A comic that is paid for reaches its caller, and the log has its id beside the failure."""
    network = network_of(TWO)

    class Owner(SleepyOwner):
        def __init__(self) -> None:
            self.wall = 1_000.0
            self.steps = ["awake"]

        async def accepted(self, answer: ComicGeneration) -> None:
            raise OSError(f"no room for {type(answer).__name__}")

    async with network.client(TWO) as client:
        comic = await client.comics.create("a", hooks=Owner())
    assert comic.id == accepted_id(network, "a")
    (record,) = caplog.records
    assert record.getMessage() == f"create {comic.id} was accepted, and its owner failed"
    assert record.__dict__["generation_id"] == comic.id
    assert record.exc_info is not None
    assert "no room for ComicGeneration" in str(record.exc_info[1])


@pytest.mark.parametrize(
    ("body", "id_"),
    [
        ({"id": "cmc_1", "status": "PENDING"}, "cmc_1"),
        ({"id": "err_1", "status": 500, "message": "an error with an id of its own"}, None),
        ({"id": ["cmc_1"], "status": "PENDING"}, None),
        ("<html>", None),
    ],
)
async def test_a_generation_that_comes_with_a_failure_is_named(
    body: object, id_: str | None
) -> None:
    """Most probably it was accepted: the user can look for it by its id."""
    network = Network(minute(), before=lambda _: ServerError(500, None, "broken", body))
    async with network.client() as client:
        with pytest.raises(SubmissionUncertainError) as caught:
            await client.comics.create("a")
    assert caught.value.id == id_
    assert ("cmc_1" in str(caught.value)) is (id_ is not None)


async def test_what_the_server_says_is_left_counts_in_the_window_that_it_names() -> None:
    """A script elsewhere, of which this client's store knows nothing, may use the same key."""
    service = SandboxService(durations=Durations.constant(60), rate_limit_headers=True)
    network = Network(service, key=DEMO_KEY)
    async with network.client("demo") as elsewhere, network.client("demo") as client:
        for _ in range(2):
            await elsewhere.comics.create("elsewhere")
        await client.comics.create("here")
        limits = await client.limits()
        assert {one.limit.limit: one.used for one in limits.windows} == {4: 3, 15: 3}
        await client.comics.create("here")
        with pytest.raises(QuotaExhaustedError):
            await client.comics.create("here", max_wait=30.0)
    assert client.stats().refused == 0


@pytest.mark.parametrize("before", [0.5, 1.0])
@pytest.mark.parametrize("turns", range(12))
async def test_a_check_counts_whenever_its_client_is_closed(turns: int, before: float) -> None:
    """At each turn of the loop from the time on at which it was sent, or answered."""
    is_sent = asyncio.Event()
    network = Network(
        latency=1.0, before=lambda sent: is_sent.set() if sent.kind == "status" else None
    )
    url = "https://closed-early.invalid"
    client, other = network.client(base_url=url), network.client(base_url=url)
    comic = await client.comics.create("a")
    waiting = asyncio.create_task(client.comics.wait_for_completion(comic.id))
    await is_sent.wait()
    await asyncio.sleep(before)
    for _ in range(turns):
        await asyncio.sleep(0)
    await client.aclose()
    await asyncio.gather(waiting, return_exceptions=True)
    (window,) = (await other.limits()).windows
    await other.aclose()
    assert window.used >= len(network.sent)
