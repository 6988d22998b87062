"""A picture is held out for as long as there is time, and its URL is renewed once."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from llamagen_async.downloads.download import download_assets
from llamagen_async.errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    InvalidRequestError,
    InvalidResponseError,
    LlamaGenError,
    NotFoundError,
    RateLimitError,
    ServerError,
)
from tests.support.assets import files
from tests.support.scripted_assets import PNG, Answer, Asked, Piece, ScriptedAssets, png

pytestmark = pytest.mark.virtual_time

DOWN = APIConnectionError("no connection to cdn.example; nothing was sent", request_sent=False)
TIMEOUT = 1800.0
PASSING: list[Answer | Exception] = [
    Answer(408),
    Answer(425),
    Answer(429),
    Answer(500),
    Answer(502),
    Answer(503),
    Answer(504),
    Answer(520),
    DOWN,
    APITimeoutError("no complete answer"),
]


def now() -> float:
    return asyncio.get_running_loop().time()


async def fetch(assets: ScriptedAssets, folder: Path, **options: Any) -> Path:
    options = {"timeout": TIMEOUT, **options}
    (path,) = await download_assets(
        [("https://cdn.example/a", "a")], folder, source=assets, **options
    )
    return path


def until(end: float, failure: Answer | Exception) -> Any:
    """Fail until a time and then give out the picture."""

    def script(asked: Asked, _number: int) -> Answer | Exception:
        return failure if asked.at < end else png()

    return script


class Renewing:
    """Asks the API for new URLs, and counts that."""

    def __init__(self, answer: Sequence[tuple[str, str]] | LlamaGenError) -> None:
        self.answer = answer
        self.times = 0

    async def __call__(self) -> Sequence[tuple[str, str]]:
        self.times += 1
        await asyncio.sleep(1)
        if isinstance(self.answer, LlamaGenError):
            raise self.answer
        return self.answer


@pytest.mark.parametrize("failure", PASSING, ids=repr)
async def test_an_outage_of_the_host_is_held_out(
    failure: Answer | Exception, tmp_path: Path
) -> None:
    """Twenty minutes of any failure that may pass end nothing, whatever its number."""
    assets = ScriptedAssets(until(1200, failure))
    path = await fetch(assets, tmp_path)
    assert path.read_bytes() == PNG
    assert now() < 1200 + 31  # asked again at least every half a minute
    assert len(assets.asked) < 200


@pytest.mark.parametrize("failure", PASSING, ids=repr)
async def test_time_that_is_up_ends_it_with_its_cause(
    failure: Answer | Exception, tmp_path: Path
) -> None:
    assets = ScriptedAssets(lambda _asked, _number: failure)
    with pytest.raises(LlamaGenError) as caught:
        await fetch(assets, tmp_path, timeout=100)
    assert 60 < now() <= 100
    if isinstance(failure, Answer):
        assert isinstance(caught.value, APIError)
        assert caught.value.status == failure.status
        assert "cdn.example/a" in str(caught.value)
    else:
        assert str(failure) in str(caught.value)
    assert files(tmp_path) == []


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("asked", ["40", "Thu, 01 Jan 2026 00:00:40 GMT"])
async def test_a_host_that_asks_to_wait_is_obeyed(status: int, asked: str, tmp_path: Path) -> None:
    headers = {"Retry-After": asked, "Date": "Thu, 01 Jan 2026 00:00:00 GMT"}
    assets = ScriptedAssets([Answer(status, headers), Answer(status, headers), png()])
    await fetch(assets, tmp_path)
    assert len(assets.asked) == 3
    assert all(later - earlier >= 40 for earlier, later in itertools.pairwise(assets.times))


async def test_a_host_that_asks_for_more_time_than_there_is_ends_it_at_once(tmp_path: Path) -> None:
    assets = ScriptedAssets([Answer(429, {"Retry-After": "3600"})])
    with pytest.raises(RateLimitError, match="HTTP 429") as caught:
        await fetch(assets, tmp_path)
    assert caught.value.retry_after == 3600
    assert len(assets.asked) == 1


@pytest.mark.parametrize("value", ["9" * 400, "-1", "soon", "inf", "nan", "", "0"])
async def test_odd_times_to_wait_are_none(value: str, tmp_path: Path) -> None:
    assets = ScriptedAssets([*[Answer(429, {"Retry-After": value})] * 6, png()])
    await fetch(assets, tmp_path)
    assert len(assets.asked) == 7
    assert now() < 60


async def test_a_host_that_serves_five_a_second_gives_out_twenty(tmp_path: Path) -> None:
    """Each picture waits for itself: none is given up while others are served."""
    left, refilled = 10.0, 0.0

    def script(asked: Asked, _number: int) -> Answer:
        nonlocal left, refilled
        left, refilled = min(10.0, left + 5 * (asked.at - refilled)), asked.at
        if left < 1:
            return Answer(429, {"Retry-After": "1"})
        left -= 1
        return png()

    urls = [(f"https://cdn.example/{n}", str(n)) for n in range(20)]
    paths = await download_assets(urls, tmp_path, source=ScriptedAssets(script), timeout=TIMEOUT)
    assert len(paths) == 20
    assert now() < 60


async def test_who_waits_to_be_tried_again_lets_others_go_first(tmp_path: Path) -> None:
    """More pictures of a dead host than are fetched at once do not hold up those of another."""

    def script(asked: Asked, _number: int) -> Answer | Exception:
        return DOWN if "dead" in asked.url else png()

    assets = ScriptedAssets(script)
    dead = [(f"https://dead.example/{n}", f"d{n}") for n in range(40)]
    task = asyncio.create_task(
        download_assets(dead, tmp_path, source=assets, timeout=TIMEOUT, concurrency=40)
    )
    await asyncio.sleep(0.01)
    alive = [(f"https://cdn.example/{n}", str(n)) for n in range(40)]
    await download_assets(alive, tmp_path, source=assets, timeout=TIMEOUT)
    assert now() < 1
    with pytest.raises(APIConnectionError):
        await task
    assert TIMEOUT - 31 < now() <= TIMEOUT


@pytest.mark.parametrize("size", [1, 300, 2000])
async def test_a_dripping_host_ends_with_the_time(size: int, tmp_path: Path) -> None:
    """Whatever comes of it: every wait for a byte is short enough, and all of them are too long."""
    drips: list[Piece] = [b"\x89PNG\r\n\x1a\n"]
    drips += [30.0, bytes(size)] * 1000
    assets = ScriptedAssets([Answer(200, {"Content-Type": "image/png"}, drips)])
    with pytest.raises(APITimeoutError, match=r"cdn\.example/a"):
        await fetch(assets, tmp_path, timeout=600)
    assert now() <= 600
    assert files(tmp_path) == []


async def test_a_dripping_host_is_left_for_others_meanwhile(tmp_path: Path) -> None:
    def script(asked: Asked, _number: int) -> Answer:
        drips: list[Piece] = [30.0, b"x"] * 1000
        return Answer(200, {}, drips) if "drip" in asked.url else png()

    assets = ScriptedAssets(script)
    drips = [(f"https://drip.example/{n}", f"d{n}") for n in range(32)]
    task = asyncio.create_task(
        download_assets(drips, tmp_path, source=assets, timeout=TIMEOUT, concurrency=32)
    )
    await asyncio.sleep(0.01)
    await download_assets(
        [("https://cdn.example/a", "a")], tmp_path, source=assets, timeout=TIMEOUT
    )
    assert now() < 100
    with pytest.raises(APITimeoutError):
        await task


async def test_what_comes_begins_the_waits_anew(tmp_path: Path) -> None:
    """A host that drops each connection after a while costs seconds and not half a minute."""
    content, step = PNG * 50, 2000

    def script(asked: Asked, _number: int) -> Answer:
        start = int(asked.headers.get("Range", "bytes=0-")[6:-1])
        size = len(content)
        headers = {"ETag": '"v1"', "Content-Type": "image/png"}
        if start:
            end = min(start + step, size)
            headers |= {"Content-Range": f"bytes {start}-{size - 1}/{size}"}
        else:
            end = step
            headers |= {"Content-Length": str(size)}
        lost = [] if end == size else [APIConnectionError("lost")]
        return Answer(206 if start else 200, headers, [content[start:end], *lost])

    assets = ScriptedAssets(script)
    path = await fetch(assets, tmp_path)
    assert path.read_bytes() == content
    assert len(assets.asked) == len(content) // step + 1
    assert now() <= len(assets.asked)


@pytest.mark.parametrize(("new", "is_resumed"), [("/b", False), ("/a?sig=new", True)])
async def test_a_new_url_goes_on_from_the_old_one_only_at_the_same_place(
    new: str, tmp_path: Path, *, is_resumed: bool
) -> None:
    """Two places may count their versions alike: half of each would become one picture."""
    half, headers = len(PNG) // 2, {"ETag": '"1"', "Content-Type": "image/png"}
    content = PNG if is_resumed else PNG.replace(bytes(99), b"x" * 99)

    def script(asked: Asked, number: int) -> Answer:
        if number == 1:
            size = {"Content-Length": str(len(PNG))}
            return Answer(200, headers | size, [PNG[:half], APIConnectionError("lost")])
        if not asked.url.endswith(new):
            return Answer(403)
        if "Range" not in asked.headers:
            return Answer(200, headers, [content])
        where = {"Content-Range": f"bytes {half}-{len(PNG) - 1}/{len(PNG)}"}
        return Answer(206, headers | where, [content[half:]])

    assets = ScriptedAssets(script)
    renew = Renewing([(f"https://cdn.example{new}", "a")])
    old = [("https://cdn.example/a?sig=old", "a")]
    (path,) = await download_assets(old, tmp_path, source=assets, timeout=TIMEOUT, renew=renew)
    assert path.read_bytes() == content
    assert ("Range" in assets.asked[-1].headers) == is_resumed


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422])
async def test_a_refused_url_is_renewed_once(status: int, tmp_path: Path) -> None:
    """Twenty pictures whose URLs are too old cost one check, and keep their names."""

    def script(asked: Asked, _number: int) -> Answer:
        return png() if "new" in asked.url else Answer(status)

    assets = ScriptedAssets(script)
    old = [(f"https://cdn.example/old/{n}", f"c1-p01-{n:02}") for n in range(20)]
    new = [(f"https://cdn.example/new/{n}", f"c1-p01-{n:02}") for n in range(20)]
    renew = Renewing(new)
    paths = await download_assets(old, tmp_path, source=assets, timeout=TIMEOUT, renew=renew)
    assert renew.times == 1
    assert [path.stem for path in paths] == [stem for _, stem in old]
    assert now() < 10


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
async def test_a_url_that_is_refused_again_is_given_up_with_the_reason(
    status: int, tmp_path: Path
) -> None:
    said = b"<Error><Code>AccessDenied</Code><Message>No such\nkey</Message><X>a?sig=s</X></Error>"
    assets = ScriptedAssets([Answer(status, {"Content-Type": "application/xml"}, [said])])
    renew = Renewing([("https://cdn.example/new", "a")])
    with pytest.raises(APIError, match="AccessDenied: No such key; also with a new URL") as caught:
        await fetch(assets, tmp_path, renew=renew)
    assert caught.value.status == status
    assert "sig" not in str(caught.value)
    assert "expire" not in str(caught.value)
    assert renew.times == 1
    assert len(assets.asked) >= 2
    assert now() < 60, "it is held out for a while if it is missing"
    assert files(tmp_path) == []


@pytest.mark.parametrize("status", [403, 404])
@pytest.mark.parametrize("problem", [NotFoundError(404, None, "no such comic"), DOWN])
async def test_a_url_that_cannot_be_renewed_tells_both_reasons(
    status: int, problem: LlamaGenError, tmp_path: Path
) -> None:
    assets = ScriptedAssets([Answer(status, {}, [b"Request has expired"])])
    renew = Renewing(problem)
    with pytest.raises(APIError, match="Request has expired; a new URL could not be had") as caught:
        await fetch(assets, tmp_path, renew=renew)
    assert str(problem) in str(caught.value)
    assert renew.times == 1


async def test_a_picture_that_the_new_answer_does_not_have_is_given_up(tmp_path: Path) -> None:
    assets = ScriptedAssets([Answer(410)])
    with pytest.raises(APIError, match="410"):
        await fetch(assets, tmp_path, renew=Renewing([("https://cdn.example/b", "b")]))
    assert len(assets.asked) == 1


async def test_time_that_is_up_while_urls_are_renewed_ends_it(tmp_path: Path) -> None:
    async def never() -> Sequence[tuple[str, str]]:
        await asyncio.sleep(1e6)
        return []

    with pytest.raises(APIError, match="HTTP 403"):
        await fetch(ScriptedAssets([Answer(403)]), tmp_path, timeout=60, renew=never)
    assert now() <= 60


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_a_url_that_the_host_does_not_know_yet_is_tried_again(
    times: int, tmp_path: Path
) -> None:
    assets = ScriptedAssets([*[Answer(404)] * times, png()])
    renew = Renewing([("https://cdn.example/a", "a")])
    assert (await fetch(assets, tmp_path, renew=renew)).read_bytes() == PNG
    assert renew.times == (times > 1)  # the first time it may just be too new


@pytest.mark.parametrize("status", [405, 451, 501, 505, 206, 202, 304])
async def test_what_will_not_change_is_not_tried_for_ever(status: int, tmp_path: Path) -> None:
    assets = ScriptedAssets([Answer(status)])
    with pytest.raises(APIError) as caught:
        await fetch(assets, tmp_path)
    assert caught.value.status == status
    assert now() == 0
    assert len(assets.asked) == 1


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequestError("url", "x", "y"),
        InvalidResponseError(302, None, "more than 5 redirects"),
        APIConnectionError("certificate verify failed", request_sent=False, retriable=False),
    ],
)
async def test_a_mistake_is_raised_at_once(error: LlamaGenError, tmp_path: Path) -> None:
    assets = ScriptedAssets([error])
    with pytest.raises(type(error)):
        await fetch(assets, tmp_path)
    assert len(assets.asked) == 1


async def test_who_waits_long_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    await fetch(ScriptedAssets(until(600, Answer(503))), tmp_path)
    (record,) = caplog.records
    assert "HTTP 503: cdn.example/a" in record.getMessage()


async def test_a_refusal_is_read_in_part_and_shown_clean(tmp_path: Path) -> None:
    endless = itertools.repeat(b"\x1b[31mRed " * 500)
    assets = ScriptedAssets([Answer(410, {}, endless)])
    with pytest.raises(APIError) as caught:
        await fetch(assets, tmp_path)
    assert len(str(caught.value)) < 250
    assert str(caught.value).isprintable()
    assert caught.value.body is None


async def test_more_pictures_than_a_comic_can_have_are_refused(tmp_path: Path) -> None:
    urls = [(f"https://cdn.example/{n}", str(n)) for n in range(1001)]
    assets = ScriptedAssets([png()])
    with pytest.raises(InvalidRequestError, match="1,000"):
        await download_assets(urls, tmp_path, source=assets, timeout=TIMEOUT)
    assert assets.asked == []


@pytest.mark.parametrize("failure", [Answer(500), ServerError(500, None, "x")])
async def test_cancelling_a_wait_leaves_nothing(
    failure: Answer | Exception, tmp_path: Path
) -> None:
    task = asyncio.create_task(fetch(ScriptedAssets([failure]), tmp_path))
    await asyncio.sleep(500)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert files(tmp_path) == []
    assert asyncio.all_tasks() == {asyncio.current_task()}
