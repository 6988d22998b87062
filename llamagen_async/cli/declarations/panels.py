"""Options that say which panel is drawn again, and how, and pictures of any request."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Final

import click

from llamagen_async.cli.declarations.completion import complete_file
from llamagen_async.cli.declarations.shared import text

__all__ = ["panel_options", "picture", "pictures_option"]


def picture(typed: str) -> str | Path:
    """Return a URL that was typed, or the path of a file that is uploaded first."""
    from llamagen_async.requests.files import with_paths

    given: str | Path = with_paths({"images": text(typed)})["images"]
    return given


pictures_option: Final = click.option(
    "--image",
    "images",
    type=picture,
    multiple=True,
    metavar="FILE|URL",
    help="A picture to go by.",
    shell_complete=complete_file,
)
"""The option for pictures of a continuation or a redraw; the command gets `images`."""


def panel_options(*, required: bool) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Return what adds the options that say which panel is redrawn, and how.

    The command gets `panel`, `page` and, as `fields`, the prompt, the caption and the images.

    Args:
        required: Whether --panel has to be given.
    """

    def add(command: Callable[..., int]) -> Callable[..., int]:
        @click.option(
            "--panel",
            type=int,
            required=required,
            metavar="N",
            help="The panel's number on its page, from 0: the first one is 0.",
        )
        @click.option(
            "--page", type=int, metavar="N", help="The page's number, from 0; the first if none."
        )
        @click.option("--prompt", type=text, help="What the panel is to show.")
        @click.option("--caption", type=text, help="The text that goes with the picture.")
        @pictures_option
        @wraps(command)
        def with_panel(
            *,
            prompt: str | None,
            caption: str | None,
            images: tuple[str | Path, ...],
            **others: Any,
        ) -> int:
            fields = {"prompt": prompt, "caption": caption, "images": images}
            return command(fields=fields, **others)

        return with_panel

    return add
