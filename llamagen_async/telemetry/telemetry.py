"""Telemetry: where the spans and metrics of clients go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from llamagen_async._version import __version__
from llamagen_async.validation import InvalidRequestError

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from llamagen_async.telemetry.metrics import Instruments
    from llamagen_async.telemetry.operations import Operations
    from llamagen_async.telemetry.started import Started

__all__ = ["Telemetry"]

_SCOPE: Final = "llamagen_async"
"""The name under which spans and metrics are found."""


class Telemetry:
    """Spans and metrics of one or more clients, for providers of yours.

    Clients find the global providers by themselves; this is for others, such as those of a test.
    Make one of it, and give it to all clients.

    Args:
        tracer_provider: Makes the tracer; the global provider if not given.
        meter_provider: Makes the meter; the global provider if not given.

    Raises:
        InvalidRequestError: OpenTelemetry's API is not installed.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        try:
            from opentelemetry import metrics, trace  # noqa: PLC0415  # an extra, and not light
        except ModuleNotFoundError as error:
            needed = "True only with `pip install 'llamagen-async[otel]'`"
            raise InvalidRequestError("telemetry", value=True, allowed=needed) from error
        from llamagen_async.telemetry.metrics import Instruments  # noqa: PLC0415
        from llamagen_async.telemetry.operations import Operations  # noqa: PLC0415
        from llamagen_async.telemetry.started import Started  # noqa: PLC0415

        meter = metrics.get_meter(_SCOPE, __version__, meter_provider)
        tracer = trace.get_tracer(_SCOPE, __version__, tracer_provider)
        self.instruments: Final[Instruments] = Instruments(meter)
        """The metrics."""
        self.operations: Final[Operations] = Operations(tracer, self.instruments)
        """The spans of what users ask for."""
        self.started: Final[Started] = Started(self.instruments)
        """The generations that were started."""
