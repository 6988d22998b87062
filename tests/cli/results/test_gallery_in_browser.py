"""The gallery in a real browser: wide, narrow and in the dark, with the worst that can be in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import attrs
import pytest

from llamagen_async.cli.results.folder import INDEX
from llamagen_async.cli.results.gallery import render
from llamagen_async.cli.results.records import PanelFile, Record
from llamagen_async.models import BatchState
from llamagen_async.sandbox.pictures.drawing import draw_panel
from tests.support.browser import Browser, Page, opened_browser

WIDE, NARROW = 1280, 360
BEGAN: Final = datetime(2025, 6, 1, 10, tzinfo=UTC)
pytestmark = pytest.mark.once

HTML: Final = (
    "A cat writes <script>document.title = 'taken over'</script> & <b>bold</b> "
    '<img src=x onerror="document.title=\'taken over\'"> "quotes" </h2></article>'
)
LONG: Final = "The fox walks on and on through the forest. " * 60
STORIES: Final[tuple[dict[str, Any], ...]] = (
    {"prompt": "A superhero cat hears a cry for help. Giant mice have stolen the cheese!", "n": 4},
    {"prompt": "A fox and an owl sail to the island of lost hats.", "size": "1024x576", "n": 3},
    {"prompt": "Twenty mice march through the city.", "size": "512x512", "n": 20},
    {"prompt": "Two pages of a wizard's winter.", "size": "768x1024", "n": 5, "pages": 2},
    {
        "prompt": "قطة خارقة تنقذ المدينة من فئران عملاقة ثم تعود.",
        "language": "ar",
        "n": 3,
    },
    {
        "prompt": "一只超级英雄猫从巨型老鼠手中拯救了城市。" * 4,
        "language": "zh",
        "n": 2,
    },
    {"prompt": "W" + "o" * 180 + "w! https://example.com/" + "path/" * 30, "n": 1},
    {"prompt": HTML, "n": 2, "size": "576x1024"},
    {"prompt": LONG, "n": 3, "style": "storybook" * 20, "size": "1024x1024"},
    {"prompt": "The prompt of this one did not pass.", "state": "failed", "error": "x" * 300},
    {
        "prompt": "Nobody knows what became of this one.",
        "state": "uncertain",
        "error": "the answer did not come: it may have been accepted and charged",
    },
    {"prompt": "This one was still being drawn when the run ended.", "state": "running"},
    {"prompt": "This one waits for tomorrow's quota.", "state": "queued"},
)


def story(folder: Path, index: int, fields: dict[str, Any]) -> Record:
    """Draw the pictures of a comic as the sandbox does, and return its record."""
    size = fields.get("size")
    width, height = map(int, (size or "512x512").split("x"))
    pages: list[tuple[PanelFile, ...]] = []
    for page in range(fields.get("pages", 1) if fields.get("n") else 0):
        panels: list[PanelFile] = []
        for panel in range(fields["n"]):
            name = f"comic {index} & more-p{page + 1:02}-{panel + 1:02}.png"
            drawn = (width // 2, height // 2)
            seed = f"{index}/{page}/{panel}"
            content = draw_panel(fields["prompt"][:60], size=drawn, seed=seed)
            (folder / name).write_bytes(content)
            panels.append(PanelFile(name, fields["prompt"][:60]))
        pages.append(tuple(panels))
    state = BatchState(fields.get("state", "succeeded"))
    names: tuple[str, ...] = ("size", "style", "language")
    request = {name: fields[name] for name in names if name in fields}
    return Record(
        index,
        state,
        id=f"cmc_{index:020}" if state is not BatchState.QUEUED else None,
        prompt=fields["prompt"],
        request=request,
        files=tuple(picture.file for page in pages for picture in page),
        pages=tuple(pages),
        seconds=61.0 + index,
        error=fields.get("error"),
        is_sandbox=True,
    )


def write_gallery(folder: Path) -> Path:
    """Write a gallery with everything in it that a gallery can have."""
    records = [story(folder, index, fields) for index, fields in enumerate(STORIES)]
    page = folder / INDEX
    facts = [("comics", "9 of 13"), ("requests", "31"), ("refused with 429", "0")]
    page.write_text(
        render(records, title="Comics from stories.txt", facts=facts, began=BEGAN), "utf-8"
    )
    return page


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a gallery with everything in it."""
    return write_gallery(tmp_path_factory.mktemp("gallery")).as_uri()


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    async with opened_browser(tmp_path) as opened:
        yield opened


async def pictures(page: Page) -> list[list[Any]]:
    """Scroll to every picture, wait for it, and return its file and its width in pixels."""
    found: list[list[Any]] = await page.run(
        """(async () => {
            const found = [];
            for (const image of document.images) {
                image.scrollIntoView();
                await image.decode().catch(() => {});
                found.push([image.getAttribute("src"), image.naturalWidth]);
            }
            scrollTo(0, 0);
            return found;
        })()"""
    )
    return found


async def overflowing(page: Page) -> list[str]:
    """Return the elements that reach beyond the window to the left or to the right."""
    found: list[str] = await page.run(
        """[...document.querySelectorAll("*")].filter((one) => {
            const box = one.getBoundingClientRect();
            return box.width && (box.left < -0.5 || box.right > innerWidth + 0.5);
        }).map((one) => one.outerHTML.slice(0, 100))"""
    )
    return found


async def unreadable(page: Page) -> list[str]:
    """Return the texts whose contrast with what is behind them is less than 4.5 to 1 (WCAG AA)."""
    found: list[str] = await page.run(
        """(() => {
            const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
            const light = (colour) => numbers(colour).slice(0, 3).map((part) => part / 255)
                .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
                .reduce((sum, part, n) => sum + part * [0.2126, 0.7152, 0.0722][n], 0);
            const behind = (one) => {
                const colour = getComputedStyle(one).backgroundColor;
                const clear = numbers(colour).length === 4 && numbers(colour)[3] === 0;
                return clear ? behind(one.parentElement) : light(colour);
            };
            return [...document.body.querySelectorAll("*")].filter((one) =>
                [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim())
            ).filter((one) => {
                const [high, low] = [light(getComputedStyle(one).color), behind(one)]
                    .sort((a, b) => b - a);
                return (high + 0.05) / (low + 0.05) < 4.5;
            }).map((one) => one.outerHTML.slice(0, 100));
        })()"""
    )
    return found


async def shown(page: Page) -> list[str]:
    """Return the anchors of the comics that are displayed."""
    found: list[str] = await page.run(
        """[...document.querySelectorAll("article")]
            .filter((one) => getComputedStyle(one).display !== "none").map((one) => one.id)"""
    )
    return found


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [WIDE, NARROW])
async def test_pictures_load_and_nothing_overflows_and_all_can_be_read(
    width: int, dark: bool, gallery: str, browser: Browser
) -> None:
    page = await browser.open(gallery, width=width, dark=dark)
    seen = await pictures(page)
    assert len(seen) == 4 + 3 + 20 + 10 + 3 + 2 + 1 + 2 + 3
    assert [file for file, pixels in seen if not pixels] == []
    await page.run("document.querySelector('details').open = true")
    inner, scrolled = await page.run("[innerWidth, document.documentElement.scrollWidth]")
    assert inner == width
    assert scrolled <= width
    assert await overflowing(page) == []
    assert await unreadable(page) == []
    assert await page.run("matchMedia('(prefers-color-scheme: dark)').matches") is dark
    assert await page.run("document.title") == "Comics from stories.txt"  # not taken over
    assert page.problems == []
    assert {address.partition(":")[0] for address in page.requests} <= {"file", "data"}


async def test_the_name_of_the_file_fits_a_phone(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / INDEX
    title = f"Comics from {'a_name_without_an_end_' * 9}.jsonl"
    page.write_text(render([], title=title), "utf-8")
    opened = await browser.open(page.as_uri(), width=NARROW)
    sizes = await opened.run("[innerWidth, document.documentElement.scrollWidth]")
    assert sizes == [NARROW, NARROW]
    assert await overflowing(opened) == []


async def test_the_dark_is_dark_and_the_light_is_light(gallery: str, browser: Browser) -> None:
    paper = "getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)"
    light = await (await browser.open(gallery)).run(paper)
    dark = await (await browser.open(gallery, dark=True)).run(paper)
    assert min(light) > 200
    assert max(dark) < 60


async def test_the_comics_of_one_state_can_be_shown_alone(gallery: str, browser: Browser) -> None:
    page = await browser.open(gallery, width=NARROW)
    assert len(await shown(page)) == len(STORIES)
    await page.run("document.querySelector('#show-failed').click()")
    assert await shown(page) == ["story-10"]
    await page.run("document.querySelector('#show-queued').click()")
    assert await shown(page) == ["story-13"]
    await page.run("document.querySelector('#show-all').click()")
    assert len(await shown(page)) == len(STORIES)


async def test_a_thousand_comics_open_with_the_pictures_in_sight_and_no_others(
    tmp_path: Path, browser: Browser
) -> None:
    content = draw_panel("A cat", size=(64, 64))
    (tmp_path / "picture.png").write_bytes(content)
    comic = Record(
        0,
        BatchState.SUCCEEDED,
        id="cmc_0123456789abcdef0123",
        prompt="A superhero cat hears a cry for help. Giant mice have stolen the cheese! " * 3,
        request={"size": "1024x1024", "style": "superhero", "language": "en"},
        seconds=61.0,
    )
    records: list[Record] = []
    for number in range(1000):
        # Each picture has an address of its own, so that asking for it is seen.
        names = [f"{number}-{panel}.png" for panel in range(4)]
        panels = tuple(PanelFile(name, "The cat flies over the city at night.") for name in names)
        records.append(attrs.evolve(comic, index=number, files=tuple(names), pages=(panels,)))
    for name in (*records[0].files, *records[999].files):
        (tmp_path / name).write_bytes(content)
    html = render(records, title="A thousand comics")
    assert len(html) < 2_500_000
    index = tmp_path / INDEX
    index.write_text(html, "utf-8")
    page = await browser.open(index.as_uri(), width=NARROW)
    assert len(await shown(page)) == 1000
    assert len(page.requests) < 100
    laid_out = await page.run(
        """[1, 999].map((number) => document.querySelector(`#story-${number} h2`)
            .checkVisibility({contentVisibilityAuto: true}))"""
    )
    assert laid_out == [True, False]  # that is what makes it quick
    last = await page.run(
        """(async () => {
            const last = document.images[document.images.length - 1];
            last.scrollIntoView();
            await last.decode();
            return last.naturalWidth;
        })()"""
    )
    assert last == 64
    assert await page.run("document.documentElement.scrollWidth") <= NARROW


async def test_these_checks_find_errors_in_a_page(tmp_path: Path, browser: Browser) -> None:
    path = tmp_path / "wrong.html"
    path.write_text(
        "<!doctype html><body style='margin:0;background:#fff'><img src='missing.png'>"
        "<p style='width:2000px;color:#999'>pale and wide</p>"
        "<script>console.error('one'); throw new Error('two')</script>"
        "<img src='https://elsewhere.invalid/x.png'></body>",
        "utf-8",
    )
    page = await browser.open(path.as_uri())
    assert await pictures(page) == [["missing.png", 0], ["https://elsewhere.invalid/x.png", 0]]
    assert any("wide" in one for one in await overflowing(page))
    assert len(await unreadable(page)) == 1
    assert "https://elsewhere.invalid/x.png" in page.requests
    assert {problem.partition(":")[0] for problem in page.problems} >= {
        "console",
        "exception",
        "not loaded",
    }
