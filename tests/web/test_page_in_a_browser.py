"""The page in a browser: comics as they are drawn, in all widths and colours, for everybody."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from llamagen_async import Plan, RateLimit
from llamagen_async.sandbox import Fault
from llamagen_async.web import create_app
from tests.support.browser import Browser, Page, opened_browser
from tests.support.npm import installed_packages
from tests.support.web import fast_sandbox, sandbox_client, served
from tests.web.test_page import until, write

pytestmark = pytest.mark.once

FREE_CHECKS = Plan("free checks", limits=RateLimit(3, per=60), metered={"create"})
STORY = "A superhero cat saves a city from giant mice. " * 30
HEBREW = "חתול מציל את העיר"
LONG_WORD = "Donaudampfschifffahrtsgesellschaftskapitän" * 4
VIOLATIONS = """axe.run(document, { resultTypes: ["violations"] }).then((found) =>
    found.violations.map((one) => one.id + ": " + one.nodes.map((node) => node.target).join()))"""
STATES = '[...document.querySelectorAll("#comics > li .state")].map((one) => one.textContent)'
WINDOWS = [(1280, False), (320, False), (1280, True), (320, True)]


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The checker of accessibility, as text."""
    packages = installed_packages(tmp_path_factory.mktemp("npm"), "axe-core@4.10.3")
    script = packages.folder / "node_modules" / "axe-core" / "axe.min.js"
    return script.read_text(encoding="utf-8")


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[str, Browser]]:
    """A backend whose comics are drawn slowly, and a browser."""
    faults = [Fault("early-pictures")]
    async with (
        fast_sandbox(100, speed=12, faults=faults) as server,
        sandbox_client(server, plan=FREE_CHECKS) as client,
        served(create_app(client, out=folder / "out")) as url,
        opened_browser(folder) as browser,
    ):
        yield f"{url}/", browser


async def check(page: Page, axe: str, name: str) -> None:
    """Look for violations; a folder for pictures of the page can be named for people."""
    if not await page.run('typeof axe === "object"'):
        await page.run(f"{axe};0")
    assert await page.run(VIOLATIONS) == [], name
    assert await page.run("document.documentElement.scrollWidth <= innerWidth"), name
    if folder := os.environ.get("LLAMAGEN_SCREENSHOTS"):
        await page.screenshot(Path(folder, f"{name}.png"))


async def test_panels_appear_as_they_are_drawn(tmp_path: Path, axe: str) -> None:
    """Some are there before the comic is done; in the end all are this server's own."""
    async with opened(tmp_path) as (url, browser):
        page = await browser.open(url)
        await check(page, axe, "empty")
        await write(page, "A cat", 4)
        seen = 'document.querySelectorAll("figure:not(.empty) img")'
        await until(page, f"{seen}.length > 0 && {seen}[0].naturalWidth > 0")
        assert await page.run(f"{seen}.length < 4")
        assert await page.run('document.querySelectorAll("figure").length') == 4
        assert "of 4 panels are there" in (await page.run(STATES))[0]
        await check(page, axe, "drawing")
        again = await browser.open(url)  # a refresh keeps what is there
        await until(again, f"{seen}.length > 0")
        for one in (page, again):
            await one._call("Page.bringToFront")  # one that nobody sees asks for nothing
            await until(one, f"{STATES}[0] === 'Done'")
            links = await one.run("[...document.images].map((one) => one.getAttribute('src'))")
            assert [link.rpartition("/")[2] for link in links] == ["0", "1", "2", "3"]
            # A stream that the page needs no longer is ended by it.
            assert [said for said in one.problems if "ERR_ABORTED" not in said] == []
        assert all(link.startswith(("data:", url)) for link in page.requests + again.requests)


@pytest.mark.parametrize(("width", "dark"), WINDOWS)
async def test_everybody_can_use_it(tmp_path: Path, axe: str, width: int, dark: bool) -> None:
    """In all states, nothing is wider than the window, and axe has nothing to say."""
    name = f"{'dark' if dark else 'light'}-{width}"
    async with opened(tmp_path) as (url, browser):
        page = await browser.open(url, width=width, height=800, dark=dark)
        stories = ("A cat", HEBREW, STORY, LONG_WORD)
        for number, story in enumerate(stories, 1):
            await write(page, story, 3)
            await until(page, f'document.querySelectorAll("#comics > li").length === {number}')
        await page.run('document.querySelector("#comics > li button").click()')
        await until(page, f'{STATES}.includes("Cancelled: nothing was paid")')
        await write(page, "\x07a")
        await until(page, '!find("problem").hidden')
        assert await page.run("document.activeElement.id") == "story"
        assert await page.run('find("story").getAttribute("aria-invalid")') == "true"
        await until(page, f'{STATES}.some((one) => one.includes("panels are there"))')
        await check(page, axe, f"{name}-states")
        await until(page, f"{STATES}.includes('Done')")
        await check(page, axe, f"{name}-done")
        direction = "[...document.querySelectorAll('h3')].find((one) => one.textContent === "
        direction += f"{json.dumps(HEBREW)})"
        assert await page.run(f"getComputedStyle({direction}).direction") == "rtl"
        expected = ("400 (Bad Request)", "net::ERR_ABORTED")
        assert [one for one in page.problems if not any(map(one.count, expected))] == []
