"""The words that people read for the states of stories."""

from __future__ import annotations

from typing import Final

from llamagen_async.models import BatchState

__all__ = ["STATE_WORDS"]

STATE_WORDS: Final = {
    BatchState.QUEUED: "not sent",
    BatchState.SENDING: "sending",
    BatchState.RUNNING: "running",
    BatchState.SUCCEEDED: "done",
    BatchState.FAILED: "failed",
    BatchState.UNCERTAIN: "uncertain",
    BatchState.CANCELLED: "cancelled",
}
"""The word that people read for a state at the end of a run."""
