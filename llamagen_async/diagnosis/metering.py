"""The requests that a server meters, judged by how its count of a key's requests moves.

The server tells the count, `apiUsageCount`, in each answer about usage (vendor's clients). Between
two usage calls it moves by one if usage calls count, and by one more if a status check between them
counts. Whether the server's limits count by the same rule is not documented; it is the best
evidence that can be had for no credits.

Other programs with the same key move the count, too. So each difference is measured twice, the
last one after a moment, since a count may lag behind. Differences that contradict each other tell
nothing. Nothing here sends anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import attrs

from llamagen_async.plans import Plan, RequestKind

__all__ = ["STEPS", "Metering", "PlanSetting", "Readings", "judge_metering", "setting_for"]

STEPS: Final = (
    RequestKind.USAGE,
    RequestKind.USAGE,
    RequestKind.STATUS,
    RequestKind.USAGE,
    RequestKind.STATUS,
    RequestKind.USAGE,
    RequestKind.USAGE,
)
"""The requests of a measurement, in their order; the last one is sent after a moment."""


@attrs.frozen
class Readings:
    """The answers to the requests of a measurement."""

    counts: tuple[int | None, ...]
    """The server's count in each answer about usage; `None` where it was missing."""
    check_found: bool = True
    """Whether the status checks were about a generation that the server knows."""


@attrs.frozen
class Metering:
    """Whether reads count, as far as that could be told."""

    usage: bool | None
    """Whether usage calls count; `None` if that could not be told."""
    status: bool | None
    """Whether status checks count; `None` if that could not be told."""
    reason: str = ""
    """The reason for which something could not be told."""
    moves: tuple[int, ...] = ()
    """By how much the count moved from each answer about usage to the next."""

    @property
    def metered(self) -> frozenset[RequestKind]:
        """Kinds of request to count: all but those that provably do not count.

        Creates, changes and uploads are counted, since nothing is known of them.
        """
        free = {RequestKind.USAGE: self.usage, RequestKind.STATUS: self.status}
        return frozenset(kind for kind in RequestKind if free.get(kind) is not False)


def judge_metering(readings: Readings) -> Metering:
    """Return what the count's moves say."""
    counts = [count for count in readings.counts if count is not None]
    if len(counts) < len(readings.counts):
        return Metering(None, None, "the server's answer about usage has no apiUsageCount")
    moves = tuple(after - before for before, after in pairwise(counts))
    # In the order of `STEPS`: usage alone, twice a check and usage, usage alone.
    first, check, again, last = moves
    disturbed = "the count did not move by the same number each time"
    if first != last or check != again or first not in (0, 1) or check - first not in (0, 1):
        why = f"{disturbed}: another program uses this key now, or the count lags behind"
        return Metering(None, None, why, moves)
    usage, status = bool(first), bool(check - first)
    if not (status or readings.check_found):
        why = "a check of an unknown id does not count; whether one of a known id does is not told"
        return Metering(usage, None, why, moves)
    return Metering(usage, status, "", moves)


@attrs.frozen
class PlanSetting:
    """A plan as one writes it down."""

    python: str
    """An expression."""
    options: str
    """Options of a command."""
    environment: str
    """Variables of the environment."""


def setting_for(plan: Plan, metered: frozenset[RequestKind]) -> PlanSetting:
    """Return how a plan that meters these kinds is written down."""
    named = next((one for one in (Plan.DEMO, Plan.PAID) if one.limits == plan.limits), None)
    kinds = [kind.value for kind in RequestKind if kind in metered]
    meters_all = metered == frozenset(RequestKind)
    name = named.name if named else "auto"
    limits = ", ".join(f"RateLimit({one.limit}, per={one.per:g})" for one in plan.limits)
    if named and meters_all:
        python = f"Plan.{name.upper()}"
    else:
        listed = ", ".join(f'"{kind}"' for kind in kinds)
        only = "" if meters_all else f", metered={{{listed}}}"
        comma = "," if len(plan.limits) == 1 else ""
        python = f'Plan("{plan.name}", limits=({limits}{comma}){only})'
    words = ",".join(kinds)
    return PlanSetting(
        python,
        f"--plan {name}" + ("" if meters_all else f" --metered {words}"),
        f"LLAMAGEN_PLAN={name}" + ("" if meters_all else f" LLAMAGEN_METERED={words}"),
    )


def sent_by(steps: Sequence[RequestKind]) -> str:
    """Return in words what a measurement sends."""
    counts = Counter(steps)
    checks, usage = counts[RequestKind.STATUS], counts[RequestKind.USAGE]
    return f"{len(steps)} requests: {usage} usage calls and {checks} status checks"
