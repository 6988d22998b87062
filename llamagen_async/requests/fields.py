"""Checks of single fields, which all requests share."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any, Final, Protocol, SupportsIndex, TypeVar, cast

import attrs

from llamagen_async.foreign import MOST_DEPTH, is_nested_deeper
from llamagen_async.observing import logger_of
from llamagen_async.requests.words import LANGUAGES, SITE_SIZES, SIZES
from llamagen_async.validation import (
    InvalidRequestError,
    checked_path,
    checked_text,
    python_integer,
    python_number,
    shown,
    text_problem,
    whole_number,
)

__all__ = [
    "COUNT",
    "TEXT",
    "URL",
    "URL_BEGINNINGS",
    "check_extra",
    "check_layout",
    "count",
    "extra",
    "flag",
    "index",
    "language",
    "number",
    "optional",
    "parsed",
    "parsed_items",
    "seed",
    "size",
    "text",
    "text_or_number",
    "text_that_may_be_new",
    "upscale",
    "url",
    "urls",
    "urls_of",
    "warn_once",
    "whole",
    "whole_if_any",
]

_SIZE: Final = r"[1-9][0-9]{1,4}x[1-9][0-9]{1,4}"
"""The form of a size: no picture has a side of fewer than ten pixels."""
_MAX_COUNT: Final = 20
"""The most pages, and the most panels, that the vendor's clients offer."""
COUNT: Final = f"a whole number from 1 to {_MAX_COUNT}"
TEXT: Final = "text that is not empty"
URL: Final = "a URL that starts with https://, http:// or data:"
URL_BEGINNINGS: Final = ("https://", "http://", "data:")
"""The beginnings of what is a URL to the API."""
_NO_URL: Final = r"^https?://(?:[/?#]|$|[^\r\n]*(?:[\r\n\t]|[ ]$|[ ,;|](?:https?://|data:)))"
"""The form of what begins as a URL and is none, or several: a cell of a table with two of them,
whatever stands between, or a line of a file with its end. Blanks within one are let pass, as
browsers do."""
_MOST_WARNINGS: Final = 1_000
"""Values that were warned of and are remembered; of one that comes again later is warned again."""

_MOST_BITS: Final = 1_000
"""Bits of the largest whole number that is sent; Python does not write one of 15,000."""

_logger = logger_of(__name__)

_Validator = Callable[[Any, "attrs.Attribute[Any]", object], None]
_P = TypeVar("_P", bound="_Part")


class _Part(Protocol):
    """A part of a request, which may be given as a mapping."""

    @classmethod
    def parse(cls, value: Any) -> Any:
        """Return `value`, or make it from a mapping."""
        ...


def optional(validator: _Validator) -> _Validator:
    """Return a check that lets `None` pass."""
    return cast("_Validator", attrs.validators.optional(validator))


def extra() -> Any:
    """Return the attribute of fields that a class does not know, which are passed on."""
    return attrs.field(
        factory=dict[str, Any], kw_only=True, hash=False, converter=_own_copy, validator=check_extra
    )


def whole(value: SupportsIndex) -> Any:
    """Return a whole number of another kind, such as numpy's, as Python's own."""
    return python_integer(value)


def whole_if_any(value: SupportsIndex | None) -> Any:
    """Return a whole number as `whole` does; `None` says that there is none."""
    return None if value is None else python_integer(value)


def number(value: float | str | SupportsIndex | None) -> Any:
    """Return a number of any kind, such as numpy's, as Python's own; one in words as it is."""
    return python_number(value)


def count(_instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Check a number of pages or panels."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MAX_COUNT:
        raise InvalidRequestError(attribute.name, value, COUNT)


def index(_instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Check the number of a page or a panel, which are counted from 0."""
    whole_number(attribute.name, value, at_least=0)


def seed(_instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Check a whole number, of any size that can be written."""
    if not isinstance(value, int) or isinstance(value, bool) or value.bit_length() > _MOST_BITS:
        raise InvalidRequestError(attribute.name, value, "a whole number that JSON can hold")


def flag(_instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Check a yes or no."""
    if not isinstance(value, bool):
        raise InvalidRequestError(attribute.name, value, "True or False")


def text(_instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Check text."""
    checked_text(attribute.name, value)


def text_or_number(_instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Check text or a number."""
    if isinstance(value, str):
        checked_text(attribute.name, value)
    elif isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
        raise InvalidRequestError(attribute.name, value, "a number, or text that is not empty")


def text_that_may_be_new(known: Collection[str]) -> _Validator:
    """Return a check of text that the API may know although it is not in `known`."""

    def check(_instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if checked_text(attribute.name, value) not in known:
            warn_once(attribute.name, str(value))

    return check


def language(_instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Check the code of a language, with or without a region or a script."""
    given = checked_text(attribute.name, value)
    if re.split("[-_]", given)[0].lower() not in LANGUAGES:
        warn_once(attribute.name, given)


def size(_instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Check a picture's size: only what is none is refused."""
    if not isinstance(value, str) or not re.fullmatch(_SIZE, value):
        allowed = f"WIDTHxHEIGHT in pixels, such as {', '.join(SIZES)}"
        raise InvalidRequestError(attribute.name, value, allowed)
    if value not in SIZES and value not in SITE_SIZES:
        warn_once(attribute.name, value)


def upscale(_instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Check how pictures are enlarged."""
    if not isinstance(value, bool) and not (isinstance(value, str) and value in ("2K", "4K")):
        raise InvalidRequestError(attribute.name, value, "True, False, '2K' or '4K'")


def url(_instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Check a URL, or the `Path` of a file whose URL takes its place before it is sent.

    Text is never a path: it may come from somebody who must not have this machine's files.
    """
    _check_url(attribute.name, value)


def urls(_instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Check a tuple of URLs."""
    if not isinstance(value, tuple):
        raise InvalidRequestError(attribute.name, value, f"a list, each {URL}, or a Path of a file")
    for position, one in enumerate(cast("tuple[object, ...]", value)):
        _check_url(f"{attribute.name}[{position}]", one)


def urls_of(value: Iterable[str | Path] | str | Path | None) -> tuple[str | Path, ...]:
    """Return URLs as a tuple; a single one is a list of one."""
    if value is None:
        return ()
    if isinstance(value, str | PurePath):
        return (value,)
    if isinstance(value, bytes | Mapping) or not _is_list(value):
        return cast("tuple[str, ...]", value)  # as it is: the check that follows names the field
    return tuple(value)


def parsed(field: str, value: object, part: type[_P]) -> _P:
    """Return a part of a request; what is wrong with it is named as in `field.name`."""
    try:
        result: _P = part.parse(value)
    except InvalidRequestError as error:
        raise InvalidRequestError(_inner(field, error.field), error.value, error.allowed) from None
    return result


def parsed_items(field: str, value: object, part: type[_P]) -> tuple[_P, ...]:
    """Return a list of parts as a tuple; a single one is a list of one."""
    if value is None:
        return ()
    if isinstance(value, (Mapping, part)):
        value = (cast("object", value),)
    if isinstance(value, str | bytes) or not _is_list(value):
        raise InvalidRequestError(field, value, f"a list, each a {part.__name__} or a mapping")
    items = cast("Iterable[object]", value)
    return tuple(parsed(f"{field}[{position}]", one, part) for position, one in enumerate(items))


def check_layout(fix_panel_num: int | None, pagination: object) -> None:
    """Check that panels are counted in one way only.

    Raises:
        InvalidRequestError: They are counted in two.
    """
    if fix_panel_num is not None and pagination is not None:
        raise InvalidRequestError(
            "fix_panel_num", fix_panel_num, "nothing when pagination is given"
        )


def check_extra(_instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Check the fields that are passed on: only what JSON can hold can be sent."""
    if not isinstance(value, Mapping):
        raise InvalidRequestError(attribute.name, value, "a mapping of field names to values")
    for name, item in cast("Mapping[object, object]", value).items():
        field = name if isinstance(name, str) else repr(name)
        try:
            json.dumps({name: item}, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            raise InvalidRequestError(field, item, "what JSON can hold") from None
        # How deep JSON may be nested until it raises depends on the version of Python.
        if is_nested_deeper(item, MOST_DEPTH):
            raise InvalidRequestError(
                field, item, f"lists and objects nested in at most {MOST_DEPTH} levels"
            )
        _check_all_text("a name in extra", name)
        _check_all_text(field, item)


def _own_copy(value: object) -> Any:
    """Return fields that are passed on as JSON has them, or as they are if it can't hold them.

    They are a copy: who makes many requests may use one mapping for all of them, and change it.
    """
    if not isinstance(value, Mapping):
        return value
    try:
        return json.loads(json.dumps({**value}, allow_nan=False)) if value else {}
    except (TypeError, ValueError, RecursionError):
        return cast("object", value)  # the check that follows names the field


def _is_list(value: object) -> bool:
    """Whether a value has items. An array of no dimension says so, and has none."""
    try:
        iter(cast("Iterable[object]", value))
    except TypeError:
        return False
    return True


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that is larger than any other
        return False


def _check_url(field: str, value: object) -> None:
    if isinstance(value, PurePath):
        checked_path(field, value)
        return
    if not isinstance(value, str) or not value.startswith(URL_BEGINNINGS):
        raise InvalidRequestError(field, value, f"{URL}, or a Path of a file")
    checked_text(field, value)
    if re.search(_NO_URL, value):
        raise InvalidRequestError(field, value, "one URL with a host, and nothing around it")


def _check_all_text(field: str, value: object) -> None:
    """Check all text in what JSON can hold, the names of fields included. It may be empty."""
    remaining: list[tuple[str, object]] = [(field, value)]
    while remaining:
        where, one = remaining.pop()
        if isinstance(one, str) and (problem := text_problem(one)):
            raise InvalidRequestError(where, one, f"text without {problem}")
        if isinstance(one, Mapping):
            for name, item in cast("Mapping[object, object]", one).items():
                remaining += [(f"a name in {where}", name), (f"{where}.{name}", item)]
        elif isinstance(one, list | tuple):
            items = cast("Iterable[object]", one)
            remaining += [(f"{where}[{position}]", item) for position, item in enumerate(items)]


def _inner(outer: str, field: str) -> str:
    """Return the name of a field within another one; a part that is none has no field itself."""
    return f"{outer}.{field}" if field else outer


@functools.lru_cache(maxsize=_MOST_WARNINGS)
def warn_once(field: str, value: str) -> None:
    """Say once of a value that it is not known; it is sent all the same."""
    _logger.warning(
        "%s: %s is none that this version knows, and is sent all the same: the API may know it",
        field,
        shown(value),
    )
