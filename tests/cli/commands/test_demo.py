"""The demo, as it is shown to people: run once, looked at from all sides."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from urllib.parse import unquote

import pytest

from llamagen_async import SIZES, ComicRequest
from llamagen_async.cli.app import run as run_here
from llamagen_async.cli.commands.demo import DEMO_STORIES
from tests.support.browser import opened_browser
from tests.support.cli import run, started


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The demo's folder and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    done = run("demo", "--out", "pictures", "--speed", "300", cwd=folder)
    assert done.stderr == ""
    assert done.returncode == 0, done.stdout
    return folder / "pictures", done.stdout


def test_the_stories_are_varied() -> None:
    requests = [ComicRequest.parse(fields) for fields in DEMO_STORIES]
    assert len(requests) == 12
    assert {request.size for request in requests} == set(SIZES)
    assert any(request.pagination for request in requests)
    assert len({request.language for request in requests}) >= 4


@pytest.mark.once
def test_it_ends_with_the_numbers_of_the_server(shown: tuple[Path, str]) -> None:
    _, said = shown
    assert said.isascii() or all(
        not line.startswith("|") or line.isascii() for line in said.split()
    )
    rows = dict(re.findall(r"^\| ([a-z][^|]*?) +\| +([^|]*?) \|", said, flags=re.MULTILINE))
    assert rows["comics done"] == "12 of 12"
    assert rows["refused (429)"] == "0"
    # All ten, if the machine has time for them.
    most, limit = rows["most requests in any window"].removesuffix(" per minute").split(" of ")
    assert 1 <= int(most) <= int(limit) == 10
    assert float(rows["requests per comic"]) <= 3.0
    assert {"last comic done after", "mean comic done after"} <= rows.keys()
    assert said.rstrip().endswith("Look at pictures/index.html")


@pytest.mark.once
def test_every_comic_has_its_pictures_and_the_page_shows_them(shown: tuple[Path, str]) -> None:
    folder, _ = shown
    results = (folder / "results.jsonl").read_text(encoding="utf-8")
    records = [json.loads(line) for line in results.splitlines()]
    assert len(records) == 12
    for record, asked in zip(records, DEMO_STORIES, strict=True):
        assert record["prompt"] == asked["prompt"]
        pages = asked.get("pagination", {})
        panels = asked.get("fix_panel_num") or pages["total_pages"] * pages["panels_per_page"]
        assert sum(map(len, record["pages"])) == panels
    page = (folder / "index.html").read_text(encoding="utf-8")
    links = [unquote(link) for link in re.findall(r'(?:src|href)="([^"]+\.png)"', page)]
    assert len(links) >= 2 * 12
    assert all((folder / link).is_file() for link in links)
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.once
async def test_a_browser_shows_the_page_narrow_without_scrolling_sideways(
    shown: tuple[Path, str], tmp_path: Path
) -> None:
    folder, _ = shown
    async with opened_browser(tmp_path) as browser:
        page = await browser.open((folder / "index.html").as_uri(), width=390)
        width = await page.run("document.documentElement.scrollWidth")
        cards = await page.run("document.querySelectorAll('article.succeeded').length")
    assert width <= 390
    assert cards == 12
    assert page.problems == []


@pytest.mark.once
def test_the_demo_plan_does_what_a_day_allows(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    quickly_drawn = [{"prompt": "a cat", "fix_panel_num": 1, "size": "512x768"}] * 12
    monkeypatch.setattr("llamagen_async.cli.commands.demo.DEMO_STORIES", quickly_drawn)
    argv = ["demo", "--plan", "demo", "--json", "--speed", "600", "--out", str(tmp_path / "d")]
    assert run_here(argv) == 0
    out, err = capfd.readouterr()
    assert err == ""
    score = json.loads(out.splitlines()[-1])
    assert score["refused"] == 0
    assert score["requests"] <= 15
    assert score["done"] >= 5
    assert score["done"] + score["over_quota"] == 12


def test_the_demo_can_ask_the_sandbox_for_its_plan(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llamagen_async.cli.commands.demo.DEMO_STORIES", DEMO_STORIES[:1])
    argv = ["demo", "--plan", "auto", "--json", "--speed", "600", "--out", str(tmp_path / "d")]
    assert run_here(argv) == 0
    score = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert (score["done"], score["refused"]) == (1, 0)
    assert score["busiest"].endswith("of 10 per minute")


@pytest.mark.once
def test_what_is_left_when_it_is_interrupted_is_nobodys(tmp_path: Path) -> None:
    """The server has ended with the demo, so no id of a comic that goes on is told of."""
    with started("demo", "--speed", "60", cwd=tmp_path) as process:
        assert process.stdout is not None
        assert any("done" in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=120)
    assert process.returncode == 130
    assert rest.startswith("llamagen-async demo: interrupted: ")
    assert rest.count("\n") == 1
