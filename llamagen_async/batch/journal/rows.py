"""What a journal remembers of one story, and whose stories it remembers. No I/O."""

from __future__ import annotations

import hashlib
import json
from typing import Final, Self

import attrs

from llamagen_async.batch.journal.codec import load_error
from llamagen_async.errors import GenerationFailedError, LlamaGenError
from llamagen_async.models import BatchState, ComicGeneration
from llamagen_async.requests import ComicRequest

__all__ = ["COLUMNS", "AccountId", "Row"]

COLUMNS: Final = (
    "id, key, digest, request, urgent, state, attempts, generation_id, generation, error, files, "
    "queued_at, sent_at, accepted_at, ended_at"
)
"""What a `Row` is made of, in its order."""


@attrs.frozen
class AccountId:
    """Whose generations a journal is about: those of one key at one server."""

    base_url: str
    """The server."""
    account: str
    """A hash of the key: it does not tell the key."""

    @classmethod
    def of(cls, api_key: str, base_url: str) -> Self:
        """Name a key at a server without telling the key."""
        text = "\x1f".join(("llamagen_async journal", api_key, base_url))
        return cls(base_url, hashlib.sha256(text.encode()).hexdigest()[:32])


@attrs.frozen
class Row:
    """One story as the journal has it."""

    serial: int
    """Counts what this process has done with the journal: a higher one is newer."""
    id: int
    """Its place in the journal."""
    key: str
    """Its name: the user's own, or one made of its content and how many of them came before."""
    digest: bytes
    """Stands for its content."""
    request_text: str = attrs.field(repr=False)
    """Its content, as JSON."""
    urgent: bool = attrs.field(converter=bool)
    """Whether somebody waits for it interactively."""
    state: BatchState = attrs.field(converter=BatchState)
    """Where it stands."""
    attempts: int
    """How often it was about to be sent."""
    generation_id: str | None
    """The server's name for it, once it is known."""
    generation_text: str | None = attrs.field(repr=False)
    """What the server last said of it, as JSON."""
    error_text: str | None
    """Why it failed, as JSON."""
    files_text: str | None
    """Its pictures, as JSON: relative to the output folder."""
    queued_at: float
    """When it was asked for; this and the other times are unix times in seconds."""
    sent_at: float | None
    """When it was last about to be sent."""
    accepted_at: float | None
    """When the server's answer came."""
    ended_at: float | None
    """When its end was seen."""

    @property
    def request(self) -> ComicRequest:
        """What is asked for.

        Raises:
            InvalidRequestError: This version does not allow it any more.
            ValueError: The row is damaged.
        """
        return ComicRequest.parse(json.loads(self.request_text))

    @property
    def generation(self) -> ComicGeneration | None:
        """What the server last said of it.

        Raises:
            ValueError: The row is damaged.
        """
        text = self.generation_text
        return None if text is None else ComicGeneration.parse(json.loads(text))

    @property
    def files(self) -> tuple[str, ...]:
        """Its pictures, relative to the output folder."""
        return () if self.files_text is None else tuple(json.loads(self.files_text))

    def error(
        self, request: ComicRequest | None, generation: ComicGeneration | None
    ) -> LlamaGenError | None:
        """Why it failed.

        Raises:
            ValueError: The row is damaged.
        """
        if self.error_text is not None:
            return load_error(self.error_text, request, generation)
        if self.state is BatchState.FAILED and generation is not None:
            return GenerationFailedError(generation)
        return None
