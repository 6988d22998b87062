"""Arguments, options and help of `llamagen-async upload`."""

from __future__ import annotations

from typing import Any

import click

from llamagen_async.cli.declarations.shared import (
    connection_options,
    examples,
    output_options,
    text,
)

__all__ = ["upload"]


@click.command(
    short_help="Upload a picture or a document.",
    epilog=examples("upload portrait.png", "upload scan-0001.pdf --filename script.pdf --json"),
)
@click.argument("file", type=click.Path())
@click.option("--filename", type=text, help="The name that the server is told; FILE's own if none.")
@output_options
@connection_options
def upload(**given: Any) -> int:
    """Upload FILE, and print the URL under which requests can name it. Takes one request.

    A picture or a document of at most 10 MB; it costs no credits. The URL goes where a request
    takes one: `--image URL` here, `"images"` or a role's `"image"` in a batch's .jsonl.
    """
    with given["output"].loading():
        from llamagen_async.cli.commands import upload

    return upload.upload(**given)
