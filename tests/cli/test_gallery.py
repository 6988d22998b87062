"""The page as a pure function, and the files around it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import attrs
import pytest

from llamagen_async import ComicRequest
from llamagen_async.batch.journal.codec import fields_of
from llamagen_async.cli.results.files import write_atomic
from llamagen_async.cli.results.gallery import is_foreign, render
from llamagen_async.cli.results.gallery_style import STYLE
from llamagen_async.cli.results.records import RESULTS, Picture, Record, line_of
from llamagen_async.cli.results.spool import EarlierResults, Notes
from llamagen_async.models import BatchState

EVIL = '<script>alert("1")</script> & "quotes" \'too\''
DONE = Record(
    0,
    BatchState.SUCCEEDED,
    place="s.jsonl:1",
    id="cmc_1",
    prompt="A cat & a dog",
    request={"prompt": "A cat & a dog", "size": "1024x768", "style": "ink", "language": "en"},
    files=("cmc_1-p01-01.png", "cmc_1-p02-01.png", "cmc_1-output.png"),
    pages=(
        (Picture("cmc_1-p01-01.png", "A cat"),),
        (Picture("cmc_1-p02-01.png", "A dog"), Picture("", "lost")),
    ),
    seconds=63.0,
)
FAILED = Record(1, BatchState.FAILED, id="cmc_2", prompt="B", error="the filter stopped it")
UNSENT_RECORD = Record(2, BatchState.QUEUED, prompt="C", request={"prompt": "C"})


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
    page = render([DONE, FAILED, UNSENT_RECORD], title="Comics")
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
        place=EVIL,
        request={"size": EVIL, "style": EVIL, "language": EVIL},
        files=("a<b>&'\".png",),
        pages=((Picture("a<b>&'\".png", EVIL),),),
        error=EVIL,
    )
    page = render([evil, attrs.evolve(evil, pages=())], title=EVIL, facts=[(EVIL, EVIL)])
    tags = Tags(page)
    assert not tags.all("script", "src")
    assert set(tags.all("img", "src")) == {"a%3Cb%3E%26%27%22.png"}
    assert {name for _, attributes in tags.found for name in attributes} <= {
        *("charset", "class", "content", "dir", "href", "id", "lang", "loading", "name", "rel"),
        *("src", "alt", "title", "width", "height", "decoding"),
    }


def test_what_is_missing_says_why() -> None:
    running = Record(3, BatchState.RUNNING, id="cmc_3", prompt="D")
    uncertain = Record(4, BatchState.UNCERTAIN, prompt="E")
    page = render([FAILED, UNSENT_RECORD, running, uncertain], title="Comics")
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
    page = render([DONE, FAILED, UNSENT_RECORD], title="Comics")
    assert Tags(page).all("input", "id") == [
        "show-all",
        "show-succeeded",
        "show-failed",
        "show-queued",
    ]
    assert not Tags(render([DONE, DONE], title="Comics")).all("input", "id")


def test_every_state_can_be_shown_alone() -> None:
    for state in BatchState:
        assert f"#show-{state.value}:checked) article:not(.{state.value})" in STYLE


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        (["2025-06-01T10:00:00+00:00", "2025-06-02T11:30:59+00:00"], "2025-06-02 11:30 UTC"),
        (["2025-06-01T10:00:00+02:00"], "2025-06-01 08:00 UTC"),
        (["2025-06-01T10:00:00"], "2025-06-01 10:00 UTC"),
        (["", "<yesterday>"], None),
        ([""], None),
        ([], None),
    ],
)
def test_a_page_says_when_its_latest_run_began(runs: list[str], said: str | None) -> None:
    page = render([attrs.evolve(DONE, run=run) for run in runs], title="Comics")
    assert re.findall("<time .*>(.*)</time>", page) == ([said] if said else [])


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
    page = (tuple(Picture(f"{n}.png") for n in range(panels)),)
    record = attrs.evolve(DONE, request={"size": size} if size else {}, pages=page)
    assert Tags(render([record], title="Comics")).all("figure", "class") == [form]


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


def test_records_survive_a_round_trip(tmp_path: Path) -> None:
    lost = Record(5, BatchState.UNCERTAIN, prompt="half a pair: \ud800 ¡ü!")
    lines = [line_of(record.to_json()) for record in (DONE, UNSENT_RECORD, lost)]
    (tmp_path / RESULTS).write_bytes(b"".join(lines))
    earlier = EarlierResults(tmp_path)
    # What was not sent is not paid for: whoever wants it gives it again.
    assert list(earlier.left()) == [DONE, lost]
    earlier.close()


def test_a_folder_with_other_results_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / RESULTS).write_text('{"index": 1}\nnot json\n[]\nnull\n', encoding="utf-8")
    earlier = EarlierResults(tmp_path)
    assert not list(earlier.left())
    earlier.close()


def test_earlier_results_are_found_by_name_and_by_id(tmp_path: Path) -> None:
    first = attrs.evolve(DONE, key="content:1")
    other = attrs.evolve(DONE, key="content:2", id="cmc_2")
    lost = Record(5, BatchState.UNCERTAIN, key="content:3")
    lines = [line_of(record.to_json()) for record in (first, other, lost)]
    (tmp_path / RESULTS).write_bytes(b"".join(lines))
    earlier = EarlierResults(tmp_path)
    assert earlier.take("renamed", "cmc_1") == first
    assert earlier.take("content:3", "cmc_3") == lost
    # The same story in another journal was another comic, and it was paid for.
    assert earlier.take("content:2", "cmc_9") is None
    assert list(earlier.left()) == [other]
    earlier.close()


def test_notes_are_found_by_name_if_the_journal_has_the_story() -> None:
    notes = Notes()
    kept = attrs.evolve(DONE, key="a", place="s:1")
    notes.add(kept, in_journal=True)
    notes.add(attrs.evolve(kept, place="s:2"), in_journal=True)
    notes.add(UNSENT_RECORD, in_journal=False)
    notes.add(FAILED, in_journal=False)
    found = notes.of("a")
    assert found is not None
    assert (found.place, found.seconds, found.files) == ("s:2", 63.0, ())
    assert list(notes.others()) == [FAILED, UNSENT_RECORD]
    notes.drop_unsent()
    assert list(notes.others()) == [FAILED]
    notes.had_ended("a")
    assert (notes.is_old("a"), notes.is_old("b"), notes.is_old(None)) == (True, False, False)
    notes.close()


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "a"},
        {"prompt": "a", "pagination": {"total_pages": 2, "panels_per_page": 3}, "upscale": "2K"},
        {"prompt": "a", "extra": {"newField": 1}, "comic_roles": [{"name": "Tom"}]},
        {"prompt_url": "https://example.com/story.txt"},
    ],
)
def test_a_request_reads_back_as_it_was(fields: dict[str, Any]) -> None:
    request = ComicRequest.parse(fields)
    assert ComicRequest.parse(json.loads(json.dumps(fields_of(request)))) == request


def test_a_file_appears_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_atomic(tmp_path / "a", b"old")

    def full(_file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(tmp_path / "a", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"
