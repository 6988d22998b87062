"""A folder that a hostile server has filled, opened in a browser: nothing in it runs."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import pytest

from llamagen_async.batch.journal.file_names import RESULTS
from llamagen_async.cli.results import gallery
from llamagen_async.cli.results.folder import INDEX
from llamagen_async.cli.results.gallery import render
from llamagen_async.cli.results.records import Record
from tests.support.browser import Browser, opened_browser
from tests.support.cli import COMMAND, environment
from tests.support.rawserver import Received, answer, raw_server

pytestmark = pytest.mark.once

RUN: Final = "document.documentElement.dataset.ran='yes';document.title='taken over'"
SCRIPTS: Final = (
    f"</title></style></h2></p></li></article><script>{RUN}</script>"
    f'<img src=x onerror="{RUN}">"><svg onload="{RUN}">'
    f'<iframe srcdoc="<script>parent.{RUN}</script>"></iframe>'
    f"<a href=\"javascript:{RUN}\" autofocus onfocus=\"{RUN}\">x</a>' onerror='{RUN}' x='"
)
SVG: Final = (
    f"<svg xmlns='http://www.w3.org/2000/svg' onload=\"{RUN}\"><script>{RUN}</script></svg>"
).encode()
HTML: Final = f"<html><script>{RUN}</script></html>".encode()
PNG: Final = b"\x89PNG\r\n\x1a\n" + HTML
GIF: Final = b"GIF89a/*" + HTML
FILES: Final = {
    "/svg": ("image/svg+xml", SVG),
    "/svg-as-png.svg": ("image/png", b"<?xml version='1.0'?>" + SVG),
    "/wide.svg": ("image/svg+xml", SVG.decode().encode("utf-16")),
    "/html-in-png.html": ("text/html", PNG),
    "/html-in-gif.svg": ("image/svg+xml", GIF),
    "/unknown.html": ("image/html", b"\0" + HTML),
}
RAN: Final = "document.documentElement.dataset?.ran ?? document.title.match(/taken over/)?.[0]"


async def hostile(received: Received) -> None:
    """Answer each create at once, with scripts in everything that a server can name."""
    base = f"http://{received.header('Host')}"
    path = received.head.split()[1]
    if path in FILES:
        kind, content = FILES[path]
        await received.reply(answer(content, content_type=kind))
        return
    asked = unquote(path.rpartition("/")[2])
    is_failed = b"fail" in received.body or "fail" in asked
    made = "fail" if is_failed else "c"
    comic: dict[str, Any] = {
        "id": asked if "fail" in asked else f"{made}{received.number}{SCRIPTS[:60]}",
        "status": "SUCCEEDED",
        "prompt": SCRIPTS,
        "comics": [{"panels": [{"assetUrl": base + name, "caption": SCRIPTS} for name in FILES]}],
    }
    if is_failed:
        comic |= {"status": "FAILED", "error": {"code": SCRIPTS, "message": SCRIPTS}, "comics": []}
    if b"refuse" in received.body:
        body = json.dumps({"error": SCRIPTS, "message": SCRIPTS}).encode()
        await received.reply(answer(body, status="422 X"))
        return
    await received.reply(answer(json.dumps(comic).encode()))


async def fill(place: Path) -> str:
    """Run a batch against that server with the command line, and return what it says."""
    async with raw_server(hostile) as server:
        process = await asyncio.create_subprocess_exec(
            *(*COMMAND, "batch", "s.jsonl", "--out", "out", "--quota", "memory"),
            *("--base-url", server.url, "--plan", "paid"),
            cwd=place,
            env=environment(LLAMAGEN_API_KEY="a-key"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
    return said.decode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that a hostile server has filled."""
    place = tmp_path_factory.mktemp("hostile")
    stories = [SCRIPTS, f"fail {SCRIPTS}", f"refuse {SCRIPTS}", "a story"]
    lines = [json.dumps({"prompt": story, "style": SCRIPTS[:60]}) for story in stories]
    (place / "s.jsonl").write_text("\n".join(lines), "utf-8")
    said = asyncio.run(fill(place))
    assert (place / "out" / INDEX).exists(), said
    return place / "out"


async def ran(browser: Browser, url: str) -> bool:
    """Open a page, scroll through it, focus and click what can be, and tell if a script ran."""
    page = await browser.open(url)
    await page.run(
        """(async () => {
            for (const one of document.querySelectorAll("*")) {
                one.scrollIntoView?.();
                one.focus?.();
                if (one.matches("summary, label, img")) one.dispatchEvent(new Event("mouseover"));
            }
            await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
        })()"""
    )
    return bool(await page.run(RAN))


def written(folder: Path) -> list[str]:
    """Return the addresses of the files that a browser shows."""
    return [file.as_uri() for file in folder.iterdir() if file.suffix in (".png", ".gif", ".html")]


def records(folder: Path) -> list[Record]:
    lines = (folder / RESULTS).read_text("utf-8").splitlines()
    return [Record.from_json(json.loads(line)) for line in lines]


async def test_nothing_runs_in_the_gallery_nor_in_what_it_links(
    folder: Path, tmp_path: Path
) -> None:
    found = records(folder)
    assert [record.state.value for record in found] == [
        "succeeded",
        "failed",
        "failed",
        "succeeded",
    ]
    kinds = [re.sub(r".*\.", ".", name) for name in found[0].files]
    assert kinds == [".bin", ".bin", ".bin", ".png", ".gif", ".bin"]
    async with opened_browser(tmp_path) as browser:
        index = (folder / INDEX).as_uri()
        assert not await ran(browser, index)
        page = await browser.open(index)
        assert page.problems == []
        links = await page.run("[...document.querySelectorAll('a')].map((one) => one.href)")
        assert len(links) == 4  # the PNG and the GIF of both comics
        assert all(link.endswith((".png", ".gif")) for link in links)
        for path in (*links, *written(folder)):
            assert not await ran(browser, path), path
        loaded = {address for address in page.requests if not address.startswith("data:")}
        assert loaded <= {index, *links}


@pytest.mark.parametrize(
    ("is_escaped", "has_policy", "runs"),
    [(True, True, False), (True, False, False), (False, True, False), (False, False, True)],
)
async def test_escaping_and_the_policy_each_keep_scripts_from_running(
    is_escaped: bool,
    has_policy: bool,
    runs: bool,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With both taken out a script runs, so this test can see one."""
    if not is_escaped:
        monkeypatch.setattr(gallery, "escape", str)
    page = render(records(folder), title="Comics")
    if not has_policy:
        page = re.sub(r"<meta http-equiv[^>]*>", "", page)
    (tmp_path / INDEX).write_text(page, "utf-8")
    async with opened_browser(tmp_path) as browser:
        assert await ran(browser, (tmp_path / INDEX).as_uri()) is runs


async def test_a_picture_that_is_svg_is_not_linked_even_if_it_is_there(
    folder: Path, tmp_path: Path
) -> None:
    """As an older version, or somebody else, may have left it."""
    (tmp_path / "c.svg").write_bytes(SVG)
    changed = []
    for name in ("c.svg", "c.SVG", "c.html", "../c.png", "//host/c.png", "c.png\n.svg", "a\\c.png"):
        old = records(folder)[0].to_json()
        changed.append(Record.from_json({**old, "files": [name], "pages": []}))
    page = render(changed, title="Comics")
    assert "<a " not in page
    assert "<img" not in page.replace("&lt;img", "")
    (tmp_path / INDEX).write_text(page, "utf-8")
    async with opened_browser(tmp_path) as browser:
        opened = await browser.open((tmp_path / INDEX).as_uri())
        assert [one for one in opened.requests if not one.startswith("data:")] == [
            (tmp_path / INDEX).as_uri()
        ]
