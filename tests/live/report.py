"""The report of a conversation: what was asked, what the server said, and what held."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs

from llamagen_async import __version__
from llamagen_async.diagnosis.measuring import Exchange
from tests.live.scrubbing import Scrubber

__all__ = ["Report"]


@attrs.define
class Report:
    """Everything that may be told of one conversation."""

    host: str
    scrubber: Scrubber
    announced: Counter[str]
    """Requests by kind, as they were announced: no more are sent."""
    sent: Counter[str] = attrs.field(factory=Counter)
    facts: list[str] = attrs.field(factory=list)
    """Sentences about what was learned."""
    outcomes: list[tuple[str, str, str]] = attrs.field(factory=list)
    """The claims, whether each holds, and what was seen otherwise."""
    _exchanges: list[str] = attrs.field(factory=list)

    def observe(self, exchange: Exchange) -> None:
        """Write down one exchange."""
        request = exchange.request
        self.sent[request.kind.value] += 1
        query = f"?{'&'.join(request.params)}" if request.params else ""
        took = exchange.ended - exchange.began
        status = exchange.status or "no answer"
        title = (
            f"{request.method} {self.scrubber.path(request.path)}{query}: {status}, {took:.1f} s"
        )
        lines = [f"### {len(self._exchanges) + 1}. {title}", ""]
        if exchange.error is not None:
            error = self.scrubber.text(str(exchange.error))
            lines += [f"Read as `{type(exchange.error).__name__}`: {error}", ""]
        if exchange.headers:
            lines += _block(self.scrubber.headers(exchange.headers))
        if exchange.status is not None:
            lines += _block(self.scrubber.body(exchange.body))
        self._exchanges.append("\n".join(lines))

    def learn(self, fact: str) -> None:
        """Write down what was learned."""
        self.facts.append(self.scrubber.text(fact))

    def write(self, path: Path) -> None:
        """Write the report."""
        now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        lines = [
            f"# What {self.host} says",
            "",
            f"{now}, llamagen-async {__version__}, Python {platform.python_version()}.",
            "Ids, URLs, account numbers and the key are taken out.",
            "",
            f"Announced: {counted(self.announced)}. Sent: {counted(self.sent)}.",
            "",
            "## Claims",
            "",
            "| claim | holds | otherwise |",
            "|---|---|---|",
            *(
                f"| {claim} | {holds} | {_cell(self.scrubber.text(seen))} |"
                for claim, holds, seen in self.outcomes
            ),
            "",
            "## Learned",
            "",
            *(f"- {fact}" for fact in self.facts),
            "",
            "## Exchanges",
            "",
            *self._exchanges,
        ]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def counted(requests: Mapping[str, int]) -> str:
    """Return requests by kind in words."""
    return ", ".join(f"{number} {kind}" for kind, number in sorted(requests.items())) or "nothing"


def _block(value: Any) -> list[str]:
    return ["```json", json.dumps(value, indent=1, ensure_ascii=True), "```", ""]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
