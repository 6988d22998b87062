"""The pen's colours."""

from __future__ import annotations

from llamagen_async.sandbox.pictures.pen import mixed


def test_colours_are_mixed_by_share() -> None:
    assert mixed("#000000", "#ffffff", 0.0) == "#000000"
    assert mixed("#000000", "#ff8000", 1.0) == "#ff8000"
