"""Limits and usage of a key, as this machine counts and as the server does."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from llamagen_async import (
    ComicRequest,
    LimitsSnapshot,
    LimitState,
    Plan,
    Priority,
    QuotaExhaustedError,
    RateLimit,
    Usage,
)
from llamagen_async.cli.text import format_time
from llamagen_async.comics import Comics
from llamagen_async.plans import DAY, MINUTE
from llamagen_async.ratelimit.failover import FailoverLedger
from llamagen_async.ratelimit.protocol import Ledger
from llamagen_async.ratelimit.stores import open_store, store_times
from llamagen_async.sandbox import DEMO_KEY, SandboxService
from tests.support.cli import (
    SPEED,
    Call,
    connection,
    run,
    sandbox,
    sandbox_thread,
    seen,
)

KEY = "lg-not-to-be-shown-0123456789"


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """A sandbox of which nothing was asked yet, and the variables that lead to its demo key."""
    with sandbox_thread() as server:
        own = {"LLAMAGEN_QUOTA": f"sqlite:///{tmp_path / 'quota.db'}", "LLAMAGEN_SPEED": SPEED}
        yield {**server, "env": connection(server, DEMO_KEY, **own)}


def own(server: dict[str, Any]) -> dict[str, str]:
    """Return where a sandbox's requests are counted, and how fast it is."""
    return {name: server["env"][name] for name in ("LLAMAGEN_QUOTA", "LLAMAGEN_SPEED")}


@pytest.mark.once
def test_fifteen_invocations_a_day_and_the_sixteenth_sends_nothing(tmp_path: Path) -> None:
    speed = 600
    with sandbox(tmp_path, "--speed", str(speed)) as server:
        quota = f"sqlite:///{tmp_path / 'quota.db'}"
        env = connection(server, DEMO_KEY, LLAMAGEN_QUOTA=quota, LLAMAGEN_SPEED=str(speed))
        env["TZ"] = "JST-9"
        began = datetime.now(UTC)
        made = run("generate", "a cat", "--no-wait", "--json", cwd=tmp_path, env=env)
        assert (made.returncode, made.stderr) == (0, "")
        id_ = json.loads(made.stdout)["id"]
        for number in range(2, 16):
            looked = run("status", id_, cwd=tmp_path, env=env)
            assert (looked.returncode, looked.stderr) == (0, "")
            assert seen(server, DEMO_KEY)["total"] == number
        told = run("status", id_, cwd=tmp_path, env=env)
        ended = datetime.now(UTC)
        counted = seen(server, DEMO_KEY)
    assert (counted["total"], counted["refused"]) == (15, 0)
    assert counted["windows"][1]["most"] == 15
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr.count("\n") == 1
    for words in ("nothing was sent", "15 requests per day", "try again then"):
        assert words in told.stderr
    when = re.search(r"until (.+) \((\S+Z)\)", told.stderr)
    assert when
    resets_at = datetime.fromisoformat(when[2])
    # A day after the first answer, by a clock that runs 600 times as fast.
    assert DAY / speed <= (resets_at - began).total_seconds() + 1
    assert (resets_at - ended).total_seconds() <= DAY / speed + 1
    assert datetime.fromisoformat(f"{when[1]}+09:00") == resets_at


def test_limits_are_shown_for_no_request(demo: dict[str, Any], call: Call) -> None:
    assert call("usage", env=demo["env"]).returncode == 0
    shown = call("limits", env=demo["env"])
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.isascii()
    rows = [re.split(r" *\| *", line.strip("| ")) for line in shown.stdout.splitlines()]
    assert ["window", "used", "free", "next free slot", "paused until"] in rows
    assert ["15 requests per day", "1", "14", "now", "-"] in rows
    assert any(row[0] == "4 requests per minute" for row in rows)
    facts = json.loads(call("limits", "--json", env=demo["env"]).stdout)
    assert facts["plan"] == "demo"
    assert [(one["used"], one["free"]) for one in facts["windows"]][1] == (1, 14)
    assert facts["paused_until"] is None
    assert seen(demo, DEMO_KEY)["requests"] == {"usage": {"200": 1}}


def test_a_full_window_and_a_pause_say_until_when(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def snapshot(_ledger: FailoverLedger) -> LimitsSnapshot:
        windows = (
            LimitState(RateLimit(10, MINUTE), 4, 6, 0.0),
            LimitState(RateLimit(15, DAY), 15, 0, 50_000.0),
        )
        waiting = {Priority.INTERACTIVE: 2, Priority.BATCH: 40}
        return LimitsSnapshot("a plan", windows, 600.0, 5, in_flight=1, clients=3, waiting=waiting)

    monkeypatch.setattr(FailoverLedger, "snapshot", snapshot)
    env = {"LLAMAGEN_API_KEY": KEY, "LLAMAGEN_API_URL": "http://127.0.0.1:8080"}
    now = datetime.now(UTC)
    facts = json.loads(call("limits", "--json", "--speed", "10", env=env).stdout)
    assert facts["paused_for"] == 60.0
    assert (facts["clients"], facts["waiting_before"]) == (3, 2)
    assert facts["waiting"] == {"interactive": 2, "batch": 40}
    assert [one["next_free_in"] for one in facts["windows"]] == [60.0, 5000.0]
    for name, seconds in (("paused_until", 60), ("next", 5000)):
        text = facts[name] if name in facts else facts["windows"][1]["next_free_at"]
        assert 0 <= (datetime.fromisoformat(text) - now).total_seconds() - seconds < 5
    shown = call("limits", "--speed", "10", env=env).stdout
    moments = re.findall(r"[0-9]{2}:[0-9]{2}:[0-9]{2} [(]in (.+?)[)]", shown)
    assert moments == ["60 s", "60 s", "1 h 23 min", "60 s"]
    assert "3 clients at work; 2 requests before a new create (waiting: 2 interactive, 40" in shown


def test_plan_auto_says_that_it_asks_once(demo: dict[str, Any], call: Call) -> None:
    shown = call("limits", "--plan", "auto", env=demo["env"])
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "takes one request" in shown.stdout
    assert "15 requests per day" in shown.stdout
    assert seen(demo, DEMO_KEY)["requests"] == {"usage": {"200": 1}}
    paid = call("limits", env={**connection(demo), **own(demo), "LLAMAGEN_PLAN": "auto"})
    assert "10 requests per minute" in paid.stdout
    assert seen(demo)["total"] == 1


def test_a_batch_with_plan_auto_asks_the_server_once(
    demo: dict[str, Any], tmp_path: Path, call: Call
) -> None:
    (tmp_path / "s.jsonl").write_text('{"prompt": "a cat", "fix_panel_num": 1}\n', "utf-8")
    done = call("batch", "s.jsonl", "--plan", "auto", env={**connection(demo), **own(demo)})
    assert (done.returncode, done.stderr) == (0, "")
    assert "the limit is 10 requests per minute." in done.stdout
    assert seen(demo)["requests"]["usage"] == {"200": 1}


def test_usage_is_what_the_server_says(demo: dict[str, Any], call: Call) -> None:
    facts = json.loads(call("usage", "--json", env=demo["env"]).stdout)
    assert facts["raw"] == {
        "apiUsageCount": 1,
        "apiMaxUsage": 15,
        "credits": 0,
        "isPaidPlan": False,
    }
    assert (facts["api_usage_count"], facts["api_max_usage"]) == (1, 15)
    assert (facts["credits"], facts["is_paid_plan"]) == (0, False)
    shown = call("usage", env=demo["env"])
    assert shown.stdout.splitlines() == ["Plan: demo", "Requests used: 2 of 15", "Credits left: 0"]
    paid = call("usage", env={**connection(demo), **own(demo)}).stdout
    assert paid.splitlines()[:2] == ["Plan: paid", "Requests used: 1"]


def test_usage_of_a_server_that_says_little(
    demo: dict[str, Any], call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Usage, "parse", lambda _value: Usage(raw={"left\x1b[31m": 3}))
    assert call("usage", env=demo["env"]).stdout == (
        "The server's answer has 1 field of other names: left [31m\n"
    )


def test_memory_stays_in_the_process(demo: dict[str, Any], tmp_path: Path, call: Call) -> None:
    file = tmp_path / "quota.db"
    assert call("usage", "--quota", "Memory", env=demo["env"]).returncode == 0
    assert not file.exists()
    shown = call("limits", "--quota", "memory", env=demo["env"])
    assert "counted in this process only" in shown.stdout
    assert call("usage", env=demo["env"]).returncode == 0
    assert file.exists()


def test_by_default_it_is_a_file_in_the_state_folder(
    demo: dict[str, Any], tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def user_state_path(name: str, *, appauthor: bool) -> Path:
        assert not appauthor
        return tmp_path / "state" / name

    monkeypatch.setattr("platformdirs.user_state_path", user_state_path)
    assert call("usage", env={**demo["env"], "LLAMAGEN_QUOTA": ""}).returncode == 0
    assert (tmp_path / "state" / "llamagen-async" / "quota.db").is_file()


@pytest.mark.parametrize(
    ("quota", "said"),
    [
        ("sqlite:///here/text.db", "text.db: file is not a database"),
        ("sqlite:///here/text.db/quota.db", "text.db"),
        ("sqlite:///here", "name a file, not a folder"),
        ("redis://user:not-to-be-shown@127.0.0.1:1/0", "no connection to Redis at 127.0.0.1:1"),
    ],
)
@pytest.mark.parametrize("command", ["usage", "limits", "status x", "generate x", "batch s.txt"])
def test_a_store_that_cannot_be_opened_is_one_line(
    demo: dict[str, Any], tmp_path: Path, call: Call, command: str, quota: str, said: str
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "text.db").write_text("no database " * 100, encoding="utf-8")
    (tmp_path / "s.txt").write_text("a cat\n", encoding="utf-8")
    done = call(*command.split(), "--quota", quota, env=demo["env"])
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
    assert "nothing was sent" in done.stderr
    assert "--quota memory" in done.stderr
    assert "not-to-be-shown" not in done.stderr
    assert seen(demo, DEMO_KEY)["total"] == 0


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0, reason="nobody keeps the administrator out"
)
def test_a_store_that_cannot_be_written_is_one_line(
    demo: dict[str, Any], tmp_path: Path, call: Call
) -> None:
    assert call("usage", env=demo["env"]).returncode == 0
    (tmp_path / "quota.db").chmod(0o400)
    done = call("usage", env=demo["env"])
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert seen(demo, DEMO_KEY)["total"] == 1


def test_the_key_is_in_no_output_and_not_in_the_file(tmp_path: Path, call: Call) -> None:
    with sandbox_thread(SandboxService(plans={KEY: Plan.DEMO})) as server:
        env = {
            "LLAMAGEN_API_KEY": KEY,
            "LLAMAGEN_API_URL": server["url"],
            "LLAMAGEN_QUOTA": f"sqlite:///{tmp_path / 'state' / 'quota.db'}",
            "LLAMAGEN_SPEED": SPEED,
        }
        commands = ("usage --json", "limits", "limits --json --plan auto", "status x", "generate x")
        for command in (*commands, "generate x --quota foo", "usage --api-key bad\x00key"):
            done = call(*command.split(" "), env=env)
            assert KEY not in done.stdout + done.stderr
        # While it is open, it is three files.
        ledger = open_store(env["LLAMAGEN_QUOTA"], "x", Plan.DEMO, 1.0, store_times(1.0, 1.0))
        left = asyncio.run(_contents(ledger, tmp_path / "state"))
    assert len(left) >= 2
    assert not any(KEY.encode() in content for content in left)


async def _contents(ledger: Ledger, folder: Path) -> list[bytes]:
    await ledger.record(1)
    contents = [path.read_bytes() for path in folder.iterdir()]  # noqa: ASYNC240
    await ledger.aclose()
    return contents + [path.read_bytes() for path in folder.iterdir()]  # noqa: ASYNC240


def test_generate_waits_no_longer_than_it_may(demo: dict[str, Any], call: Call) -> None:
    env = {**demo["env"], "LLAMAGEN_SPEED": "1"}
    for _ in range(4):
        assert call("usage", env=env).returncode == 0
    done = call("generate", "a cat", "--max-wait", "5", env=env)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    for words in ("nothing was sent", "4 requests per minute", "a longer --max-wait"):
        assert words in done.stderr
    assert seen(demo, DEMO_KEY)["requests"] == {"usage": {"200": 4}}


@pytest.mark.parametrize(
    ("argv", "given", "advice"),
    [
        ((), {"max_wait": None, "wait_for_quota": False}, "with --wait-for-quota"),
        (
            ("--wait-for-quota", "--max-wait", "7"),
            {"max_wait": 7.0, "wait_for_quota": True},
            "with a longer --max-wait",
        ),
    ],
)
def test_generate_names_the_option_that_waits_longer(
    demo: dict[str, Any],
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
    argv: tuple[str, ...],
    given: dict[str, object],
    advice: str,
) -> None:
    async def create(_comics: Comics, _request: ComicRequest, **options: object) -> None:
        assert options == given
        raise QuotaExhaustedError(RateLimit(15, DAY), 7200.0, datetime(2030, 1, 2, 3, tzinfo=UTC))

    monkeypatch.setattr(Comics, "create", create)
    done = call("generate", "a cat", *argv, env=demo["env"])
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    when = format_time(datetime(2030, 1, 2, 3, tzinfo=UTC))
    assert f"until {when}, in 2 h: try again then" in done.stderr
    assert advice in done.stderr


def test_an_accepted_comic_that_today_cannot_be_checked_keeps_its_id_on_the_screen(
    demo: dict[str, Any], call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wait(_comics: Comics, _id: str, *, timeout: float) -> None:
        raise QuotaExhaustedError(RateLimit(15, DAY), 7200.0, datetime(2030, 1, 2, 3, tzinfo=UTC))

    monkeypatch.setattr(Comics, "wait_for_completion", wait)
    done = call("generate", "a cat", env=demo["env"])
    assert done.returncode == 1
    id_ = done.stdout.split()[0]
    assert "accepted, and it goes on" in done.stderr
    assert done.stderr.endswith(f"check it then with llamagen-async status {id_}\n")
