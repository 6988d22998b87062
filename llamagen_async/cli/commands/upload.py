"""`llamagen-async upload`: a file becomes a URL."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

from llamagen_async.cli.commands.limits import print_wait
from llamagen_async.cli.commands.options import Connection
from llamagen_async.cli.exit_status import ALL_DONE
from llamagen_async.cli.input.lines import chunks_of
from llamagen_async.cli.input.stdin import iterate_in_thread
from llamagen_async.cli.interrupts import run_async
from llamagen_async.cli.output import Output
from llamagen_async.cli.text import one_line
from llamagen_async.uploads import LARGEST_UPLOAD, form_file
from llamagen_async.validation import checked_path

__all__ = ["upload"]


def upload(*, connection: Connection, file: str, filename: str | None, output: Output) -> int:
    """Upload FILE, and print the URL under which requests can name it. Takes one request."""
    client = connection.client()

    async def work() -> int:
        source, name = await _given(file, filename)
        await form_file(source, name)  # what is no file to upload costs no wait
        await connection.prove_quota()
        async with client:
            await print_wait(client, output, speed=connection.speed)
            with output.spinner("Uploading"):
                uploaded = await client.comics.upload(source, name)
        output.emit_json({"url": uploaded.url, "code": uploaded.code, "raw": dict(uploaded.raw)})
        if not output.as_json:
            output.print(one_line(uploaded.url))
        return ALL_DONE

    return run_async(work)


async def _given(file: str, filename: str | None) -> tuple[str | bytes, str | None]:
    """Return what is uploaded, and its name: of a pipe the content, which is read only once.

    A pipe may say nothing for ever, and Ctrl-C ends that, too.
    """
    path = checked_path("file", file)
    if not _is_pipe(path):
        return file, filename
    content = bytearray()
    async with aclosing(iterate_in_thread(_chunks(path))) as chunks:
        async for chunk in chunks:
            content += chunk
            if len(content) > LARGEST_UPLOAD:
                break
    return bytes(content), filename or path.name


def _is_pipe(path: Path) -> bool:
    """Whether something else than a file on disk can be read there."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as opened:
        yield from chunks_of(opened)
