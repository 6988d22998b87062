"""The page as a pure function."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import attrs
import pytest

from llamagen_async.cli.results.folder import is_foreign
from llamagen_async.cli.results.gallery import render
from llamagen_async.cli.results.records import PanelFile, Record
from llamagen_async.models import BatchState
from tests.support.records import DONE, FAILED, UNSENT

EVIL = '<script>alert("1")</script> & "quotes" \'too\''


class Tags(HTMLParser):
    """Collects what a page is made of, and checks that it nests."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))
        if tag not in ("meta", "link", "img", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str, attribute: str) -> list[str | None]:
        return [attributes.get(attribute) for name, attributes in self.found if name == tag]


def test_a_page_shows_pictures_as_pages_with_words_for_those_who_cannot_see_them() -> None:
    page = render([DONE], title="Comics", facts=[("requests", "3")])
    tags = Tags(page)
    assert tags.all("img", "src") == ["cmc_1-p01-01.png", "cmc_1-p02-01.png"]
    assert tags.all("img", "alt") == ["Page 1 of 2, panel 1: A cat", "Page 2 of 2, panel 1: A dog"]
    assert set(tags.all("img", "width")) == {"1024"}
    for text in ("A cat &amp; a dog", "1024 \u00d7 768", "took 63 s", "cmc_1", "ink", ">3<"):
        assert text in page


def test_a_page_needs_no_network_and_no_script() -> None:
    page = render([DONE, FAILED, UNSENT], title="Comics")
    tags = Tags(page)
    assert not re.search(r"https?:|//[a-z]|url\(|@import|<script", page)
    assert not any(str(link).startswith(("/", "file:")) for link in tags.all("a", "href"))
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page
    assert tags.all("html", "lang") == ["en"]


def test_everything_from_elsewhere_is_escaped() -> None:
    evil = attrs.evolve(
        DONE,
        id=EVIL,
        prompt=EVIL,
        label=EVIL,
        request={"size": EVIL, "style": EVIL, "language": EVIL},
        files=("a<b>&'\".png",),
        pages=((PanelFile("a<b>&'\".png", EVIL),),),
        error=EVIL,
    )
    page = render([evil, attrs.evolve(evil, pages=())], title=EVIL, facts=[(EVIL, EVIL)])
    tags = Tags(page)
    assert not tags.all("script", "src")
    assert set(tags.all("img", "src")) == {"a%3Cb%3E%26%27%22.png"}
    assert {name for _, attributes in tags.found for name in attributes} <= {
        *("charset", "class", "content", "dir", "href", "http-equiv", "id", "lang", "loading"),
        *("name", "rel", "src", "alt", "title", "width", "height", "decoding"),
    }


def test_a_comic_that_is_missing_has_its_reason_on_the_page() -> None:
    running = Record(3, BatchState.RUNNING, id="cmc_3", prompt="D")
    uncertain = Record(4, BatchState.UNCERTAIN, prompt="E")
    page = render([FAILED, UNSENT, running, uncertain], title="Comics")
    for text in (
        "the filter stopped it",
        "before it was sent",
        "llamagen-async status cmc_3",
        "may have been accepted",
        "4 stories: 0 done, 1 failed, 1 uncertain, 1 running, 1 not sent",
    ):
        assert text in page


def test_a_long_story_is_folded_and_a_short_one_is_not() -> None:
    story = "The fox walks on.\n" * 100
    page = render([attrs.evolve(DONE, prompt=story, pages=()), DONE], title="Comics")
    assert page.count("<details>") == 1
    assert page.count(story) == 1
    alts = Tags(page).all("img", "alt")
    assert len(alts) == 5
    assert max(len(alt or "") for alt in alts) < 200


def test_states_can_be_chosen_if_there_are_several() -> None:
    page = render([DONE, FAILED, UNSENT], title="Comics")
    assert Tags(page).all("input", "id") == [
        "show-all",
        "show-succeeded",
        "show-failed",
        "show-queued",
    ]
    assert not Tags(render([DONE, DONE], title="Comics")).all("input", "id")


def test_every_state_can_be_shown_alone() -> None:
    page = render([], title="Comics")
    for state in BatchState:
        assert f"#show-{state.value}:checked) article:not(.{state.value})" in page


def test_a_page_says_when_its_latest_run_began() -> None:
    began = datetime(2025, 6, 1, 10, 0, 59, tzinfo=timezone(timedelta(hours=2)))
    page = render([DONE], title="Comics", began=began)
    assert re.findall("<time .*>(.*)</time>", page) == ["2025-06-01 08:00 UTC"]
    assert "<time" not in render([DONE], title="Comics")


@pytest.mark.parametrize(
    ("drawn_by_sandbox", "said"),
    [
        ([False, False], ""),
        ([True, True], "These pictures were drawn by the sandbox"),
        ([True, False], "Some of these pictures were drawn by the sandbox"),
    ],
)
def test_a_page_says_if_the_sandbox_drew_its_pictures(
    drawn_by_sandbox: list[bool], said: str
) -> None:
    """A comic that has no pictures here is not meant."""
    records = [attrs.evolve(DONE, is_sandbox=one) for one in drawn_by_sandbox]
    page = render([*records, attrs.evolve(FAILED, is_sandbox=True)], title="Comics")
    assert said in page
    assert ('class="sandbox"' in page) is bool(said)


@pytest.mark.parametrize(
    ("size", "panels", "form"),
    [
        ("1024x1024", 1, "c1 r0"),
        ("1024x1024", 4, "c2 r0"),
        ("1024x1024", 3, "c3 r0"),
        ("1024x1024", 20, "c3 r2"),
        ("1024x576", 2, "c1 r0 wide"),
        ("1024x576", 3, "c2 r1 wide"),
        ("768x1024", 4, "c2 r0 tall"),
        (None, 7, "c3 r1"),
    ],
)
def test_panels_are_laid_out_as_a_page(size: str | None, panels: int, form: str) -> None:
    page = (tuple(PanelFile(f"{n}.png") for n in range(panels)),)
    record = attrs.evolve(DONE, request={"size": size} if size else {}, pages=page)
    assert Tags(render([record], title="Comics")).all("figure", "class") == [form]


@pytest.mark.parametrize(
    ("type_", "request_", "fact"),
    [
        ("comic", {}, None),
        ("animation", {}, "animation"),
        ("continue", {"of": "<a>"}, "continuation of &lt;a&gt;"),
        ("continue", {"id": "cmc_1"}, "continuation of cmc_1"),
        ("update_panel", {"of": "a", "panel": 2}, "redraw of page 1, panel 3 of a"),
        ("update_panel", {"of": "a", "panel": 0, "page": 1}, "redraw of page 2, panel 1 of a"),
        ("update_panel", {"of": "a", "panel": "x"}, "redraw of a"),
    ],
)
def test_a_card_says_what_its_story_changes(
    type_: str, request_: dict[str, Any], fact: str | None
) -> None:
    record = attrs.evolve(DONE, type=type_, request=request_)
    page = render([record], title="t")
    facts = re.findall(r"<li>(.*?)</li>", page)
    assert [one for one in facts if re.match("animation|continuation|redraw", one)] == (
        [fact] if fact else []
    )


def test_no_story_at_all_is_a_page_too() -> None:
    Tags(render([], title="Nothing"))


def test_only_our_own_page_is_replaced(tmp_path: Path) -> None:
    assert not is_foreign(tmp_path)
    (tmp_path / "index.html").write_text(render([DONE], title="Comics"), encoding="utf-8")
    assert not is_foreign(tmp_path)
    (tmp_path / "index.html").write_text("<h1>Mine</h1>", encoding="utf-8")
    assert is_foreign(tmp_path)


def test_a_page_of_many_says_that_it_shows_the_latest_only() -> None:
    page = render([DONE, FAILED], title="Comics", counts={BatchState.SUCCEEDED: 70_000})
    assert "70000 stories: 70000 done" in page
    assert "Only the latest 2 are shown here; results.jsonl has all of them." in page
    assert "Only the latest" not in render([DONE, FAILED], title="Comics")
