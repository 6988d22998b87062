"""`llamagen-async generate` and `status`: one comic."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click

from llamagen_async.batch.download import asset_names
from llamagen_async.cli.closing import close
from llamagen_async.cli.errors import ALL_DONE, FAILED, INTERRUPTED
from llamagen_async.cli.options import (
    Connection,
    connection_options,
    json_option,
    prepared_folder,
)
from llamagen_async.cli.output import Output
from llamagen_async.cli.running import run_async
from llamagen_async.cli.session import Session
from llamagen_async.cli.stories import Stories, Story
from llamagen_async.cli.text import counted, one_line
from llamagen_async.client import LlamaGenClient
from llamagen_async.comics import DEFAULT_TIMEOUT
from llamagen_async.errors import GenerationFailedError
from llamagen_async.models import ComicGeneration
from llamagen_async.requests import SIZES, ComicRequest

__all__ = ["generate", "status"]


@click.command(short_help="Generate one comic.")
@click.argument("prompt")
@click.option("--size", metavar="WxH", help=f"Picture size: {', '.join(SIZES)}.")
@click.option("--panels", type=int, metavar="N", help="How many panels, 1 to 20.")
@click.option("--pages", type=int, metavar="N", help="How many pages, 1 to 20.")
@click.option("--panels-per-page", type=int, metavar="N", help="With --pages: 1 to 20.")
@click.option("--style", help="The drawing style, in words.")
@click.option("--language", help="The language of the captions.")
@click.option("--model", help="The model's name.")
@click.option("--preset", help="The preset's name.")
@click.option("--out", metavar="DIR", help="Fetch the pictures into this folder.")
@click.option("--no-wait", is_flag=True, help="Print the id and leave.")
@click.option(
    "--timeout",
    type=float,
    default=DEFAULT_TIMEOUT,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait once it was accepted.",
)
@json_option
@connection_options
def generate(
    *,
    connection: Connection,
    prompt: str,
    out: str | None,
    no_wait: bool,
    timeout: float,
    as_json: bool,
    **fields: Any,
) -> int:
    """Generate one comic from PROMPT, and print where its pictures are.

    With --out the pictures are fetched. Ctrl-C leaves the comic at the server: it is paid for,
    and `llamagen-async status ID --out DIR` gets it later.
    """
    client = connection.client()
    request = _request(prompt, **fields)
    folder = prepared_folder(out) if out is not None else None
    output = Output(as_json=as_json, command="generate")
    if no_wait:
        return run_async(lambda: _start(client, request, output))
    session = Session(
        client,
        Stories("the command line", checked=(Story(0, "", request),)),
        output,
        speed=connection.speed,
        folder=folder,
        timeout=timeout,
        quiet=True,
    )

    async def work() -> int:
        await session.run()
        comic = session.comics.get(0)
        if comic is None or session.errors or session.interrupted:
            return close(output, session, client.stats(), folder=None)
        files = session.records[0].files
        _show(comic, output, [folder / name for name in files] if folder else [])
        return ALL_DONE

    return run_async(work)


@click.command(short_help="Look at a comic by its id.")
@click.argument("id")
@click.option("--out", metavar="DIR", help="If it is done, fetch its pictures into this folder.")
@click.option("--wait", is_flag=True, help="Wait until it is done.")
@json_option
@connection_options
def status(
    *,
    connection: Connection,
    id: str,
    out: str | None,
    wait: bool,
    as_json: bool,
) -> int:
    """Print where the comic ID stands. Takes one request.

    Exit status 1 means that it ended without a comic.
    """
    client = connection.client()
    folder = prepared_folder(out) if out is not None else None
    output = Output(as_json=as_json, command="status")

    async def work() -> int:
        async with client:
            comic = await _looked_at(client, id, wait=wait)
            files: list[Path] = []
            if folder is not None and comic.succeeded:
                files = await client.comics.download(comic, folder)
        _show(comic, output, files)
        return FAILED if comic.is_done and not comic.succeeded else ALL_DONE

    return run_async(work)


def _request(
    prompt: str, *, panels: int | None, pages: int | None, panels_per_page: int | None, **rest: Any
) -> ComicRequest:
    if (pages is None) != (panels_per_page is None):
        raise click.UsageError("--pages and --panels-per-page go together")
    if pages is not None and panels is not None:
        raise click.UsageError("--panels does not go together with --pages")
    pagination = (
        {"total_pages": pages, "panels_per_page": panels_per_page} if pages is not None else None
    )
    return ComicRequest.parse(
        {"prompt": prompt, "fix_panel_num": panels, "pagination": pagination, **rest}
    )


async def _start(client: LlamaGenClient, request: ComicRequest, output: Output) -> int:
    try:
        async with client:
            comic = await client.comics.create(request)
    except asyncio.CancelledError:
        output.complain("interrupted: if it was accepted, its id stands above")
        return INTERRUPTED
    _show(comic, output, [])
    return ALL_DONE


async def _looked_at(client: LlamaGenClient, id_: str, *, wait: bool) -> ComicGeneration:
    if not wait:
        return await client.comics.get(id_)
    try:
        return await client.comics.wait_for_completion(id_)
    except GenerationFailedError as error:
        assert isinstance(error.generation, ComicGeneration)
        return error.generation


def _show(comic: ComicGeneration, output: Output, files: list[Path]) -> None:
    """Print one comic, for a person or as JSON."""
    output.emit(
        {
            "id": comic.id,
            "status": comic.status.value,
            "output": comic.output,
            "asset_urls": list(comic.asset_urls),
            "files": [str(path) for path in files],
            "raw": dict(comic.raw),
        }
    )
    if output.as_json:
        return
    output.say(f"{one_line(comic.id)}  {comic.status.value}")
    if comic.failure_reason:
        output.say(f"  {one_line(comic.failure_reason)}")
    if comic.prompt:
        output.say(f"  {one_line(comic.prompt)}")
    places = dict(zip((url for url, _ in asset_names(comic)), map(str, files), strict=False))
    for number, page in enumerate(comic.pages, 1):
        output.say(f"  page {number}, {counted(len(page.panels), 'panel')}")
        for panel in page.panels:
            where = places.get(panel.asset_url or "", panel.asset_url or "no picture")
            output.say(f"    {one_line(where)}  {one_line(panel.caption or '')}".rstrip())
    if comic.output:
        output.say(f"  output: {one_line(places.get(comic.output, comic.output))}")
    if not comic.is_done:
        output.say(f"  not done yet: llamagen-async status {one_line(comic.id)}")
