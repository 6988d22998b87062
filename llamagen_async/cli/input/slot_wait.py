"""The options about the wait for a free slot."""

from __future__ import annotations

import attrs

from llamagen_async.errors import InvalidRequestError

__all__ = ["SlotWait"]


@attrs.frozen
class SlotWait:
    """How long a request may wait for its slot."""

    max_wait: float | None
    """Seconds of the server's clock; `None` is any time within the short windows."""
    wait_for_quota: bool
    """Whether tomorrow's quota is waited for."""

    def __attrs_post_init__(self) -> None:
        if self.max_wait is not None and not self.max_wait >= 0:
            allowed = "a number of seconds, 0 or more"
            raise InvalidRequestError("max_wait", self.max_wait, allowed)
