"""One generation from the command line: sent, waited for, fetched and shown."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from llamagen_async.animations import Animations
from llamagen_async.cli.errors import describe_error, status_command
from llamagen_async.cli.exit_status import ALL_DONE, FAILED, INTERRUPTED, CommandError
from llamagen_async.cli.input.slot_wait import SlotWait
from llamagen_async.cli.output import Output
from llamagen_async.cli.text import one_line, pluralize
from llamagen_async.comics import Comics
from llamagen_async.downloads.download import asset_names
from llamagen_async.errors import (
    GenerationFailedError,
    LlamaGenError,
    QuotaExhaustedError,
    WaitTimeoutError,
)
from llamagen_async.models import Animation, ComicGeneration
from llamagen_async.plans import HOUR, RequestKind
from llamagen_async.requests import ContinueRequest, UpdateRequest

if TYPE_CHECKING:
    from llamagen_async.client import LlamaGenClient

__all__ = ["accepted", "collect", "fetched", "finish", "show"]

_G = TypeVar("_G", ComicGeneration, Animation)


async def accepted(
    client: LlamaGenClient,
    sending: Coroutine[Any, Any, _G],
    kind: RequestKind,
    slot_wait: SlotWait,
    output: Output,
) -> _G | None:
    """Return what the server has accepted; `None` after an interrupt, which is reported.

    Args:
        client: The client.
        sending: Sends the request.
        kind: The kind of request.
        slot_wait: How long it waits for its slot.
        output: The streams to print to.
    """
    try:
        with output.spinner("Waiting for the server to accept it"):
            return await sending
    except QuotaExhaustedError as error:
        per = error.limit.per if error.limit else error.wait * client.speed
        is_short = per < HOUR or slot_wait.wait_for_quota
        option = "a longer --max-wait" if is_short else "--wait-for-quota"
        raise CommandError(describe_error(error, wait_with=option), FAILED) from None
    except asyncio.CancelledError:
        # A request on its way is given a moment; if its answer comes, the client logs the id.
        await client.aclose()
        if client.stats().requests.get(kind.value):
            output.error(
                "interrupted while the answer was awaited: if it came, the id stands above; if "
                "not, it may have been accepted and charged all the same"
            )
        else:
            output.error("interrupted: nothing was sent")
        return None


async def finish(
    resource: Comics | Animations,
    generation: ComicGeneration | Animation | None,
    output: Output,
    *,
    timeout: float,
    folder: Path | None,
    no_wait: bool,
    change: ContinueRequest | UpdateRequest | None = None,
) -> int:
    """Do what is left once a generation was accepted, and return the exit status.

    Args:
        resource: The client's comics or animations.
        generation: The accepted generation; `None` after an interrupt.
        output: The streams to print to.
        timeout: Seconds to wait for its end.
        folder: The folder for its files, if they are wanted.
        no_wait: Whether nothing is left but to print the id.
        change: The change that was sent: the comic was done before, so its status says nothing yet.
    """
    if generation is None:
        return INTERRUPTED
    if not no_wait:
        _tell_id(generation, output)
        return await collect(
            resource, generation, output, timeout=timeout, folder=folder, change=change
        )
    show(generation, output, [])
    if output.is_lost or output.stdout_closed:
        _tell_id(generation, output)
    return ALL_DONE


async def collect(
    resource: Comics | Animations,
    generation: ComicGeneration | Animation,
    output: Output,
    *,
    timeout: float,
    folder: Path | None,
    change: ContinueRequest | UpdateRequest | None = None,
) -> int:
    """Wait for an accepted generation, download and show it; every error has its id."""
    again = status_command(generation.id, folder, is_animation=isinstance(generation, Animation))
    generations: Any = resource
    try:
        with output.spinner(f"{one_line(generation.id)} is being drawn"):
            if change is not None or not generation.succeeded:
                generation = await generations.wait_for_completion(generation.id, timeout=timeout)
            files: list[Path] = []
            if folder is not None:
                files = await fetched(resource, generation, folder, change)
    except asyncio.CancelledError:
        output.error(f"interrupted; it goes on at the server: {again}")
        return INTERRUPTED
    except (GenerationFailedError, WaitTimeoutError, QuotaExhaustedError) as error:
        raise CommandError(describe_error(error, id_=generation.id), FAILED) from None
    except (LlamaGenError, OSError) as error:
        message = (
            f"{generation.id} was accepted, but then: {describe_error(error)}; check it with "
            f"{again}"
        )
        raise CommandError(message, FAILED) from None
    show(generation, output, files)
    return ALL_DONE


async def fetched(
    resource: Comics | Animations,
    generation: ComicGeneration | Animation,
    folder: Path,
    change: ContinueRequest | UpdateRequest | None = None,
) -> list[Path]:
    """Fetch the files of a generation; a picture that is there, and another one, is kept."""
    if isinstance(resource, Comics) and isinstance(generation, ComicGeneration):
        again = True if change is None else change
        return await resource.download_changed(generation, folder, again=again, whole=True)
    generations: Any = resource
    files: list[Path] = await generations.download(generation, folder)
    return files


def show(generation: ComicGeneration | Animation, output: Output, files: list[Path]) -> None:
    """Print one generation, for a person or as JSON."""
    output.emit_json(
        {
            "id": generation.id,
            "status": generation.status.value,
            "output": generation.output,
            "asset_urls": list(generation.asset_urls),
            "files": [str(path) for path in files],
            "raw": dict(generation.raw),
        }
    )
    if output.as_json:
        return
    output.print(f"{one_line(generation.id)}  {generation.status.value}")
    if generation.failure_reason:
        output.print(f"  {one_line(generation.failure_reason)}")
    places = dict(zip((url for url, _ in asset_names(generation)), map(str, files), strict=False))
    is_animation = isinstance(generation, Animation)
    if isinstance(generation, Animation):
        if generation.video_url:
            url = generation.video_url
            output.print(f"  video: {one_line(places.get(url, url))}")
    else:
        _show_pages(generation, output, places)
    if not generation.is_done:
        again = status_command(generation.id, is_animation=is_animation)
        output.print(f"  not done yet: {again}")


def _show_pages(comic: ComicGeneration, output: Output, places: dict[str, str]) -> None:
    """Print the pages of a comic; `places` are the files of its pictures, by their URLs."""
    if comic.prompt:
        output.print(f"  {one_line(comic.prompt)}")
    for number, page in enumerate(comic.pages, 1):
        output.print(f"  page {number}, {pluralize(len(page.panels), 'panel')}")
        for panel in page.panels:
            where = places.get(panel.asset_url or "", panel.asset_url or "no picture")
            output.print(f"    {one_line(where)}  {one_line(panel.caption or '')}".rstrip())
    if comic.output:
        output.print(f"  output: {one_line(places.get(comic.output, comic.output))}")


def _tell_id(generation: ComicGeneration | Animation, output: Output) -> None:
    """Print the id of a generation before anything else can fail: it is paid for."""
    if not output.print(f"{one_line(generation.id)}  accepted"):
        is_animation = isinstance(generation, Animation)
        again = status_command(generation.id, is_animation=is_animation)
        output.error(f"accepted, {again} shows it")
