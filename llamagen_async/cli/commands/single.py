"""`llamagen-async generate` and `status`: one comic."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import attrs
import click

from llamagen_async.cli.commands.limits import print_wait
from llamagen_async.cli.commands.options import (
    Connection,
    connection_options,
    output_options,
    prepared_folder,
    text,
)
from llamagen_async.cli.errors import (
    ALL_DONE,
    FAILED,
    INTERRUPTED,
    CommandError,
    describe_error,
    status_command,
)
from llamagen_async.cli.interrupts import run_async
from llamagen_async.cli.output import Output
from llamagen_async.cli.text import one_line, pluralize
from llamagen_async.client import LlamaGenClient
from llamagen_async.comics import DEFAULT_TIMEOUT
from llamagen_async.downloads.download import asset_names
from llamagen_async.errors import (
    GenerationFailedError,
    InvalidRequestError,
    LlamaGenError,
    QuotaExhaustedError,
    WaitTimeoutError,
)
from llamagen_async.models import ComicGeneration
from llamagen_async.plans import HOUR, RequestKind
from llamagen_async.requests import SIZES, ComicRequest

__all__ = ["generate", "status"]


@click.command(short_help="Generate one comic.")
@click.argument("prompt", type=text)
@click.option("--size", type=text, metavar="WxH", help=f"Picture size: {', '.join(SIZES)}.")
@click.option("--panels", type=int, metavar="N", help="How many panels, 1 to 20.")
@click.option("--pages", type=int, metavar="N", help="How many pages, 1 to 20.")
@click.option("--panels-per-page", type=int, metavar="N", help="With --pages: 1 to 20.")
@click.option("--style", type=text, help="The drawing style, in words.")
@click.option("--language", type=text, help="The language of the captions.")
@click.option("--model", type=text, help="The model's name.")
@click.option("--preset", type=text, help="The preset's name.")
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
@click.option(
    "--max-wait",
    type=float,
    metavar="SECONDS",
    help="How long to wait for a free slot. Without it: minutes, but not for tomorrow's quota.",
)
@click.option(
    "--wait-for-quota", is_flag=True, help="Wait for tomorrow's quota if today's is used up."
)
@output_options
@connection_options
def generate(
    *,
    connection: Connection,
    prompt: str,
    out: str | None,
    no_wait: bool,
    timeout: float,
    max_wait: float | None,
    wait_for_quota: bool,
    output: Output,
    **fields: Any,
) -> int:
    """Generate one comic from PROMPT, and print where its pictures are.

    With --out the pictures are fetched. Ctrl-C leaves the comic at the server: it is paid for,
    and `llamagen-async status ID --out DIR` gets it later.
    """
    client = connection.client()
    request = _request(prompt, **fields)
    slot_wait = _MaxWait(_checked_wait(max_wait), wait_for_quota)
    folder = prepared_folder(out) if out is not None else None

    async def work() -> int:
        await connection.prove_quota()
        async with client:
            await print_wait(client, output, speed=connection.speed, **attrs.asdict(slot_wait))
            comic = await _create(client, request, slot_wait, output)
            if comic is None:
                return INTERRUPTED
            if no_wait:
                _show(comic, output, [])
                if output.is_lost or output.stdout_closed:
                    _tell_id(comic, output)
                return ALL_DONE
            _tell_id(comic, output)
            return await _collect(client, comic, output, timeout=timeout, folder=folder)

    return run_async(work)


@click.command(short_help="Show where a comic stands, by its id.")
@click.argument("id", type=text)
@click.option("--out", metavar="DIR", help="If it is done, fetch its pictures into this folder.")
@click.option("--wait", is_flag=True, help="Wait until it is done.")
@output_options
@connection_options
def status(
    *,
    connection: Connection,
    id: str,
    out: str | None,
    wait: bool,
    output: Output,
) -> int:
    """Print where the comic ID stands. Takes one request.

    Exit status 1 means that it ended without a comic.
    """
    client = connection.client()
    folder = prepared_folder(out) if out is not None else None

    async def work() -> int:
        await connection.prove_quota()
        async with client:
            await print_wait(client, output, speed=connection.speed)
            with output.spinner("Waiting for the comic") if wait else nullcontext():
                comic = await _checked(client, id, wait=wait)
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


def _checked_wait(seconds: float | None) -> float | None:
    if seconds is not None and not seconds >= 0:
        raise InvalidRequestError("max_wait", seconds, "a number of seconds, 0 or more")
    return seconds


@attrs.frozen
class _MaxWait:
    """How long a create may wait for its slot."""

    max_wait: float | None
    """Seconds of the server's clock; `None` is any time within the short windows."""
    wait_for_quota: bool
    """Whether tomorrow's quota is waited for."""


async def _create(
    client: LlamaGenClient, request: ComicRequest, slot_wait: _MaxWait, output: Output
) -> ComicGeneration | None:
    """Return the accepted comic; `None` after an interrupt, which is reported."""
    try:
        with output.spinner("Waiting for the server to accept the comic"):
            return await client.comics.create(request, **attrs.asdict(slot_wait))
    except QuotaExhaustedError as error:
        per = error.limit.per if error.limit else error.wait * client.speed
        is_short = per < HOUR or slot_wait.wait_for_quota
        option = "a longer --max-wait" if is_short else "--wait-for-quota"
        raise CommandError(describe_error(error, wait_with=option), FAILED) from None
    except asyncio.CancelledError:
        # A create on its way is given a moment; if its answer comes, the client logs the id.
        await client.aclose()
        if client.stats().requests.get(RequestKind.CREATE.value):
            output.error(
                "interrupted while the answer was awaited: if it came, the id stands above; if "
                "not, the comic may have been accepted and charged all the same"
            )
        else:
            output.error("interrupted: nothing was sent")
        return None


async def _collect(
    client: LlamaGenClient,
    comic: ComicGeneration,
    output: Output,
    *,
    timeout: float,
    folder: Path | None,
) -> int:
    """Wait for an accepted comic, download its pictures and show it; every error has its id."""
    try:
        with output.spinner(f"{one_line(comic.id)} is being drawn"):
            if not comic.succeeded:
                comic = await client.comics.wait_for_completion(comic.id, timeout=timeout)
            files = await client.comics.download(comic, folder) if folder is not None else []
    except asyncio.CancelledError:
        output.error(f"interrupted; it goes on at the server: {status_command(comic.id, folder)}")
        return INTERRUPTED
    except (GenerationFailedError, WaitTimeoutError, QuotaExhaustedError) as error:
        raise CommandError(describe_error(error, id_=comic.id), FAILED) from None
    except (LlamaGenError, OSError) as error:
        again = status_command(comic.id, folder)
        message = (
            f"{comic.id} was accepted, but then: {describe_error(error)}; check it with {again}"
        )
        raise CommandError(message, FAILED) from None
    _show(comic, output, files)
    return ALL_DONE


def _tell_id(comic: ComicGeneration, output: Output) -> None:
    """Print the id of a comic before anything else can fail: it is paid for."""
    if not output.print(f"{one_line(comic.id)}  accepted"):
        output.error(f"accepted, {status_command(comic.id)} shows it")


async def _checked(client: LlamaGenClient, id_: str, *, wait: bool) -> ComicGeneration:
    if not wait:
        return await client.comics.get(id_)
    try:
        return await client.comics.wait_for_completion(id_)
    except GenerationFailedError as error:
        assert isinstance(error.generation, ComicGeneration)
        return error.generation


def _show(comic: ComicGeneration, output: Output, files: list[Path]) -> None:
    """Print one comic, for a person or as JSON."""
    output.emit_json(
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
    output.print(f"{one_line(comic.id)}  {comic.status.value}")
    if comic.failure_reason:
        output.print(f"  {one_line(comic.failure_reason)}")
    if comic.prompt:
        output.print(f"  {one_line(comic.prompt)}")
    places = dict(zip((url for url, _ in asset_names(comic)), map(str, files), strict=False))
    for number, page in enumerate(comic.pages, 1):
        output.print(f"  page {number}, {pluralize(len(page.panels), 'panel')}")
        for panel in page.panels:
            where = places.get(panel.asset_url or "", panel.asset_url or "no picture")
            output.print(f"    {one_line(where)}  {one_line(panel.caption or '')}".rstrip())
    if comic.output:
        output.print(f"  output: {one_line(places.get(comic.output, comic.output))}")
    if not comic.is_done:
        output.print(f"  not done yet: {status_command(comic.id)}")
