"""The page, as a file and as people use it in a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from llamagen_async import Plan, RateLimit
from llamagen_async.web import create_app
from llamagen_async.web.page import page
from tests.support.browser import Page, opened_browser
from tests.support.web import fast_sandbox, running, sandbox_client, served

EVIL = '<img src=x onerror="alert(1)"> & a cat'
SLOW = Plan("slow", limits=RateLimit(2, per=60))
ARABIC = "قطة تنقذ المدينة"


def test_the_page_loads_nothing_from_elsewhere_and_runs_only_itself() -> None:
    reply = page("/a&b\"'<c>")
    text, policy = reply.body.decode(), reply.headers["Content-Security-Policy"]
    assert 'data-root="/a&amp;b&quot;&#x27;&lt;c&gt;"' in text
    assert not re.search(r"https?:|//[a-z]+\.|url\(|@import|innerHTML|src=", text)
    assert "prefers-color-scheme: dark" in text
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "img-src 'self' data:;" in policy
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_the_page_can_be_used_without_a_mouse_and_without_sight() -> None:
    text = page("").body.decode()
    assert '<html lang="en"' in text
    for name in ("story", "panels"):
        assert f'<label for="{name}">' in text
        assert f'id="{name}"' in text
    words = ('role="alert"', '"role", "status"', "<main>", "<h1>", ":focus-visible", "<noscript>")
    assert [word for word in words if word not in text] == []
    assert not re.search(r"(margin|padding|border)-(left|right)|text-align: (left|right)", text)


async def test_the_page_is_for_those_who_may_order(tmp_path: Path) -> None:
    async with (
        fast_sandbox() as server,
        sandbox_client(server) as client,
        running(create_app(client, out=tmp_path)) as http,
    ):
        answer = await http.get("/")
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["x-content-type-options"] == "nosniff"
        proxied = await http.get("/", headers={"X-Forwarded-For": "192.0.2.1"})
        assert proxied.status_code == 403


async def until(opened: Page, condition: str) -> Any:
    """Wait until something is so in a page; the page tells it."""
    return await opened.run(
        f"""new Promise((done) => {{
            const look = () => {{ const found = ({condition}); if (found) done(found); }};
            new MutationObserver(look).observe(
                document.body, {{ subtree: true, childList: true, attributes: true,
                                  characterData: true }});
            document.addEventListener("load", look, true);
            look();
        }})"""
    )


async def write(opened: Page, story: str, panels: int = 2) -> None:
    await opened.run(
        f"""(() => {{
            find("story").value = {json.dumps(story)}; find("panels").value = "{panels}";
            find("send").click();
        }})()"""
    )


SHOWN = """[...document.images].length === {} && [...document.images].every(
    (one) => one.complete && one.naturalWidth > 0)"""


@pytest.mark.once
async def test_a_story_is_typed_and_its_panels_are_seen(tmp_path: Path) -> None:
    """A refresh keeps them, a wrong input gets a message, and the console stays silent."""
    async with (
        fast_sandbox() as server,
        sandbox_client(server) as client,
        served(create_app(client, out=tmp_path / "out")) as url,
        opened_browser(tmp_path) as browser,
    ):
        opened = await browser.open(f"{url}/")
        await until(opened, 'find("limits").textContent.includes("of 10 requests free")')
        await write(opened, EVIL)
        await until(opened, SHOWN.format(2))
        assert await opened.run('document.querySelector("h3").textContent') == EVIL
        done = 'document.querySelector(".state").textContent === "Done"'
        await until(opened, done)
        await until(opened, SHOWN.format(2))
        assert await opened.run('find("story").value') == ""
        assert await opened.run("document.activeElement.id") == "story"
        alts = await opened.run("[...document.images].map((one) => one.alt)")
        assert alts[0].startswith("Panel 1 of ")

        await write(opened, ARABIC)
        await until(opened, SHOWN.format(4))
        newest = 'document.querySelector("#comics > li h3")'
        assert await opened.run(f"{newest}.textContent") == ARABIC
        assert await opened.run(f"getComputedStyle({newest}).direction") == "rtl"

        await write(opened, "\x07a")
        await until(opened, '!find("problem").hidden')
        assert "control characters" in await opened.run('find("problem").textContent')
        await write(opened, "", 2)
        assert await opened.run('find("story").validity.valueMissing')
        # The story was refused, and the page ends streams that it needs no longer.
        expected = ("400 (Bad Request)", "net::ERR_ABORTED")
        assert [one for one in opened.problems if not any(map(one.count, expected))] == []

        again = await browser.open(f"{url}/", width=390, height=800, dark=True)
        await until(again, 'document.querySelectorAll("#comics > li").length === 2')
        await again.run("[...document.images].forEach((one) => one.loading = 'eager')")
        await until(again, SHOWN.format(4))
        width = await again.run("document.documentElement.scrollWidth")
        assert width == 390
        assert again.problems == []
        assert all(one.startswith((url, "data:,")) for one in opened.requests + again.requests)

        # The page could not show what others host, if it wanted to.
        blocked = await again.run(
            f"""new Promise((done) => {{
                addEventListener("securitypolicyviolation", (one) =>
                    done([one.effectiveDirective, one.disposition]));
                document.body.append(element("img", {{ src: {json.dumps(server.url)} }}));
            }})"""
        )
        assert blocked == ["img-src", "enforce"]


@pytest.mark.once
async def test_what_waits_is_told_and_can_be_cancelled(tmp_path: Path) -> None:
    async with (
        fast_sandbox(seconds=6_000, speed=1) as server,
        sandbox_client(server, plan=SLOW) as client,
        served(create_app(client, out=tmp_path / "out")) as url,
        opened_browser(tmp_path) as browser,
    ):
        opened = await browser.open(f"{url}/")
        for number in range(6):
            await write(opened, f"Story {number}")
            count = f'document.querySelectorAll("#comics > li").length === {number + 1}'
            await until(opened, count)
        newest = 'document.querySelector("#comics > li .state").textContent'
        told = await until(opened, f'{newest}.startsWith("Number ") && {newest}')
        assert "in the queue, done in about" in told
        await opened.run('document.querySelector("#comics > li button").click()')
        await until(opened, f'{newest} === "Cancelled: nothing was paid"')
        assert opened.problems == []
