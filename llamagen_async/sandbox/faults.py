"""Faults of the sandbox: what can go wrong, how it is written, and what it happens to.

A fault is one line of text, the same on the command line (`--fault`) and in `Fault.parse`:

    NAME[:VALUE][:rate=SHARE][:times=N][:skip=N][:on=WHAT,WHAT][:retry-after=SECONDS]

`docs/sandbox.md` says of each what the client does about it. Which requests and events a fault
happens to is decided here, by the service's seed and nothing else; what it does is done by those
who answer and send.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from random import Random
from typing import Any, Final, Literal, Self, cast

import attrs

from llamagen_async.plans import RequestKind
from llamagen_async.validation import InvalidRequestError, whole_number

__all__ = ["ERRORS", "FAULTS", "NO_HITS", "Fault", "FaultKind", "FaultName", "Faults", "Hits"]

FaultName = Literal[
    "error",
    "error-after",
    "drop",
    "drop-before",
    "not-json",
    "cut-json",
    "delay",
    "no-credits",
    "artwork",
    "empty-asset-url",
    "early-pictures",
    "stale",
    "expired-links",
    "event-lost",
    "event-late",
    "event-doubled",
    "event-out-of-order",
    "event-forged",
]
"""The names of all faults."""

ERRORS: Final[Mapping[int, tuple[str, str]]] = {
    400: ("invalid_request", "The request is not valid"),
    401: ("unauthorized", "The API key is missing or not valid"),
    402: ("insufficient_credits", "Insufficient credits: buy more to go on"),
    403: ("access_denied", "The API key may not do this"),
    404: ("not_found", "There is no such generation"),
    405: ("method_not_allowed", "There is no such method here"),
    413: ("too_large", "The body is too large"),
    422: ("unprocessable", "The request can't be processed"),
    429: ("rate_limit_exceeded", "Too many requests for this key: wait and try again"),
    500: ("internal_error", "Something went wrong"),
    502: ("bad_gateway", "The server behind this one does not answer"),
    503: ("unavailable", "The service is not available just now"),
    504: ("gateway_timeout", "The server behind this one takes too long"),
}
"""The code and the message of each error status that the sandbox knows.

The API's documentation has 401, 402, 403, 429 and 500; clients know the others of the 4xx, and the
gateways in front of any service send the others of the 5xx.
"""

_ALL: Final = tuple(kind.value for kind in RequestKind)
"""All kinds of requests."""
_BILLED: Final = tuple(kind.value for kind in RequestKind if kind.is_billed)
"""The kinds of requests that cost credits."""
_ACCEPTED: Final = (*_BILLED, RequestKind.UPLOAD.value)
"""The kinds of requests that change something at the server."""
_EVENTS: Final = ("created", "updated", "completed", "failed")
"""The last words of the types of webhook events."""


@attrs.frozen
class FaultKind:
    """Everything that is known of all faults of one name."""

    does: str
    """The effect of the fault, as one sentence for people."""
    on: tuple[str, ...]
    """The kinds of requests, or the events, that it can happen to."""
    default: float | None = None
    """The value if none is given; `None` if the fault takes no value."""
    statuses: tuple[int, ...] = ()
    """The statuses that the value may be; if empty, it is a number of seconds."""
    least: float = 0.0
    """The least number of seconds that the value may be."""

    @property
    def is_of_events(self) -> bool:
        """Whether the fault happens to webhook events instead of requests."""
        return self.on == _EVENTS

    @property
    def value(self) -> str:
        """The value's name in the grammar; empty if there is none."""
        if self.default is None:
            return ""
        return "STATUS" if self.statuses else "SECONDS"


FAULTS: Final[Mapping[FaultName, FaultKind]] = {
    "error": FaultKind("An error (500), and nothing was done.", _ALL, 500, tuple(ERRORS)),
    "error-after": FaultKind(
        "An error (500), though it was done and billed.",
        _ACCEPTED,
        500,
        tuple(status for status in ERRORS if status >= HTTPStatus.INTERNAL_SERVER_ERROR),
    ),
    "drop": FaultKind("It is done, and the connection closes.", _ALL),
    "drop-before": FaultKind("Nothing is done, and the connection closes.", _ALL),
    "not-json": FaultKind("It is done, and answered with a web page.", _ALL),
    "cut-json": FaultKind("It is done, and the answer stops in its middle.", _ALL),
    "delay": FaultKind("The answer comes late (20).", _ALL, 20, least=1e-3),
    "no-credits": FaultKind("Credits are spent: 402, or a 429 like it.", _BILLED, 402, (402, 429)),
    "artwork": FaultKind('Creates answer {"artwork": {"id": ...}}.', ("create",)),
    "empty-asset-url": FaultKind('Running comics have panels without a URL ("").', ("status",)),
    "early-pictures": FaultKind("Running comics show the panels drawn so far.", ("status",)),
    "stale": FaultKind("A changed comic is shown as before (for 30).", ("status",), 30),
    "expired-links": FaultKind("Links to pictures expire (after 0).", ("status",), 0),
    "event-lost": FaultKind("The event is never sent.", _EVENTS),
    "event-late": FaultKind("The event is sent late (60).", _EVENTS, 60, least=1e-3),
    "event-doubled": FaultKind("The event is sent again after it was accepted.", _EVENTS),
    "event-out-of-order": FaultKind("The event comes after the next one.", _EVENTS),
    "event-forged": FaultKind("A copy with a wrong signature comes first.", _EVENTS),
}
"""All faults, by name."""


def _share(_instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InvalidRequestError(attribute.name, value, "a share from 0 to 1")


def _count(_instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None:
        whole_number(attribute.name, value, at_least=0)


def _names(value: str | Iterable[str] | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    return tuple(str(one) for one in ((value,) if isinstance(value, str) else value))


@attrs.frozen
class Fault:
    """Something that goes wrong, and how often.

    Example:
        ```python
        SandboxService(faults=[Fault("error", 503, rate=0.2), Fault.parse("drop:on=create")])
        ```

    Raises:
        InvalidRequestError: There is no such fault, or a value is not allowed.
    """

    name: FaultName
    """The name, one of `FAULTS`."""
    value: float | None = None
    """The status or the seconds of the API's clock; that of `FAULTS` if not given."""
    rate: float = attrs.field(default=1.0, kw_only=True, validator=_share)
    """The share of requests or events that it happens to, from 0 to 1."""
    times: int | None = attrs.field(default=None, kw_only=True, validator=_count)
    """The number of times that it happens at most; `None` is always."""
    skip: int = attrs.field(default=0, kw_only=True, validator=_count)
    """The number of requests or events that are spared at the beginning."""
    on: tuple[str, ...] | None = attrs.field(default=None, kw_only=True, converter=_names)
    """The kinds of requests (`RequestKind`), or the events (the last word of their type), that it
    happens to; all that it can if not given."""
    retry_after: float | None = attrs.field(default=None, kw_only=True)
    """Seconds in the `Retry-After` of an error; none is sent if not given."""

    def __attrs_post_init__(self) -> None:
        kind = FAULTS.get(self.name)
        if kind is None:
            raise InvalidRequestError("fault", self.name, f"one of {', '.join(FAULTS)}")
        if self.value is not None:
            _check_value(self.name, kind, self.value)
        if self.on is not None and (not self.on or not set(self.on) <= set(kind.on)):
            raise InvalidRequestError("on", ",".join(self.on), f"some of {', '.join(kind.on)}")
        if self.retry_after is not None:
            if self.name != "error":
                raise InvalidRequestError("retry_after", self.retry_after, "given to 'error' only")
            _check_seconds("retry_after", self.retry_after, 0.0)

    @property
    def number(self) -> float:
        """The value, or the one that the fault has if none is given; 0 if it takes none."""
        return FAULTS[self.name].default or 0.0 if self.value is None else self.value

    @property
    def status(self) -> int:
        """The HTTP status that the value means."""
        return int(self.number)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the fault that a line of text means, such as `error:503:rate=0.2`.

        Raises:
            InvalidRequestError: The text is not of this form; the message says what is wrong.
        """
        name, *options = text.split(":")
        fields: dict[str, Any] = {}
        for option in options:
            key, is_named, given = option.partition("=")
            key, given = (key, given) if is_named else ("value", option)
            read = _READERS.get(key)
            if read is None:
                allowed = ", ".join(f"{one}=" for one in _READERS if one != "value")
                raise InvalidRequestError("fault", text, f"a value, and {allowed}")
            if key.replace("-", "_") in fields:
                raise InvalidRequestError("fault", text, f"one {key}")
            try:
                fields[key.replace("-", "_")] = read(given)
            except ValueError:
                raise InvalidRequestError("fault", text, f"a number as its {key}") from None
        try:
            return cls(cast("FaultName", name), **fields)
        except InvalidRequestError as error:
            if error.field == "fault":
                raise
            allowed = f"as its {error.field.replace('_', '-')} {error.allowed}"
            raise InvalidRequestError("fault", text, allowed) from None

    def __str__(self) -> str:
        """The text from which `parse` makes this fault."""
        parts: list[str] = [self.name]
        if self.value is not None:
            parts.append(f"{self.value:g}")
        for key, value in (
            ("rate", None if self.rate == 1 else f"{self.rate:g}"),
            ("times", self.times),
            ("skip", self.skip or None),
            ("on", self.on and ",".join(self.on)),
            ("retry-after", None if self.retry_after is None else f"{self.retry_after:g}"),
        ):
            if value is not None:
                parts.append(f"{key}={value}")
        return ":".join(parts)


_READERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "value": float,
    "rate": float,
    "times": int,
    "skip": int,
    "on": lambda text: tuple(text.split(",")),
    "retry-after": float,
}
"""The function that reads each option of a fault's text."""

Hits = Mapping[FaultName, Fault]
"""The faults that happen to one request or event, by name."""

NO_HITS: Final[Hits] = {}
"""Nothing goes wrong."""


class Faults:
    """All faults of a service, with what decides when each of them happens.

    Each fault has a stream of random numbers of its own, and takes one for each request or event
    that it can happen to, so that one fault more or less does not reshuffle the others.

    Args:
        faults: The faults. Of two of one name that happen to the same request, the first counts.
        seed: The seed of the service.
    """

    def __init__(self, faults: Iterable[Fault], seed: int) -> None:
        numbers: Counter[FaultName] = Counter()
        self._states: Final[list[_State]] = []
        for fault in faults:
            if not isinstance(fault, Fault):
                raise InvalidRequestError("faults", fault, "a list of Fault")
            stream = f"{seed}/faults/{fault.name}/{numbers[fault.name]}"
            self._states.append(_State(fault, Random(stream)))
            numbers[fault.name] += 1

    def draw(self, target: str) -> Hits:
        """Return what happens to a request of that kind, or to an event of that name."""
        if not self._states:
            return NO_HITS
        hits: dict[FaultName, Fault] = {}
        for state in self._states:
            if state.fault.name not in hits and state.happens(target):
                hits[state.fault.name] = state.fault
        return hits

    def counts(self) -> dict[str, int]:
        """Return how often each fault has happened, by its text."""
        return {str(state.fault): state.happened for state in self._states}


@attrs.define
class _State:
    """One fault, and how often it could happen and did."""

    fault: Fault
    stream: Random
    met: int = 0
    happened: int = 0

    def happens(self, target: str) -> bool:
        fault = self.fault
        if target not in (fault.on or FAULTS[fault.name].on):
            return False
        self.met += 1
        is_drawn = self.stream.random() < fault.rate
        is_over = fault.times is not None and self.happened >= fault.times
        if not is_drawn or is_over or self.met <= fault.skip:
            return False
        self.happened += 1
        return True


def _check_value(name: str, kind: FaultKind, value: object) -> None:
    if kind.default is None:
        raise InvalidRequestError("value", value, f"none for {name!r}")
    if kind.statuses:
        if value not in kind.statuses:
            allowed = ", ".join(map(str, kind.statuses))
            raise InvalidRequestError("value", value, f"one of {allowed}")
        return
    _check_seconds("value", value, kind.least)


def _check_seconds(name: str, value: object, least: float) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and least <= cast("float", value) < math.inf):
        more = "of at least 0" if least == 0 else "greater than 0"
        raise InvalidRequestError(name, value, f"a number of seconds {more}")
