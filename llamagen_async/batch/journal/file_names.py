"""Names of the files that stand beside a journal."""

from __future__ import annotations

from typing import Final

__all__ = ["RESULTS", "WAL"]

RESULTS: Final = "results.jsonl"
"""The file in which a command line's run says what became of every story, one JSON object a
line."""
WAL: Final = "-wal"
"""The end of the name of the file with SQLite's newest changes: it is there while somebody works
with the journal, or after a crash."""
