"""Files in requests: a `Path` wherever the API takes a URL, and text only where it is trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

from llamagen_async import (
    AnimationRequest,
    ComicRequest,
    ContinueRequest,
    InvalidRequestError,
    UpdateRequest,
    VideoOptions,
)
from llamagen_async.requests.files import (
    URL_FIELDS,
    files_of,
    with_absolute_paths,
    with_paths,
    with_urls,
)

EVERYWHERE = [
    (
        ComicRequest(
            prompt_url=Path("story.docx"),
            images=[Path("1.png"), "https://i/2.png"],
            comic_roles=[{"name": "Tom", "image": Path("tom.png")}, {"name": "Ann"}],
            comic_locations=[{"name": "City", "image": Path("city.png")}],
            attachments=[{"url": Path("script.pdf")}],
        ),
        [
            ("prompt_url", "story.docx"),
            ("images[0]", "1.png"),
            ("comic_roles[0].image", "tom.png"),
            ("comic_locations[0].image", "city.png"),
            ("attachments[0].url", "script.pdf"),
        ],
    ),
    (
        ContinueRequest("x", images=Path("1.png"), attachments=[{"url": Path("2.pdf")}]),
        [("images[0]", "1.png"), ("attachments[0].url", "2.pdf")],
    ),
    (UpdateRequest(panel=0, images=[Path("1.png")]), [("images[0]", "1.png")]),
    (
        AnimationRequest(
            "x",
            video_options=VideoOptions(
                image=Path("1.png"),
                last_frame_image=Path("2.png"),
                reference_images=[Path("3.png")],
                reference_videos=[Path("4.mp4")],
                reference_audios=[Path("5.mp3")],
            ),
        ),
        [
            ("video_options.image", "1.png"),
            ("video_options.last_frame_image", "2.png"),
            ("video_options.reference_images[0]", "3.png"),
            ("video_options.reference_videos[0]", "4.mp4"),
            ("video_options.reference_audios[0]", "5.mp3"),
        ],
    ),
]


@pytest.mark.parametrize(("request_", "expected"), EVERYWHERE, ids=lambda one: type(one).__name__)
def test_files_are_found_and_replaced(request_: Any, expected: list[tuple[str, str]]) -> None:
    """In every field that takes a URL; what is a URL stays as it is."""
    assert files_of(request_) == [(field, Path(name)) for field, name in expected]
    urls = {path: f"https://up/{path}" for _, path in files_of(request_)}
    replaced = with_urls(request_, urls)
    assert files_of(replaced) == []
    assert str(replaced.to_payload()).count("https://up/") == len(expected)
    absolute = with_absolute_paths(request_, Path("/home"))
    assert [path for _, path in files_of(absolute)] == [Path("/home", name) for _, name in expected]


@pytest.mark.parametrize("cls", URL_FIELDS, ids=lambda cls: cls.__name__)
def test_no_field_that_takes_urls_is_left_out(cls: Any) -> None:
    """Each field whose check allows a URL is in the table, and no other one."""
    needed = {"prompt": "x", "panel": 0, "name": "x", "url": "https://u", "caption": "x"}
    names = {field.name for field in attrs.fields(cls)}
    takes: set[str] = set()
    for name in names:
        given = {one: value for one, value in needed.items() if one in names} | {name: ["ftp://x"]}
        for value in (["ftp://x"], "ftp://x"):
            try:
                cls(**given | {name: value})
            except InvalidRequestError as error:
                if error.field.startswith(name) and "https://" in error.allowed:
                    takes.add(name)
            except (TypeError, AttributeError):
                pass
    assert takes == set(URL_FIELDS[cls])


def test_text_is_no_path_unless_it_is_trusted() -> None:
    """Otherwise whoever may send a story could have any file of the server."""
    given = {"prompt": "x", "comicRoles": [{"name": "Tom", "image": "/etc/passwd"}]}
    with pytest.raises(InvalidRequestError, match=r"comic_roles\[0\]\.image: got '/etc/passwd'"):
        ComicRequest.parse(given)
    request = ComicRequest.parse(with_paths(given))
    assert files_of(request) == [("comic_roles[0].image", Path("/etc/passwd"))]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"images": ["1.png", "https://i", "data:image/png,x"]}, 1),
        ({"images": "1.png"}, 1),
        ({"images_url": "1.png"}, 1),
        ({"promptUrl": "story.docx"}, 1),
        ({"prompt_url": "http://s"}, 0),
        ({"comic_roles": {"name": "Tom", "image": "tom.png"}}, 1),
        ({"comicLocations": [{"name": "City", "image": "city.png"}, "no mapping"]}, 1),
        ({"attachments": [{"url": "a.pdf", "title": "b.pdf"}]}, 1),
        ({"videoOptions": {"image": "1.png", "lastFrameImage": "2.png", "seed": 1}}, 2),
        ({"video_options": {"reference_images": ["1.png", "2.png"]}}, 2),
        ({"prompt": "tom.png", "style": "x.png", "extra": {"images": ["x.png"]}}, 0),
        ({"images": ["ftp://x", "s3://bucket/x.png", "htps://x", "", " "]}, 0),
        ({"images": [5, None, {}]}, 0),
        ({5: "x", "comicRoles": 7}, 0),
    ],
)
def test_text_in_the_place_of_a_url_is_a_path_in_trusted_input(given: Any, expected: int) -> None:
    """Other kinds of URLs, and wrong values, are left to their field's check."""
    assert str(with_paths(given)).count("Path(") == expected


def test_a_path_that_no_system_has_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match=r"^images\[0\]"):
        ComicRequest("x", images=[Path("a\0b")])
