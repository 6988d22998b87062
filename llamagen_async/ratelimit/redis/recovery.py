"""What one client knows of an account in Redis, and the messages in which it says so.

A message is the arguments of `reserve.lua` that are not the same in every call. The script's answer
tells whether the account is still the one that this client has seen before; if it is not, the next
message begins with what the account has to learn again.
"""

from __future__ import annotations

import json
import math
import secrets
import struct
from collections import deque
from typing import Any, Final

from llamagen_async.plans import HOUR

__all__ = ["Notes"]

_TOLERANCE: Final = 0.5
"""Real seconds by which the server's clock may seem to be ahead: an answer can be that slow."""
_DRIFT: Final = 0.01
"""By how much the clocks of two machines may differ in speed."""
_HEADER: Final = struct.Struct("<5d")
_encode: Final = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
_USUAL_COMMIT: Final = frozenset({"verb", "slot", "granted_at"})
_USUAL_RESERVE: Final = frozenset({"verb", "ticket", "nonce", "number"})
_quoted: Final = json.encoder.encode_basestring_ascii


class Notes:
    """What a client knows of the account without the store. Does no I/O and reads no clock.

    Args:
        speed: Seconds of the ledger's clock in a real second.
    """

    def __init__(self, speed: float) -> None:
        self.longest = 0.0
        """Seconds of the ledger's clock for which a request counts."""
        self.kept = 0.0
        """Real seconds after which an unused account expires."""
        self._speed = speed
        self._generation = 0
        """Which state this client has seen last; 0 is none."""
        self._restores = False
        """Whether that state has yet to learn what is known here."""
        self._seen: tuple[float, float] | None = None
        """The ledger's time in the last answer, and the steady time at which it was asked for."""
        self._held: dict[int, str] = {}
        """The slots of this client's requests on their way, and the nonce of each."""
        self._spent: deque[float] = deque()
        """When its other requests were answered, for windows of more than an hour."""

    def message(
        self, calls: list[dict[str, Any]], asked_at: float, time: float | None
    ) -> tuple[bytes, bytes]:
        """Return what to send at the steady time `asked_at` for `calls` to be done.

        Args:
            calls: The operations.
            asked_at: The steady time.
            time: For tests: what the server's clock shows.
        """
        expected = latest = math.inf
        if self._seen is not None:
            expected, tolerance, elapsed = self._expected(self._seen, asked_at)
            latest = expected + tolerance
            if elapsed > self.kept:
                # The account may have expired by itself, and with it nothing that still counts.
                self._generation, self._restores = 0, False
                self._held.clear()
                self._spent.clear()
        if self._restores:
            known = {"verb": "restore", "held": [*self._held.items()], "spent": [*self._spent]}
            calls = [known, *calls]
        fresh = 1 + secrets.randbits(51)
        shown = math.nan if time is None else time
        header = _HEADER.pack(self._generation, fresh, expected, latest, shown)
        return header, f"[{','.join(map(_text, calls))}]".encode()

    def answers(self, reply: bytes, asked_at: float) -> tuple[float, list[Any]] | None:
        """Return the time and the answers to the calls of a message.

        Returns:
            `None` if they were not done, because the state has to be restored before: that is
            what the next message does.

        Raises:
            ValueError: The reply is not one of the script.
            TypeError: The same.
        """
        generation, now, answers = json.loads(reply.decode())
        now = float(now)
        was, self._generation = self._generation, generation
        seen, self._seen = self._seen, (now, asked_at)
        if was not in {0, generation}:
            self._restores = True
            if seen is not None:
                expected, tolerance, _ = self._expected(seen, asked_at)
                if abs(now - expected) > tolerance:
                    # The new state's clock is another one.
                    self._spent = deque(at + now - expected for at in self._spent)
            return None
        if self._restores:
            self._restores = False
            return now, answers[1:]
        return now, answers

    def note(self, call: dict[str, Any], now: float, answer: Any) -> None:
        """Take note of what the script did."""
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


def _text(call: dict[str, Any]) -> str:
    """Return an operation as JSON; the usual ones without the encoder, which takes far longer."""
    if call.keys() == _USUAL_COMMIT:
        return f'{{"verb":"commit","slot":{call["slot"]},"granted_at":{call["granted_at"]!r}}}'
    if call.keys() == _USUAL_RESERVE:
        return (
            f'{{"verb":"reserve","ticket":{_quoted(call["ticket"])},'
            f'"nonce":"{call["nonce"]}","number":{call["number"]}}}'
        )
    return _encode(call)
