"""One key of the sandbox: its plan, its meter, its credits, and what was seen of it.

The key itself is never in what it reports: unknown keys go by a piece of their hash.
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
    """What the service knows about one key.

    Args:
        label: What reports call the key.
        plan: Its plan.
        meter: Counts its requests.
        credits: What it can pay with.
    """

    def __init__(self, label: str, plan: Plan, meter: Meter, *, credits: int) -> None:  # noqa: A002
        self.label: Final = label
        self.plan: Final = plan
        self.meter: Final = meter
        self.credits = credits
        self.refused = 0
        self.creates_accepted = 0
        self._requests: Final[defaultdict[str, Counter[str]]] = defaultdict(Counter)
        self._peaks: Final = tuple(_Peak(limit.limit, limit.per) for limit in plan.limits)
        self._admitted: Final = _Peak(0, DAY)

    @property
    def is_paid(self) -> bool:
        """Whether creates cost credits and pictures have no watermark."""
        return self.plan.name != Plan.DEMO.name

    def admit(self, now: float) -> float | None:
        """Meter a request: `None` if it passes, else the seconds until one could."""
        for peak in self._peaks:
            peak.see(now)
        wait = self.meter.admit(now)
        if wait is None:
            self._admitted.see(now)
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
        """Remember how a request ended: its status, or `dropped`."""
        self._requests[kind.value][outcome] += 1

    @property
    def total(self) -> int:
        """How many requests came with this key."""
        return sum(sum(by_outcome.values()) for by_outcome in self._requests.values())

    def used_today(self, now: float) -> int:
        """Return how many requests passed the limits in the last 24 hours."""
        return self._admitted.seen(now)

    def stats(self) -> dict[str, Any]:
        """Return what was seen of it, ready for JSON."""
        return {
            "plan": self.plan.name,
            "requests": {kind: dict(outcomes) for kind, outcomes in self._requests.items()},
            "total": self.total,
            "refused": self.refused,
            "creates_accepted": self.creates_accepted,
            "windows": [
                {"limit": peak.limit, "per": peak.per, "most": peak.most} for peak in self._peaks
            ],
        }


def label_of(key: str) -> str:
    """Return what reports call a key: itself if it is built in, else a piece of its hash."""
    return key if key in SANDBOX_KEYS else f"key-{hashlib.sha256(key.encode()).hexdigest()[:8]}"


class _Peak:
    """The most requests, refused ones too, in any half-open window of one length."""

    def __init__(self, limit: int, per: float) -> None:
        self.limit: Final = limit
        self.per: Final = per
        self.most = 0
        self._arrivals: Final[deque[float]] = deque()

    def see(self, now: float) -> None:
        self._forget(now)
        self._arrivals.append(now)
        self.most = max(self.most, len(self._arrivals))

    def seen(self, now: float) -> int:
        self._forget(now)
        return len(self._arrivals)

    def _forget(self, now: float) -> None:
        while self._arrivals and self._arrivals[0] + self.per <= now + TOLERANCE:
            self._arrivals.popleft()
