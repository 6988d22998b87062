"""Types of the main calls of the client, as a user's type checker sees them."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import assert_type

from llamagen_async import (
    Animation,
    AnimationRequest,
    Attachment,
    Batch,
    BatchItem,
    BatchState,
    Character,
    ClientStats,
    ComicGeneration,
    ComicRequest,
    ContinueRequest,
    Estimate,
    GenerationStatus,
    LimitsSnapshot,
    LlamaGenClient,
    Pagination,
    Plan,
    Prices,
    RateLimit,
    Spending,
    UpdateRequest,
    Upload,
    Usage,
    VideoOptions,
)


async def one_comic(client: LlamaGenClient, request: ComicRequest) -> None:
    assert_type(await client.comics.create("a cat", size="1024x1024"), ComicGeneration)
    assert_type(await client.comics.create(request, wait_for_quota=True), ComicGeneration)
    assert_type(await client.comics.get("c1"), ComicGeneration)
    assert_type(await client.comics.wait_for_completion("c1", timeout=60), ComicGeneration)
    comic = await client.comics.create_and_wait("a cat", images=["https://a.example/1.png"])
    assert_type(comic, ComicGeneration)
    assert_type(comic.status, GenerationStatus)
    assert_type(comic.status.is_final, bool)
    assert_type(comic.asset_urls, tuple[str, ...])
    assert_type(await client.comics.download(comic, "out"), list[Path])
    assert_type(await client.comics.usage(), Usage)


async def changes(client: LlamaGenClient) -> None:
    comics = client.comics
    more = ContinueRequest("more", images=["https://a.example/1.png"], pagination=None)
    assert_type(await comics.continue_write("c1", "more", fix_panel_num=2), ComicGeneration)
    assert_type(await comics.continue_and_wait("c1", more, timeout=60), ComicGeneration)
    assert_type(await comics.update_panel("c1", panel=0, prompt="it smiles"), ComicGeneration)
    redraw = UpdateRequest(panel=0, images=["https://a.example/1.png"])
    assert_type(await comics.update_panel_and_wait("c1", redraw), ComicGeneration)
    assert_type(await comics.update_panel("c1", {"panelIndex": 0, "prompt": "x"}), ComicGeneration)
    await comics.update_panel("c1", panel="0")  # type: ignore[arg-type]  # not a number
    assert_type(await comics.upload("tom.png"), Upload)
    assert_type(await comics.upload(Path("tom.png")), Upload)
    assert_type(await comics.upload(BytesIO(b"x"), "t.png"), Upload)
    await comics.upload(5)  # type: ignore[arg-type]  # not a file


async def animations(client: LlamaGenClient) -> None:
    options = VideoOptions(duration=5, reference_images=["https://a.example/1.png"])
    request = AnimationRequest("a boat", video_options={"aspectRatio": "1:1"})
    assert_type(await client.animations.create("a boat", video_options=options), Animation)
    video = await client.animation.create_and_wait(request, timeout=60)
    assert_type(video, Animation)
    assert_type(await client.animations.get("a1"), Animation)
    assert_type(await client.animations.wait_for_completion("a1"), Animation)
    assert_type(await client.animations.download(video, "out"), list[Path])


def parts() -> None:
    tom = Character("Tom", age=3, dress="a hat", extra={"mood": "dark"})
    request = ComicRequest("x", comic_roles=[tom, {"name": "Ann"}], images=["https://a.example"])
    assert_type(request.comic_roles, tuple[Character, ...])
    assert_type(request.attachments, tuple[Attachment, ...])
    Character(5)  # type: ignore[arg-type]  # not a name


async def many_comics(client: LlamaGenClient, request: ComicRequest) -> None:
    batch = client.comics.batch(["a cat", request, {"prompt": "a dog"}], out="out")
    assert_type(batch, Batch)
    async for item in batch:
        assert_type(item, BatchItem)
        assert_type(item.state, BatchState)
        assert_type(item.generation, ComicGeneration | Animation | None)
        assert_type(item.error, Exception | None)
        assert_type(item.files, tuple[Path, ...])


def money(client: LlamaGenClient, request: UpdateRequest) -> None:
    assert_type(client.comics.estimate("a cat"), Estimate)
    estimate = client.comics.estimate(["a cat", {"prompt": "x"}, request], prices={"redraw": 20})
    assert_type(estimate.credits, float)
    client.comics.estimate(request, prices=Prices(redraw=20, animation=None))
    batch = client.comics.batch(["a cat"], budget=3_000, prices=Prices(redraw=20))
    assert_type(batch.progress.spending, Spending)
    assert_type(batch.progress.spending.left, float | None)
    client.comics.estimate(5)  # type: ignore[arg-type]  # not a request
    Prices(redraw="5")  # type: ignore[arg-type]  # not a number


async def around_it() -> None:
    async with LlamaGenClient("key", plan="paid", speed=2) as client:
        assert_type(client, LlamaGenClient)
        assert_type(client.plan, Plan)
        assert_type(await client.limits(), LimitsSnapshot)
        assert_type(client.stats(), ClientStats)


async def wrong_arguments_are_found(client: LlamaGenClient) -> None:
    await client.comics.create("a cat", promt="a dog")  # type: ignore[call-arg]  # no such field
    await client.comics.create("a cat", fix_panel_num="4")  # type: ignore[arg-type]  # not a number
    ComicRequest("a cat", images=[1])  # type: ignore[list-item]  # not a URL
    ComicRequest("a cat", pagination=4)  # type: ignore[arg-type]  # not a pagination
    RateLimit("4", per=60)  # type: ignore[arg-type]  # not a number
    LlamaGenClient("key", paln="demo")  # type: ignore[call-arg]  # no such argument


def values(plan: Plan, request: ComicRequest) -> None:
    assert_type(plan.quotas, tuple[RateLimit, ...])
    assert_type(plan.rate.interval, float)
    assert_type(request.pagination, Pagination | None)
    assert_type(request.images, tuple[str | Path, ...])
    ComicRequest("a cat", comic_roles={"name": "Tom"}, pagination={"total_pages": 1})
