"""Operations: the spans of what users ask for, such as a create, a wait or a job.

The span of an operation begins when it is asked for and ends with its outcome. The requests that
are sent for it have spans of their own below it, however many tasks are in between: each is sent in
the context of whoever asked. What lies between the two beginnings is the wait for a slot.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

import attrs
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode, Tracer

from llamagen_async.observing import GENERATION_ID, JOB_KEY
from llamagen_async.telemetry.metrics import ERROR_TYPE, Instruments
from llamagen_async.validation import LlamaGenError

__all__ = ["JOB", "RUNNING", "Operations", "RunningOperation", "known_ids"]

JOB: Final = "job"
"""The name of the operation that takes one story through its steps."""
_DOWNLOAD: Final = "download"
_MOST_SHOWN: Final = 500
"""Characters of an error that a span repeats at most."""
RUNNING: Final[ContextVar[RunningOperation | None]] = ContextVar(
    "llamagen_async_operation", default=None
)
"""The innermost operation that runs in this context, or has run when the context was copied."""


@attrs.define(eq=False)
class RunningOperation:
    """One operation, and its span."""

    name: str
    """The operation's name."""
    span: Span
    """Span of the operation."""
    queued_at: float | None = None
    """Time from which on it waits for its slot, in seconds of the server's clock; `None` if no
    request of its own is sent."""
    waited: float = 0.0
    """Seconds that it has waited for slots."""
    attempts: int = 0
    """Requests that were sent for it."""
    outcome: str | None = None
    """The state in which it has ended, as far as was told."""

    @property
    def context(self) -> SpanContext:
        """The context of its span, for links."""
        return self.span.get_span_context()

    def tell(
        self, *, generation_id: str | None, outcome: str, error: BaseException | None = None
    ) -> None:
        """Take what has become of it."""
        self.outcome = outcome
        if generation_id is not None:
            self.span.set_attribute("llamagen.generation.id", generation_id)
        whose = "job" if self.name == JOB else "operation"
        self.span.set_attribute(f"llamagen.{whose}.state", outcome)
        if error is not None:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Take the error in which it has ended."""
        if isinstance(error, LlamaGenError) and error.id is not None:
            self.span.set_attribute("llamagen.generation.id", error.id)
        self.span.set_attribute(ERROR_TYPE, type(error).__name__)
        self.span.set_status(Status(StatusCode.ERROR, str(error)[:_MOST_SHOWN]))


class Operations:
    """The operations of all clients with the same telemetry; an `Observer`.

    Args:
        tracer: Makes the spans.
        instruments: Count what ends.
    """

    def __init__(self, tracer: Tracer, instruments: Instruments) -> None:
        self.tracer: Final = tracer
        """Makes the spans."""
        self._instruments = instruments

    @contextmanager
    def operation(
        self,
        name: str,
        *,
        generation_id: str | None = None,
        job_key: str | None = None,
        linked: Sequence[SpanContext] = (),
        queued_at: float | None = None,
    ) -> Generator[RunningOperation]:
        """Observe one operation while the result is entered.

        Args:
            name: What is done.
            generation_id: The generation's id, where one is known.
            job_key: The key of the story that it is done for.
            linked: The spans of other operations that it goes on with.
            queued_at: When it begins to wait for a slot, in seconds of the server's clock.
        """
        with self.tracer.start_as_current_span(
            f"llamagen {name}",
            kind=SpanKind.INTERNAL,
            attributes=known_ids(generation_id, job_key),
            links=[Link(one) for one in linked],
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            running = RunningOperation(name, span, queued_at)
            before = RUNNING.set(running)
            error_type: str | None = None
            try:
                yield running
            except BaseException as error:
                error_type = type(error).__name__
                running.fail(error)
                raise
            finally:
                RUNNING.reset(before)
                self._count(running, error_type)

    def _count(self, running: RunningOperation, error_type: str | None) -> None:
        if running.name == _DOWNLOAD:
            self._instruments.count_download(error_type)
        elif running.name == JOB and running.outcome is not None:
            self._instruments.count_job(running.outcome)


def known_ids(generation_id: str | None = None, job_key: str | None = None) -> dict[str, str]:
    """Return the attributes that say which generation and which job a span is about."""
    known = {
        "llamagen.generation.id": generation_id or GENERATION_ID.get(),
        "llamagen.job.key": job_key or JOB_KEY.get(),
    }
    return {name: value for name, value in known.items() if value is not None}
