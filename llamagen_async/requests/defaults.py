"""Fields that are given once and hold for many comics, such as their characters. No I/O.

A comic's own fields win, one by one:

- What a comic gives itself is its own. `None` and what is empty is not given.
- Characters and places are merged by their names, whatever the case of the letters: those of the
  defaults come first, and where a comic has one of the same name, that one's own fields win.
- `extra` is merged name by name.
- Who counts panels by `fix_panel_num` or `pagination` gets neither of them from the defaults.
- All else is taken as a whole, also lists of URLs.

The story itself, `prompt` or `prompt_url`, is never a default.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

import attrs

from llamagen_async.requests.comic import ComicRequest
from llamagen_async.requests.files import with_absolute_paths
from llamagen_async.requests.parts import Character, Location
from llamagen_async.requests.spelling import EXTRA
from llamagen_async.validation import InvalidRequestError

__all__ = ["Defaults"]

_NAMED: Final[Mapping[str, type[Character | Location]]] = {
    "comic_roles": Character,
    "comic_locations": Location,
}
"""The fields whose parts are merged by their names, and the class of a part."""
_STORY: Final = ("prompt", "prompt_url")
_LAYOUT: Final = frozenset(("fix_panel_num", "pagination"))
"""The fields of which a comic has one at most."""


@attrs.frozen
class Defaults:
    """The fields that many comics have in common."""

    fields: Mapping[str, Any] = attrs.field(hash=False)
    """The fields, by their names in Python."""

    @classmethod
    def parse(cls, value: Defaults | ComicRequest | Mapping[str, Any]) -> Self:
        """Make defaults from a mapping of fields, in either spelling, or from a request.

        Args:
            value: The fields. A request can't be without a story; it is left out.

        Raises:
            InvalidRequestError: A field is unknown, has a value that is not allowed, or is a story.
        """
        if isinstance(value, cls):
            return value
        if not isinstance(value, ComicRequest | Mapping):
            raise InvalidRequestError(
                "defaults", value, "a mapping of a comic's fields without a prompt, or a request"
            )
        fields = {} if isinstance(value, ComicRequest) else ComicRequest.spelling.read(value)
        for name in _STORY:
            if (story := fields.pop(name, None)) is not None:
                raise InvalidRequestError(name, story, "nothing: each story has its own")
        given = ComicRequest.spelling.given(
            value if isinstance(value, ComicRequest) else ComicRequest(".", **fields)
        )
        return cls({name: one for name, one in given.items() if name not in _STORY})

    def with_absolute_paths(self, folder: Path | None = None) -> Self:
        """Return the defaults with files that are found from anywhere.

        Args:
            folder: Where relative paths begin; the working directory if it is not given.
        """
        comic = with_absolute_paths(ComicRequest(".", **self.fields), folder)
        return type(self)({name: getattr(comic, name) for name in self.fields})

    def merged(self, comic: ComicRequest | str | Mapping[str, Any]) -> ComicRequest:
        """Return a comic with the defaults for what it does not say itself.

        Raises:
            InvalidRequestError: A field of the comic is not allowed, or is not together with the
                defaults.
        """
        ComicRequest.parse(comic)  # whose errors are not the defaults'
        own = ComicRequest.spelling.given(comic)
        is_counted = bool(_LAYOUT & own.keys())
        fields = {
            name: one for name, one in self.fields.items() if not (is_counted and name in _LAYOUT)
        } | own
        for name, part in _NAMED.items():
            if name in own and name in self.fields:
                fields[name] = _merged_parts(self.fields[name], own[name], part)
        if EXTRA in own and EXTRA in self.fields:
            fields[EXTRA] = {**self.fields[EXTRA], **own[EXTRA]}
        try:
            return ComicRequest(**fields)
        except InvalidRequestError as error:
            allowed = f"{error.allowed} (together with the defaults)"
            raise InvalidRequestError(error.field, error.value, allowed) from None


def _merged_parts(
    defaults: tuple[Character | Location, ...],
    own: Any,
    part: type[Character | Location],
) -> list[Character | Location]:
    """Return the parts of the defaults and a comic's own, which is one or a list of them."""
    items: list[Any] = [own] if isinstance(own, Mapping | part) else list(own)
    given = [part.spelling.given(one) for one in items]
    merged: list[Character | Location] = []
    for one in defaults:
        known, key = part.spelling.given(one), _key(one.name)
        same = [fields for fields in given if _key(fields["name"]) == key]
        given = [fields for fields in given if _key(fields["name"]) != key]
        for fields in same:
            extra: dict[str, Any] = {**known.get(EXTRA, {}), **fields.get(EXTRA, {})}
            both: dict[str, Any] = {**known, **fields, EXTRA: extra}
            merged.append(part(**both))
        merged += [] if same else [one]
    return [*merged, *(part(**fields) for fields in given)]


def _key(name: str) -> str:
    """Return what two names of the same character have in common."""
    return " ".join(name.split()).casefold()
