"""Arguments, options and help of `llamagen-async generate`, `animate` and `status`."""

from __future__ import annotations

from typing import Any, Final

import click

from llamagen_async.cli.declarations.completion import complete_file, complete_folder, complete_id
from llamagen_async.cli.declarations.panels import picture
from llamagen_async.cli.declarations.shared import (
    connection_options,
    examples,
    output_options,
    text,
    waiting_options,
)

__all__ = ["animate", "generate", "status"]

SIZES: Final = (
    "1024x1024",
    "512x768",
    "512x1024",
    "576x1024",
    "768x1024",
    "1024x768",
    "768x512",
    "1024x576",
    "1024x512",
)
"""Sizes that the help of --size names."""


@click.command(
    short_help="Generate one comic.",
    epilog=examples(
        'generate "A cat meets a dragon" --out comics/',
        'generate "A cat meets a dragon" --panels 6 --size 1024x768',
        'generate "A cat meets a dragon" --no-wait --json',
    ),
)
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
def generate(**given: Any) -> int:
    """Generate one comic from PROMPT, and print where its pictures are.

    With --out the pictures are fetched. Ctrl-C leaves the comic at the server: it is paid for,
    and `llamagen-async status ID --out DIR` gets it later.
    """
    with given["output"].loading():
        from llamagen_async.cli.commands import single

    return single.generate(**given)


@click.command(
    short_help="Generate one animation.",
    epilog=examples(
        'animate "A cat runs" --duration 5 --out videos/',
        'animate "She smiles" --image portrait.png --aspect-ratio 9:16',
    ),
)
@click.argument("prompt", type=text)
@click.option("--duration", type=float, metavar="SECONDS", help="How long the video is.")
@click.option("--resolution", type=text, help="480p, 720p, 1080p or 4k.")
@click.option("--aspect-ratio", type=text, help="16:9, 9:16, 1:1, 4:3 or 3:4.")
@click.option(
    "--image",
    type=picture,
    metavar="FILE|URL",
    help="The picture to begin with.",
    shell_complete=complete_file,
)
@click.option(
    "--last-frame-image",
    type=picture,
    metavar="FILE|URL",
    help="The picture to end with.",
    shell_complete=complete_file,
)
@click.option("--audio/--no-audio", "generate_audio", default=None, help="Whether it has sound.")
@click.option("--video-seed", "seed", type=int, metavar="N", help="Decides what chance draws.")
@waiting_options
@output_options
@connection_options
def animate(**given: Any) -> int:
    """Generate one animation from PROMPT, and print where its video is.

    With --out the video is fetched. A picture on disk is uploaded first. Ctrl-C leaves the
    animation at the server: it is paid for, and `llamagen-async status ID --animation --out DIR`
    gets it later.
    """
    with given["output"].loading():
        from llamagen_async.cli.commands import single

    return single.animate(**given)


@click.command(
    short_help="Show where a comic stands, by its id.",
    epilog=examples(
        "status cmc_1", "status cmc_1 --wait --out comics/", "status anm_1 --animation --json"
    ),
)
@click.argument("id", type=text, shell_complete=complete_id)
@click.option(
    "--out",
    metavar="DIR",
    help="If it is done, fetch its pictures into this folder.",
    shell_complete=complete_folder,
)
@click.option("--wait", is_flag=True, help="Wait until it is done.")
@click.option("--animation", "is_animation", is_flag=True, help="ID is an animation's.")
@output_options
@connection_options
def status(**given: Any) -> int:
    """Print where the comic ID stands, or the animation. Takes one request.

    Exit status 1 means that it ended without a comic.
    """
    with given["output"].loading():
        from llamagen_async.cli.commands import single

    return single.status(**given)
