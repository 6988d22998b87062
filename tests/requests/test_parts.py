"""Parts of requests: read in either spelling, sent in the API's, and wrong ones are named."""

from __future__ import annotations

from typing import Any, cast

import pytest

from llamagen_async import (
    AnimationRequest,
    Attachment,
    Character,
    ComicRequest,
    InvalidRequestError,
    Location,
    Pagination,
    VideoOptions,
)

VIDEO: dict[str, Any] = {
    "duration": 5,
    "resolution": "720p",
    "aspect_ratio": "16:9",
    "image": "https://i/1.png",
    "last_frame_image": "https://i/2.png",
    "reference_images": ["https://i/3.png"],
    "reference_videos": ["https://v/1.mp4"],
    "reference_audios": ["https://a/1.mp3"],
    "generate_audio": False,
    "seed": 0,
}
ROLE: dict[str, Any] = {
    "name": "Tom",
    "image": "https://i/tom.png",
    "age": 0,
    "gender": "male",
    "dress": "a hat",
    "clothing": "a coat",
    "description": "a cat",
}


@pytest.mark.parametrize(
    ("part", "fields"),
    [
        (Character, ROLE),
        (Character, {"name": "Tom", "age": "three"}),
        (Location, {"name": "City", "image": "https://i/c.png", "description": "at night"}),
        (Attachment, {"url": "https://a/1.pdf", "type": "document", "title": "The script"}),
        (VideoOptions, VIDEO),
        (VideoOptions, {"duration": 2.5}),
    ],
)
def test_every_field_is_a_keyword_and_is_sent(part: Any, fields: dict[str, Any]) -> None:
    """Keywords and a mapping make the same part, which is sent as it was given."""
    assert part(**fields).to_payload() == fields
    assert part.parse(fields) == part(**fields)
    assert part.parse(part(**fields)) == part(**fields)


def test_parts_in_a_request_are_sent_alike_however_they_are_given() -> None:
    """Classes and mappings may stand side by side."""
    request = ComicRequest(
        "x",
        comic_roles=[Character("Tom", age=3), {"name": "Ann", "clothing": "red"}],
        comic_locations=Location("City"),
        attachments=[Attachment("https://a")],
    )
    assert request.to_payload() == {
        "prompt": "x",
        "comicRoles": [{"name": "Tom", "age": 3}, {"name": "Ann", "clothing": "red"}],
        "comicLocations": [{"name": "City"}],
        "attachments": [{"url": "https://a"}],
    }
    assert ComicRequest.parse(request.to_payload()) == request


def test_video_options_are_read_in_both_spellings() -> None:
    """The API writes them with underscores, and JavaScript's way is read as well."""
    camel = {"aspectRatio": "1:1", "lastFrameImage": "https://i", "generateAudio": True}
    request = AnimationRequest.parse({"prompt": "x", "videoOptions": camel})
    assert request == AnimationRequest.parse({"prompt": "x", "video_options": camel})
    assert request.to_payload() == {
        "prompt": "x",
        "videoOptions": {
            "aspect_ratio": "1:1",
            "last_frame_image": "https://i",
            "generate_audio": True,
        },
    }


@pytest.mark.parametrize("part", [Character, Location])
def test_what_a_part_does_not_know_is_passed_on(part: Any) -> None:
    """A role may have extra keys; those of `extra` win."""
    given = {"name": "Tom", "mood": {"dark": True}, "extra": {"mood": 1, "tail": [2]}}
    assert part.parse(given).to_payload() == {"name": "Tom", "mood": 1, "tail": [2]}
    assert part.parse(part.parse(given).to_payload()).to_payload() == {
        "name": "Tom",
        "mood": 1,
        "tail": [2],
    }


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Character(""), "name"),
        (lambda: Character("x", image="tom.png"), "image"),
        (lambda: Character("x", age=cast("Any", [])), "age"),
        (lambda: Character("x", extra={"a": object()}), "a"),
        (lambda: Character("x", extra={"a": {"b": "\0"}}), "a.b"),
        (lambda: Location.parse({}), "name"),
        (lambda: Attachment("script.pdf"), "url"),
        (lambda: Attachment("https://a", type=cast("Any", "audio")), "type"),
        (lambda: VideoOptions(duration=0), "duration"),
        (lambda: VideoOptions(duration=5000), "duration"),
        (lambda: VideoOptions(seed=cast("Any", 1.5)), "seed"),
        (lambda: VideoOptions(reference_images=["no"]), "reference_images[0]"),
        (lambda: VideoOptions.parse({"generateAudio": 1}), "generate_audio"),
        (lambda: AnimationRequest("x", video_options={"duration": "5"}), "video_options.duration"),
        (lambda: AnimationRequest("x", video_options=[5]), "video_options"),  # type: ignore[arg-type]
        (lambda: AnimationRequest.parse({}), "prompt"),
        (lambda: AnimationRequest.parse({"prompt": "x", "size": 1}), "size"),
        (lambda: Pagination.parse({"totalPages": 1, "total_pages": 2}), "total_pages"),
    ],
)
def test_what_is_not_allowed_is_refused_by_name(make: Any, field: str) -> None:
    """A refusal names the field as it was reached."""
    with pytest.raises(InvalidRequestError) as caught:
        make()
    assert caught.value.field == field
    assert caught.value.allowed


def test_pages_say_in_one_word_how_much_is_drawn() -> None:
    """A forecast tells comics apart by it."""
    assert str(Pagination(2, 4)) == "2x4"
