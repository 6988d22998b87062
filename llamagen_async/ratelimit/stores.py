"""Quotas and their stores: `sqlite:///path` for one machine, `redis://host` for many.

Without a name it is a SQLite file in this user's state folder, so that programs that run one after
the other, or at once, share the count without being told.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from llamagen_async.errors import InvalidRequestError
from llamagen_async.observing import logger_of
from llamagen_async.plans import Plan
from llamagen_async.ratelimit.protocol import Ledger
from llamagen_async.ratelimit.window_log import LedgerTimes
from llamagen_async.validation import checked_path

__all__ = [
    "MEMORY",
    "check_quota",
    "default_quota",
    "open_store",
    "prove_store",
    "shown_quota",
    "store_times",
    "writable_default",
]

_MARGIN: Final = 5.0
"""Real seconds by which a store's lease outlasts the longest request: its report takes time."""
_GRACE: Final = 5.0
"""Seconds of the server's clock that a position is kept for a client that should have asked."""
_REAL_GRACE: Final = 1.0
"""Real seconds that a position is kept, at least: a fast server's clock makes no client faster."""
_CLIENT_LEASE: Final = 3_600.0
"""Real seconds for which a client that is not heard of shares the key."""
_SILENCE: Final = 8.0
"""Real seconds in which every client finds out that the store is back: it asks every three
seconds, and an answer takes two at most."""
_WAY: Final = 0.05
"""Real seconds by which the ways of two questions to the store differ, as a rule."""
MEMORY: Final = "memory"
"""The quota of who wants this process only to know what was spent."""

_logger = logger_of(__name__)

_SQLITE: Final = "sqlite:///"
_ALLOWED: Final = (
    "'sqlite:///PATH', 'redis://HOST:PORT/DB', 'rediss://HOST:PORT/DB', 'memory' or None"
)
_warned: Final[set[str]] = set()
"""The reasons of which a log has heard in this process why the default can't be had."""


def check_quota(quota: object) -> str | None:
    """Return a quota: the URL of a store, `MEMORY`, or `None` for the default.

    Raises:
        InvalidRequestError: The URL names no store. Only its scheme is repeated, because a
            password may be in the rest.
    """
    if quota is None:
        return None
    if quota == MEMORY:
        return MEMORY
    scheme, separator, rest = quota.partition("://") if isinstance(quota, str) else ("", "", "")
    known = scheme in ("redis", "rediss", "unix") or (scheme == "sqlite" and rest[:1] == "/")
    if not separator or not rest.strip("/") or not known:
        shown = f"{scheme}://..." if separator else type(quota).__name__
        raise InvalidRequestError("quota", shown, _ALLOWED)
    if scheme == "sqlite":
        try:
            checked_path("quota", rest).expanduser()
        except RuntimeError:
            allowed = "a path without `~`, since this user has no home folder"
            raise InvalidRequestError("quota", quota, allowed) from None
    return str(quota)


def shown_quota(quota: str) -> str:
    """Return the name of a store, without a password that its URL may hold."""
    if quota == MEMORY:
        return "this process only"
    if quota.startswith(_SQLITE):
        return quota.removeprefix(_SQLITE)
    parts = urlsplit(quota)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def store_times(speed: float, timeout: float) -> LedgerTimes:
    """Return the times that a store keeps to, in seconds of the server's clock.

    Args:
        speed: How many times faster than real time the server's clock runs.
        timeout: Real seconds that one request may take.
    """
    return LedgerTimes(
        lease=(timeout + _MARGIN) * speed,
        grace=max(_GRACE, _REAL_GRACE * speed),
        client_lease=_CLIENT_LEASE * speed,
        silence=_SILENCE * speed,
        tolerance=_WAY * speed,
    )


def default_quota() -> str:
    """Return the URL of this user's store, in the folder that the system has for such files.

    Where the system follows the XDG specification, `XDG_STATE_HOME` says where that is.

    Raises:
        FileNotFoundError: The system knows of no home folder of this user.
    """
    from platformdirs import user_state_path  # noqa: PLC0415  # not needed by who names a store

    try:
        path = user_state_path("llamagen-async", appauthor=False) / "quota.db"
    except RuntimeError as error:  # older versions of platformdirs return a path with `~`
        raise FileNotFoundError(f"this user has no home folder ({error})") from None
    if not path.is_absolute():
        raise FileNotFoundError(f"this user has no home folder, so there is no {path}")
    return f"{_SQLITE}{path}"


def writable_default() -> str:
    """Return the URL of this user's store if it can be written, else `MEMORY` after a warning.

    It makes the folder and an empty file, which takes no longer than a few calls of the system;
    what is in the file is for the ledger to read, in its own thread.
    """
    try:
        quota = default_quota()
        path = Path(quota.removeprefix(_SQLITE))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("ab").close()
        # SQLite makes other files beside it.
        if not os.access(path.parent, os.W_OK):
            raise PermissionError(f"{path.parent} may not be written")
    except OSError as error:
        if str(error) not in _warned:
            _warned.add(str(error))
            _logger.warning(
                "spent requests are remembered in this process only (%s), so other programs with "
                "the same key, and the next run, do not know of them: name a file that may be "
                "written with quota='sqlite:///PATH', or quota='memory' if that is meant",
                error,
            )
        return MEMORY
    return quota


def open_store(quota: str, name: str, plan: Plan, speed: float, times: LedgerTimes) -> Ledger:
    """Return the ledger that a quota URL names; nothing is opened before it is used.

    Args:
        quota: A URL that `check_quota` has let pass.
        name: The hash that names the count.
        plan: The windows to count.
        speed: How many times faster than real time the server's clock runs.
        times: The times to keep to.
    """
    # Imported when needed: most programs need neither.
    if quota.startswith(_SQLITE):
        from llamagen_async.ratelimit.sqlite.ledger import SQLiteLedger  # noqa: PLC0415
        from llamagen_async.ratelimit.sqlite.store import SQLiteStore  # noqa: PLC0415

        store = SQLiteStore.shared(quota.removeprefix(_SQLITE))
        return SQLiteLedger(store, name=name, plan=plan, speed=speed, times=times)
    from llamagen_async.ratelimit.redis.ledger import (  # noqa: PLC0415
        RedisLedger,
        shared_connection,
    )

    connection = shared_connection(quota)
    return RedisLedger(connection, name=name, plan=plan, speed=speed, times=times)


async def prove_store(quota: str) -> None:
    """Open a store and close it again; do nothing for `MEMORY`.

    Args:
        quota: Its URL, or `MEMORY`.

    Raises:
        InvalidRequestError: It is no URL of a store.
        StoreError: It can't be opened.
        OSError: Its file can be read and not written: it would count nothing.
    """
    if check_quota(quota) == MEMORY:
        return
    # Nothing is counted; what a Redis keeps of it expires.
    ledger = open_store(quota, "nobody", Plan.DEMO, 1.0, store_times(1.0, 1.0))
    try:
        await ledger.snapshot()
        if quota.startswith(_SQLITE):
            _prove_writable(Path(quota.removeprefix(_SQLITE)))
    finally:
        await ledger.aclose()


def _prove_writable(path: Path) -> None:
    path = path.expanduser()
    if not os.access(path, os.W_OK):
        raise PermissionError(f"{path} may not be written")
