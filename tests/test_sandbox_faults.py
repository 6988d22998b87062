"""Each fault of the sandbox, and what the client makes of it: the table of docs/sandbox.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamagen_async import (
    APIError,
    AuthenticationError,
    BadRequestError,
    ComicGeneration,
    InsufficientCreditsError,
    LlamaGenError,
    NotFoundError,
    PermissionDeniedError,
    QuotaExhaustedError,
    SubmissionUncertainError,
    WaitTimeoutError,
)
from llamagen_async.sandbox import FAULTS, PAID_KEY, Durations, Fault, SandboxService
from llamagen_async.sandbox.faults import ERRORS
from llamagen_async.simulation import simulated_client

pytestmark = pytest.mark.virtual_time

REFUSALS: dict[int, type[APIError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: InsufficientCreditsError,
    403: PermissionDeniedError,
    404: NotFoundError,
    405: APIError,
    413: APIError,
    422: BadRequestError,
}
FAILURES = [status for status in ERRORS if status >= 500]
LOST = [*(f"error:{status}" for status in FAILURES), "error-after", "drop", "drop-before"]
LOST += ["not-json", "delay:45"]
"""The faults after which nobody knows whether a create was accepted."""
HARMLESS = [
    "artwork",
    "empty-asset-url",
    "early-pictures",
    "cut-json:on=create",
    "delay",
    "stale",
    "stale:30:rate=0.5",
]
HARMLESS += [f"expired-links:{seconds}" for seconds in (0, 3600)]
HARMLESS += [f"error:429:times=3:{more}" for more in ("on=create", "retry-after=30", "on=status")]
HARMLESS += [f"{name}:on=status:times=3" for name in (*LOST, "cut-json") if name != "error-after"]
"""The faults through which a comic is made all the same."""


def faulty(*texts: str) -> SandboxService:
    return SandboxService(
        faults=[Fault.parse(text) for text in texts], durations=Durations.constant(60)
    )


async def made(service: SandboxService) -> ComicGeneration:
    async with simulated_client(service) as client:
        return await client.comics.create_and_wait("A cat", timeout=3_600)


def accepted(service: SandboxService) -> int:
    return int(service.stats(0.0)["keys"][PAID_KEY]["creates_accepted"])


@pytest.mark.once
@pytest.mark.parametrize("text", HARMLESS)
async def test_faults_through_which_a_comic_is_made(text: str) -> None:
    service = faulty(text)
    comic = await made(service)
    assert comic.succeeded
    assert all(comic.asset_urls)
    assert accepted(service) == 1
    if not text.startswith("stale"):
        assert sum(service.stats(0.0)["faults"].values()) > 0


@pytest.mark.parametrize("text", LOST)
async def test_faults_after_which_a_create_is_uncertain(text: str) -> None:
    """A create is not sent again, whether it was accepted or not."""
    service = faulty(f"{text}:on=create")
    with pytest.raises(SubmissionUncertainError):
        await made(service)
    assert accepted(service) == (0 if text.startswith(("error:", "drop-before")) else 1)
    assert service.stats(0.0)["keys"][PAID_KEY]["total"] == 1


@pytest.mark.parametrize("status", REFUSALS)
@pytest.mark.parametrize("kind", ["create", "status"])
async def test_a_refusal_is_told_at_once(kind: str, status: int) -> None:
    with pytest.raises(LlamaGenError) as caught:
        await made(faulty(f"error:{status}:on={kind}"))
    assert type(caught.value) is REFUSALS[status]
    assert ("cmc_" in str(caught.value)) == (kind == "status")


@pytest.mark.parametrize("status", [402, 429])
async def test_spent_credits_are_told_at_once(status: int) -> None:
    service = faulty(f"no-credits:{status}")
    with pytest.raises(InsufficientCreditsError) as caught:
        await made(service)
    assert caught.value.status == status


async def test_a_429_that_never_ends_ends_the_create_when_its_time_is_up() -> None:
    """The key was paused each time; nothing was accepted."""
    service = faulty("error:429")
    with pytest.raises(QuotaExhaustedError):
        await made(service)
    assert accepted(service) == 0
    assert service.stats(0.0)["keys"][PAID_KEY]["total"] < 80


@pytest.mark.parametrize("text", ["error:500", "drop", "drop-before", "not-json", "cut-json"])
async def test_a_server_that_stays_away_is_waited_for_until_time_is_up(text: str) -> None:
    with pytest.raises(WaitTimeoutError, match="cmc_"):
        await made(faulty(f"{text}:on=status"))


@pytest.mark.parametrize(("text", "files"), [("expired-links:times=1", 5), ("expired-links", 0)])
async def test_links_that_have_expired_are_renewed_once(
    tmp_path: Path, text: str, files: int
) -> None:
    async with simulated_client(faulty(text)) as client:
        comic = await client.comics.create_and_wait("A cat")
        if files:
            assert len(await client.comics.download(comic, tmp_path)) == files
        else:
            with pytest.raises(APIError, match=f"403.*also with a new URL.*{comic.id}"):
                await client.comics.download(comic, tmp_path)


def test_no_fault_is_left_out_here() -> None:
    """Events have tests of their own: `tests/test_webhooks.py`."""
    here = {text.split(":")[0] for text in (*HARMLESS, *LOST, "error", "no-credits")}
    assert here == {name for name, kind in FAULTS.items() if not kind.is_of_events}
    assert {*REFUSALS, 429, *FAILURES} == set(ERRORS)
