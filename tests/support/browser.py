"""A headless Chromium of this machine, for tests: it opens pages and reports what it met.

The browser is driven over the DevTools protocol on loopback and resolves no name, so that nothing
leaves this machine. Without a browser the tests that need one are skipped; in CI they fail.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, cast

import aiohttp
import attrs
import pytest

__all__ = ["Browser", "Page", "opened_browser", "require_browser"]

_NAMES: Final = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "chrome-headless-shell",
)
_IN_PLAYWRIGHT: Final = ("chrome", "headless_shell", "chrome-headless-shell", "chrome.exe")
_MISSING: Final = (
    "no Chromium to open the gallery with: install chromium (Debian, Fedora), google-chrome, "
    "or a browser with 'playwright install chromium'"
)
_TIMEOUT: Final = 60.0
"""Seconds after which a browser that says nothing has failed."""
_PHONE: Final = 600
"""CSS pixels below which a window is a phone's."""
_FLAGS: Final = (
    "--headless",
    "--no-sandbox",  # it does not start as root otherwise; it sees nothing but our own pages
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-port=0",
)


@functools.cache
def browsers() -> list[Path]:
    """Return all browsers of this machine that can be driven, the best known first."""
    found = [shutil.which(name) for name in _NAMES]
    cache = os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or {
        "darwin": "~/Library/Caches/ms-playwright",
        "win32": "~/AppData/Local/ms-playwright",
    }.get(sys.platform, "~/.cache/ms-playwright")
    installed = Path(cache).expanduser().glob("chromium*/*/*")
    found += sorted(str(path) for path in installed if path.name in _IN_PLAYWRIGHT)
    return [Path(path) for path in found if path and _runs(path)]


def require_browser() -> Path:
    """Return a browser; without one the test is skipped, or fails if this is CI."""
    if not browsers():
        if os.environ.get("CI"):
            pytest.fail(_MISSING)
        pytest.skip(_MISSING)
    return browsers()[0]


def _runs(path: str) -> bool:
    """Return whether a program is a browser; some systems have a hint to install one instead."""
    try:
        said = subprocess.run(
            [path, "--version"], capture_output=True, timeout=_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return said.returncode == 0 and b"Chrom" in said.stdout


@attrs.define
class Page:
    """A page that was opened, and all that the browser met in it."""

    requests: list[str] = attrs.field(factory=list[str])
    """The address of everything that was asked for."""
    problems: list[str] = attrs.field(factory=list[str])
    """Errors and warnings on the console, exceptions, and what could not be loaded."""
    _browser: Browser = attrs.field(kw_only=True)
    _session: str = attrs.field(kw_only=True)
    _width: int = attrs.field(default=0, kw_only=True)
    _loaded: asyncio.Event = attrs.field(factory=asyncio.Event, kw_only=True)

    async def run(self, script: str) -> Any:
        """Return what an expression is worth in the page; a promise is waited for."""
        answer = await self._call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def screenshot(self, path: Path) -> None:
        """Write a PNG of the whole page; the window is as high as the page from then on."""
        height = await self.run("document.documentElement.scrollHeight")
        await self.resize(self._width, height)
        # What comes into sight by that is drawn with the next frame, and its pictures after it.
        await self.run(
            """new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))
                .then(() => Promise.all([...document.images].map((one) => one.decode())))
                .catch(() => {})"""
        )
        picture = await self._call("Page.captureScreenshot")
        await asyncio.to_thread(path.write_bytes, base64.b64decode(picture["data"]))

    async def resize(self, width: int, height: int) -> None:
        """Give the window another size, in CSS pixels; a narrow one is a phone's."""
        self._width = width
        phone = width < _PHONE
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        await self._call("Emulation.setDeviceMetricsOverride", **metrics)

    async def _call(self, method: str, **params: Any) -> dict[str, Any]:
        return await self._browser.call(method, params, session=self._session)

    def _met(self, method: str, params: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self._loaded.set()
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Network.loadingFailed":
            self.problems.append(f"not loaded: {params.get('errorText')}")
        elif method == "Runtime.exceptionThrown":
            self.problems.append(f"exception: {params['exceptionDetails']}")
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.problems.append(f"console: {params['args']}")
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.problems.append(f"log: {params['entry']['text']} {params['entry'].get('url')}")


class Browser:
    """A running browser; `opened_browser` makes it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._pages: dict[str, Page] = {}

    async def open(
        self, url: str, *, width: int = 1280, height: int = 900, dark: bool = False
    ) -> Page:
        """Open a page in a window of that many CSS pixels and return when it has loaded."""
        target = await self.call("Target.createTarget", {"url": "about:blank"})
        attach = {"targetId": target["targetId"], "flatten": True}
        session = (await self.call("Target.attachToTarget", attach))["sessionId"]
        page = self._pages[session] = Page(browser=self, session=session)
        await page.resize(width, height)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await page._call("Emulation.setEmulatedMedia", features=[scheme])
        for domain in ("Page", "Runtime", "Network", "Log"):
            await page._call(f"{domain}.enable")
        page._loaded.clear()  # about:blank may have said so, too
        await page._call("Page.navigate", url=url)
        async with asyncio.timeout(_TIMEOUT):
            await page._loaded.wait()
        return page

    async def call(
        self, method: str, params: dict[str, Any] | None = None, *, session: str | None = None
    ) -> dict[str, Any]:
        """Call a method of the protocol and return its answer."""
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        message = {"id": number, "method": method, "params": params or {}}
        await self._socket.send_json(message | ({"sessionId": session} if session else {}))
        async with asyncio.timeout(_TIMEOUT):
            said = await answer
        assert "error" not in said, (method, said)
        return cast("dict[str, Any]", said["result"])

    async def listen(self) -> None:
        """Take in what the browser says, until it has left."""
        async for message in self._socket:
            said = message.json()
            if "id" in said:
                self._waiting.pop(said["id"]).set_result(said)
            elif said.get("sessionId") in self._pages:
                self._pages[said["sessionId"]]._met(said["method"], said["params"])


@contextlib.asynccontextmanager
async def opened_browser(folder: Path) -> AsyncIterator[Browser]:
    """Start a browser that writes its files into `folder`, and end it afterwards."""
    process = await asyncio.create_subprocess_exec(
        str(require_browser()),
        *_FLAGS,
        f"--user-data-dir={folder / 'profile'}",
        "about:blank",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    said: list[str] = []
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def read() -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            said.append(line.decode(errors="replace"))
            _, found, address = said[-1].partition("DevTools listening on ")
            if found and not ready.done():
                ready.set_result(address.strip())
        if not ready.done():
            ready.set_exception(RuntimeError(f"the browser did not start: {''.join(said[-9:])}"))

    reading = asyncio.create_task(read())
    try:
        async with asyncio.timeout(_TIMEOUT):
            address = await ready
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(address, max_msg_size=0) as socket,
        ):
            browser = Browser(socket)
            listening = asyncio.create_task(browser.listen())
            try:
                yield browser
            finally:
                await browser.call("Browser.close")
                await listening
    finally:
        with contextlib.suppress(ProcessLookupError):
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
        await process.wait()
        await reading
