"""The state that a client would restore in Redis, and the requests that carry it.

A request is the arguments of `reserve.lua` that are not the same in every call. The script's reply
tells whether the account is still in the epoch that this client has seen before; if it is not, the
next request begins with the requests that the account has to learn of again.
"""

from __future__ import annotations

import json
import math
import secrets
import struct
from collections import deque
from typing import Any, Final

from llamagen_async.plans import HOUR

__all__ = ["RecoveryState"]

_TOLERANCE: Final = 0.5
"""Real seconds by which the server's clock may seem to be ahead, because an answer was slow."""
_DRIFT: Final = 0.01
"""Share by which the clocks of two machines may differ in speed."""
_HEADER: Final = struct.Struct("<5d")
_encode: Final = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class RecoveryState:
    """The part of the account that a client knows without the store. No I/O, no clock.

    Args:
        speed: Seconds of the ledger's clock in a real second.
    """

    def __init__(self, speed: float) -> None:
        self.longest = 0.0
        """Seconds of the ledger's clock for which a request counts."""
        self.kept = 0.0
        """Real seconds after which an unused account expires."""
        self._speed = speed
        self._epoch = 0
        """The epoch that this client has seen last; 0 is none."""
        self._must_restore = False
        """Whether that epoch has yet to learn what is known here."""
        self._seen: tuple[float, float] | None = None
        """The ledger's time in the last answer, and the steady time at which it was asked for."""
        self._held: dict[int, str] = {}
        """The slots of this client's requests in flight, and the nonce of each."""
        self._spent: deque[float] = deque()
        """Times at which its other requests were answered, for windows of more than an hour."""

    def build_request(
        self, calls: list[dict[str, Any]], asked_at: float, time: float | None
    ) -> tuple[bytes, bytes]:
        """Return the arguments to send at the steady time `asked_at` for `calls` to be done.

        Args:
            calls: The operations.
            asked_at: The steady time.
            time: For tests: the reading of the server's clock.
        """
        expected = latest = math.inf
        if self._seen is not None:
            expected, tolerance, elapsed = self._expected(self._seen, asked_at)
            latest = expected + tolerance
            if elapsed > self.kept:
                # The account may have expired by itself, and with it nothing that still counts.
                self._epoch, self._must_restore = 0, False
                self._held.clear()
                self._spent.clear()
        if self._must_restore:
            known = {"verb": "restore", "held": [*self._held.items()], "spent": [*self._spent]}
            calls = [known, *calls]
        new_epoch = 1 + secrets.randbits(51)
        shown = math.nan if time is None else time
        header = _HEADER.pack(self._epoch, new_epoch, expected, latest, shown)
        return header, _encode(calls).encode()

    def parse_reply(self, reply: bytes, asked_at: float) -> tuple[float, list[Any]] | None:
        """Return the time and the answers to the calls of a request.

        Returns:
            `None` if they were not done, because the state has to be restored before: the next
            request does that.

        Raises:
            ValueError: The reply is not one of the script.
            TypeError: The reply is not one of the script.
        """
        epoch, now, answers = json.loads(reply.decode())
        now = float(now)
        was, self._epoch = self._epoch, epoch
        seen, self._seen = self._seen, (now, asked_at)
        if was not in {0, epoch}:
            self._must_restore = True
            if seen is not None:
                expected, tolerance, _ = self._expected(seen, asked_at)
                if abs(now - expected) > tolerance:
                    # The new epoch's clock is another one.
                    self._spent = deque(at + now - expected for at in self._spent)
            return None
        if self._must_restore:
            self._must_restore = False
            return now, answers[1:]
        return now, answers

    def apply(self, call: dict[str, Any], now: float, answer: Any) -> None:
        """Remember what the script did."""
        verb, spent = call["verb"], 0
        if verb == "reserve":
            for is_granted, _, slot, *_ in answer:
                if is_granted:
                    self._held[slot] = call["nonce"]
        elif verb == "revoke":
            for slot in [slot for slot, nonce in self._held.items() if nonce == call["nonce"]]:
                del self._held[slot]
        elif verb in {"commit", "give_back"}:
            was_held = self._held.pop(call["slot"], None) is not None
            spent = int(was_held and verb == "commit")
        elif verb == "record":
            spent = call["number"]
        if self.longest > HOUR:
            self._spent.extend([now] * spent)
            while self._spent and self._spent[0] + self.longest <= now:
                self._spent.popleft()

    def _expected(self, seen: tuple[float, float], asked_at: float) -> tuple[float, float, float]:
        """Return the ledger's time by the steady clock, its tolerance, the real seconds since."""
        elapsed = max(0.0, asked_at - seen[1])
        tolerance = (_TOLERANCE + _DRIFT * elapsed) * self._speed
        return seen[0] + elapsed * self._speed, tolerance, elapsed
