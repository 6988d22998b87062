"""`python -m tests.live`: says what a conversation costs, asks, has it, and writes the report."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from llamagen_async.settings import find_base_url
from llamagen_async.transport import check_key, normalize_base_url
from tests.live import contract
from tests.live.report import Report, counted
from tests.live.scrubbing import Scrubber

ROOT = Path(__file__).parents[2]
STOPPED = 2
"""Exit status: nothing was sent."""


class Plugin:
    """Gives the tests their conversation, and writes down what became of each."""

    def __init__(self, live: contract.Live, needs: set[str]) -> None:
        self._live = live
        self._needs = needs

    @pytest.fixture
    def live(self) -> contract.Live:
        """The conversation."""
        return self._live

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Function]
    ) -> None:
        """Leave out the tests for which something is not given."""
        left_out = [item for item in items if item.function.needs not in self._needs]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Function, call: Any) -> Any:
        """Write down whether a claim holds."""
        report = yield
        if report.when == "call" or report.failed:
            claim = (item.function.__doc__ or item.name).strip().rstrip(".")
            seen = "" if report.passed else str(call.excinfo.value)
            outcome = "yes" if report.passed else "NO"
            self._live.report.outcomes.append((claim, outcome, seen))
        return report


def main(argv: Sequence[str]) -> int:
    """Have the conversation; return an exit status."""
    arguments = _parsed(argv)
    key = os.environ.get("LLAMAGEN_API_KEY", "")
    if not key.strip():
        print("live: LLAMAGEN_API_KEY is not set, so nothing was asked", file=sys.stderr)
        return STOPPED
    key = check_key(key)
    base_url = normalize_base_url(find_base_url()[0])
    host = urlsplit(base_url).netloc
    needs = {"", *(["comic"] if arguments.id else []), *(["credits"] if arguments.credits else [])}
    announced = _cost(needs)
    spent = f"about {contract.CREDITS} credits" if arguments.credits else "no credits"
    print(f"Asks {host} with your key. Sends at most: {counted(announced)}; {spent}.")
    print(f"They count like all requests of the key. The report goes to {arguments.report}.")
    if not arguments.yes:
        if not sys.stdin.isatty():
            print("live: nobody can be asked here: allow it with --yes", file=sys.stderr)
            return STOPPED
        if input("Go on? [y/N] ").strip().lower() not in ("y", "yes"):
            print("Nothing was sent.")
            return STOPPED
    report = Report(host, Scrubber(key, *([arguments.id] if arguments.id else [])), announced)
    speed = float(os.environ.get("LLAMAGEN_SPEED") or 1)
    live = contract.Live(base_url, key, report, arguments.id, speed)
    status = pytest.main(_pytest_arguments(), plugins=[Plugin(live, needs)])
    report.write(arguments.report)
    print(f"Sent: {counted(report.sent)}. The report is in {arguments.report}.")
    return int(status)


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="nox -s live --", description=__doc__)
    parser.add_argument("--yes", action="store_true", help="send without asking")
    parser.add_argument("--credits", action="store_true", help="also create one comic")
    parser.add_argument("--id", help="the id of a comic that the key has, to be read")
    parser.add_argument("--report", type=Path, default=Path("live-report.md"))
    return parser.parse_args(argv)


def _cost(needs: set[str]) -> Counter[str]:
    """Return the requests of the tests that will run, by kind."""
    cost: Counter[str] = Counter()
    for name, function in vars(contract).items():
        if name.startswith("test_") and function.needs in needs:
            cost += function.sends
    return cost


def _pytest_arguments() -> list[str]:
    return [
        str(Path(contract.__file__)),
        "--noconftest",  # the conversation is counted in this user's own store
        f"--rootdir={ROOT}",
        f"--config-file={ROOT / 'pyproject.toml'}",
        "--override-ini=timeout=3600",  # the demo plan has four requests a minute
        *("-p", "no:cacheprovider", "-p", "no:xdist", "-q", "--tb=short"),
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
