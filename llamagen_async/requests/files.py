"""Files of this machine in requests: found, and replaced by the URLs of their uploads. No I/O.

Wherever the API takes a URL, a request may have a `Path` instead. Text is a path only in what its
own user has written to be read here, such as a file of stories: see `with_paths`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import Any, Final, Protocol, TypeVar, cast

import attrs

from llamagen_async.requests.animation import AnimationRequest
from llamagen_async.requests.changes import ContinueRequest, UpdateRequest
from llamagen_async.requests.comic import ComicRequest
from llamagen_async.requests.fields import URL_BEGINNINGS
from llamagen_async.requests.parts import Attachment, Character, Location, VideoOptions

__all__ = [
    "URL_FIELDS",
    "UploadStore",
    "files_of",
    "paths_of",
    "with_absolute_paths",
    "with_paths",
    "with_urls",
]

_T = TypeVar("_T")
_R = TypeVar("_R", bound=ComicRequest | ContinueRequest | UpdateRequest | AnimationRequest)

URL_FIELDS: Final[Mapping[type[Any], tuple[str, ...]]] = {
    ComicRequest: ("prompt_url", "images"),
    ContinueRequest: ("images",),
    UpdateRequest: ("images",),
    Character: ("image",),
    Location: ("image",),
    Attachment: ("url",),
    VideoOptions: (
        "image",
        "last_frame_image",
        "reference_images",
        "reference_videos",
        "reference_audios",
    ),
}
"""The fields of each class that take URLs, one or several."""
_PARTS: Final[Mapping[str, type[Any]]] = {
    "comic_roles": Character,
    "comic_locations": Location,
    "attachments": Attachment,
    "video_options": VideoOptions,
}
"""The fields of requests whose parts have such fields."""
_REQUEST_FIELDS: Final = frozenset(("prompt_url", "images", "images_url"))
"""The fields of any request that take URLs."""
_OTHER_URL: Final = r"(?i)[a-z][a-z0-9+.-]+:(?://|$)"
"""The beginning of what is meant as a URL, although the API takes none of its kind."""


class UploadStore(Protocol):
    """A memory of uploads for the next run, such as a journal."""

    async def uploaded(self, digest: str, since: float) -> str | None:
        """Return the URL of a content that was uploaded after a unix time; `None` if there is none.

        Args:
            digest: The hash of the content, in hex.
            since: Unix time in seconds.
        """
        ...

    async def keep_upload(self, digest: str, url: str, at: float) -> None:
        """Remember the URL of a content, uploaded at a unix time."""
        ...


def files_of(request: attrs.AttrsInstance) -> list[tuple[str, Path]]:
    """Return the fields of a request that name files, and the files."""
    found: list[tuple[str, Path]] = []

    def take(field: str, path: Path) -> Path:
        found.append((field, path))
        return path

    _changed(request, take)
    return found


def paths_of(request: attrs.AttrsInstance) -> set[Path]:
    """Return the files that a request names, each once."""
    return {path for _, path in files_of(request)}


def with_urls(request: _R, urls: Mapping[Path, str]) -> _R:
    """Return a request with the URLs of its files in the place of their paths."""
    return _changed(request, lambda _, path: urls[path])


def with_absolute_paths(request: _R, folder: Path | None = None) -> _R:
    """Return a request whose files are found from anywhere.

    Args:
        request: The request.
        folder: Where relative paths begin; the working directory if it is not given.
    """
    return _changed(request, lambda _, path: ((folder or Path()) / path).absolute())


def with_paths(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a request with a `Path` wherever text in place of a URL is none.

    Only for what the user of this machine has written, or this package: text from somebody else
    could name any file here.

    Args:
        given: The fields, in either spelling.
    """
    return {name: _with_paths(_snake(name), value) for name, value in given.items()}


def _with_paths(name: str, value: object) -> object:
    if name in _REQUEST_FIELDS:
        return _paths_in(value)
    if name not in _PARTS:
        return value
    if isinstance(value, list | tuple):
        return [_with_paths(name, one) for one in cast("list[object]", value)]
    if not isinstance(value, Mapping):
        return value
    known = URL_FIELDS[_PARTS[name]]
    return {
        field: _paths_in(one) if _snake(field) in known else one
        for field, one in cast("Mapping[str, object]", value).items()
    }


def _paths_in(value: object) -> object:
    if isinstance(value, list | tuple):
        return [_paths_in(one) for one in cast("list[object]", value)]
    if not isinstance(value, str) or not value.strip() or value.startswith(URL_BEGINNINGS):
        return value
    return value if re.match(_OTHER_URL, value) else Path(value)


def _snake(name: object) -> str:
    return re.sub("[A-Z]", lambda found: f"_{found.group().lower()}", str(name))


def _changed(one: _T, change: Callable[[str, Path], object], place: str = "") -> _T:
    """Return a request, or a part of one, with something else in the place of each path."""
    news: dict[str, object] = {}
    for name in URL_FIELDS.get(type(one), ()):
        if value := getattr(one, name):
            news[name] = _replaced(value, change, f"{place}{name}")
    for name in _PARTS:
        part: object = getattr(one, name, None)
        if not part:
            continue
        if isinstance(part, tuple):
            parts = enumerate(cast("tuple[object, ...]", part))
            news[name] = tuple(_changed(p, change, f"{place}{name}[{n}].") for n, p in parts)
        else:
            news[name] = _changed(part, change, f"{place}{name}.")
    if not news:
        return one
    changed = {name: value for name, value in news.items() if value != getattr(one, name)}
    return attrs.evolve(cast("Any", one), **changed) if changed else one


def _replaced(value: object, change: Callable[[str, Path], object], field: str) -> object:
    if isinstance(value, tuple):
        values = enumerate(cast("tuple[object, ...]", value))
        return tuple(_replaced(one, change, f"{field}[{n}]") for n, one in values)
    return change(field, Path(value)) if isinstance(value, PurePath) else value
