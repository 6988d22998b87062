"""`llamagen-async generate`, `animate` and `status`: one comic or animation."""

from __future__ import annotations

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
    pages_option,
    prepared_folder,
    text,
    waiting_options,
)
from llamagen_async.cli.commands.panel_options import picture
from llamagen_async.cli.exit_status import ALL_DONE, FAILED
from llamagen_async.cli.interrupts import run_async
from llamagen_async.cli.output import Output
from llamagen_async.cli.run.single import SlotWait, accepted, finish, show
from llamagen_async.errors import GenerationFailedError
from llamagen_async.models import Animation, ComicGeneration
from llamagen_async.plans import RequestKind
from llamagen_async.requests import SIZES, AnimationRequest, ComicRequest
from llamagen_async.uploads import check_files

__all__ = ["animate", "generate", "status"]


@click.command(short_help="Generate one comic.")
@click.argument("prompt", type=text)
@click.option(
    "--size",
    type=text,
    metavar="WxH",
    help=f"Picture size: {', '.join(SIZES)}, or another one that the API knows.",
)
@click.option("--panels", type=int, metavar="N", help="How many panels, 1 to 20.")
@click.option("--pages", type=int, metavar="N", help="How many pages, 1 to 20.")
@click.option("--panels-per-page", type=int, metavar="N", help="With --pages: 1 to 20.")
@click.option("--style", type=text, help="The drawing style, in words.")
@click.option("--language", type=text, help="The code of the captions' language, such as en.")
@click.option("--model", type=text, help="The model's name.")
@click.option("--preset", type=text, help="The preset's name.")
@waiting_options
@output_options
@connection_options
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
    """Generate one comic from PROMPT, and print where its pictures are.

    With --out the pictures are fetched. Ctrl-C leaves the comic at the server: it is paid for,
    and `llamagen-async status ID --out DIR` gets it later.
    """
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


@click.command(short_help="Generate one animation.")
@click.argument("prompt", type=text)
@click.option("--duration", type=float, metavar="SECONDS", help="How long the video is.")
@click.option("--resolution", type=text, help="480p, 720p, 1080p or 4k.")
@click.option("--aspect-ratio", type=text, help="16:9, 9:16, 1:1, 4:3 or 3:4.")
@click.option("--image", type=picture, metavar="FILE|URL", help="The picture to begin with.")
@click.option(
    "--last-frame-image", type=picture, metavar="FILE|URL", help="The picture to end with."
)
@click.option("--audio/--no-audio", "generate_audio", default=None, help="Whether it has sound.")
@click.option("--video-seed", "seed", type=int, metavar="N", help="Decides what chance draws.")
@waiting_options
@output_options
@connection_options
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
    """Generate one animation from PROMPT, and print where its video is.

    With --out the video is fetched. A picture on disk is uploaded first. Ctrl-C leaves the
    animation at the server: it is paid for, and `llamagen-async status ID --animation --out DIR`
    gets it later.
    """
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


@click.command(short_help="Show where a comic stands, by its id.")
@click.argument("id", type=text)
@click.option("--out", metavar="DIR", help="If it is done, fetch its pictures into this folder.")
@click.option("--wait", is_flag=True, help="Wait until it is done.")
@click.option("--animation", "is_animation", is_flag=True, help="ID is an animation's.")
@output_options
@connection_options
def status(
    *,
    connection: Connection,
    id: str,
    out: str | None,
    wait: bool,
    is_animation: bool,
    output: Output,
) -> int:
    """Print where the comic ID stands, or the animation. Takes one request.

    Exit status 1 means that it ended without a comic.
    """
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
                files = await resource.download(found, folder)
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
