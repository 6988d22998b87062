"""`llamagen-async generate`, `animate` and `status`: one comic or animation."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import attrs

from llamagen_async.cli.commands.limits import print_wait
from llamagen_async.cli.commands.options import Connection, pages_option
from llamagen_async.cli.exit_status import ALL_DONE, FAILED
from llamagen_async.cli.input.slot_wait import SlotWait
from llamagen_async.cli.interrupts import run_async
from llamagen_async.cli.output import Output
from llamagen_async.cli.results.folder import prepared_folder
from llamagen_async.cli.run.single import accepted, fetched, finish, show
from llamagen_async.errors import GenerationFailedError
from llamagen_async.models import Animation, ComicGeneration
from llamagen_async.plans import RequestKind
from llamagen_async.requests import AnimationRequest, ComicRequest
from llamagen_async.uploads import check_files

__all__ = ["animate", "generate", "status"]


def generate(
    *,
    connection: Connection,
    prompt: str,
    out: str | None,
    no_wait: bool,
    timeout: float,
    slot_wait: SlotWait,
    output: Output,
    **fields: Any,
) -> int:
    """Generate one comic from PROMPT, and print where its pictures are."""
    client = connection.client()
    request = _request(prompt, **fields)
    folder = prepared_folder(out) if out is not None else None

    async def work() -> int:
        await connection.prove_quota()
        async with client:
            await print_wait(client, output, speed=connection.speed, **attrs.asdict(slot_wait))
            sending = client.comics.create(request, **attrs.asdict(slot_wait))
            comic = await accepted(client, sending, RequestKind.CREATE, slot_wait, output)
            return await finish(
                client.comics, comic, output, timeout=timeout, folder=folder, no_wait=no_wait
            )

    return run_async(work)


def animate(
    *,
    connection: Connection,
    prompt: str,
    out: str | None,
    no_wait: bool,
    timeout: float,
    slot_wait: SlotWait,
    output: Output,
    **video: Any,
) -> int:
    """Generate one animation from PROMPT, and print where its video is."""
    client = connection.client()
    duration = video["duration"]
    if duration is not None and duration.is_integer():
        video["duration"] = int(duration)
    given = {name: value for name, value in video.items() if value is not None}
    request = AnimationRequest(prompt, video_options=given or None)
    check_files(request)
    folder = prepared_folder(out) if out is not None else None

    async def work() -> int:
        await connection.prove_quota()
        async with client:
            await print_wait(client, output, speed=connection.speed, **attrs.asdict(slot_wait))
            sending = client.animations.create(request, **attrs.asdict(slot_wait))
            animation = await accepted(client, sending, RequestKind.CREATE, slot_wait, output)
            return await finish(
                client.animations,
                animation,
                output,
                timeout=timeout,
                folder=folder,
                no_wait=no_wait,
            )

    return run_async(work)


def status(
    *,
    connection: Connection,
    id: str,
    out: str | None,
    wait: bool,
    is_animation: bool,
    output: Output,
) -> int:
    """Print where the comic ID stands, or the animation. Takes one request."""
    client = connection.client()
    folder = prepared_folder(out) if out is not None else None

    async def work() -> int:
        await connection.prove_quota()
        async with client:
            await print_wait(client, output, speed=connection.speed)
            resource: Any = client.animations if is_animation else client.comics
            with output.spinner("Waiting for its end") if wait else nullcontext():
                found = await _checked(resource, id, wait=wait)
            files: list[Path] = []
            if folder is not None and found.succeeded:
                files = await fetched(resource, found, folder)
        show(found, output, files)
        return FAILED if found.is_done and not found.succeeded else ALL_DONE

    return run_async(work)


def _request(
    prompt: str, *, panels: int | None, pages: int | None, panels_per_page: int | None, **rest: Any
) -> ComicRequest:
    pagination = pages_option(panels, pages, panels_per_page)
    return ComicRequest.parse(
        {"prompt": prompt, "fix_panel_num": panels, "pagination": pagination, **rest}
    )


async def _checked(resource: Any, id_: str, *, wait: bool) -> ComicGeneration | Animation:
    found: ComicGeneration | Animation
    try:
        found = await (resource.wait_for_completion(id_) if wait else resource.get(id_))
    except GenerationFailedError as error:
        found = error.generation
    return found
