"""Probing: while the server is away, one probe at a time goes out, and what somebody reads.

1. A status check is the probe, where there is something to check: it may bring a comic, too. Where
   the server has failed of each comic that there is, every second probe is something else, in case
   that these comics are what it fails of.
2. A create is the probe where nothing is checked and the last request found no server: it is sent
   again without harm. Where the last one may have arrived, a create would be lost like it, so a
   read of the usage is sent in its place; a create only as a last resort, or if the usage is all
   that the server is known to fail of.
3. What somebody reads in person goes out at once.
"""

from __future__ import annotations

import math
from typing import Final

from llamagen_async.plans import RequestKind
from llamagen_async.ratelimit import Limiter, Priority
from llamagen_async.scheduling.circuit import Circuit, subject_of
from llamagen_async.scheduling.policy import Choice, Decision, Idle, send
from llamagen_async.scheduling.poll_set import PollSet
from llamagen_async.scheduling.poll_target import PollTarget
from llamagen_async.scheduling.request_queue import RequestQueue
from llamagen_async.transport import APIRequest

__all__ = ["PROBE", "choose_probe"]

PROBE: Final = APIRequest(RequestKind.USAGE, "GET", "/comics/usage")
"""The read that is the probe where there is nothing to check (vendor's clients)."""


def choose_probe(
    circuit: Circuit,
    limiter: Limiter,
    queue: RequestQueue,
    polls: PollSet,
    now: float,
    *,
    metered: bool,
) -> Decision:
    """Return what a slot that is free now is used for while the server is away.

    Args:
        circuit: Knows when a probe is due.
        limiter: Knows the plan.
        queue: The requests that wait.
        polls: The generations that are waited for.
        now: The time.
        metered: Whether the queue's requests count against the limits.
    """
    read = queue.head(billed=False)
    if read is not None:
        return send(read, now)
    if circuit.probe is not None:
        return Idle(math.inf)
    if now < circuit.probe_at:
        return Idle(circuit.probe_at - now)
    makes_checks = (RequestKind.STATUS in limiter.plan.metered) is metered
    target = _target(polls, circuit) if makes_checks else None
    is_usage_sick = subject_of(PROBE) in circuit.sick or circuit.failed == {subject_of(PROBE)}
    is_suspect = target is not None and (target.failures > 0 or target.id in circuit.sick)
    wants_other = is_suspect and circuit.may_have_arrived and circuit.probes % 2 == 0
    if target is not None and not wants_other:
        return Choice(target, Priority.CHECK)
    head = queue.head()
    may_create = not circuit.may_have_arrived or now >= circuit.resort_at
    if head is not None and (may_create or (is_usage_sick and not circuit.is_away)):
        return send(head, now)
    if metered or RequestKind.USAGE not in limiter.plan.metered:
        return Choice(PROBE, Priority.CHECK)  # it is for those who wait, and waits like them
    return Idle(math.inf) if target is None else Choice(target, Priority.CHECK)


def _target(polls: PollSet, circuit: Circuit) -> PollTarget | None:
    """Return the target whose check tells most about the server; `None` if there is none."""
    idle = (one for one in polls.targets.values() if not one.in_flight)
    return min(
        idle, key=lambda one: (one.id in circuit.sick, one.failures, one.accepted_at), default=None
    )
