"""Words that a shell completes: files, folders, and the keys and ids of a batch's journal."""

from __future__ import annotations

from pathlib import Path

import click
from click.shell_completion import CompletionItem

__all__ = ["complete_file", "complete_folder", "complete_id", "complete_key"]


def complete_file(
    ctx: click.Context,  # noqa: ARG001  # click gives it
    param: click.Parameter,  # noqa: ARG001
    incomplete: str,
) -> list[CompletionItem]:
    """Have the shell complete the name of a file."""
    return [CompletionItem(incomplete, type="file")]


def complete_folder(
    ctx: click.Context,  # noqa: ARG001  # click gives it
    param: click.Parameter,  # noqa: ARG001
    incomplete: str,
) -> list[CompletionItem]:
    """Have the shell complete the name of a folder."""
    return [CompletionItem(incomplete, type="dir")]


def complete_id(
    ctx: click.Context,
    param: click.Parameter,  # noqa: ARG001  # click gives it
    incomplete: str,
) -> list[CompletionItem]:
    """Complete the id of a comic that a journal has."""
    return _names(ctx, incomplete, keys=False)


def complete_key(
    ctx: click.Context,
    param: click.Parameter,  # noqa: ARG001  # click gives it
    incomplete: str,
) -> list[CompletionItem]:
    """Complete the key or the id of a story that a journal has."""
    return _names(ctx, incomplete, keys=True)


def _names(ctx: click.Context, incomplete: str, *, keys: bool) -> list[CompletionItem]:
    """Return names in the journal that is named by --journal, or is in the folder, or is usual."""
    from llamagen_async.cli.input.journal_file import DEFAULT_FOLDER, names_in
    from llamagen_async.cli.text import one_line

    given = (ctx.params.get(name) for name in ("journal", "place", "out"))
    place = next(filter(None, given), DEFAULT_FOLDER)
    found = names_in(Path(str(place)), incomplete, keys=keys)
    # A shell is offered a word a line.
    return [CompletionItem(name, help=state) for name, state in found if one_line(name) == name]
