"""The credits of a batch: what was spent, what is reserved, and what a budget still pays for.

A story's estimate is reserved before it may be sent, so stories that are on their way together
never pass the budget together. When the server says what a comic has cost, that counts instead; and
if it is more than was estimated, so are those that it has not told of yet. A story for which there
is no room waits as long as there may be some: until the server has told of those before it.

Nothing is read or written here. The journal keeps what each story has cost.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, cast

import attrs

from llamagen_async.batch.journal.codec import Row
from llamagen_async.batch.journal.story import RequestLike, Story
from llamagen_async.errors import BudgetReachedError
from llamagen_async.models import AnyGeneration
from llamagen_async.prices import Charge, Estimate, Prices, format_credits
from llamagen_async.requests import AnyRequest, ContinueRequest, UpdateRequest

__all__ = ["Budget", "Spending", "estimate_of"]

_ROUNDING: Final = 1e-6
"""Credits by which a budget may be passed: more than the rounding errors of a million stories."""


@attrs.frozen
class Spending:
    """Credits that a batch has spent, as far as anybody knows."""

    credits: float = 0.0
    """Credits that this run has spent; what may have been accepted counts."""
    estimated: float = 0.0
    """The part of `credits` that is estimated: the server has not said, or not yet."""
    total: float = 0.0
    """Credits that all runs with this journal have spent, this one included."""
    unpriced: int = 0
    """Stories of this run that were accepted and whose price nobody knows: they come on top."""
    budget: float | None = None
    """The budget; `None` if there is none."""
    unsent: int = 0
    """Stories that the budget does not pay for."""

    @property
    def left(self) -> float | None:
        """Credits of the budget that are left; `None` if there is none."""
        return None if self.budget is None else max(0.0, self.budget - self.total)

    def __str__(self) -> str:
        about = "about " if self.estimated else ""
        text = f"{about}{format_credits(self.credits)} spent"
        if self.unpriced:
            text += f", and {self.unpriced} at a price that is not known"
        if self.total != self.credits:
            text += f", {format_credits(self.total)} with earlier runs"
        return text if self.left is None else f"{text}; {_left(self.left, self.budget or 0.0)}"


@attrs.define
class _Reservation:
    """The estimate of one story from before it may be sent until it is known what it has cost."""

    price: float | None
    is_sent: bool = False


class Budget:
    """The account of one batch or queue.

    Args:
        limit: The most credits that may be spent; `None` is any number.
        prices: What requests cost, as far as it is known.
    """

    def __init__(self, limit: float | None = None, prices: Prices | None = None) -> None:
        self.limit = limit
        self.prices: Prices = prices or Prices()
        self._before = 0.0
        """Credits that earlier runs have spent."""
        self._settled = 0.0
        """Credits that this run has spent on stories of which no more will be known."""
        self._estimated = 0.0
        """The part of that which is estimated."""
        self._factor = 1.0
        """The most that a comic has cost, divided by its estimate; at least 1."""
        self._reserved: dict[int, _Reservation] = {}
        self._unpriced = 0
        self._unsent = 0
        self._changed = asyncio.Event()

    @property
    def spending(self) -> Spending:
        """The credits that were spent so far."""
        sent = [one.price for one in self._reserved.values() if one.is_sent]
        open_ = sum(price for price in sent if price is not None)
        credits_ = self._settled + open_
        return Spending(
            credits_,
            self._estimated + open_,
            self._before + credits_,
            self._unpriced + sum(price is None for price in sent),
            self.limit,
            self._unsent,
        )

    def begin(self, spent: float) -> None:
        """Take over what earlier runs have spent."""
        self._before = spent

    async def reserve(self, story: int, request: AnyRequest | None) -> None:
        """Reserve what a story costs, before it may be sent.

        Args:
            story: The number of its row.
            request: Its request.

        Raises:
            BudgetReachedError: The budget does not pay for it, or nobody knows its price.
        """
        assert request is not None
        price = self.prices.of(request)
        if self.limit is not None:
            while not self._has_room(price, self.limit):
                if price is None or not self._may_have_room(price, self.limit):
                    raise self._reached(self.limit, price)
                self._changed.clear()
                await self._changed.wait()
        self._reserved[story] = _Reservation(price)

    def sent(self, story: int) -> float | None:
        """Take note that a story is about to be sent, and return its estimate.

        Raises:
            BudgetReachedError: Since it was reserved, others have cost more than was estimated.
        """
        one = self._reserved[story]
        one.is_sent = True
        sent = sum(one.price or 0.0 for one in self._reserved.values() if one.is_sent)
        if self.limit is not None and not self._fits(sent, self.limit):
            one.is_sent = False
            raise self._reached(self.limit, one.price)
        return one.price

    def not_sent(self, story: int) -> None:
        """Take note that a story is not on its way after all.

        Its own task may have ended before that was known; what it may have cost counts then, as
        far as this run is concerned.
        """
        if (one := self._reserved.get(story)) is not None:
            one.is_sent = False

    def charge(
        self, row: Row, request: AnyRequest | None, generation: AnyGeneration | None
    ) -> float | None:
        """Take over what the server says that a story has cost; `None` if it does not say so.

        Args:
            row: The story, as the journal counts it so far.
            request: Its request.
            generation: The comic, as the server last described it.
        """
        charged = self.prices.charged(request, generation)
        if charged is None:
            return None
        one = self._reserved.pop(row.id, None)
        if one is None:  # it was sent by an earlier run
            self._before += charged - (row.credits or 0.0)
        else:
            self._settled += charged
            if one.price:
                self._factor = max(self._factor, charged / one.price)
        self._changed.set()
        return charged

    def settle(self, story: int, *, is_spent: bool) -> None:
        """End the reservation of a story of which no more will be known in this run.

        Args:
            story: The number of its row.
            is_spent: Whether it was accepted, or may have been.
        """
        one = self._reserved.pop(story, None)
        if one is None:
            return
        if is_spent:
            self._settled += one.price or 0.0
            self._estimated += one.price or 0.0
            self._unpriced += one.price is None
        self._changed.set()

    def _reached(self, limit: float, price: float | None) -> BudgetReachedError:
        self._unsent += 1
        return BudgetReachedError(limit, self.spending.total, price)

    def _has_room(self, price: float | None, limit: float) -> bool:
        reserved = sum(one.price or 0.0 for one in self._reserved.values())
        return price is not None and self._fits(reserved + price, limit)

    def _may_have_room(self, price: float, limit: float) -> bool:
        """Return whether there may be room once the stories before it have ended."""
        return bool(self._reserved) and self._fits(price, limit)

    def _fits(self, price: float, limit: float) -> bool:
        return self._before + self._settled + self._factor * price <= limit + _ROUNDING


def estimate_of(requests: RequestLike | Iterable[RequestLike], prices: Prices) -> Estimate:
    """Return what requests would draw and cost.

    Raises:
        InvalidRequestError: A request is not allowed.
    """
    if isinstance(requests, Iterable) and not isinstance(requests, str | Mapping):
        return prices.estimate(Counter(map(_charge_of, requests)))
    return prices.estimate({_charge_of(cast("RequestLike", requests)): 1})


def _charge_of(given: RequestLike) -> Charge:
    """Return what a story or a request is charged for; a change need not say of which comic."""
    if isinstance(given, ContinueRequest | UpdateRequest):
        return Charge.of(given)
    return Charge.of(Story.parse(given).request)


def _left(left: float, budget: float) -> str:
    return f"{format_credits(left)} of the budget of {format_credits(budget)} are left"
