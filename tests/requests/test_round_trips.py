"""Requests as journals keep them: read back as they were, and no text becomes a file of theirs."""

from __future__ import annotations

import json

import pytest

from llamagen_async.batch.journal.story import Story, request_in
from llamagen_async.requests import (
    AnimationRequest,
    AnyRequest,
    Attachment,
    Character,
    ComicRequest,
    ContinueRequest,
    Location,
    UpdateRequest,
    VideoOptions,
)
from llamagen_async.requests.any_request import fields_of, parse_request, type_of
from llamagen_async.requests.files import files_of

SECRET = "/etc/secret.txt"
REQUESTS: list[AnyRequest] = [
    ComicRequest("x", attachments=[Attachment("https://a", extra={"type": "audio"})]),
    ComicRequest("x", attachments=[Attachment("https://a", extra={"title": None})]),
    ComicRequest("x", attachments=[Attachment("https://a", extra={"url": SECRET})]),
    ComicRequest("x", comic_roles=[Character("Tom", extra={"age": {"years": 3}})]),
    ComicRequest("x", comic_roles=[Character("Tom", extra={"name": ""})]),
    ComicRequest("x", comic_roles=[Character("Tom", extra={"image": SECRET})]),
    ComicRequest("x", comic_roles=[Character("Tom", extra={"extra": {"image": SECRET}})]),
    ComicRequest("x", comic_locations=[Location("Sea", extra={"image": SECRET, "mood": 1})]),
    ComicRequest("x", extra={"images": [SECRET], "comicRoles": [{"image": SECRET}]}),
    ComicRequest("x", extra={"prompt": 5, "extra": 1, "key": "k"}),
    ContinueRequest("x", extra={"action": "other", "attachments": [{"url": SECRET}]}),
    UpdateRequest(panel=0, extra={"images": SECRET}),
    AnimationRequest("x", video_options=VideoOptions(extra={"duration": "auto"})),
    AnimationRequest("x", video_options=VideoOptions(extra={"aspectRatio": "16:9"})),
    AnimationRequest("x", video_options=VideoOptions(extra={"image": SECRET})),
    AnimationRequest("x", video_options=VideoOptions(extra={"last_frameImage": SECRET})),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=repr)
def test_what_is_passed_on_is_read_back_as_it_was(request_: AnyRequest) -> None:
    text = json.dumps(fields_of(request_))
    again = parse_request(type_of(request_), json.loads(text))
    assert again == request_
    assert again.to_payload() == request_.to_payload()


@pytest.mark.parametrize("request_", REQUESTS, ids=repr)
def test_no_text_that_was_passed_on_becomes_a_file(request_: AnyRequest) -> None:
    """A request may come from somebody who must not have the files of this machine."""
    kept = fields_of(request_) | {"type": type_of(request_).value}
    again = request_in(json.loads(json.dumps(kept)))
    assert files_of(again) == []
    assert again == request_


def test_a_story_is_kept_as_it_was_given() -> None:
    given = {"prompt": "x", "comic_roles": [{"name": "Tom", "mood": "glad", "Image": SECRET}]}
    story = Story.parse(given)
    kept = request_in(json.loads(story.text))
    assert kept == story.request
    assert files_of(kept) == []
