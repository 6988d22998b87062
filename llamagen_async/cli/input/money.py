"""The options of a run that are about money, and how they are typed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs
import click

from llamagen_async.prices import Estimate, Prices

__all__ = ["Money", "parse_prices"]

_MANY: Final = 10
"""Comics from which on the server is asked what is left without being told to: as many as the paid
plan sends in the first minute. Fewer are hardly delayed by an account that turns out to be empty,
and the question would be a large part of their requests."""


@attrs.frozen
class Money:
    """The options of a run that are about money."""

    prices: Prices = attrs.field(factory=Prices)
    """Prices, as far as they are known."""
    budget: float | None = None
    """The most credits that may be spent; `None` is any number."""
    asks: bool | None = None
    """Whether the server is asked what is left; `None` is where that is worth a request."""

    def asks_for(self, estimate: Estimate) -> bool:
        """Return whether the server is to be asked before these requests are sent."""
        if self.asks is not None:
            return self.asks
        return estimate.requests >= _MANY


def parse_prices(given: Sequence[str]) -> Prices:
    """Return the prices that --price gives.

    Raises:
        click.UsageError: One is not written in this way.
    """
    prices: dict[str, float | None] = {}
    for one in given:
        name, _, number = one.partition("=")
        try:
            prices[name.strip().replace("-", "_")] = float(number)
        except ValueError:
            raise click.UsageError(
                f"--price: got {one!r}, allowed is NAME=CREDITS, such as redraw=100"
            ) from None
    return Prices.parse(prices)
