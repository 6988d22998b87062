"""Files that requests name: uploaded before the request is sent, and each content once."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from llamagen_async import (
    APIConnectionError,
    Character,
    ComicRequest,
    InvalidRequestError,
    InvalidResponseError,
    Plan,
    QuotaExhaustedError,
    RequestKind,
    ServerError,
)
from llamagen_async.models import Upload
from llamagen_async.uploads import LARGEST_UPLOAD, missing_uploads
from tests.support.cli import needs_posix
from tests.support.scripted import ROOMY, Recorder, left_over, minute

pytestmark = pytest.mark.virtual_time

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def tom(tmp_path: Path) -> Path:
    path = tmp_path / "tom.png"
    path.write_bytes(PNG)
    return path


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def kinds(network: Recorder) -> list[str]:
    return [sent.kind.value for sent in network.sent]


def bodies(network: Recorder) -> list[Any]:
    return [request.json for request in network.requests if request.json]


async def test_a_file_is_uploaded_before_the_create_that_names_it(tom: Path) -> None:
    """The create has its URL."""
    network = Recorder()
    async with network.client(ROOMY) as client:
        await client.comics.create("A cat", comic_roles=[Character("Tom", image=tom)])
        (body,) = bodies(network)
        assert body["comicRoles"][0]["image"].startswith("http")
    assert kinds(network) == ["upload", "create"]


async def test_every_method_takes_files(tom: Path) -> None:
    """One upload of the file serves all of them."""
    network = Recorder()
    async with network.client(ROOMY) as client:
        comic = await client.comics.create_and_wait("A cat", images=[tom], fix_panel_num=1)
        await client.comics.continue_and_wait(comic.id, "It goes on", images=[tom])
        await client.comics.update_panel_and_wait(comic.id, panel=0, images=[tom])
        await client.animations.create("A cat", video_options={"image": tom})
    assert network.of(RequestKind.UPLOAD) == network.sent[:1]
    assert all("http" in str(body) and "tom.png" not in str(body) for body in bodies(network))


async def test_one_content_is_uploaded_once(tom: Path, tmp_path: Path) -> None:
    """Whatever the file is called, and also if many stories ask at the same time."""
    (tmp_path / "copy.png").write_bytes(PNG)
    network = Recorder(latency=1.0)
    async with network.client(ROOMY) as client:
        paths = [tom, tmp_path / "copy.png"] * 5
        await asyncio.gather(*(client.comics.create("x", images=[path]) for path in paths))
        await client.comics.create("x", images=[tom])
        assert kinds(network) == ["upload", *["create"] * 11]
        write(tom, PNG + b"a new hat")
        await client.comics.create("x", images=[tom])
    assert kinds(network)[-2:] == ["upload", "create"]


async def test_an_upload_that_failed_for_one_is_tried_by_the_next(tom: Path) -> None:
    """The others have a patience of their own; the request of the first was not sent."""
    lost = APIConnectionError("broke off")
    network = Recorder(latency=1.0, after=lambda sent: lost if sent.n == 0 else None)
    async with network.client(ROOMY) as client:
        creates = (client.comics.create("x", images=[tom]) for _ in range(3))
        results = await asyncio.gather(*creates, return_exceptions=True)
    assert [isinstance(result, APIConnectionError) for result in results] == [True, False, False]
    assert kinds(network)[:2] == ["upload", "upload"]


async def test_an_outage_is_held_out_as_long_as_the_request_would_be(tom: Path) -> None:
    down = ServerError(503, None, "down")
    network = Recorder(after=lambda sent: down if sent.n < 5 and "upload" in str(sent) else None)
    async with network.client(ROOMY) as client:
        await client.comics.create_and_wait("x", images=[tom])
    assert kinds(network)[:7] == [*["upload"] * 6, "create"]


async def test_cancelled_waiters_leave_no_upload_behind(tom: Path) -> None:
    """One of two that goes away leaves it to the other; the last one ends it."""
    network = Recorder(latency=10.0)
    async with network.client(ROOMY) as client:
        first, second = (
            asyncio.create_task(client.comics.create("x", images=[tom])) for _ in range(2)
        )
        await asyncio.sleep(5)
        first.cancel()
        await second
        assert kinds(network) == ["upload", "create"]
        write(tom, PNG * 2)
        third = asyncio.create_task(client.comics.create("x", images=[tom]))
        await asyncio.sleep(5)
        assert any("_upload" in repr(task) for task in left_over())
        third.cancel()
        await asyncio.gather(third, return_exceptions=True)
        await asyncio.sleep(0.1)
        assert not any("_upload" in repr(task) for task in left_over())
    assert kinds(network) == ["upload", "create", "upload"]


async def test_a_url_is_used_again_for_a_day(tom: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How long such URLs are valid is not known."""
    now = [1_700_000_000.0]
    monkeypatch.setattr("llamagen_async.uploads.time.time", lambda: now[0])
    network = Recorder()
    async with network.client(ROOMY) as client:
        for later in (0.0, 80_000.0, 10_000.0):
            now[0] += later
            await client.comics.create("x", images=[tom])
    assert kinds(network) == ["upload", "create", "create", "upload", "create"]


class Store:
    """Remembers uploads as a journal does."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[str, float]] = {}

    async def uploaded(self, digest: str, since: float) -> str | None:
        url, at = self.kept.get(digest, ("", 0.0))
        return url if at >= since else None

    async def keep_upload(self, digest: str, url: str, at: float) -> None:
        self.kept[digest] = url, at


async def test_a_signed_url_is_used_again_as_long_as_it_says(
    tom: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A comic was paid for with a picture of its character that nobody could fetch any more."""
    signed = "https://f.example/a?X-Amz-Date=20260101T000000Z&X-Amz-Expires=3600&X-Amz-Signature=s"
    now = [datetime(2026, 1, 1, tzinfo=UTC).timestamp()]
    monkeypatch.setattr("llamagen_async.uploads.time.time", lambda: now[0])
    monkeypatch.setattr(Upload, "parse", lambda _: Upload(signed))
    network, store, how = Recorder(), Store(), {"urgent": True, "wait_for_quota": False}
    async with network.client(ROOMY) as client:
        for later, missing in ((0.0, 1), (1_700.0, 0), (200.0, 1)):
            now[0] += later
            assert await missing_uploads([tom], store) == missing
            await client.comics.uploaded(ComicRequest("x", images=[tom]), store, **how)
            await client.comics.create("x", images=[tom])
    assert kinds(network).count("upload") == 3


async def test_a_file_that_is_changed_before_it_is_sent_is_taken_for_no_other(
    tom: Path, tmp_path: Path
) -> None:
    """An upload waits for a slot: a copy of what it was got the URL of what it has become."""
    (tmp_path / "copy.png").write_bytes(PNG)
    network = Recorder(before=lambda sent: write(tom, PNG + b"new") if sent.n == 0 else None)
    async with network.client(ROOMY) as client:
        for path in (tom, tmp_path / "copy.png", tom):
            await client.comics.create("x", images=[path])
    new, copy, again = (body["images"] for body in bodies(network))
    assert new == again != copy
    assert kinds(network) == ["upload", "upload", "create", "upload", "create", "create"]


async def test_an_upload_without_a_url_is_told_and_not_remembered(
    tom: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request was refused for a URL that its user had never given, for a day."""
    network, store, how = Recorder(), Store(), {"urgent": True, "wait_for_quota": False}
    async with network.client(ROOMY) as client:
        with monkeypatch.context() as patch:
            patch.setattr(Upload, "parse", lambda _: Upload("/files/tom.png"))
            with pytest.raises(InvalidResponseError, match="no URL but '/files"):
                await client.comics.uploaded(ComicRequest("x", images=[tom]), store, **how)
        await client.comics.uploaded(ComicRequest("x", images=[tom]), store, **how)
    assert kinds(network) == ["upload"] * 2


async def test_a_file_that_is_changed_all_the_time_is_refused(tom: Path) -> None:
    network = Recorder(before=lambda sent: write(tom, PNG + bytes([sent.n])))
    async with network.client(ROOMY) as client:
        with pytest.raises(InvalidRequestError, match=r"images\[0\]: .*tom.png.* stays as it is"):
            await client.comics.create("x", images=[tom])
    assert kinds(network) == ["upload"] * 3


async def test_a_file_that_is_removed_while_it_is_sent_was_sent(tom: Path) -> None:
    network = Recorder(after=lambda _: tom.unlink(missing_ok=True))
    async with network.client(ROOMY) as client:
        await client.comics.create("x", images=[tom])
    assert kinds(network) == ["upload", "create"]


async def test_a_store_remembers_uploads_for_the_next_client(tom: Path) -> None:
    store, network = Store(), Recorder()
    for _ in range(2):
        async with network.client(ROOMY) as client:
            done = await client.comics.uploaded(
                ComicRequest("x", images=[tom]), store, urgent=False, wait_for_quota=True
            )
            assert done.to_payload()["images"] == [next(iter(store.kept.values()))[0]]
    assert kinds(network) == ["upload"]


async def test_what_cant_be_uploaded_is_named_and_nothing_is_sent(tmp_path: Path) -> None:
    network = Recorder()
    big = tmp_path / "big.png"
    with big.open("wb") as file:
        file.truncate(LARGEST_UPLOAD + 1)
    (tmp_path / "empty.png").touch()
    async with network.client(ROOMY) as client:
        for path, problem in (
            (tmp_path / "none.png", "No such file"),
            (tmp_path, "a file"),
            (tmp_path / "empty.png", "0 bytes"),
            (big, "10,485,761 bytes"),
        ):
            with pytest.raises(InvalidRequestError, match=problem) as caught:
                await client.comics.create("x", comic_roles=[{"name": "Tom", "image": path}])
            assert caught.value.field == "comic_roles[0].image"
    assert network.sent == []


@needs_posix
async def test_what_may_never_end_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    async with Recorder().client(ROOMY) as client:
        with pytest.raises(InvalidRequestError, match="a file"):
            await client.comics.create("x", images=[tmp_path / "pipe"])


async def test_an_upload_waits_no_longer_than_its_request_may(tom: Path) -> None:
    network = Recorder(minute(plans={"the-key": Plan.DEMO}))
    async with network.client("demo") as client:
        for n in range(4):
            await client.comics.create(f"x {n}")
        with pytest.raises(QuotaExhaustedError):
            await client.comics.create("x", images=[tom], max_wait=5)
    assert network.of(RequestKind.UPLOAD) == []
