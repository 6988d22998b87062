"""Requests for comics, checked when they are made. No I/O.

A wrong value raises `InvalidRequestError` with the field's name, what was given and what is
allowed, so a mistake costs neither a request nor a credit. The allowed values are those that the
vendor's own clients know; `extra` passes on whatever a newer API understands.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, Self, TypedDict, TypeVar, cast

import attrs

from llamagen_async.validation import (
    InvalidRequestError,
    checked_text,
    python_integer,
    text_problem,
    without_mark,
)

__all__ = ["SIZES", "ComicFields", "ComicRequest", "Pagination"]

SIZES: Final = (
    "1024x1024",
    "512x768",
    "512x1024",
    "576x1024",
    "768x1024",
    "1024x768",
    "768x512",
    "1024x576",
    "1024x512",
)
"""The picture sizes that the vendor's clients offer, in pixels, width first."""

_MAX_COUNT: Final = 20
"""The most pages, and the most panels, that the vendor's clients offer."""
_COUNT: Final = f"a whole number from 1 to {_MAX_COUNT}"
_TEXT: Final = "text that is not empty"
_URL: Final = "a URL that starts with https://, http:// or data:"
_ATTACHMENT_TYPES: Final = ("image", "document", "video")

_T = TypeVar("_T")


def _whole(value: Any) -> Any:
    return None if value is None else python_integer(value)


def _count(_instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MAX_COUNT:
        raise InvalidRequestError(attribute.name, value, _COUNT)


def _text(_instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    checked_text(attribute.name, value)


@attrs.frozen
class Pagination:
    """Number of pages of a comic, and of panels on each page.

    Raises:
        InvalidRequestError: A number is not from 1 to 20.
    """

    total_pages: int = attrs.field(converter=_whole, validator=_count)
    """Number of pages, 1 to 20."""
    panels_per_page: int = attrs.field(converter=_whole, validator=_count)
    """Number of panels on each page, 1 to 20."""

    @classmethod
    def parse(cls, value: Pagination | Mapping[str, Any]) -> Self:
        """Return `value`, or make it from a mapping in snake_case or the API's own spelling."""
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise InvalidRequestError("pagination", value, "a Pagination or a mapping")
        fields = _python_names(value, _PAGINATION_NAMES, where="pagination.")
        missing = [name for name in _PAGINATION_NAMES.values() if name not in fields]
        if missing:
            raise InvalidRequestError(f"pagination.{missing[0]}", None, _COUNT)
        return cls(**fields)

    def to_payload(self) -> dict[str, Any]:
        """Return the API's spelling."""
        return {"totalPages": self.total_pages, "panelsPerPage": self.panels_per_page}


def _pagination(value: Pagination | Mapping[str, Any]) -> Pagination:
    return Pagination.parse(value)


def _urls(value: Iterable[str] | None) -> tuple[str, ...]:
    if isinstance(value, tuple):
        return value
    return (value,) if isinstance(value, str) else _items(value)


def _mappings(
    value: Iterable[Mapping[str, Any]] | Mapping[str, Any] | None,
) -> tuple[Mapping[str, Any], ...]:
    if isinstance(value, tuple):
        return value
    return (cast("Mapping[str, Any]", value),) if isinstance(value, Mapping) else _items(value)


def _items(value: Iterable[_T] | None) -> tuple[_T, ...]:
    if value is None:
        return ()
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        return cast("tuple[_T, ...]", value)  # as it is: the check that follows names the field
    return tuple(value)


def _size(_instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, str) or value not in SIZES:
        raise InvalidRequestError(attribute.name, value, f"one of {', '.join(SIZES)}")


def _upscale(_instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, bool) and not (isinstance(value, str) and value in ("2K", "4K")):
        raise InvalidRequestError(attribute.name, value, "True, False, '2K' or '4K'")


_optional = attrs.validators.optional


@attrs.frozen
class ComicRequest:
    """One comic to generate.

    Raises:
        InvalidRequestError: A value is not allowed. Nothing was sent.
    """

    prompt: str | None = attrs.field(default=None, converter=without_mark)
    """The story. Required unless `prompt_url` is given."""
    prompt_url: str | None = attrs.field(default=None, kw_only=True)
    """URL at which the story can be read, instead of `prompt`."""
    model: str | None = attrs.field(default=None, kw_only=True, validator=_optional(_text))
    """The model's name; the server chooses by plan when it is not given."""
    preset: str | None = attrs.field(default=None, kw_only=True, validator=_optional(_text))
    """The preset; the server uses `render` when it is not given."""
    size: str | None = attrs.field(default=None, kw_only=True, validator=_optional(_size))
    """Picture size in pixels, one of `SIZES`."""
    fix_panel_num: int | None = attrs.field(
        default=None, kw_only=True, converter=_whole, validator=_optional(_count)
    )
    """Number of panels, 1 to 20. Not together with `pagination`."""
    pagination: Pagination | None = attrs.field(
        default=None, kw_only=True, converter=attrs.converters.optional(_pagination)
    )
    """Pages and panels per page. Not together with `fix_panel_num`."""
    style: str | None = attrs.field(default=None, kw_only=True, validator=_optional(_text))
    """The drawing style, in words."""
    language: str | None = attrs.field(default=None, kw_only=True, validator=_optional(_text))
    """The language of the captions."""
    upscale: bool | str | None = attrs.field(
        default=None, kw_only=True, validator=_optional(_upscale)
    )
    """`True`, `"2K"` or `"4K"` for larger pictures."""
    images: tuple[str, ...] = attrs.field(default=(), kw_only=True, converter=_urls)
    """URLs of reference images."""
    comic_roles: tuple[Mapping[str, Any], ...] = attrs.field(
        default=(), kw_only=True, converter=_mappings, hash=False
    )
    """Characters: `name`, and optionally `image`, `age`, `gender`, `dress`, `description`."""
    comic_locations: tuple[Mapping[str, Any], ...] = attrs.field(
        default=(), kw_only=True, converter=_mappings, hash=False
    )
    """Places: `name`, and optionally `image`, `description`."""
    attachments: tuple[Mapping[str, Any], ...] = attrs.field(
        default=(), kw_only=True, converter=_mappings, hash=False
    )
    """Files: `url`, and optionally `type` (image, document or video)."""
    extra: Mapping[str, Any] = attrs.field(factory=dict[str, Any], kw_only=True, hash=False)
    """Fields that this version does not know, in the API's own spelling; they override others."""

    def __attrs_post_init__(self) -> None:
        if self.prompt is None:
            if self.prompt_url is None:
                raise InvalidRequestError("prompt", None, f"{_TEXT}, or a prompt_url")
        else:
            checked_text("prompt", self.prompt)
        if self.prompt_url is not None:
            _check_url("prompt_url", self.prompt_url)
        if self.fix_panel_num is not None and self.pagination is not None:
            raise InvalidRequestError(
                "fix_panel_num", self.fix_panel_num, "nothing when pagination is given"
            )
        collections = self.images, self.comic_roles, self.comic_locations, self.attachments
        if (*collections, self.extra) != ((), (), (), (), {}):
            self._check_collections()

    def _check_collections(self) -> None:
        _check_images(self.images)
        _check_named("comic_roles", self.comic_roles)
        _check_named("comic_locations", self.comic_locations)
        _check_attachments(self.attachments)
        if not isinstance(self.extra, Mapping):
            raise InvalidRequestError("extra", self.extra, "a mapping of field names to values")
        # The other fields hold only what JSON can hold.
        for name, value in self.to_payload().items():
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError, RecursionError):
                raise InvalidRequestError(name, value, "what JSON can hold") from None
            _check_all_text(name, value)

    @classmethod
    def parse(cls, value: ComicRequest | str | Mapping[str, Any]) -> Self:
        """Make a request from a prompt or from a mapping of fields.

        Field names may be in snake_case or in the API's own spelling (`fixPanelNum`).

        Raises:
            InvalidRequestError: A field is unknown or its value is not allowed.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            return cls(value)
        if not isinstance(value, Mapping):
            raise InvalidRequestError("request", value, "a prompt, a mapping or a ComicRequest")
        if not value.keys() <= _API_NAMES.keys():
            value = _python_names(value, _PYTHON_NAMES)
        return cls(**value)

    def to_payload(self) -> dict[str, Any]:
        """Return the JSON body of the request; what was not given is not sent."""
        payload: dict[str, Any] = {}
        for name, spelling in _API_NAMES.items():
            value = getattr(self, name)
            if name == "extra" or value is None or value == ():
                continue
            if isinstance(value, Pagination):
                value = value.to_payload()
            elif isinstance(value, tuple):
                value = list(cast("tuple[object, ...]", value))
            payload[spelling] = value
        return {**payload, **self.extra}


def _check_images(urls: object) -> None:
    for position, url in enumerate(_checked_tuple("images", urls, f"a list, each {_URL}")):
        _check_url(f"images[{position}]", url)


def _check_url(field: str, url: object) -> None:
    if not isinstance(url, str) or not url.startswith(("https://", "http://", "data:")):
        raise InvalidRequestError(field, url, _URL)
    checked_text(field, url)


def _check_named(field: str, items: object) -> None:
    for position, item in enumerate(_checked_tuple(field, items, "a list of mappings")):
        name = cast("Mapping[str, Any]", item).get("name") if isinstance(item, Mapping) else None
        checked_text(f"{field}[{position}].name", name)


def _check_attachments(items: object) -> None:
    for position, item in enumerate(_checked_tuple("attachments", items, "a list of mappings")):
        field = f"attachments[{position}]"
        if not isinstance(item, Mapping):
            raise InvalidRequestError(field, item, "a mapping with a url")
        attachment = cast("Mapping[str, Any]", item)
        _check_url(f"{field}.url", attachment.get("url"))
        if attachment.get("type") not in (None, *_ATTACHMENT_TYPES):
            raise InvalidRequestError(
                f"{field}.type", attachment["type"], f"one of {', '.join(_ATTACHMENT_TYPES)}"
            )


def _check_all_text(field: str, value: object) -> None:
    """Check all text in what JSON can hold, the names of fields included. It may be empty."""
    # Without recursion: what is nested deeper than that has passed JSON all the same.
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


def _checked_tuple(field: str, value: object, allowed: str) -> tuple[object, ...]:
    if not isinstance(value, tuple):
        raise InvalidRequestError(field, value, allowed)
    return cast("tuple[object, ...]", value)


def _python_names(
    given: Mapping[str, Any], names: Mapping[str, str], *, where: str = ""
) -> dict[str, Any]:
    """Return what was given by the fields' names in Python; `names` knows both spellings."""
    fields: dict[str, Any] = {}
    for spelling, value in given.items():
        name = names.get(spelling)
        if name is None:
            import difflib  # noqa: PLC0415  # needed only for a mistyped name

            near = difflib.get_close_matches(str(spelling), names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InvalidRequestError(
                f"{where}{spelling}" or "(no name)",
                value,
                f"no such field (extra passes new ones on){hint}",
            )
        fields[name] = value
    return fields


def _spellings(cls: type[attrs.AttrsInstance]) -> dict[str, str]:
    """Return the API's spelling of each field of `cls`, by its name in Python."""
    spellings: dict[str, str] = {}
    for field in attrs.fields(cls):
        first, *rest = field.name.split("_")
        spellings[field.name] = first + "".join(map(str.capitalize, rest))
    return spellings


def _both_spellings(spellings: Mapping[str, str]) -> dict[str, str]:
    """Return each field's name in Python, by either spelling."""
    return {api: name for name, api in spellings.items()} | {name: name for name in spellings}


_API_NAMES: Final = _spellings(ComicRequest)
"""The API's spelling of each field of a request, by its name in Python."""
_PYTHON_NAMES: Final = _both_spellings(_API_NAMES)
"""The name in Python of each field of a request, by either spelling."""
_PAGINATION_NAMES: Final = _both_spellings(_spellings(Pagination))
"""The name in Python of each field of a pagination, by either spelling."""


class ComicFields(TypedDict, total=False):
    """The keyword arguments of `create` and `create_and_wait`: the fields of `ComicRequest`."""

    prompt_url: str | None
    model: str | None
    preset: str | None
    size: str | None
    fix_panel_num: int | None
    pagination: Pagination | Mapping[str, Any] | None
    style: str | None
    language: str | None
    upscale: bool | str | None
    images: Iterable[str]
    comic_roles: Iterable[Mapping[str, Any]]
    comic_locations: Iterable[Mapping[str, Any]]
    attachments: Iterable[Mapping[str, Any]]
    extra: Mapping[str, Any]
