"""Completion in fish, for words with commas.

Click's own script takes what it is offered apart at every comma: of a key with one, and of the help
of an option, only the beginning was left.
"""

from __future__ import annotations

from typing import ClassVar, Final

from click.shell_completion import FishComplete

__all__ = ["Fish"]

_SPLIT: Final = 'string split ","'
"""The words in click's script that take an answer apart into its type and the rest."""


class Fish(FishComplete):
    """The script that fish reads, and the answers that it gets."""

    source_template: ClassVar[str] = FishComplete.source_template.replace(
        _SPLIT, 'string split --max 1 ","'
    )
