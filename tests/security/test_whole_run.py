"""A batch, a web backend and a script, whose server repeats the key, and what they leave behind.

All of them are processes of their own: one is aborted, one is killed, one ends with a traceback
that shows local variables. Everything is logged, with all that is in a record. Then the key is
sought in every spelling.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
from aiohttp import web

from llamagen_async import Plan
from llamagen_async.sandbox import Call, Durations, Reply, SandboxServer, SandboxService
from tests.support.cli import COMMAND, environment, needs_posix
from tests.support.spellings import found_in, spellings

pytestmark = pytest.mark.once

KEY = "sk-live/CANARY+7Qz9Xw2Vb~5678"
SAID = " ".join([f"Bearer {KEY}", *spellings(KEY).values()])
SPEED = 300.0
SITE = """
import faulthandler, logging, os, resource, sys, traceback

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
faulthandler.enable()
log = open(os.path.join(os.environ["LOGS"], f"{os.getpid()}.log"), "w", 1, "utf-8")


class All(logging.Handler):
    def emit(self, record):
        print(record.getMessage(), record.__dict__, file=log)
        if record.exc_info:
            lines = traceback.TracebackException(*record.exc_info, capture_locals=True).format()
            print(*lines, file=log, flush=True)


for name in ("", "llamagen_async"):
    logging.getLogger(name).setLevel(1)
    logging.getLogger(name).addHandler(All())
"""
SCRIPT = """
import asyncio
import rich.traceback
from llamagen_async import LlamaGenClient

rich.traceback.install(show_locals=True, locals_max_string=None, locals_max_length=None, width=500)


async def main():
    async with LlamaGenClient() as client:
        await client.comics.create_and_wait("refuse this")


asyncio.run(main())
"""


class Repeating(SandboxService):
    """A server that repeats the key wherever it can, and fails every third check."""

    def __init__(self) -> None:
        super().__init__(plans={KEY: Plan.PAID}, durations=Durations.constant(20.0))
        self.seen: list[str] = []
        """Everything of the requests but the header that has the key."""
        self.said = ""
        self.has_worked = asyncio.Event()
        """Whether something was paid, and something was refused."""

    def handle(self, call: Call, now: float) -> Reply:
        others = {name: value for name, value in call.headers.items() if name != "Authorization"}
        self.seen.append(f"{call.method} {call.path} {call.query} {others} {call.body!r}")
        is_bad = b"refuse" in call.body
        headers = {"X-Request-Id": KEY, "Set-Cookie": f"a={KEY}", "WWW-Authenticate": SAID[:900]}
        if is_bad or (call.method == "GET" and len(self.seen) % 3 == 0):
            body: dict[str, Any] = {"error": SAID, "message": SAID, KEY: KEY}
            reply = Reply.of(400 if is_bad else 500, body, headers)
        else:
            reply = super().handle(call, now)
            if reply.status == 200:
                body = {**json.loads(reply.body), "note": SAID, KEY: [KEY]}
                reply = Reply.of(200, body, {**reply.headers, **headers})
        self.said += reply.body.decode()
        if is_bad and self.stats(now)["generations"]:
            self.has_worked.set()
        return reply


class Server(SandboxServer):
    """A server that also remembers who has asked for pictures."""

    async def _serve_picture(self, request: web.Request) -> web.StreamResponse:
        assert isinstance(self.service, Repeating)
        self.service.seen.append(f"{request.path_qs} {dict(request.headers)}")
        return await super()._serve_picture(request)


@attrs.frozen
class Machine:
    """A user's machine, and what is seen on it."""

    folder: Path
    env: dict[str, str]
    shown: list[str] = attrs.field(factory=list[str])
    """Texts that were printed, answered or listed."""

    @classmethod
    def at(cls, folder: Path, url: str) -> Machine:
        for name in ("site", "logs", "state"):
            (folder / name).mkdir()
        (folder / "site" / "sitecustomize.py").write_text(SITE)
        env = environment(
            LLAMAGEN_API_KEY=KEY,
            LLAMAGEN_API_URL=url,
            LLAMAGEN_PLAN="paid",
            LLAMAGEN_SPEED=f"{SPEED:g}",
            XDG_STATE_HOME=str(folder / "state"),
            LOGS=str(folder / "logs"),
            PYTHONASYNCIODEBUG="1",
        )
        env["PYTHONPATH"] = f"{folder / 'site'}:{env['PYTHONPATH']}"
        return cls(folder, env)

    @contextlib.asynccontextmanager
    async def started(self, *command: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """Start a program, whose listing and output are seen, and which is gone afterwards."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *command, cwd=self.folder, env=self.env, stdout=pipe, stderr=pipe, limit=1 << 24
        )
        try:
            self.see_process(process.pid)
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            for output in await process.communicate():
                self.shown.append(output.decode())

    async def ended(self, *command: str) -> str:
        """Run a program to its end; return what it has printed."""
        async with self.started(*command) as process:
            await process.wait()
        return "".join(self.shown[-2:])

    def see_process(self, process: int) -> None:
        """See what anybody on this machine can see of a process."""
        listed = Path(f"/proc/{process}/cmdline")
        if listed.exists():
            self.shown.append(listed.read_bytes().decode())

    @property
    def has_pictures(self) -> bool:
        return any(self.folder.rglob("*.png"))

    def leaves(self) -> list[str]:
        """Return where the key is, and in which spelling."""
        files = [one for one in self.folder.rglob("*") if one.is_file()]
        found = {str(one.relative_to(self.folder)): one.read_bytes() for one in files}
        found |= {f"shown {n}": text.encode() for n, text in enumerate(self.shown)}
        found["names"] = "\n".join(map(str, files)).encode()
        return [f"{name}: {how}" for name, text in found.items() if (how := found_in(text, KEY))]


async def answers(url: str) -> list[str]:
    """Ask a web backend for everything, wrong things too; return all that it says."""
    said: list[str] = []
    async with httpx.AsyncClient(base_url=url, timeout=30.0) as http:

        async def ask(method: str, path: str, **more: Any) -> Any:
            answer = await http.request(method, path, **more)
            said.append(f"{answer.headers!r} {answer.text}")
            return answer

        links = []
        for body in ({"prompt": "a hat"}, {"prompt": "refuse this"}, {"prompt": ""}, {"no": 1}):
            order = await ask("POST", "/comics", json=body)
            if order.status_code == 202:
                links.append(order.headers["Location"])
        for link in links:
            await ask("GET", f"{link}/events")  # up to its end
            await ask("GET", link)
        await ask("POST", "/webhooks", content=b"{}", headers={"X-Llama-Webhook-Signature": "v1=0"})
        for path in ("/", "/comics", "/comics/nobody", "/limits", "/readyz", "/openapi.json"):
            await ask("GET", path)
        assert len(links) == 2
    return said


@needs_posix
async def test_a_whole_run_leaves_the_key_nowhere(tmp_path: Path) -> None:
    service = Repeating()
    async with Server(service, speed=SPEED) as server:
        machine = Machine.at(tmp_path, server.url)
        stories = [f"story {n}" if n % 2 else f"refuse {n}" for n in range(1, 5)]
        (tmp_path / "stories.txt").write_text("\n".join(stories))
        (tmp_path / "script.py").write_text(SCRIPT)

        batch = (*COMMAND, "batch", "stories.txt", "--out", "out")
        async with machine.started(*batch) as process:
            working = asyncio.create_task(service.has_worked.wait())
            ending = asyncio.create_task(process.wait())
            await asyncio.wait([working, ending], return_when=asyncio.FIRST_COMPLETED)
            assert not ending.done(), await process.communicate()
            process.send_signal(signal.SIGABRT)
            await ending
        assert "Fatal Python error: Aborted" in machine.shown[-1]

        printed = await machine.ended(*batch, "--json")
        assert printed.count('"state": ') == len(stories), printed
        printed = await machine.ended(sys.executable, "script.py")
        assert "locals" in printed, printed
        async with machine.started(*COMMAND, "serve", "--port", "0", "--json") as process:
            assert process.stdout is not None
            line = await process.stdout.readline()
            machine.shown.extend(await answers(json.loads(line)["url"]))

    assert found_in(service.said, KEY)
    assert any((tmp_path / "logs").iterdir())
    assert not found_in("\n".join(service.seen), KEY)
    assert not machine.leaves()
    assert machine.has_pictures
