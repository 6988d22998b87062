"""Turning a story into captions, so that the sandbox's pictures show what was asked for.

Plain text in, plain text out. It does not write: it cuts the user's own words into panels, and
fills what is left over with the small change of comics.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random
from typing import Final

__all__ = ["captions"]

_LONGEST: Final = 140
"""Characters of a caption; what is longer ends in an ellipsis."""

_FEWEST_WORDS: Final = 3
"""Words that a piece must keep when it is cut."""

_SENTENCE_END: Final = re.compile(r"(?<=[.!?…])\s+|(?<=[。\uff01\uff1f])\s*(?=\S)|\n+")
_JOINTS: Final = frozenset(
    {
        "and",
        "but",
        "or",
        "then",
        "when",
        "while",
        "until",
        "because",
        "so",
        "who",
        "which",
        "that",
        "from",
        "for",
        "with",
        "without",
        "into",
        "onto",
        "to",
        "through",
        "against",
        "after",
        "before",
        "under",
        "over",
        "near",
        "as",
    }
)
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


def captions(story: str, count: int, rng: Random, *, ends: bool = True) -> tuple[str, ...]:
    """Return `count` captions that tell `story` in its own words.

    Args:
        story: The prompt.
        count: How many panels there are.
        rng: Chooses the fillers of a story that is shorter than its panels.
        ends: Whether a story that is too short is closed with "The end."
    """
    pieces = [" ".join(part.split()) for part in _SENTENCE_END.split(story)]
    pieces = [piece for piece in pieces if piece] or ["Once upon a time…"]
    while len(pieces) < count and (cut := _cut_one(pieces)):
        pieces = cut
    if len(pieces) > count:
        pieces = _gathered(pieces, count)
    missing = count - len(pieces)
    fillers = rng.sample(_FILLERS, len(_FILLERS)) * (missing // len(_FILLERS) + 1)
    pieces += fillers[:missing]
    if missing and ends and count > 1:
        pieces[-1] = "The end."
    return tuple(_shortened(piece[:1].upper() + piece[1:]) for piece in pieces)


def _cut_one(pieces: Sequence[str]) -> list[str] | None:
    """Cut the piece that has the most words in two; `None` if none is long enough."""
    longest = max(range(len(pieces)), key=lambda n: len(pieces[n].split()))
    words = pieces[longest].split()
    places = range(_FEWEST_WORDS, len(words) - _FEWEST_WORDS + 1)
    if not places:
        return None
    middle = len(words) / 2

    def badness(place: int) -> float:
        # Best where a clause ends, well before a joining word, never right after one.
        bonus = 4.0 if words[place - 1].endswith((",", ";", ":")) else 0.0
        bonus += 3.0 if words[place].lower() in _JOINTS else 0.0
        clumsy = 3.0 if words[place - 1].lower() in _JOINTS | {"a", "an", "the", "of"} else 0.0
        return abs(place - middle) - bonus + clumsy

    place = min(places, key=badness)
    halves = [" ".join(words[:place]), " ".join(words[place:])]
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
