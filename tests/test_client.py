"""`LlamaGenClient`: its arguments, its life, and the whole way over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import attrs
import pytest

from llamagen_async import (
    APIConnectionError,
    AuthenticationError,
    BatchState,
    ClientClosedError,
    ClientStats,
    InsufficientCreditsError,
    InvalidRequestError,
    LlamaGenClient,
    PermissionDeniedError,
    Plan,
    RateLimit,
)
from llamagen_async.sandbox import EMPTY_KEY, Durations, SandboxServer, SandboxService
from llamagen_async.scheduling import RequestReport
from llamagen_async.simulation import run
from llamagen_async.webhooks import WebhookEvent
from tests.support.scripted import Network, Sent, left_over, minute

pytestmark = pytest.mark.virtual_time

KEY = "sk-very-secret-1234567890"
ROOMY = Plan("roomy", limits=RateLimit(1_000, per=60))
SPEED = 300.0
ENVIRONMENT = (
    "LLAMAGEN_API_KEY",
    "LLAMAGEN_PLAN",
    "LLAMAGEN_API_URL",
    "LLAMAGEN_BASE_URL",
    "LLAMAGEN_SPEED",
)


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)


# --- arguments ----------------------------------------------------------------------------------


def test_a_client_without_a_key_is_refused() -> None:
    """The error names the environment variable in which the key may be."""
    with pytest.raises(InvalidRequestError, match="LLAMAGEN_API_KEY"):
        LlamaGenClient()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("plan", "free"),
        ("plan", 3),
        ("base_url", "http://api.llamagen.ai"),
        ("base_url", "nowhere"),
        ("timeout", 0),
        ("timeout", 601),
        ("timeout", True),
        ("timeout", "30"),
        ("max_retries", -1),
        ("max_retries", True),
        ("max_retries", 1.5),
        ("on_store_failure", "ignore"),
        ("base_url", "https://api..llamagen.ai"),
        ("session", "no session"),
        ("session", aiohttp.ClientSession),
        ("proxy", "socks5://proxy.example"),
        ("proxy", 3128),
        ("api_key", "two words"),
        ("api_key", 7),
        ("speed", 0),
        ("speed", 60),
        ("speed", float("inf")),
    ],
)
def test_arguments_are_checked_by_name(name: str, value: Any) -> None:
    """A bad setting is refused when the client is made."""
    arguments: dict[str, Any] = {"api_key": KEY, name: value}
    with pytest.raises(InvalidRequestError, match=f"^{name}: got"):
        LlamaGenClient(**arguments)


def test_settings_are_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that users of the vendor's clients have set already are understood."""
    monkeypatch.setenv("LLAMAGEN_API_KEY", KEY)
    monkeypatch.setenv("LLAMAGEN_PLAN", "paid")
    monkeypatch.setenv("LLAMAGEN_BASE_URL", "https://old.example/v1/")
    client = LlamaGenClient()
    assert client.plan == Plan.PAID
    assert "https://old.example/v1'" in repr(client)
    monkeypatch.setenv("LLAMAGEN_API_URL", "https://new.example")
    assert "https://new.example/v1'" in repr(LlamaGenClient())


def test_arguments_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument is used even if the environment has another value."""
    monkeypatch.setenv("LLAMAGEN_API_KEY", "other")
    monkeypatch.setenv("LLAMAGEN_PLAN", "nonsense")
    monkeypatch.setenv("LLAMAGEN_API_URL", "ftp://nonsense")
    client = LlamaGenClient(KEY, plan="demo", base_url="https://here.example")
    assert client.plan == Plan.DEMO
    assert "https://here.example/v1'" in repr(client)


def test_the_speed_of_a_sandbox_may_be_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number in `LLAMAGEN_SPEED` is used, and anything else is refused by name."""
    monkeypatch.setenv("LLAMAGEN_SPEED", "60")
    sandbox = "http://127.0.0.1:8080"
    assert LlamaGenClient(KEY, base_url=sandbox).speed == 60
    assert LlamaGenClient(KEY, base_url=sandbox, speed=2).speed == 2
    for nonsense in ("fast", "0"):
        monkeypatch.setenv("LLAMAGEN_SPEED", nonsense)
        with pytest.raises(InvalidRequestError, match=r"(?i)speed"):
            LlamaGenClient(KEY)


@pytest.mark.parametrize("url", ["https://api.llamagen.ai", "https://eu.llamagen.ai/v1"])
def test_the_vendors_server_has_one_speed(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A speed for a sandbox would only get refusals from the real API."""
    monkeypatch.setenv("LLAMAGEN_SPEED", "60")
    with pytest.raises(InvalidRequestError, match=r"^speed: got 60"):
        LlamaGenClient(KEY, base_url=url)
    assert LlamaGenClient(KEY, base_url=url, speed=1).speed == 1


@pytest.mark.parametrize("given", [f" {KEY}\n", f'"{KEY}"', f"'{KEY}' "])
def test_a_key_is_the_same_with_white_space_and_quotes_around_it(
    given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account is the same, and with it journal and limits."""
    account = LlamaGenClient(KEY).account
    assert LlamaGenClient(given).account == account
    monkeypatch.setenv("LLAMAGEN_API_KEY", given)
    assert LlamaGenClient().account == account


def test_the_key_that_the_vendors_command_line_keeps_is_the_last_resort(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An argument and the environment come first; a file that is no such file says nothing."""
    monkeypatch.delenv("LLAMAGEN_API_KEY", raising=False)
    monkeypatch.setenv("LLAMAGEN_CONFIG_HOME", str(tmp_path))
    kept = tmp_path / "credentials.json"
    for text in ("{", "[]", "{}", '{"apiToken": 7}', '{"apiToken": " "}', "[" * 10_000):
        kept.write_text(text, encoding="utf-8")
        with pytest.raises(InvalidRequestError, match="LLAMAGEN_API_KEY"):
            LlamaGenClient()
    kept.write_text('{"apiToken": "sk-kept-0123456789"}', encoding="utf-8")
    assert LlamaGenClient().account == LlamaGenClient("sk-kept-0123456789").account
    monkeypatch.setenv("LLAMAGEN_API_KEY", KEY)
    assert LlamaGenClient().account == LlamaGenClient(KEY).account


@pytest.mark.parametrize("given", ["", " ", "\n"])
def test_a_key_of_white_space_is_none(given: str) -> None:
    """The error says where a key may be."""
    with pytest.raises(InvalidRequestError, match="LLAMAGEN_API_KEY"):
        LlamaGenClient(given)


def test_without_an_event_loop_nothing_is_opened() -> None:
    """A call outside of a coroutine raises an error of this package."""
    with pytest.raises(ClientClosedError, match="event loop"):
        LlamaGenClient(KEY).deliver(WebhookEvent.parse({"data": {"id": "c1"}}))


def test_the_default_is_the_vendors_server_and_its_demo_plan() -> None:
    """The plan with the lowest limits is safe for every key."""
    client = LlamaGenClient(KEY)
    assert client.plan == Plan.DEMO
    assert "https://api.llamagen.ai/v1'" in repr(client)


async def test_the_key_is_in_no_repr() -> None:
    """Neither the client nor its limiter shows the key."""
    async with LlamaGenClient(KEY) as client:
        core = client._core
        for thing in (client, client.comics, core, core.settings, core.open().limiter.ledger):
            assert KEY not in repr(thing)
        assert KEY not in repr(await client.limits())


def test_making_a_client_needs_no_event_loop() -> None:
    """A module may hold a client, which binds to the loop in which it is first used."""
    client = LlamaGenClient(KEY)
    assert client.stats() == ClientStats(requests={}, refused=0, retries=0, finished=0)
    assert client.stats().total == 0
    assert client.stats().requests_per_finished is None


def test_the_old_name_of_the_resource_works() -> None:
    """Code that is ported may say `client.comic`."""
    client = LlamaGenClient(KEY)
    assert client.comic is client.comics


# --- the life of a client -----------------------------------------------------------------------


async def test_a_closed_client_refuses_every_call() -> None:
    """A call after closing raises `ClientClosedError`; closing again is fine."""
    network = Network(minute())
    client = network.client()
    async with client:
        await client.comics.create("x")
    await client.aclose()
    for call in (
        client.comics.create("y"),
        client.comics.get("c"),
        client.comics.wait_for_completion("c"),
        client.limits(),
        client.__aenter__(),
    ):
        with pytest.raises(ClientClosedError):
            await call
    assert client.stats().requests == {"create": 1}
    assert network.closed


async def test_a_client_that_was_never_used_can_be_closed() -> None:
    """Closing a client that was not used raises nothing, and afterwards it is closed."""
    client = LlamaGenClient(KEY)
    await client.aclose()
    with pytest.raises(ClientClosedError):
        await client.limits()


def test_a_client_belongs_to_one_event_loop() -> None:
    """A call in a second loop raises an error that says so."""
    client = Network(minute()).client()

    async def first() -> None:
        await client.comics.create("x")

    async def second() -> None:
        with pytest.raises(ClientClosedError, match="another event loop"):
            await client.comics.create("y")

    run(first())
    run(second())


async def test_clients_of_one_key_share_their_limits() -> None:
    """Two clients send no more than one may, and a third one knows what they spent."""
    network = Network(minute())
    url = "https://shared.invalid"
    async with network.client(base_url=url) as one, network.client(base_url=url) as other:
        await asyncio.gather(
            *(client.comics.create(f"s{n}") for n in range(6) for client in (one, other))
        )
    assert [sent.at for sent in network.sent].count(0) == 10
    async with network.client(base_url=url) as third:
        assert (await third.limits()).windows[0].used == 2
    assert network.refused == 0


async def test_limits_show_what_may_still_be_sent() -> None:
    """Limits hold used slots, free slots and the next free one of each window of the plan."""
    network = Network(minute(), key="sandbox-demo")
    async with network.client("demo") as client:
        for n in range(4):
            await client.comics.create(f"s{n}")
        limits = await client.limits()
        assert limits.plan == "demo"
        assert [(window.used, window.free) for window in limits.windows] == [(4, 0), (4, 11)]
        assert limits.windows[0].next_free_in == pytest.approx(60)
        assert limits.next_free_in == pytest.approx(60)
        assert limits.paused_for == 0
        assert limits.in_flight == 0


# --- the plan is found out ---------------------------------------------------------------------


def auto(network: Network) -> LlamaGenClient:
    return network.client("auto")


@pytest.mark.parametrize(("key", "plan"), [("sandbox-demo", "demo"), ("sandbox-paid", "paid")])
async def test_the_plan_is_asked_for_once(key: str, plan: str) -> None:
    """With `"auto"` one request finds the plan out, whoever asks first and however many."""
    network = Network(minute(), key=key)
    async with auto(network) as client:
        assert client.plan == Plan.DEMO
        await asyncio.gather(*(client.comics.create(f"s{n}") for n in range(3)))
        assert client.plan == Plan.parse(plan)
        assert client.stats().requests == {"usage": 1, "create": 3}


@pytest.mark.parametrize(("daily", "kept"), [(5, 5), (99, 15), (0, 15), (None, 15)])
async def test_the_smaller_daily_limit_holds(daily: int | None, kept: int) -> None:
    """A daily limit that the server names is used if it is below the documented one."""

    def body(sent: Sent, answer: Any) -> Any:
        return {**answer, "apiMaxUsage": daily} if sent.kind == "usage" else answer

    network = Network(minute(), key="sandbox-demo", body=body)
    async with auto(network) as client:
        await client.comics.create("x")
        assert client.plan.quotas == (RateLimit(kept, per=86_400),)


async def test_requests_of_another_program_count_on_a_demo_day() -> None:
    """A key of which 12 of 15 requests are gone starts one comic and not two."""
    network = Network(minute(), key="sandbox-demo")
    async with network.client("demo") as other:
        comic = await other.comics.create("x")
        for _ in range(11):
            await other.comics.get(comic.id)
    await asyncio.sleep(60)
    async with auto(network) as client:
        items = [item async for item in client.comics.batch(["a", "b"])]
        assert sorted(item.state for item in items) == [
            BatchState.QUEUED,
            BatchState.SUCCEEDED,
        ]
    assert network.refused == 0


async def test_what_is_metered_outlasts_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server says which plan it is, and nothing of what it meters."""
    monkeypatch.setenv("LLAMAGEN_METERED", "create")
    async with auto(Network(minute())) as client:
        await client.comics.create("x")
        assert client.plan == attrs.evolve(Plan.PAID, metered={"create"})


async def test_a_plan_that_can_not_be_found_out_is_asked_for_again() -> None:
    """An error of the first question is raised, and the next request asks again."""
    network = Network(
        minute(),
        before=lambda sent: (
            PermissionDeniedError(403, None, "no") if sent.kind == "usage" and sent.n < 1 else None
        ),
    )
    async with auto(network) as client:
        with pytest.raises(PermissionDeniedError):
            await client.comics.create("x")
        await client.comics.create("x")
        assert client.plan == Plan.PAID


async def test_closing_while_the_plan_is_asked_for_leaves_no_task() -> None:
    """The question ends with the client, and the create that waits for it raises."""
    network = Network(minute(), latency=5.0)
    client = auto(network)
    creating = asyncio.create_task(client.comics.create("x"))
    await asyncio.sleep(1)
    await client.aclose()
    with pytest.raises(ClientClosedError):
        await creating
    assert not left_over()


# --- reports -----------------------------------------------------------------------------------


async def test_each_request_is_reported() -> None:
    """A report has the kind, the outcome, the wait and the duration of one request."""
    unsent = APIConnectionError("no connection", request_sent=False)
    reports: list[RequestReport] = []
    network = Network(minute(), latency=1.0, before=lambda sent: None if sent.n else unsent)
    client = LlamaGenClient(
        "sandbox-paid",
        plan=Plan("one", limits=RateLimit(1, per=60)),
        base_url="https://reported.invalid",
        transport=network,
        on_request=reports.append,
    )
    async with client:
        await client.comics.create("x")
        await client.comics.create("y")
    assert [(report.kind.value, report.outcome) for report in reports] == [
        ("create", "not sent"),
        ("create", "answered"),
        ("create", "answered"),
    ]
    assert [report.took for report in reports] == pytest.approx([0, 1, 1])
    assert reports[2].waited == pytest.approx(60)


async def test_a_callback_that_fails_does_not_fail_the_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The exception of a callback is logged, and the comic is created."""

    def fail(_report: RequestReport) -> None:
        raise KeyError("oops")

    client = LlamaGenClient(
        "sandbox-paid",
        plan="paid",
        base_url="https://reported-badly.invalid",
        transport=Network(minute()),
        on_request=fail,
    )
    async with client:
        assert (await client.comics.create("x")).id
    assert "on_request raised" in caplog.text


# --- over a real socket -------------------------------------------------------------------------


@pytest.fixture
async def server() -> AsyncIterator[SandboxServer]:
    """A sandbox in which a minute takes a fifth of a second."""
    service = SandboxService(
        durations=Durations.constant(20), plans={"sandbox-paid": ROOMY, KEY: ROOMY}
    )
    async with SandboxServer(service, speed=SPEED) as running:
        yield running


def connected(server: SandboxServer, key: str = KEY, **settings: Any) -> LlamaGenClient:
    return LlamaGenClient(key, plan=ROOMY, base_url=server.url, speed=server.speed, **settings)


async def test_a_comic_from_the_prompt_to_the_files(server: SandboxServer, tmp_path: Path) -> None:
    """A comic is created, waited for and downloaded, and its end is counted."""
    pytest.importorskip("PIL")
    async with connected(server) as client:
        comic = await client.comics.create_and_wait("a cat", fix_panel_num=1, size="512x768")
        paths = await client.comics.download(comic, tmp_path / "out")
        assert len(paths) == len(comic.asset_urls)
        assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
        assert client.stats().finished == 1


async def test_a_batch_over_the_network(server: SandboxServer) -> None:
    """Twelve comics over real connections: all done, none refused, each accepted once."""
    async with connected(server) as client:
        items = [item async for item in client.comics.batch([f"s{n}" for n in range(12)])]
    assert [item.state for item in items] == [BatchState.SUCCEEDED] * 12
    seen = server.service.stats(server.now())
    stories = [one["prompt"] for one in seen["generations"]]
    assert sorted(stories) == sorted(f"s{n}" for n in range(12))
    assert all(account["refused"] == 0 for account in seen["keys"].values())


async def test_a_folder_that_can_not_be_made_is_told_before_anything_is_sent(
    server: SandboxServer, tmp_path: Path
) -> None:
    """Nothing is paid for whose pictures could not be kept."""
    in_the_way = tmp_path / "out"
    in_the_way.write_text("not a folder")
    async with connected(server) as client:
        with pytest.raises(InvalidRequestError, match=r"out: got .*File exists.*nothing was sent"):
            _ = [item async for item in client.comics.batch(["a"], out=in_the_way)]
        assert client.stats().total == 0


async def test_a_wrong_key_raises_and_is_tried_once(server: SandboxServer) -> None:
    """The error of a 401 does not hold the key."""
    async with connected(server, "sk-wrong-key-000000") as client:
        with pytest.raises(AuthenticationError) as caught:
            await client.comics.create("x")
        assert "sk-wrong" not in f"{caught.value!s} {caught.value!r}"
        assert client.stats().requests == {"create": 1}


async def test_a_key_without_credits_raises(server: SandboxServer) -> None:
    """A 402 is final and has an error of its own."""
    async with connected(server, EMPTY_KEY) as client:
        with pytest.raises(InsufficientCreditsError):
            await client.comics.create("x")


async def test_a_session_of_the_users_own_is_used_and_not_closed(server: SandboxServer) -> None:
    """A session that the user brings is still open after the client is closed."""
    async with aiohttp.ClientSession() as session:
        async with connected(server, session=session) as client:
            assert (await client.comics.create("x")).id
        assert not session.closed


async def test_a_request_to_a_server_that_is_away_was_not_sent(server: SandboxServer) -> None:
    """Without a connection nothing was sent and nothing is counted."""
    url = server.url
    await server.__aexit__(None, None, None)
    client = LlamaGenClient(KEY, plan=ROOMY, base_url=url, speed=SPEED, max_retries=1)
    async with client:
        with pytest.raises(APIConnectionError) as caught:
            await client.comics.create("x")
        assert not caught.value.request_sent
        assert (await client.limits()).windows[0].used == 0
        assert client.stats().requests == {}
