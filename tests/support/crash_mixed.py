"""A batch of comics, their changes and animations whose program is killed, and what has to hold."""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from typing import Any

import attrs

from tests.support.crash import Campaign

__all__ = ["MixedCampaign"]

_BEHIND = ("sending", "uncertain")
_OPEN = ("uncertain", "queued")

States = dict[str, tuple[str, str | None]]
"""State and generation of each story, by its key."""


@attrs.define
class MixedCampaign(Campaign):
    """A batch of anything: each comic is continued, two panels of it are drawn again.

    The server counts what it has accepted: each change of a comic, in its own process.
    """

    number: int = 3
    """Number of comics; there are five stories for each."""

    @property
    def stories(self) -> list[dict[str, Any]]:
        """The input: some changes stand before their comic, some name another change."""
        return [story for n in range(self.number) for story in self._stories_of(n)]

    def _stories_of(self, n: int) -> list[dict[str, Any]]:
        comic, more = f"comic {n}", f"more {n}"
        redraw = {"type": "update_panel", "panel": 0}
        return [
            {**redraw, "key": f"redraw {n}", "of": more, "prompt": "r"},
            {"key": comic, "prompt": self._name(comic), "fix_panel_num": 1},
            {
                "key": more,
                "type": "continue",
                "of": comic,
                "fix_panel_num": 1,
                "prompt": self._name(more),
            },
            {**redraw, "key": f"again {n}", "of": comic, "caption": "c"},
            {"key": f"film {n}", "type": "animation", "prompt": self._name(f"film {n}")},
        ]

    def _name(self, key: str) -> str:
        return f"{self.name} <{key}>"

    def states(self) -> States:
        """Return the state and the generation of each story in the journal."""
        with contextlib.closing(sqlite3.connect(self.journal)) as connection:
            tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
            if ("job",) not in tables:  # killed while it was made
                return {}
            rows = connection.execute("SELECT key, state, generation_id FROM job")
            return {key: (state, id_) for key, state, id_ in rows}

    def server_side(self) -> list[dict[str, Any]]:
        """Return what the server has accepted of this batch."""
        return [one for one in self.server.generations() if f"{self.name} <" in one["prompt"]]

    def check(self, *, complaints: str = "") -> None:
        """Assert what has to hold at any time, also between two lives."""
        states, firsts = self.states(), Counter[str]()
        for one in self.server_side():
            first, *texts = one["prompt"].split("\n")
            firsts[first] += 1
            key = first.partition("<")[2].rstrip(">")
            self._check_known(states, key, one["id"])
            if key.startswith("comic"):
                self._check_changes(states, key.rpartition(" ")[2], one, len(texts))
        twice = [first for first, number in firsts.items() if number > 1]
        assert not twice, f"paid twice: {twice}"

    def finish(self, *, lives: int = 10) -> Counter[str]:
        """Run the program until nothing more can be done; return how many stories are where."""
        items: list[dict[str, Any]] = []
        for _ in range(lives):
            program = self.start()
            program.begin()
            items, _ = program.finish()
            self.check()
            if all(map(self._is_settled, items)):
                break
        assert all(map(self._is_settled, items)), items
        states = Counter(item["state"] for item in items)
        assert states.total() == 5 * self.number
        for one in self.server_side():
            assert one["outcome"] == "succeeded", one
        return states

    def _is_settled(self, item: dict[str, Any]) -> bool:
        """Whether a story has ended, or waits for one of which nobody knows what became of it."""
        if item["state"] != "queued":
            return item["state"] in ("succeeded", "uncertain")
        others = [key for key, (state, _) in self.states().items() if state in _OPEN]
        return any(repr(key) in item["error"] for key in others)

    def _check_changes(self, states: States, n: str, one: dict[str, Any], texts: int) -> None:
        assert texts <= 1, f"continued twice: {one}"
        if texts:
            self._check_known(states, f"more {n}", one["id"])
        redraws = [states.get(f"{word} {n}", ("", None))[0] for word in ("redraw", "again")]
        unsent = redraws.count("queued") + redraws.count("")
        assert one["redrawn"] <= 2 - unsent, f"redrawn, or to be redrawn, twice: {one} {redraws}"
        sure = sum(state in ("running", "succeeded") for state in redraws)
        assert one["redrawn"] >= sure, f"never redrawn: {one} {redraws}"

    def _check_known(self, states: States, key: str, id_: str) -> None:
        state, known = states[key]
        assert state != "queued", f"would be paid twice: {key}"
        assert known == id_ or state in _BEHIND, f"lost: {key} {state} {id_}"
