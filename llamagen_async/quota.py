"""The quota of a client: the store of spent requests that it names, checked, shown, and by default.

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
from llamagen_async.validation import checked_path

__all__ = ["MEMORY", "SQLITE", "check_quota", "default_quota", "shown_quota", "writable_default"]

SQLITE: Final = "sqlite:///"
"""The beginning of the URL of a file."""
MEMORY: Final = "memory"
"""The quota of who wants this process only to know what was spent."""
_logger = logger_of(__name__)
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
    if quota.startswith(SQLITE):
        return quota.removeprefix(SQLITE)
    parts = urlsplit(quota)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


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
    return f"{SQLITE}{path}"


def writable_default() -> str:
    """Return the URL of this user's store if it can be written, else `MEMORY` after a warning.

    It makes the folder and an empty file, which takes no longer than a few calls of the system;
    what is in the file is for the ledger to read, in its own thread.
    """
    try:
        quota = default_quota()
        path = Path(quota.removeprefix(SQLITE))
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
