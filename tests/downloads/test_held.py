"""Pictures in memory: each is fetched once however many look, and little is held for long."""

from __future__ import annotations

import asyncio

import pytest

from llamagen_async.downloads.held import HeldPictures
from llamagen_async.errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    ClientClosedError,
    InvalidResponseError,
    LlamaGenError,
)
from tests.support.scripted_assets import PNG, Answer, ScriptedAssets, png

pytestmark = pytest.mark.virtual_time

URL = "https://assets.example.com/1.png"


async def test_many_watchers_are_one_fetch_and_a_later_one_is_another() -> None:
    source = ScriptedAssets([Answer(200, {}, [PNG[:9], 5.0, PNG[9:]]), png(PNG + b"redrawn")])
    held = HeldPictures(source)
    pictures = await asyncio.gather(*(held.get(URL) for _ in range(50)))
    assert {picture.content for picture in pictures} == {PNG}
    assert pictures[0].media_type == "image/png"
    await asyncio.sleep(59)
    assert await held.get(URL) is pictures[0]
    await asyncio.sleep(2)
    assert (await held.get(URL)).content == PNG + b"redrawn"
    assert source.times == [0.0, 66.0]


async def test_who_leaves_takes_nothing_from_the_others() -> None:
    source = ScriptedAssets([Answer(200, {}, [5.0, PNG])])
    held = HeldPictures(source)
    first, second = (asyncio.ensure_future(held.get(URL)) for _ in range(2))
    await asyncio.sleep(1)
    first.cancel()
    assert (await second).content == PNG
    assert len(source.asked) == 1


async def test_no_more_is_held_than_one_large_picture() -> None:
    source = ScriptedAssets([png()])
    held = HeldPictures(source, largest=3 * len(PNG))
    for number in range(5):
        await held.get(f"{URL}?{number}")
    assert sum(len(one.content) for _, one in held._held.values()) <= 3 * len(PNG)
    await held.get(f"{URL}?4")
    assert len(source.asked) == 5
    await held.get(f"{URL}?0")
    assert len(source.asked) == 6


async def test_few_are_fetched_at_the_same_time() -> None:
    source = ScriptedAssets([Answer(200, {}, [1.0, PNG])])
    held = HeldPictures(source)
    await asyncio.gather(*(held.get(f"{URL}?{number}") for number in range(20)))
    assert source.most_open == 4


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (Answer(403), APIError, r"assets\.example\.com/1\.png: the host did not give it out"),
        (png(PNG * 9), InvalidResponseError, "larger than"),
        (Answer(200, {}, [b"<svg onload='x'/>"]), InvalidResponseError, "begins like no picture"),
        (Answer(200, {"Content-Type": "image/png"}), InvalidResponseError, "like no picture"),
        (Answer(200, {}, [PNG, 40.0]), APITimeoutError, "not here after 30 s"),
        (APIConnectionError("away"), APIConnectionError, "away"),
    ],
    ids=["refused", "large", "script", "empty", "slow", "away"],
)
async def test_a_failure_is_told_and_not_held(
    answer: Answer | Exception, error: type[LlamaGenError], says: str
) -> None:
    """No signature of a URL is in it, and the next one who looks has it fetched again."""
    source = ScriptedAssets([answer, png()])
    held = HeldPictures(source, largest=5 * len(PNG))
    with pytest.raises(error, match=says) as raised:
        await held.get(f"{URL}?signature=secret")
    assert "secret" not in str(raised.value)
    assert (await held.get(f"{URL}?signature=secret")).content == PNG


async def test_a_picture_that_breaks_off_without_any_length_is_not_held() -> None:
    source = ScriptedAssets([Answer(200, {}, [PNG[:900]]), Answer(200, {}, [PNG])])
    held = HeldPictures(source)
    with pytest.raises(APIConnectionError, match="broke off after 900 bytes"):
        await held.get(URL)
    assert (await held.get(URL)).content == PNG


async def test_closing_ends_what_is_on_its_way() -> None:
    source = ScriptedAssets([Answer(200, {}, [20.0, PNG])])
    held = HeldPictures(source)
    looking = asyncio.ensure_future(held.get(URL))
    await asyncio.sleep(1)
    await held.aclose()
    with pytest.raises(ClientClosedError):
        await looking
    assert source.open == 0
