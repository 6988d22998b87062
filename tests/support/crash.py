"""Real processes for the crash tests: a server, and programs that are killed."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs

from llamagen_async.sandbox import PAID_KEY
from tests.support.cli import environment

__all__ = ["SPEED", "Campaign", "Program", "Server", "serving"]

SPEED: Final = 500.0
LATENCY: Final = (0.0, 30.0)
"""Seconds of the server's clock that a round trip takes: long enough to be killed in."""
TIMEOUT: Final = 60.0
"""Real seconds after which a test gives up waiting."""
_HERE: Final = Path(__file__).parent
_END: Final = b"IEND\xae\x42\x60\x82"
"""The last bytes of a whole PNG."""


class Program:
    """One life of the program: a process that runs a batch."""

    def __init__(self, orders: dict[str, Any]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(_HERE / "crash_program.py"), json.dumps(orders)],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n", self.finish()

    def begin(self) -> None:
        """Let the program start its batch."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self) -> bool:
        """End the program with SIGKILL; return whether it was still running."""
        is_running = self.process.poll() is None
        self.process.kill()
        self.process.communicate(timeout=TIMEOUT)
        return is_running

    def finish(self) -> tuple[list[dict[str, Any]], str]:
        """Wait until the program ends; return its items and what it wrote to stderr."""
        said, complaints = self.process.communicate(timeout=TIMEOUT)
        assert self.process.returncode == 0, complaints
        return [json.loads(line) for line in said.splitlines()], complaints


@attrs.frozen
class Server:
    """The server of the crash tests, which counts what it accepted."""

    url: str

    def generations(self) -> list[dict[str, Any]]:
        """Return the generations that the server has accepted, and what was changed of them."""
        stats = self.url.removesuffix("/v1") + "/_sandbox/stats"
        with urllib.request.urlopen(stats, timeout=10) as answer:
            found: list[dict[str, Any]] = json.load(answer)["generations"]
        return found

    def accepted(self) -> dict[str, str]:
        """Return the story of each id that the server has handed out."""
        return {one["id"]: one["prompt"] for one in self.generations()}


@contextmanager
def serving(*faults: str) -> Iterator[Server]:
    """Run a server beside the test."""
    settings = {"speed": SPEED, "latency": LATENCY, "faults": faults}
    with subprocess.Popen(
        [sys.executable, str(_HERE / "crash_server.py"), json.dumps(settings)],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield Server(process.stdout.readline().strip())
        finally:
            process.kill()


@attrs.define
class Campaign:
    """One batch, and the processes that run it one after the other until it is finished."""

    server: Server
    name: str
    folder: Path
    number: int = 20
    with_pictures: bool = True
    limits: dict[str, Any] = attrs.field(factory=dict[str, Any])
    """Rights and resources that are taken from the program."""

    @property
    def stories(self) -> list[dict[str, Any]]:
        """The input of the batch; no other campaign has the same stories."""
        return [
            {"prompt": f"{self.name} {n}", "fix_panel_num": 1, "key": n} for n in range(self.number)
        ]

    @property
    def journal(self) -> Path:
        return self.folder / f"{self.name}.db"

    @property
    def out(self) -> Path:
        return self.folder / f"{self.name} pictures"

    def start(self) -> Program:
        """Start the program; it goes on from its journal, if there is one."""
        return Program(
            {
                "stories": self.stories,
                "journal": str(self.journal),
                "out": str(self.out) if self.with_pictures else None,
                "client": {
                    "api_key": PAID_KEY,
                    "plan": "paid",
                    "base_url": self.server.url,
                    "speed": SPEED,
                },
                **self.limits,
            }
        )

    def rows(self) -> dict[str, tuple[str, str | None, list[str]]]:
        """Return state, id and files of each story in the journal."""
        with contextlib.closing(sqlite3.connect(self.journal)) as connection:
            tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
            if ("job",) not in tables:  # killed while it was made
                return {}
            rows = connection.execute("SELECT request, state, generation_id, files FROM job")
            return {
                json.loads(request)["prompt"]: (state, id_, json.loads(files or "[]"))
                for request, state, id_, files in rows
            }

    def accepted(self) -> dict[str, str]:
        """Return the story of each id that the server has handed out for this batch."""
        names = {story["prompt"] for story in self.stories}
        return {id_: story for id_, story in self.server.accepted().items() if story in names}

    def check(self, *, complaints: str = "") -> None:
        """Assert what has to hold at any time, also between two lives.

        Args:
            complaints: What the program wrote to its log: an id may be there instead.
        """
        accepted = self.accepted()
        twice = [story for story, number in Counter(accepted.values()).items() if number > 1]
        assert not twice, f"paid twice: {twice}"
        rows = self.rows()
        for id_, story in accepted.items():
            state, known, _ = rows[story]
            uncertain = state in ("sending", "uncertain")
            assert known == id_ or uncertain or id_ in complaints, f"lost: {id_} {story} {state}"
            assert state != "queued" or id_ in complaints, f"would be paid twice: {story}"
        files = [file for file in self.out.glob("*") if not file.name.startswith(".")]
        broken = [file.name for file in files if not file.read_bytes().endswith(_END)]
        assert not broken, f"broken: {broken}"
        names = {file.name for file in files}
        missing = {file for _, _, kept in rows.values() for file in kept} - names
        assert not missing, f"in the journal and not on disk: {missing}"

    def finish(self, *, lives: int = 10) -> Counter[str]:
        """Run the program until every story is finished or uncertain; return how many are which."""
        for _ in range(lives):
            program = self.start()
            program.begin()
            said, _ = program.finish()
            self.check()
            states = Counter(item["state"] for item in said)
            if not states.keys() - {"succeeded", "uncertain"}:
                break
        assert states.keys() <= {"succeeded", "uncertain"}, said
        assert states.total() == self.number
        rows = self.rows()
        assert Counter(state for state, _, _ in rows.values()) == states
        if self.with_pictures:
            assert all(files for state, _, files in rows.values() if state == "succeeded")
        return states
