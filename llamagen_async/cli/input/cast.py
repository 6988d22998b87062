"""Reading a cast, and stories together with it: what is given once and holds for all stories.

A cast is one JSON object of a comic's fields without a prompt: characters, places, preset, language
and so on. Paths in it, and in a file of stories, begin in the folder of that file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

import attrs

from llamagen_async.batch.journal.story import RequestLike, Story
from llamagen_async.cli.exit_status import CommandError
from llamagen_async.cli.input.json_text import unique_names
from llamagen_async.cli.input.lines import UNREADABLE, chunks_of, text_lines
from llamagen_async.cli.text import shown_path
from llamagen_async.errors import InvalidRequestError
from llamagen_async.requests import AnyRequest
from llamagen_async.requests.defaults import Defaults
from llamagen_async.requests.files import paths_of, with_paths
from llamagen_async.validation import checked_path

__all__ = ["StoryContext", "open_cast"]

_LARGEST: Final = 50_000_000
"""Bytes of the largest cast: pictures may stand in it as `data:` URLs."""
_ALLOWED: Final = 'one JSON object of fields, such as {"preset": "neutral", "comicRoles": [...]}'


@attrs.frozen
class StoryContext:
    """The folder and the cast with which a story is read."""

    folder: Path = Path()
    """The folder in which the paths of files begin."""
    cast: Defaults | None = None
    """The fields that all stories have in common."""

    def story(self, given: RequestLike, label: str) -> Story:
        """Check one story of the input, and its files.

        Raises:
            InvalidRequestError: Something in it is not allowed.
        """
        story = Story.parse(given, label=label, defaults=self.cast, folder=self.folder)
        _check_files(story.request)
        return story


def open_cast(given: str) -> Defaults:
    """Read the cast that was typed, and check it and its files.

    Raises:
        CommandError: It can't be read, or a field is wrong; the message names the file and it.
    """
    path, name = checked_path("--with", given), shown_path(given)
    try:
        if path.stat().st_size > _LARGEST:
            raise CommandError(f"--with {name}: it is too large; allowed is {_ALLOWED}")
        with path.open("rb") as file:
            text = "\n".join(text_lines(chunks_of(file))).strip().strip("\ufeff")
    except OSError as error:
        raise CommandError(f"--with {name}: {error.strerror or error}") from None
    fields = _fields(text, name)
    try:
        parsed = Defaults.parse(with_paths(fields)).with_absolute_paths(path.parent)
        _check_files(parsed.merged("a story"))
    except InvalidRequestError as error:
        raise CommandError(f"{name}: {error}; nothing was sent") from None
    return parsed


def _check_files(request: AnyRequest) -> None:
    """Check the files that a request names, if there are any."""
    if paths_of(request):
        from llamagen_async.uploads import check_files  # noqa: PLC0415  # takes long to load

        check_files(request)


def _fields(text: str, name: str) -> Mapping[str, Any]:
    if UNREADABLE in text:
        raise CommandError(f"{name}: it is not UTF-8; nothing was sent")
    try:
        value: object = json.loads(text, object_pairs_hook=unique_names)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, character {error.colno}"
        raise CommandError(
            f"{name}: it is not JSON ({error.msg} at {where}); nothing was sent"
        ) from None
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "it is nested too deep"
        raise CommandError(f"{name}: {reason}; nothing was sent") from None
    if not isinstance(value, dict):
        raise CommandError(f"{name}: it holds no object, allowed is {_ALLOWED}; nothing was sent")
    return cast("dict[str, Any]", value)
