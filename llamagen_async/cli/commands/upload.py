"""`llamagen-async upload`: a file becomes a URL."""

from __future__ import annotations

import click

from llamagen_async.cli.commands.limits import print_wait
from llamagen_async.cli.commands.options import (
    Connection,
    connection_options,
    output_options,
    text,
)
from llamagen_async.cli.exit_status import ALL_DONE
from llamagen_async.cli.interrupts import run_async
from llamagen_async.cli.output import Output
from llamagen_async.cli.text import one_line
from llamagen_async.uploads import form_file

__all__ = ["upload"]


@click.command(short_help="Upload a picture or a document.")
@click.argument("file", type=click.Path())
@click.option("--filename", type=text, help="The name that the server is told; FILE's own if none.")
@output_options
@connection_options
def upload(*, connection: Connection, file: str, filename: str | None, output: Output) -> int:
    """Upload FILE, and print the URL under which requests can name it. Takes one request.

    A picture or a document of at most 10 MB; it costs no credits. The URL goes where a request
    takes one: `--image URL` here, `"images"` or a role's `"image"` in a batch's .jsonl.
    """
    client = connection.client()

    async def work() -> int:
        await form_file(file, filename)  # what is no file to upload costs no wait
        await connection.prove_quota()
        async with client:
            await print_wait(client, output, speed=connection.speed)
            with output.spinner("Uploading"):
                uploaded = await client.comics.upload(file, filename)
        output.emit_json({"url": uploaded.url, "code": uploaded.code, "raw": dict(uploaded.raw)})
        if not output.as_json:
            output.print(one_line(uploaded.url))
        return ALL_DONE

    return run_async(work)
