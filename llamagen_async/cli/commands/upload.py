"""`llamagen-async upload`: a file becomes a URL."""

from __future__ import annotations

from llamagen_async.cli.commands.limits import print_wait
from llamagen_async.cli.commands.options import Connection
from llamagen_async.cli.exit_status import ALL_DONE
from llamagen_async.cli.interrupts import run_async
from llamagen_async.cli.output import Output
from llamagen_async.cli.text import one_line
from llamagen_async.uploads import form_file

__all__ = ["upload"]


def upload(*, connection: Connection, file: str, filename: str | None, output: Output) -> int:
    """Upload FILE, and print the URL under which requests can name it. Takes one request."""
    client = connection.client()

    async def work() -> int:
        # What is no file to upload costs no wait, and a pipe can be read only once.
        form = await form_file(file, filename)
        await connection.prove_quota()
        async with client:
            await print_wait(client, output, speed=connection.speed)
            with output.spinner("Uploading"):
                uploaded = await client.comics.upload(
                    form.content, form.filename, content_type=form.content_type
                )
        output.emit_json({"url": uploaded.url, "code": uploaded.code, "raw": dict(uploaded.raw)})
        if not output.as_json:
            output.print(one_line(uploaded.url))
        return ALL_DONE

    return run_async(work)
