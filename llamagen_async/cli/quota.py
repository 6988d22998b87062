"""Proof that the store of spent requests can be had, before a command sends anything.

A command that forgot what it spent would be refused by the server later.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from llamagen_async.cli.errors import FAILED, CommandError
from llamagen_async.plans import Plan
from llamagen_async.ratelimit import MEMORY, StoreError, check_quota, default_quota
from llamagen_async.ratelimit.stores import open_store, store_times

__all__ = ["default_store", "prove_quota", "shown_quota"]

_SQLITE: Final = "sqlite:///"
_ADVICE: Final = "name another one with --quota, or count in this process only with --quota memory"


async def prove_quota(quota: str) -> None:
    """Open a store and close it again; do nothing for `MEMORY`.

    Args:
        quota: Its URL, or `MEMORY`.

    Raises:
        InvalidRequestError: It is no URL of a store.
        CommandError: It can't be opened; nothing was sent.
    """
    if check_quota(quota) == MEMORY:
        return
    # It is only read: neither the name nor the plan leaves a trace in it.
    ledger = open_store(quota, "nobody", Plan.DEMO, 1.0, store_times(1.0, 1.0))
    try:
        await ledger.snapshot()
        _prove_writable(quota)
    except (StoreError, OSError) as error:
        raise _refusal(error) from None
    finally:
        await ledger.aclose()


def default_store() -> str:
    """Return the URL of this user's store.

    Raises:
        CommandError: This user has no folder for it.
    """
    try:
        return default_quota()
    except OSError as error:
        raise _refusal(error) from None


def shown_quota(quota: str) -> str:
    """Return the name of a store, without a password that its URL may hold."""
    if quota == MEMORY:
        return "this process only"
    if quota.startswith(_SQLITE):
        return quota.removeprefix(_SQLITE)
    parts = urlsplit(quota)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _prove_writable(quota: str) -> None:
    """Notice a file that can be read and not written: it would count nothing."""
    path = Path(quota.removeprefix(_SQLITE)).expanduser()
    if quota.startswith(_SQLITE) and not os.access(path, os.W_OK):
        raise PermissionError(f"{path} may not be written")


def _refusal(error: Exception) -> CommandError:
    message = f"the store of spent requests can't be used: {error}; nothing was sent: {_ADVICE}"
    return CommandError(message, FAILED)
