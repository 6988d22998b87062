"""A finding: one line of a diagnosis. Plain data."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import attrs

__all__ = ["Finding", "Level", "ok", "problem", "warning"]


class Level(enum.StrEnum):
    """How bad a finding is."""

    OK = "ok"
    """Nothing has to be done."""
    WARNING = "warning"
    """Requests work; something may go wrong, or takes longer than it need."""
    PROBLEM = "problem"
    """Requests fail, or are refused."""


@attrs.frozen
class Finding:
    """One line of a diagnosis."""

    subject: str
    """The thing that was examined, in a word or two."""
    level: Level
    """How bad it is."""
    text: str
    """The thing that was found; without the API key and without passwords."""
    advice: str = ""
    """Advice: what to do about it."""
    facts: Mapping[str, object] = attrs.field(factory=dict[str, object], hash=False)
    """Numbers and names of the text, for programs."""


def ok(subject: str, text: str, **facts: object) -> Finding:
    """Return a finding about which nothing has to be done."""
    return Finding(subject, Level.OK, text, "", facts)


def warning(subject: str, text: str, advice: str, **facts: object) -> Finding:
    """Return a finding that may cost something."""
    return Finding(subject, Level.WARNING, text, advice, facts)


def problem(subject: str, text: str, advice: str, **facts: object) -> Finding:
    """Return a finding with which requests fail."""
    return Finding(subject, Level.PROBLEM, text, advice, facts)
