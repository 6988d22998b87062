"""Requests that could leave the API's own paths cannot be made."""

from __future__ import annotations

import pytest

from llamagen_async.errors import InvalidRequestError
from llamagen_async.plans import RequestKind
from llamagen_async.transport import APIRequest, FormFile


@pytest.mark.parametrize(
    "path",
    [
        "comics",
        "",
        "/comics/../keys",
        "/comics/.",
        "/a b",
        "/a?b=1",
        "/a#b",
        "/a\\b",
        "/a\nb",
        "/ä",
        None,
        7,
    ],
)
def test_a_path_that_leaves_the_api_is_refused(path: str) -> None:
    with pytest.raises(InvalidRequestError, match="path"):
        APIRequest(RequestKind.STATUS, "GET", path)


def test_an_encoded_id_stays_in_its_path() -> None:
    request = APIRequest(RequestKind.STATUS, "GET", "/comics/generations/..%2Fkeys")
    assert request.path.endswith("..%2Fkeys")


def test_two_bodies_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match="form"):
        APIRequest(RequestKind.UPLOAD, "POST", "/a", json={}, form=FormFile("a.png", b"x"))


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="method"):
        APIRequest(RequestKind.STATUS, "FETCH", "/a")


def test_reprs_show_neither_bodies_nor_headers() -> None:
    request = APIRequest(RequestKind.CREATE, "POST", "/a", json={"prompt": "secret story"})
    assert "secret" not in repr(request)
    assert "secret" not in repr(FormFile("a.png", b"secret"))
