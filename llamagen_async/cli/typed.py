"""The options that were typed, for the commands that are printed: these need the same ones."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Final

import click
from click.core import ParameterSource

from llamagen_async.cli.text import quoted

__all__ = ["connection_words", "typed_words"]

_CONNECTION: Final = ("base_url", "plan", "metered", "quota", "proxy", "speed")
"""The options that say which server is meant, and how its limits are kept. The key is never
printed."""


def connection_words() -> str:
    """Return those typed options without which another server is asked, or with other limits."""
    return typed_words(_CONNECTION)


def typed_words(names: Collection[str]) -> str:
    """Return options of the running command as they were typed, each after a space.

    Args:
        names: The names of the options that are wanted; what has a password in it is left out.
    """
    context = click.get_current_context(silent=True)
    if context is None:
        return ""
    words: list[str] = []
    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        if option.name in names and source is ParameterSource.COMMANDLINE:
            value = context.params[option.name]
            for one in list(value) if getattr(option, "multiple", False) else [value]:
                words += _words_of(option.opts[-1], one)
    return "".join(f" {quoted(word)}" for word in words)


def _words_of(option: str, value: Any) -> Iterator[str]:
    text = f"{value:.15g}" if isinstance(value, float) else str(value)
    if "@" not in text and "password" not in text.lower():
        yield from (option,) if value is True else (option, text)
