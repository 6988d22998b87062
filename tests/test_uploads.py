"""Uploads: any form of a file, measured before anything is sent, and sent piece by piece."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from llamagen_async import (
    APIConnectionError,
    InvalidRequestError,
    LlamaGenClient,
    RequestKind,
    Upload,
)
from llamagen_async.sandbox import PAID_KEY, SandboxServer, SandboxService
from llamagen_async.transport import APIRequest, FormFile, HTTPTransport
from llamagen_async.uploads import LARGEST_UPLOAD, form_file
from tests.support.cli import needs_posix
from tests.support.scripted import ROOMY, Recorder

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


class AsyncFile:
    """A file as web frameworks hand it over."""

    filename = "hat.png"

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)

    async def read(self, size: int = -1) -> bytes:
        return self._file.read(size)


def named(content: bytes, name: object) -> io.BytesIO:
    file = io.BytesIO(content)
    file.name = name
    return file


@pytest.mark.parametrize(
    ("file", "filename", "expected"),
    [
        (PNG, None, ("upload.png", "image/png")),
        (bytearray(PNG), None, ("upload.png", "image/png")),
        (memoryview(PNG), "a.png", ("a.png", "image/png")),
        (b"A story", None, ("upload", "application/octet-stream")),
        (b"A story", "story.txt", ("story.txt", "text/plain")),
        (b"# A story", "story.md", ("story.md", "text/markdown")),
        (PNG, "photo.jpg", ("photo.jpg", "image/png")),
        (b"RIFF\x10\0\0\0WEBP", "x", ("x", "image/webp")),
        (io.BytesIO(PNG), None, ("upload.png", "image/png")),
        (named(PNG, "/tmp/hat.png"), None, ("hat.png", "image/png")),
        (named(b"%PDF-1.7", "script.pdf"), None, ("script.pdf", "application/pdf")),
        (named(b"x", 3), None, ("upload", "application/octet-stream")),
        (AsyncFile(PNG), None, ("hat.png", "image/png")),
    ],
)
async def test_name_and_type_are_told_of_any_form(
    file: Any, filename: str | None, expected: tuple[str, str]
) -> None:
    """Content wins over the name; the name is given, the file's own, or made up."""
    form = await form_file(file, filename)
    assert (form.filename, form.content_type) == expected


async def test_a_file_on_disk_is_not_read_before_it_is_sent(tmp_path: Path) -> None:
    """Only where it is travels to the transport."""
    path = tmp_path / "hat.png"
    path.write_bytes(PNG)
    for given in (path, str(path)):
        assert await form_file(given) == FormFile("hat.png", path, "image/png")


async def test_an_open_file_is_read_from_where_it_stands_and_left_open(tmp_path: Path) -> None:
    path = tmp_path / "hat.png"
    path.write_bytes(PNG + b"rest")
    with path.open("rb") as file:
        file.seek(len(PNG))
        assert (await form_file(file)).content == b"rest"
        assert not file.closed


@needs_posix
async def test_what_can_be_read_only_once_is_read_once() -> None:
    """A pipe, as a shell's process substitution makes one."""
    reading, writing = os.pipe()
    os.write(writing, PNG)
    os.close(writing)
    try:
        assert (await form_file(f"/dev/fd/{reading}")).content == PNG
    finally:
        os.close(reading)


@pytest.mark.parametrize(
    ("size", "is_allowed"),
    [(0, False), (1, True), (LARGEST_UPLOAD, True), (LARGEST_UPLOAD + 1, False)],
)
@pytest.mark.parametrize("form", ["path", "bytes", "file", "async file"])
async def test_the_size_is_checked_in_every_form(
    form: str, size: int, is_allowed: bool, tmp_path: Path
) -> None:
    """10 MB are allowed, and nothing is not: the refusal says how much it is."""
    file: Any = bytes(size)
    if form == "path":
        file = tmp_path / "big.bin"
        with file.open("wb") as opened:
            opened.truncate(size)
    elif form == "file":
        file = io.BytesIO(file)
    elif form == "async file":
        file = AsyncFile(file)
    if is_allowed:
        assert isinstance(await form_file(file), FormFile)
        return
    with pytest.raises(InvalidRequestError, match=r"^file: got '.* bytes.*10 MB"):
        await form_file(file)


def closed_file() -> io.BytesIO:
    file = io.BytesIO(PNG)
    file.close()
    return file


class WholeFile:
    """A file of which no part can be read, such as a part of a form that aiohttp has read."""

    async def read(self, *, decode: bool = False) -> bytes:
        return PNG


class BrokenFile:
    """A file whose packed content breaks off, which is no error of the system's."""

    def read(self, size: int) -> bytes:
        raise EOFError


@pytest.mark.parametrize(
    "file",
    [
        io.StringIO("text"),
        closed_file(),
        WholeFile(),
        BrokenFile(),
        *(5, None, [b"x"], "no/such/file", "a\0b"),
    ],
)
async def test_what_is_no_file_is_refused(file: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await form_file(file)
    assert caught.value.field == "file"


@needs_posix
@pytest.mark.parametrize("is_part", [False, True])
async def test_a_file_whose_name_is_no_utf_8_is_uploaded(tmp_path: Path, *, is_part: bool) -> None:
    file = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    await asyncio.to_thread(file.write_bytes, PNG)
    async with SandboxServer(SandboxService()) as server:
        client = LlamaGenClient(PAID_KEY, base_url=server.url, plan=ROOMY, quota="memory")
        async with client:
            if is_part:
                assert (await client.comics.create("x", images=[file])).id
            else:
                assert (await client.comics.upload(file)).url


async def test_a_name_that_a_client_has_sent_may_have_no_bytes() -> None:
    async with SandboxServer(SandboxService()) as server:
        client = LlamaGenClient(PAID_KEY, base_url=server.url, plan=ROOMY, quota="memory")
        async with client:
            assert (await client.comics.upload(named(PNG, "caf\udce9.png"))).url


async def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match=r"^file: got"):
        await form_file(tmp_path)


async def test_an_upload_arrives_whole(tmp_path: Path) -> None:
    """Through real sockets: from disk, and from memory, up to the largest size."""
    path = tmp_path / "große Datei.png"
    path.write_bytes(PNG)
    big = PNG + bytes(LARGEST_UPLOAD - len(PNG))
    async with (
        SandboxServer(SandboxService()) as server,
        LlamaGenClient(PAID_KEY, plan="paid", base_url=server.url, quota="memory") as client,
    ):
        for file, size, name in (
            (path, len(PNG), "große Datei.png"),
            (big, len(big), "upload.png"),
        ):
            upload = await client.comics.upload(file)
            assert isinstance(upload, Upload)
            assert upload.code is not None
            assert upload.url.endswith(upload.code)
            assert upload.raw["fileName"] == name
            assert (upload.raw["contentType"], upload.raw["size"]) == ("image/png", size)
        assert client.stats().requests == {"upload": 2}


async def test_a_file_that_is_gone_when_it_is_sent_is_refused(tmp_path: Path) -> None:
    """A file may have to wait for its slot; nothing is sent."""
    form = FormFile("x.png", tmp_path / "gone.png")
    request = APIRequest(RequestKind.UPLOAD, "POST", "/comics/upload", form=form)
    async with SandboxServer(SandboxService()) as server:
        client = LlamaGenClient(PAID_KEY, plan="paid", base_url=server.url, quota="memory")
        async with client:
            with pytest.raises(InvalidRequestError, match=r"^file: got .*No such file"):
                await client._core.open().transport.send(request)
        assert server.service.stats(0.0)["keys"][PAID_KEY]["total"] == 0


@pytest.mark.parametrize("later", [b"", PNG + b"longer", b"other" + PNG])
async def test_a_file_that_is_written_to_while_it_is_sent_arrives_as_it_was(
    later: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of one arrived, or more bytes than were announced, or it never ended."""
    path, add = tmp_path / "tom.png", aiohttp.FormData.add_field
    path.write_bytes(PNG)

    def added(*args: Any, **options: Any) -> None:
        add(*args, **options)
        path.write_bytes(later)

    monkeypatch.setattr(aiohttp.FormData, "add_field", added)
    async with (
        SandboxServer(SandboxService()) as server,
        LlamaGenClient(PAID_KEY, plan="paid", base_url=server.url, quota="memory") as client,
    ):
        upload = await client.comics.upload(path)
    assert upload.raw["size"] == len(PNG)


@pytest.mark.virtual_time
async def test_an_upload_that_may_have_arrived_is_not_sent_again() -> None:
    """Such a file would be there twice; one that provably did not arrive is sent again."""
    lost = APIConnectionError("broke off")
    early = APIConnectionError("no connection", request_sent=False)
    network = Recorder(
        before=lambda sent: early if sent.n == 0 else None,
        after=lambda sent: lost if sent.n == 2 else None,
    )
    async with network.client(ROOMY) as client:
        assert (await client.comics.upload(PNG)).code is not None
        with pytest.raises(APIConnectionError):
            await client.comics.upload(PNG)
        await asyncio.sleep(600)
    assert len(network.requests) == 3


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"fileUrl": "https://f", "code": "u1"}, ("https://f", "u1")),
        ({"fileUrl": "https://f"}, ("https://f", None)),
        ({"url": "https://f", "code": 7}, ("https://f", "7")),
        ({"data": {"fileUrl": "https://f", "code": "u"}}, ("https://f", "u")),
        ({"data": [{"fileUrl": "https://f", "code": "u"}]}, ("https://f", "u")),
        ({"result": {"data": {"fileUrl": "https://f"}}}, ("https://f", None)),
        ({"url": "https://api/upload", "data": {"fileUrl": "https://f"}}, ("https://f", None)),
        ({"fileUrl": " https://f\n", "code": "u"}, ("https://f", "u")),
        ({"fileUrl": ["https://f"]}, ("https://f", None)),
        ({"fileUrl": "key/of/it", "url": "https://f"}, ("https://f", None)),
        ({"fileUrl": "key/of/it"}, ("key/of/it", None)),
        ({"data": "https://f"}, ("https://f", None)),
        ({"file": {"url": "https://f"}}, ("https://f", None)),
    ],
)
def test_the_answer_is_read_with_tolerance(
    answer: dict[str, Any], expected: tuple[str, str | None]
) -> None:
    upload = Upload.parse(answer)
    assert (upload.url, upload.code) == expected
    assert upload.raw == answer


@pytest.mark.parametrize(
    "answer",
    [
        {},
        None,
        {"code": "u1"},
        {"fileUrl": ""},
        {"fileUrl": 5},
        "ok",
        ["a"],
        {"data": "queued"},
        [],
    ],
)
def test_an_answer_without_a_url_is_none(answer: object) -> None:
    with pytest.raises(ValueError, match="no fileUrl"):
        Upload.parse(answer)


@pytest.mark.parametrize(
    ("timeout", "size", "expected"),
    [(30.0, 200_000, 40.0), (30.0, LARGEST_UPLOAD, 554.288), (600.0, LARGEST_UPLOAD, 600.0)],
)
async def test_a_large_file_gets_the_time_of_a_slow_line(
    timeout: float, size: int, expected: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never more than the time for which its slot is held; other requests get no more than ever."""
    limits: list[float] = []

    def limited(seconds: float) -> contextlib.nullcontext[None]:
        limits.append(seconds)
        return contextlib.nullcontext()

    (tmp_path / "x.bin").write_bytes(b"x" * size)
    monkeypatch.setattr("llamagen_async.transport.http.time_limit", limited)
    async with SandboxServer(SandboxService()) as server:
        transport = HTTPTransport(server.url, PAID_KEY, timeout=timeout)
        for content in (tmp_path / "x.bin", b"x" * size):
            form = FormFile("x.bin", content)
            await transport.send(
                APIRequest(RequestKind.UPLOAD, "POST", "/comics/upload", form=form)
            )
        await transport.send(APIRequest(RequestKind.USAGE, "GET", "/comics/usage"))
        await transport.aclose()
    assert limits == pytest.approx([expected, expected, timeout])
