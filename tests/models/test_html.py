"""Models as a notebook shows them: panels, captions and states, all of it escaped."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import attrs
import pytest

from llamagen_async import Animation, BatchItem, BatchState, ComicGeneration, LlamaGenError

HOSTILE = "</figcaption><script>alert(1)</script><img src=x onerror='x(\"y\")'>&\"'"
URL = "https://a.example/1.png"
PLAIN = {"div", "p", "figure", "figcaption", "a", "img", "em"}


class Seen(HTMLParser):
    """Remembers the tags, their attributes and the text of a document."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str, name: str) -> list[str | None]:
        return [attrs.get(name) for one, attrs in self.tags if one == tag]


def comic(*panels: dict[str, Any], **fields: Any) -> ComicGeneration:
    raw = {"id": "c1", "status": "SUCCEEDED", "comics": [{"page": 0, "panels": list(panels)}]}
    return ComicGeneration.parse({**raw, **fields})


def test_a_comic_shows_its_panels_and_captions() -> None:
    one = comic({"assetUrl": URL, "caption": "A cat"}, {"assetUrl": "http://127.0.0.1:1/2.png"})
    seen = Seen(one._repr_html_())
    assert seen.all("img", "src") == [URL, "http://127.0.0.1:1/2.png"]
    assert seen.all("a", "href") == seen.all("img", "src")
    assert seen.all("img", "alt") == ["A cat", "Panel 1"]
    assert set(seen.all("img", "referrerpolicy")) == {"no-referrer"}
    assert "c1: succeeded" in seen.text
    assert "A cat" in seen.text


def test_nothing_of_the_server_is_markup() -> None:
    one = comic({"assetUrl": f"{URL}?{HOSTILE}", "caption": HOSTILE}, id=f"c{HOSTILE[:20]}")
    item = BatchItem(
        0, None, BatchState.FAILED, one, LlamaGenError(HOSTILE), (Path(HOSTILE),), key=HOSTILE
    )
    failed = comic(status="FAILED", error=HOSTILE)
    video = Animation.parse({"id": "a1", "status": "FAILED", "error": HOSTILE})
    for text in (one._repr_html_(), item._repr_html_(), failed._repr_html_(), video._repr_html_()):
        seen = Seen(text)
        assert {tag for tag, _ in seen.tags} <= PLAIN
        assert not [name for _, attrs in seen.tags for name in attrs if name.startswith("on")]
        assert "<script" in seen.text
    assert Seen(one._repr_html_()).all("img", "alt") == [HOSTILE]


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "JaVaScript:x",
        "data:text/html,x",
        "file:///etc/passwd",
        "//a.example",
    ],
)
def test_only_addresses_of_the_web_are_linked(url: str) -> None:
    video = Animation.parse({"id": "a1", "status": "SUCCEEDED", "videoUrl": url})
    for text in (comic({"assetUrl": url})._repr_html_(), video._repr_html_()):
        seen = Seen(text)
        assert not re.search("src|href", text)
        assert "without an address of the web" in seen.text
    whole = ComicGeneration.parse({"id": "c1", "status": "SUCCEEDED", "output": url})
    assert not re.search("src|href", whole._repr_html_())


def test_what_is_not_finished_says_how_far_it_is() -> None:
    assert "c1: processing" in comic({"assetUrl": ""}, status="PROCESSING")._repr_html_()
    assert "Panel 0 is not drawn yet" in comic({"assetUrl": ""}, status="PROCESSING")._repr_html_()
    failed = ComicGeneration.parse({"id": "c1", "status": "FAILED", "error": "too dark"})
    assert Seen(failed._repr_html_()).text == "c1: failed, too dark"
    lost = BatchItem(3, None, BatchState.UNCERTAIN, error=LlamaGenError("lost"), key="ice")
    assert Seen(lost._repr_html_()).text == "Story 3 (ice): uncertainlost"
    unnamed = attrs.evolve(lost, key="content:874181da332322d77897b0dcbeae2c8d/1")
    assert Seen(unnamed._repr_html_()).text == "Story 3: uncertainlost"


def test_all_panels_have_the_same_place_and_captions_are_bounded() -> None:
    one = comic({"assetUrl": ""}, {"assetUrl": URL, "caption": "word " * 1000}, status="PROCESSING")
    seen = Seen(one._repr_html_())
    assert len(set(seen.all("figure", "style"))) == 1
    (caption,) = seen.all("figcaption", "style")
    assert caption is not None
    assert {"max-height:7.5em", "overflow:auto"} <= set(caption.split(";"))
    assert len(seen.all("em", "style")) == 1


def test_a_story_shows_its_comic_and_its_files() -> None:
    one = comic({"assetUrl": URL})
    item = BatchItem(0, None, BatchState.SUCCEEDED, one, files=(Path("out/1.png"),))
    assert one._repr_html_() in item._repr_html_()
    assert "Files: out/1.png" in item._repr_html_()
    video = Animation.parse({"id": "a1", "status": "SUCCEEDED", "videoUrl": URL})
    assert Seen(video._repr_html_()).all("video", "src") == [URL]
    filmed = BatchItem(0, None, BatchState.SUCCEEDED, video)
    assert video._repr_html_() in filmed._repr_html_()
    whole = ComicGeneration.parse({"id": "c1", "status": "SUCCEEDED", "output": URL})
    assert Seen(whole._repr_html_()).all("img", "src") == [URL]
