"""Prices in credits, as far as anybody outside the vendor knows them, and estimates by them.

The vendor's page has one price: 150 credits for each output comic. In its example a request of
four panels counts as four of these, so it is most likely the price of a panel. What a continuation,
a redraw, an upscaled comic or an animation costs is not known to anyone but the vendor: no number
is made up for them, and an estimate says what it could not price. Who knows more gives own prices.
"""

from __future__ import annotations

import enum
import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Self, cast

import attrs

from llamagen_async.requests import (
    AnimationRequest,
    AnyRequest,
    ComicRequest,
    ContinueRequest,
    UpdateRequest,
)
from llamagen_async.validation import InvalidRequestError, python_number

if TYPE_CHECKING:
    from llamagen_async.models import AnyGeneration

__all__ = [
    "COMICS",
    "PANEL_PRICE",
    "Charge",
    "ChargeKind",
    "Estimate",
    "PriceList",
    "Prices",
    "checked_credits",
    "format_credits",
    "listed",
]

PANEL_PRICE: Final = 150.0
"""Credits of a panel, most likely (vendor's page)."""
_DEFAULT_PANELS: Final = 4
"""Panels that are drawn if a request gives no number (vendor's page)."""
_MOST: Final = 1e15
"""Credits that are a mistake, or more."""


class ChargeKind(enum.StrEnum):
    """Sort of what is charged; each has a price of its own, under this name in `Prices`."""

    noun: str
    """The word for a request of this kind."""

    PANEL = "panel", "comic"
    CONTINUED_PANEL = "continued_panel", "continuation"
    REDRAW = "redraw", "redraw"
    UPSCALED_PANEL = "upscaled_panel", "upscaled comic"
    ANIMATION = "animation", "animation"
    OTHER = "other", "comic of an unknown number of panels"

    def __new__(cls, value: str, noun: str) -> Self:
        """Make a kind of its name and the word for it."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.noun = noun
        return member


COMICS: Final = (ChargeKind.PANEL, ChargeKind.UPSCALED_PANEL, ChargeKind.OTHER)
"""The kinds of new comics."""


@attrs.frozen
class Charge:
    """The part of a request that decides what it costs."""

    kind: ChargeKind
    """The sort of what is charged."""
    panels: int
    """Panels that are drawn; 0 for an animation."""

    @classmethod
    def of(cls, request: AnyRequest) -> Self:
        """Return what a request is charged for."""
        if isinstance(request, AnimationRequest):
            return cls(ChargeKind.ANIMATION, 0)
        if isinstance(request, UpdateRequest):
            return cls(ChargeKind.REDRAW, 1)
        pages = request.pagination
        panels: int | None = request.fix_panel_num or _DEFAULT_PANELS
        if pages is not None:
            panels = pages.total_pages * pages.panels_per_page
        kind, extra = ChargeKind.PANEL, request.extra
        if isinstance(request, ContinueRequest):
            kind = ChargeKind.CONTINUED_PANEL
        elif extra.get("agentType") == "videoModel":  # a second way to an animation (vendor's page)
            return cls(ChargeKind.ANIMATION, 0)
        elif extra.get("upscale", request.upscale):
            kind = ChargeKind.UPSCALED_PANEL
        if not extra.keys().isdisjoint(("fixPanelNum", "pagination")):
            panels = _panels_in(request.to_payload())
        return cls(ChargeKind.OTHER, 0) if panels is None else cls(kind, panels)


def _price(default: float | None = None) -> Any:
    return attrs.field(default=default, converter=_number, validator=_check_price)


def _number(value: float | None) -> Any:
    return python_number(value)


def _check_price(_instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None:
        checked_credits(f"prices.{attribute.name}", value)


@attrs.frozen(kw_only=True)
class Prices:
    """Prices in credits; `None` is a price that is not known.

    Raises:
        InvalidRequestError: A price is no number of credits.
    """

    panel: float | None = _price(PANEL_PRICE)
    """A panel of a new comic."""
    continued_panel: float | None = _price()
    """A panel that a continuation adds."""
    redraw: float | None = _price()
    """A panel that is drawn again."""
    upscaled_panel: float | None = _price()
    """A panel of a new comic whose request has `upscale`, in all."""
    animation: float | None = _price()
    """An animation."""

    @classmethod
    def parse(cls, value: PriceList | None) -> Self:
        """Return prices as they were given; what a mapping leaves out is as the page has it.

        Raises:
            InvalidRequestError: They are no prices, or one of them is no number of credits.
        """
        if value is None:
            return cls()
        if isinstance(value, cls):
            return value
        names = [field.name for field in attrs.fields(cls)]
        if not isinstance(value, Mapping):
            raise InvalidRequestError("prices", value, "Prices, or a mapping of its fields")
        for name in value:
            if name not in names:
                raise InvalidRequestError("prices", name, f"one of {', '.join(names)}")
        return cls(**cast("Mapping[str, Any]", value))

    def of(self, request: AnyRequest) -> float | None:
        """Return what a request costs, as far as that is known beforehand."""
        return self.of_charge(Charge.of(request))

    def of_charge(self, charge: Charge) -> float | None:
        """Return the price of what is charged; `None` if it is not known."""
        price: float | None = getattr(self, charge.kind, None)
        return None if price is None else price * max(1, charge.panels)

    def charged(self, request: AnyRequest | None, generation: AnyGeneration | None) -> float | None:
        """Return what the server says that a new comic has cost; `None` if it does not say so.

        While a comic is drawn the server may not know it yet. Of a comic that was changed, its
        number is most likely that of the comic's whole life, and says nothing of the change alone.

        Args:
            request: The request for it.
            generation: The comic, as the server last described it.
        """
        from llamagen_async.models import ComicGeneration  # noqa: PLC0415  # no estimate needs it

        if not isinstance(request, ComicRequest) or not isinstance(generation, ComicGeneration):
            return None
        usage = generation.usage
        if usage is None or not generation.is_done:
            return None
        if usage.amount is not None and (usage.unit or "").lower().startswith("credit"):
            return usage.amount if usage.amount >= 0 else None
        comics, charge = usage.total_comics, Charge.of(request)
        if comics is None or comics < 0 or usage.redraw_panels:
            return None
        return self.of_charge(attrs.evolve(charge, panels=comics)) if comics else 0.0

    def estimate(self, charges: Mapping[Charge, int]) -> Estimate:
        """Return the estimate of many requests.

        Args:
            charges: What they are charged for, and how many are charged for it.
        """
        numbers: Counter[ChargeKind] = Counter()
        unpriced: Counter[ChargeKind] = Counter()
        panels, credits_ = 0, 0.0
        for charge, number in charges.items():
            if number <= 0:
                continue
            numbers[charge.kind] += number
            panels += charge.panels * number
            price = self.of_charge(charge)
            if price is None:
                unpriced[charge.kind] += number
            else:
                credits_ += price * number
        return Estimate(numbers, panels, credits_, unpriced)


PriceList = Prices | Mapping[str, float | None]
"""The forms in which prices may be given."""


def _in_order(numbers: Mapping[ChargeKind, int]) -> dict[ChargeKind, int]:
    return {kind: numbers[kind] for kind in ChargeKind if numbers.get(kind)}


@attrs.frozen
class Estimate:
    """An estimate of what requests cost, by the vendor's page and the prices that were given.

    It is no promise: only the server knows what it charges.
    """

    numbers: Mapping[ChargeKind, int] = attrs.field(hash=False, converter=_in_order)
    """The number of requests of each kind."""
    panels: int
    """Panels that are drawn in all."""
    credits: float
    """Credits of all requests whose price is known."""
    unpriced: Mapping[ChargeKind, int] = attrs.field(hash=False, converter=_in_order)
    """The number of requests of each kind whose price is not known: they come on top."""

    @property
    def comics(self) -> int:
        """New comics."""
        return sum(self.numbers.get(kind, 0) for kind in COMICS)

    @property
    def requests(self) -> int:
        """Requests of all kinds."""
        return sum(self.numbers.values())

    def __str__(self) -> str:
        text = f"{listed(self.numbers) or 'nothing'}, {_counted(self.panels, 'panel')}"
        is_priced = self.numbers != self.unpriced
        priced = f"about {format_credits(self.credits)} (estimate)" if is_priced else ""
        more = f"{listed(self.unpriced)} at a price that is not known" if self.unpriced else ""
        return f"{text}: {' and '.join(filter(None, (priced, more))) or 'no credits'}"


def format_credits(number: float) -> str:
    """Return a number of credits in words, such as `1,500 credits`."""
    text = f"{number:,.2f}".removesuffix("0").removesuffix("0").removesuffix(".")
    return f"{text} credit" if text == "1" else f"{text} credits"


def checked_credits(field: str, value: object) -> float:
    """Return `value` if it is a number of credits.

    Raises:
        InvalidRequestError: It is not.
    """
    given = python_number(value)
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if not is_number or not 0 <= cast("float", given) < _MOST:
        raise InvalidRequestError(field, value, "a number of credits, 0 or more")
    return float(cast("float", given))


def _panels_in(payload: Mapping[str, Any]) -> int | None:
    """Return the panels of a body that was not checked; `None` if that is no number."""
    numbers: list[object] = [payload.get("fixPanelNum") or _DEFAULT_PANELS]
    pages = payload.get("pagination")
    if isinstance(pages, Mapping):
        given = cast("Mapping[str, object]", pages)
        numbers = [given.get("totalPages"), given.get("panelsPerPage")]
    elif pages is not None:
        return None
    if all(isinstance(one, int) and not isinstance(one, bool) and one > 0 for one in numbers):
        return math.prod(cast("list[int]", numbers))
    return None


def listed(numbers: Mapping[ChargeKind, int]) -> str:
    """Return in words how many requests there are of each kind."""
    return ", ".join(_counted(number, kind.noun) for kind, number in numbers.items())


def _counted(number: int, noun: str) -> str:
    first, *rest = noun.split(" of ")
    plural = " of ".join([first if number == 1 else f"{first}s", *rest])
    return f"{number} {plural}"
