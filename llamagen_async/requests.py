"""What goes to the API: requests that are checked when they are made. No I/O.

A wrong value raises `InvalidRequestError` with the field's name, what was given and what is
allowed, so that it costs neither a request nor a credit. The allowed values are those that the
vendor's own clients know; `extra` passes on whatever a newer API understands.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Self, TypedDict, cast

import attrs

from llamagen_async.validation import InvalidRequestError

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
_COUNT: Final = f"a whole number from 1 to {_MAX_COUNT}"
_URL: Final = "a URL that starts with https://, http:// or data:"
_ATTACHMENT_TYPES: Final = ("image", "document", "video")


_Mappings = Iterable[Mapping[str, Any]] | Mapping[str, Any] | None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MAX_COUNT


def _count(_instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not _is_count(value):
        raise InvalidRequestError(attribute.name, value, _COUNT)


def _text(_instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, str) or not value.strip():
        raise InvalidRequestError(attribute.name, value, "text that is not empty")


@attrs.frozen
class Pagination:
    """How many pages a comic has, and how many panels each page.

    Raises:
        InvalidRequestError: A number is not from 1 to 20.
    """

    total_pages: int = attrs.field(validator=_count)
    """Pages of the comic, 1 to 20."""
    panels_per_page: int = attrs.field(validator=_count)
    """Panels on each page, 1 to 20."""

    @classmethod
    def parse(cls, value: Pagination | Mapping[str, Any]) -> Self:
        """Return `value`, or make it from a mapping in snake_case or the API's own spelling."""
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise InvalidRequestError("pagination", value, "a Pagination or a mapping")
        fields = _snake_fields(cls, value, where="pagination.")
        missing = [field.name for field in attrs.fields(cls) if field.name not in fields]
        if missing:
            raise InvalidRequestError(f"pagination.{missing[0]}", None, _COUNT)
        return cls(**fields)

    def to_payload(self) -> dict[str, Any]:
        """Return the API's spelling."""
        return {"totalPages": self.total_pages, "panelsPerPage": self.panels_per_page}


def _optional_pagination(value: Pagination | Mapping[str, Any] | None) -> Pagination | None:
    return None if value is None else Pagination.parse(value)


def _images(value: Iterable[str] | None) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else _tuple("images", value, f"a list, each {_URL}")


def _comic_roles(value: _Mappings) -> tuple[Mapping[str, Any], ...]:
    return _mappings("comic_roles", value)


def _comic_locations(value: _Mappings) -> tuple[Mapping[str, Any], ...]:
    return _mappings("comic_locations", value)


def _attachments(value: _Mappings) -> tuple[Mapping[str, Any], ...]:
    return _mappings("attachments", value)


def _mappings(field: str, value: _Mappings) -> tuple[Mapping[str, Any], ...]:
    if isinstance(value, Mapping):
        return (cast("Mapping[str, Any]", value),)
    return _tuple(field, value, "a list of mappings")


def _tuple(field: str, value: object, allowed: str) -> tuple[Any, ...]:
    if value is None:
        return ()
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise InvalidRequestError(field, value, allowed)
    return tuple(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]  # checked next


def _urls(_instance: object, attribute: attrs.Attribute[Any], value: Sequence[object]) -> None:
    for position, url in enumerate(value):
        _check_url(f"{attribute.name}[{position}]", url)


def _check_url(field: str, url: object) -> None:
    if not isinstance(url, str) or not url.startswith(("https://", "http://", "data:")):
        raise InvalidRequestError(field, url, _URL)


def _named(_instance: object, attribute: attrs.Attribute[Any], value: Sequence[object]) -> None:
    for position, item in enumerate(value):
        name = cast("Mapping[str, Any]", item).get("name") if isinstance(item, Mapping) else None
        if not isinstance(name, str) or not name.strip():
            raise InvalidRequestError(
                f"{attribute.name}[{position}].name", name, "text that is not empty"
            )


def _attached(_instance: object, attribute: attrs.Attribute[Any], value: Sequence[object]) -> None:
    for position, item in enumerate(value):
        field = f"{attribute.name}[{position}]"
        if not isinstance(item, Mapping):
            raise InvalidRequestError(field, item, "a mapping with a url")
        attachment = cast("Mapping[str, Any]", item)
        _check_url(f"{field}.url", attachment.get("url"))
        if attachment.get("type") not in (None, *_ATTACHMENT_TYPES):
            raise InvalidRequestError(
                f"{field}.type", attachment["type"], f"one of {', '.join(_ATTACHMENT_TYPES)}"
            )


def _size(_instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value not in SIZES:
        raise InvalidRequestError(attribute.name, value, f"one of {', '.join(SIZES)}")


def _upscale(_instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, bool) and value not in ("2K", "4K"):
        raise InvalidRequestError(attribute.name, value, "True, False, '2K' or '4K'")


_optional = attrs.validators.optional


@attrs.frozen
class ComicRequest:
    """One comic to generate.

    Raises:
        InvalidRequestError: A value is not allowed. Nothing was sent.
    """

    prompt: str | None = attrs.field(default=None, validator=_optional(_text))
    """The story. Required unless `prompt_url` is given."""
    prompt_url: str | None = attrs.field(default=None, kw_only=True)
    """Where the story can be read, instead of `prompt`."""
    model: str | None = attrs.field(default=None, kw_only=True, validator=_optional(_text))
    """The model's name; the server chooses by plan when it is not given."""
    preset: str | None = attrs.field(default=None, kw_only=True, validator=_optional(_text))
    """The preset; the server uses `render` when it is not given."""
    size: str | None = attrs.field(default=None, kw_only=True, validator=_optional(_size))
    """Picture size in pixels, one of `SIZES`."""
    fix_panel_num: int | None = attrs.field(default=None, kw_only=True, validator=_optional(_count))
    """How many panels, 1 to 20. Not together with `pagination`."""
    pagination: Pagination | None = attrs.field(
        default=None, kw_only=True, converter=_optional_pagination
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
    images: tuple[str, ...] = attrs.field(
        default=(),
        kw_only=True,
        converter=_images,
        validator=_urls,
    )
    """URLs of reference images."""
    comic_roles: tuple[Mapping[str, Any], ...] = attrs.field(
        default=(),
        kw_only=True,
        converter=_comic_roles,
        validator=_named,
    )
    """Characters: `name`, and optionally `image`, `age`, `gender`, `dress`, `description`."""
    comic_locations: tuple[Mapping[str, Any], ...] = attrs.field(
        default=(),
        kw_only=True,
        converter=_comic_locations,
        validator=_named,
    )
    """Places: `name`, and optionally `image`, `description`."""
    attachments: tuple[Mapping[str, Any], ...] = attrs.field(
        default=(),
        kw_only=True,
        converter=_attachments,
        validator=_attached,
    )
    """Files: `url`, and optionally `type` (image, document or video)."""
    extra: Mapping[str, Any] = attrs.field(factory=dict[str, Any], kw_only=True)
    """Fields that this version does not know, in the API's own spelling; they win."""

    def __attrs_post_init__(self) -> None:
        if self.prompt is None and self.prompt_url is None:
            raise InvalidRequestError("prompt", None, "text that is not empty, or a prompt_url")
        if self.prompt_url is not None:
            _check_url("prompt_url", self.prompt_url)
        if self.fix_panel_num is not None and self.pagination is not None:
            raise InvalidRequestError(
                "fix_panel_num", self.fix_panel_num, "nothing when pagination is given"
            )
        if not isinstance(self.extra, Mapping):
            raise InvalidRequestError("extra", self.extra, "a mapping of field names to values")
        self._check_json()

    def _check_json(self) -> None:
        """Refuse now what could not be written when its turn has come."""
        for name, value in self.to_payload().items():
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError, RecursionError):
                raise InvalidRequestError(name, value, "what JSON can hold") from None

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
        if isinstance(value, Mapping):
            return cls(**_snake_fields(cls, value))
        raise InvalidRequestError("request", value, "a prompt, a mapping or a ComicRequest")

    def to_payload(self) -> dict[str, Any]:
        """Return the JSON body of the request; what was not given is not sent."""
        payload: dict[str, Any] = {}
        for field in attrs.fields(type(self)):
            value = getattr(self, field.name)
            if field.name == "extra" or value is None or value == ():
                continue
            if isinstance(value, Pagination):
                value = value.to_payload()
            elif isinstance(value, tuple):
                value = list(cast("tuple[object, ...]", value))
            payload[_camel(field.name)] = value
        return {**payload, **self.extra}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _snake_fields(
    cls: type[attrs.AttrsInstance], given: Mapping[str, Any], *, where: str = ""
) -> dict[str, Any]:
    names = {field.name for field in attrs.fields(cls)}
    by_spelling = {**{_camel(name): name for name in names}, **{name: name for name in names}}
    fields: dict[str, Any] = {}
    for spelling, value in given.items():
        name = by_spelling.get(spelling)
        if name is None:
            import difflib  # noqa: PLC0415  # only for who has mistyped a name

            near = difflib.get_close_matches(str(spelling), by_spelling, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InvalidRequestError(
                f"{where}{spelling}" or "(no name)",
                value,
                f"no such field (extra passes new ones on){hint}",
            )
        fields[name] = value
    return fields


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
