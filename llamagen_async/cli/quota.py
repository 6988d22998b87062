"""Proof that the store of spent requests can be had, before a command sends anything.

A command that forgot what it spent would be refused by the server later.
"""

from __future__ import annotations

from typing import Final

from llamagen_async.cli.exit_status import FAILED, CommandError
from llamagen_async.quota import default_quota

__all__ = ["default_store", "prove_quota"]

_ADVICE: Final = "name another one with --quota, or count in this process only with --quota memory"


async def prove_quota(quota: str) -> None:
    """Open a store and close it again; do nothing for `MEMORY`.

    Args:
        quota: Its URL, or `MEMORY`.

    Raises:
        InvalidRequestError: It is no URL of a store.
        CommandError: It can't be opened; nothing was sent.
    """
    from llamagen_async.ratelimit.stores import prove_store  # noqa: PLC0415  # not for help
    from llamagen_async.stored_values import StoreError  # noqa: PLC0415

    try:
        await prove_store(quota)
    except (StoreError, OSError) as error:
        raise _refusal(error) from None


def default_store() -> str:
    """Return the URL of this user's store.

    Raises:
        CommandError: This user has no folder for it.
    """
    try:
        return default_quota()
    except OSError as error:
        raise _refusal(error) from None


def _refusal(error: Exception) -> CommandError:
    message = f"the store of spent requests can't be used: {error}; nothing was sent: {_ADVICE}"
    return CommandError(message, FAILED)
