"""Checks of a panel that is drawn again: something has to change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from llamagen_async.validation import checked_text

__all__ = ["check_change"]


def check_change(fields: Mapping[str, Any]) -> None:
    """Check that something is to change, and that the prompt is text.

    Args:
        fields: What the command got from `panel_options`.

    Raises:
        click.UsageError: Nothing is to change.
        InvalidRequestError: The prompt is not allowed.
    """
    if fields["prompt"] is None and fields["caption"] is None and not fields["images"]:
        raise click.UsageError("one of --prompt, --caption and --image has to say what changes")
    if fields["prompt"] is not None:
        checked_text("--prompt", fields["prompt"])
