"""The accounts of the sandbox: for each key a plan, a meter, credits, and counts of its requests.

A key itself never appears in a report: unknown keys are named by a piece of their hash.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict, deque
from typing import Any, Final

from llamagen_async.plans import DAY, Plan, RequestKind
from llamagen_async.sandbox.algorithms import TOLERANCE, Meter

__all__ = ["DEMO_KEY", "EMPTY_KEY", "PAID_KEY", "SANDBOX_KEYS", "Account", "label_of"]

DEMO_KEY: Final = "sandbox-demo"
"""The built-in key on the demo plan."""
PAID_KEY: Final = "sandbox-paid"
"""The built-in key on the paid plan."""
EMPTY_KEY: Final = "sandbox-empty"
"""The built-in key on the paid plan that has no credits."""
SANDBOX_KEYS: Final = (DEMO_KEY, PAID_KEY, EMPTY_KEY)
"""The built-in keys. They are no secrets."""


class Account:
    """The service's knowledge of one key.

    Args:
        label: The key's name in reports.
        plan: The plan whose limits are enforced.
        meter: The count of the key's requests.
        credits: The credits that creates are paid with.
    """

    def __init__(self, label: str, plan: Plan, meter: Meter, *, credits: int) -> None:  # noqa: A002
        self.label: Final = label
        self.plan: Final = plan
        self.meter: Final = meter
        self.credits: int = credits
        self.is_paid: Final = plan.name != Plan.DEMO.name
        """Whether creates cost credits and pictures have no watermark."""
        self.refused: int = 0
        self.creates_accepted = 0
        self._requests: Final[defaultdict[str, Counter[str]]] = defaultdict(Counter)
        self._peaks: Final = tuple(_Peak(limit.limit, limit.per) for limit in plan.limits)
        self._admitted: Final = _Peak(0, DAY)

    def admit(self, now: float) -> float | None:
        """Meter a request: `None` if it passes, else the seconds until one could."""
        for peak in self._peaks:
            peak.add(now)
        wait = self.meter.admit(now)
        if wait is None:
            self._admitted.add(now)
        else:
            self.refused += 1
        return wait

    def can_pay(self, price: int) -> bool:
        """Whether there are enough credits for `price`."""
        return not self.is_paid or self.credits >= price

    def pay(self, price: int) -> None:
        """Take `price` credits, on a paid plan."""
        if self.is_paid:
            self.credits -= price

    def record(self, kind: RequestKind, outcome: str) -> None:
        """Count a request by its outcome: its status, or `dropped`."""
        self._requests[kind.value][outcome] += 1

    def used_today(self, now: float) -> int:
        """Return the number of requests that passed the limits in the last 24 hours."""
        return self._admitted.count(now)

    def stats(self) -> dict[str, Any]:
        """Return the counts of the key's requests, ready for JSON."""
        return {
            "plan": self.plan.name,
            "requests": {kind: dict(outcomes) for kind, outcomes in self._requests.items()},
            "total": sum(outcomes.total() for outcomes in self._requests.values()),
            "refused": self.refused,
            "creates_accepted": self.creates_accepted,
            "windows": [
                {"limit": peak.limit, "per": peak.per, "most": peak.most} for peak in self._peaks
            ],
        }


def label_of(key: str) -> str:
    """Return a key's name in reports: itself if it is built in, else a piece of its hash."""
    return key if key in SANDBOX_KEYS else f"key-{hashlib.sha256(key.encode()).hexdigest()[:8]}"


class _Peak:
    """The most requests, refused ones too, in any half-open window of one length."""

    def __init__(self, limit: int, per: float) -> None:
        self.limit: Final = limit
        self.per: Final = per
        self.most = 0
        self._arrivals: Final[deque[float]] = deque()

    def add(self, now: float) -> None:
        self._arrivals.append(now)
        self.most = max(self.most, self.count(now))

    def count(self, now: float) -> int:
        while self._arrivals and self._arrivals[0] + self.per <= now + TOLERANCE:
            self._arrivals.popleft()
        return len(self._arrivals)
