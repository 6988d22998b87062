"""The metrics: what is counted and measured, and what is read when somebody asks.

Names and units are OpenTelemetry's conventions; those of this package begin with `llamagen.`. No
attribute is about one comic, one story or one API key, so their number stays small.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Protocol

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from llamagen_async.plans import RequestKind
from llamagen_async.scheduling import CircuitState, Load, RequestReport

__all__ = ["ERROR_TYPE", "Instruments", "LoadSource"]

ERROR_TYPE: Final = "error.type"
"""The attribute that tells of which sort an error is."""
_HTTP_BUCKETS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0),
    *(2.5, 5.0, 7.5, 10.0),
)
"""Seconds of an HTTP request, as the conventions advise."""
_WAIT_BUCKETS: Final = (
    *(0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0),
    *(120.0, 300.0, 600.0, 1800.0, 3600.0),
)
"""Seconds that a request waits for a slot: windows are of a minute, and batches queue for hours."""
_COMIC_BUCKETS: Final = (
    *(5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0),
    *(300.0, 600.0, 1200.0, 1800.0),
)
"""Seconds that a comic takes: most take one to a few minutes, and a wait ends after 1800."""


class LoadSource(Protocol):
    """A client whose load is read."""

    def load(self) -> Load | None:
        """Return what the client has to do now; `None` if it is not open. Any thread may ask."""
        ...


class Instruments:
    """The instruments of one meter, for any number of clients.

    Args:
        meter: Makes them.
    """

    def __init__(self, meter: Meter) -> None:
        self._sources: dict[int, weakref.ref[LoadSource]] = {}
        self._http = meter.create_histogram(
            "http.client.request.duration",
            unit="s",
            description="Duration of HTTP client requests.",
            explicit_bucket_boundaries_advisory=_HTTP_BUCKETS,
        )
        self._requests = meter.create_counter(
            "llamagen.requests",
            unit="{request}",
            description="Requests to the API that have ended, by kind and outcome.",
        )
        self._waits = meter.create_histogram(
            "llamagen.slot.wait_time",
            unit="s",
            description="Seconds that a request has waited for the slot in which it was sent.",
            explicit_bucket_boundaries_advisory=_WAIT_BUCKETS,
        )
        self._generations = meter.create_histogram(
            "llamagen.generation.duration",
            unit="s",
            description="Seconds from the acceptance of a comic or a change to its end.",
            explicit_bucket_boundaries_advisory=_COMIC_BUCKETS,
        )
        self._credits = meter.create_counter(
            "llamagen.credits",
            unit="{credit}",
            description="Credits that the server says were charged for new comics.",
        )
        self._jobs = meter.create_counter(
            "llamagen.jobs",
            unit="{job}",
            description="Stories of batches and jobs of queues whose steps have ended, by state.",
        )
        self._downloads = meter.create_counter(
            "llamagen.downloads",
            unit="{download}",
            description="Downloads of the files of one comic or animation.",
        )
        self._download_bytes = meter.create_counter(
            "llamagen.download.io",
            unit="By",
            description="Bytes of pictures and videos that were received.",
        )
        read: tuple[tuple[str, str, str, Callable[[list[Load]], Iterator[Observation]]], ...] = (
            ("slot.usage", "{slot}", "Slots of the shortest window that are used.", _usage),
            ("slot.limit", "{slot}", "Slots of the shortest window.", _limit),
            ("quota.remaining", "{slot}", "Slots that are left in the long windows.", _quota),
            ("slot.pending_requests", "{request}", "Requests that wait for a slot.", _pending),
            ("active_generations", "{generation}", "Generations that are waited for.", _active),
            ("circuit.status", "{key}", "Keys whose server is in this state.", _circuit),
        )
        for name, unit, description, observe in read:
            meter.create_observable_gauge(
                f"llamagen.{name}", [self._reader(observe)], unit, description
            )

    def add(self, source: LoadSource) -> None:
        """Read the load of a client from now on, for as long as it is open."""
        name = id(source)
        self._sources[name] = weakref.ref(source, lambda _: self._sources.pop(name, None))

    def remove(self, source: LoadSource) -> None:
        """Read the load of a client no longer."""
        self._sources.pop(id(source), None)

    def count_request(self, report: RequestReport) -> None:
        """Count a request that has ended."""
        outcome = report.outcome.replace(" ", "_")
        self._requests.add(
            1, {"llamagen.request.kind": report.kind.value, "llamagen.request.outcome": outcome}
        )

    def measure_http(self, seconds: float, attributes: dict[str, Any]) -> None:
        """Measure one exchange with a server."""
        self._http.record(seconds, attributes)

    def measure_wait(self, seconds: float, kind: RequestKind) -> None:
        """Measure how long a request has waited for its slot."""
        self._waits.record(seconds, {"llamagen.request.kind": kind.value})

    def measure_generation(self, seconds: float, kind: RequestKind, state: str) -> None:
        """Measure how long a generation, or a change of it, has taken."""
        attributes = {"llamagen.request.kind": kind.value, "llamagen.generation.state": state}
        self._generations.record(seconds, attributes)

    def count_credits(self, credits_: float, kind: RequestKind) -> None:
        """Count what the server has charged."""
        self._credits.add(credits_, {"llamagen.request.kind": kind.value})

    def count_job(self, state: str) -> None:
        """Count a story whose steps have ended."""
        self._jobs.add(1, {"llamagen.job.state": state})

    def count_download(self, error_type: str | None) -> None:
        """Count the download of one comic or animation."""
        self._downloads.add(1, {} if error_type is None else {ERROR_TYPE: error_type})

    def count_bytes(self, number: int) -> None:
        """Count what was received of a picture."""
        self._download_bytes.add(number)

    def _reader(
        self, observe: Callable[[list[Load]], Iterator[Observation]]
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def read(_options: CallbackOptions) -> Iterable[Observation]:
            sources = [found() for found in tuple(self._sources.values())]
            return observe([load for one in sources if one and (load := one.load())])

        return read


def _usage(loads: list[Load]) -> Iterator[Observation]:
    for (plan, per), keys in _by_window(loads).items():
        yield Observation(sum(one.slots_used for one in keys), _window(plan, per))


def _limit(loads: list[Load]) -> Iterator[Observation]:
    for (plan, per), keys in _by_window(loads).items():
        yield Observation(sum(one.slots_limit for one in keys), _window(plan, per))


def _quota(loads: list[Load]) -> Iterator[Observation]:
    for (plan, _), keys in _by_window(loads).items():
        left = [one.quota_left for one in keys if one.quota_left is not None]
        if left:
            yield Observation(sum(left), {"llamagen.plan": plan})


def _pending(loads: list[Load]) -> Iterator[Observation]:
    waiting: Counter[str] = Counter()
    for load in loads:
        for priority, number in load.waiting.items():
            waiting[priority] += number
    for priority, number in waiting.items():
        yield Observation(number, {"llamagen.request.priority": priority})


def _active(loads: list[Load]) -> Iterator[Observation]:
    yield Observation(sum(load.running for load in loads))


def _circuit(loads: list[Load]) -> Iterator[Observation]:
    states = Counter(load.circuit for load in _keys(loads))
    for state in CircuitState:
        yield Observation(states[state], {"llamagen.circuit.state": state.value})


def _window(plan: str, per: float) -> dict[str, str | float]:
    return {"llamagen.plan": plan, "llamagen.slot.window": per}


def _by_window(loads: list[Load]) -> dict[tuple[str, float], list[Load]]:
    found: dict[tuple[str, float], list[Load]] = {}
    for load in _keys(loads):
        found.setdefault((load.plan, load.per), []).append(load)
    return found


def _keys(loads: list[Load]) -> list[Load]:
    """Return one load for each key: that of the client which has heard the most of its slots."""
    found: dict[int, Load] = {}
    for load in sorted(loads, key=lambda one: one.slots_used):
        found[load.key] = load
    return list(found.values())
