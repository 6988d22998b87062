"""The conversation with the real server, tried with the sandbox in its place."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest

from llamagen_async import Plan
from llamagen_async.sandbox import PAID_KEY, SandboxService
from tests.live.__main__ import main
from tests.live.scrubbing import Scrubber
from tests.support.cli import SPEED, sandbox_thread, seen

ROOT = Path(__file__).parent.parent
KEY = "sk-live-0123456789abcdef"
BILLED = {"create", "continue", "update", "upload"}


def test_normal_runs_do_not_collect_it() -> None:
    """No file has a name that pytest takes for tests."""
    files = list((ROOT / "tests" / "live").rglob("*.py"))
    assert len(files) > 3
    assert [one.name for one in files if re.match(r"test_|.*_test\.py$", one.name)] == []


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"status": "PROCESSED"}, {"status": "PROCESSED"}),
        (
            {"credits": 4812, "email": "joe@mail.example"},
            {"credits": "<number>", "email": "<text of 16>"},
        ),
        ({"id": "c-77", "userId": "u-5"}, {"id": "id-1", "userId": "id-2"}),
        (
            {"output": "https://cdn.example/joe/c-77.png?Expires=1&Key-Id=2"},
            {"output": "https://cdn.example/....png?Expires,Key-Id"},
        ),
        (
            {"message": f"the key {KEY} of joe@mail.example"},
            {"message": "the key [key] of <e-mail>"},
        ),
        ({"error": {"code": "bad", "team": 91}}, {"error": {"code": "bad", "team": "<number>"}}),
        ({"comics": [1, 2, 3, 4, 5]}, {"comics": ["<number>"] * 3 + ["<2 more>"]}),
        ({"isPaidPlan": True, "x": None}, {"isPaidPlan": True, "x": None}),
        ({"message": "request 8f14e45fceea167a failed"}, {"message": "request <id> failed"}),
        (
            {"prompt": "My secret story", "createdAt": "2026-11-27"},
            {"prompt": "<text of 15>", "createdAt": "<text of 10>"},
        ),
    ],
)
def test_a_body_is_told_without_whose_it_is(body: object, told: object) -> None:
    assert Scrubber(KEY).body(body) == told


def test_a_count_is_told_by_its_moves_and_an_id_has_one_name() -> None:
    scrubber = Scrubber(KEY, "c-1")
    counts = [scrubber.body({"apiUsageCount": n})["apiUsageCount"] for n in (812, 812, 814)]
    assert counts == ["n", "n", "n+2"]
    assert scrubber.path("/comics/generations/c-1") == "/comics/generations/id-1"
    assert scrubber.body({"id": "c-1", "message": "no c-1"}) == {"id": "id-1", "message": "no id-1"}


def test_headers_are_told_by_name() -> None:
    headers = {"Retry-After": "30", "X-RateLimit-Left": "3", "Set-Cookie": "a=b", "CF-Ray": "8c"}
    assert Scrubber(KEY).headers(headers) == {
        "Retry-After": "30",
        "X-RateLimit-Left": "3",
        "Set-Cookie": "<text of 3>",
        "CF-Ray": "<text of 2>",
    }


@pytest.mark.parametrize("key", ["", "  "])
def test_without_a_key_nothing_is_asked(
    key: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LLAMAGEN_API_KEY", key)
    assert main(["--yes"]) == 2
    assert "LLAMAGEN_API_KEY is not set" in capsys.readouterr().err


def test_where_nobody_can_be_asked_it_has_to_be_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The cost is said first; nothing is sent and nothing is written."""
    monkeypatch.setenv("LLAMAGEN_API_KEY", KEY)
    with (tmp_path / "stdin").open("w+") as nobody:
        monkeypatch.setattr(sys, "stdin", nobody)
        assert main(["--credits", "--report", str(tmp_path / "r.md")]) == 2
    printed = capsys.readouterr()
    assert "Sends at most: 1 create, 15 status, 7 usage; about 150 credits" in printed.out
    assert "allow it with --yes" in printed.err
    assert KEY not in printed.out + printed.err
    assert not (tmp_path / "r.md").exists()


@pytest.mark.once
@pytest.mark.parametrize(("dialect", "metered"), [("documented", None), ("production", BILLED)])
def test_the_whole_conversation(dialect: Any, metered: set[str] | None, tmp_path: Path) -> None:
    """All claims hold at the sandbox, no more is sent than was said, and nothing is told on."""
    plan = Plan.PAID if metered is None else attrs.evolve(Plan.PAID, metered=metered)
    service = SandboxService(plans={PAID_KEY: plan}, dialect=dialect)
    with sandbox_thread(service) as server:
        env = {
            **os.environ,
            "LLAMAGEN_API_KEY": PAID_KEY,
            "LLAMAGEN_API_URL": server["url"],
            "LLAMAGEN_PLAN": "paid",
            "LLAMAGEN_SPEED": SPEED,
            "XDG_STATE_HOME": str(tmp_path),
        }
        command = [sys.executable, "-m", "llamagen_async", "generate", "a cat", "--no-wait"]
        made = subprocess.run([*command, "--json"], env=env, check=True, capture_output=True)
        id_ = json.loads(made.stdout)["id"]
        report = tmp_path / "report.md"
        program = [sys.executable, "-m", "tests.live"]
        done = subprocess.run(
            [*program, "--yes", "--credits", "--id", id_, "--report", str(report)],
            cwd=ROOT,
            env=env,
            capture_output=True,
            check=False,
        )
        requests = seen(server)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    assert requests["refused"] == 0
    assert requests["creates_accepted"] == 2
    text = report.read_text("utf-8")
    assert text.count("| yes |") == 7
    assert "| NO |" not in text
    sent = re.search(r"Sent: (\d+) create, (\d+) status, (\d+) usage", text)
    said = re.search(r"Announced: (\d+) create, (\d+) status, (\d+) usage", text)
    assert sent is not None
    assert said is not None
    assert all(int(a) <= int(b) for a, b in zip(sent.groups(), said.groups(), strict=True))
    assert requests["total"] == sum(map(int, sent.groups()))  # ours before, and not the wrong key's
    assert f"status checks: {'count' if metered is None else 'do not count'}" in text
    for secret in (PAID_KEY, id_, "a cat", "A cat finds a hat"):
        assert secret not in text
    for one in service.stats(0.0)["generations"]:
        assert one["id"] not in text
