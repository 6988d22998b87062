"""Captions from a prompt, so that the sandbox's pictures show what was asked for.

Plain text in, plain text out. The user's own words are cut into panels; panels that are left over
get the short calls that are usual in comics.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random
from typing import Final

__all__ = ["captions"]

_LONGEST: Final = 140
"""The most characters of a caption; a longer one ends in an ellipsis."""

_FEWEST_WORDS: Final = 3
"""The fewest words of a piece of the prompt that was cut in two."""

_SENTENCE_END: Final = re.compile(r"(?<=[.!?…])\s+|(?<=[。\uff01\uff1f])\s*(?=\S)|\n+")
"""The gap after a sentence; Chinese and Japanese sentences end without a space."""
_JOINTS: Final = frozenset(
    {"and", "but", "or", "then", "when", "while", "until", "because", "so", "who", "which", "that"}
    | {"from", "for", "with", "without", "into", "onto", "to", "through", "against", "after"}
    | {"before", "under", "over", "near", "as"}
)
"""The words that begin a clause, before which a sentence is best cut."""
_ARTICLES: Final = frozenset({"a", "an", "the", "of"})
"""The words that a caption must not end with, besides those that begin a clause."""
_FILLERS: Final = (
    "Meanwhile…",
    "Suddenly…",
    "What was that?",
    "Onwards!",
    "Oh no!",
    "But wait…",
    "Quick!",
    "A moment later…",
    "Whoosh!",
    "Is it safe?",
    "Look!",
    "And so…",
    "Closer…",
    "At last!",
    "Could it be?",
    "Hooray!",
)
"""The captions of panels for which the prompt has no words left."""


def captions(prompt: str, count: int, rng: Random) -> tuple[str, ...]:
    """Return `count` captions that tell a prompt in its own words.

    Args:
        prompt: The user's text. If it is too short, the last caption is "The end."
        count: The number of panels.
        rng: The random numbers that choose fillers where the prompt is too short.
    """
    pieces = [" ".join(part.split()) for part in _SENTENCE_END.split(prompt)]
    pieces = [piece for piece in pieces if piece] or ["Once upon a time…"]
    while len(pieces) < count and (cut := _cut_one(pieces)):
        pieces = cut
    if len(pieces) > count:
        pieces = _gathered(pieces, count)
    missing = count - len(pieces)
    fillers = rng.sample(_FILLERS, len(_FILLERS)) * (missing // len(_FILLERS) + 1)
    pieces += fillers[:missing]
    if missing and count > 1:
        pieces[-1] = "The end."
    return tuple(_shortened(piece[:1].upper() + piece[1:]) for piece in pieces)


def _cut_one(pieces: Sequence[str]) -> list[str] | None:
    """Cut the piece that has the most words in two; `None` if none is long enough."""
    longest = max(range(len(pieces)), key=lambda n: len(pieces[n].split()))
    words = pieces[longest].split()
    cuts = range(_FEWEST_WORDS, len(words) - _FEWEST_WORDS + 1)
    if not cuts:
        return None
    middle = len(words) / 2

    def badness(cut: int) -> float:
        # Best where a clause ends, well before a joining word, never right after one.
        bonus = 4.0 if words[cut - 1].endswith((",", ";", ":")) else 0.0
        bonus += 3.0 if words[cut].lower() in _JOINTS else 0.0
        clumsy = 3.0 if words[cut - 1].lower() in _JOINTS | _ARTICLES else 0.0
        return abs(cut - middle) - bonus + clumsy

    cut = min(cuts, key=badness)
    halves = [" ".join(words[:cut]), " ".join(words[cut:])]
    return [*pieces[:longest], *halves, *pieces[longest + 1 :]]


def _gathered(pieces: Sequence[str], count: int) -> list[str]:
    """Join neighbours until `count` pieces are left, the shortest pair first."""
    left = list(pieces)
    while len(left) > count:
        first = min(range(len(left) - 1), key=lambda n: len(left[n]) + len(left[n + 1]))
        left[first : first + 2] = [f"{left[first]} {left[first + 1]}"]
    return left


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1].rstrip() + "…"
