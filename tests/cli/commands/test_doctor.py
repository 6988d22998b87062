"""The doctor: what it says of each fault, what it sends, and what it never shows."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from time import time
from typing import Any

import attrs
import pytest

from llamagen_async import Plan
from llamagen_async.cli.output import Output
from llamagen_async.diagnosis.versions import installed
from llamagen_async.sandbox import DEMO_KEY, PAID_KEY, SandboxService
from tests.support.cli import SPEED, Call, connection, sandbox_thread, seen

KEY = "sk-not-to-be-shown-0123456789"
BILLED = {"create", "continue", "update", "upload"}


@pytest.fixture(autouse=True)
def _nothing_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """A sandbox of which nothing was asked yet, and the variables that lead to it."""
    with sandbox_thread() as server:
        yield {**server, "env": variables(server, tmp_path)}


def variables(server: Mapping[str, Any], folder: Path, key: str = PAID_KEY) -> dict[str, str]:
    quota = f"sqlite:///{folder / 'quota.db'}"
    return connection(server, key, LLAMAGEN_SPEED=SPEED, LLAMAGEN_QUOTA=quota)


def findings(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    """Return what `--json` printed, by subject."""
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line["subject"]: line for line in lines if "subject" in line}


def test_a_sound_setting_has_no_problem(fresh: dict[str, Any], call: Call) -> None:
    done = call("doctor", env=fresh["env"])
    assert (done.returncode, done.stderr) == (0, "")
    first, *lines = done.stdout.splitlines()
    assert first.startswith("Sends one usage call at most")
    subjects = [line.split()[1] for line in lines]
    expected = "versions extras address key proxy connection tls store limits server clock plan"
    assert subjects == [*expected.split(), "usage"]
    assert {line.split()[0] for line in lines} == {"ok"}
    assert seen(fresh)["requests"] == {"usage": {"200": 1}}
    # It was counted, as all others are.
    counted = json.loads(call("limits", "--json", env=fresh["env"]).stdout)
    assert counted["windows"][0]["used"] <= 1
    assert PAID_KEY not in done.stdout


def test_json_says_the_same(fresh: dict[str, Any], call: Call) -> None:
    done = call("doctor", "--json", env=fresh["env"])
    assert done.returncode == 0
    found = findings(done)
    assert found["key"]["facts"] == {"source": "LLAMAGEN_API_KEY", "length": len(PAID_KEY)}
    assert {one["level"] for one in found.values()} == {"ok"}
    assert json.loads(done.stdout.splitlines()[-1]) == {"problems": 0}


@pytest.mark.parametrize("columns", ["15", "60"])
def test_a_narrow_terminal_cuts_no_path(
    columns: str,
    fresh: dict[str, Any],
    call: Call,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A path and a command stay whole; on hardly any columns all is said, too."""
    monkeypatch.setattr(Output, "has_terminal", property(lambda self: True))
    some = attrs.evolve(installed(), extras={"redis": True, "otel": False, "taskiq": False})
    monkeypatch.setattr("llamagen_async.diagnosis.examination.installed", lambda: some)
    store = tmp_path / "a-folder-with-a-long-name" / "and-another-one-in-it" / "quota.db"
    env = {**fresh["env"], "LLAMAGEN_QUOTA": f"sqlite:///{store}", "COLUMNS": columns}
    done = call("doctor", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert str(store) in done.stdout
    assert 'python -m pip install "llamagen-async[otel,taskiq]"' in done.stdout


def test_plan_auto_takes_one_request_as_well(fresh: dict[str, Any], call: Call) -> None:
    done = call("doctor", "--json", "--plan", "auto", env=fresh["env"])
    assert findings(done)["plan"]["text"].startswith("paid (auto): 10 a minute")
    assert seen(fresh)["total"] == 1


def test_without_a_key_everything_else_is_examined(fresh: dict[str, Any], call: Call) -> None:
    env = {**fresh["env"], "LLAMAGEN_API_KEY": ""}
    done = call("doctor", "--json", env=env)
    assert done.returncode == 1
    found = findings(done)
    problems = [one["subject"] for one in found.values() if one["level"] == "problem"]
    assert problems == ["key"]
    assert "LLAMAGEN_API_KEY" in found["key"]["advice"]
    assert {"connection", "store", "plan"} <= set(found)
    assert seen(fresh)["total"] == 0


def test_a_wrong_key_is_named_and_never_shown(fresh: dict[str, Any], call: Call) -> None:
    done = call("doctor", env={**fresh["env"], "LLAMAGEN_API_KEY": KEY})
    assert done.returncode == 1
    assert "does not accept the key: HTTP 401" in done.stdout
    assert KEY not in done.stdout + done.stderr
    assert KEY[:12] not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("options", "subject", "words"),
    [
        (("--base-url", "https://no-such-host.invalid"), "name", "is not known"),
        (("--base-url", "http://127.0.0.1:9"), "connection", "Connection refused"),
        (("--base-url", "http://elsewhere.example"), "address", "--base-url: got"),
        (("--proxy", "http://joe:secret@127.0.0.1:9"), "connection", "the proxy 127.0.0.1"),
        (("--quota", "redis://joe:secret@127.0.0.1:9/0"), "store", "no connection to Redis"),
        (("--quota", "mysql://joe:secret@h/db"), "store", "allowed is"),
        (("--metered", "checks"), "plan", "metered: got"),
        (("--base-url", "https://api.llamagen.ai"), "settings", "speed: got"),
    ],
)
def test_each_fault_is_one_problem(
    options: tuple[str, ...], subject: str, words: str, fresh: dict[str, Any], call: Call
) -> None:
    done = call("doctor", "--json", *options, env=fresh["env"])
    assert done.returncode == 1
    problems = [one for one in findings(done).values() if one["level"] == "problem"]
    away = [one for one in problems if one["subject"] == "name" and subject == "settings"]
    (found,) = [one for one in problems if one not in away]
    assert found["subject"] == subject
    assert words in found["text"]
    assert found["advice"]
    assert "secret" not in done.stdout + done.stderr
    assert seen(fresh)["total"] == 0


def test_a_proxy_of_the_environment_is_examined(fresh: dict[str, Any], call: Call) -> None:
    env = {**fresh["env"], "HTTPS_PROXY": "socks5://joe:secret@h:1", "LLAMAGEN_SPEED": "1"}
    env["LLAMAGEN_API_URL"] = "https://api.llamagen.ai"
    found = findings(call("doctor", "--json", env=env))
    assert found["proxy"]["level"] == "problem"
    assert "HTTPS_PROXY: got 'socks5://***@h:1'" in found["proxy"]["text"]
    env |= {"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "llamagen.ai"}
    assert (
        "NO_PROXY names this host" in findings(call("doctor", "--json", env=env))["proxy"]["text"]
    )


def test_a_folder_that_can_not_be_written(
    fresh: dict[str, Any], call: Call, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x", "utf-8")
    quota = f"sqlite:///{tmp_path / 'file' / 'quota.db'}"
    done = call("doctor", "--json", "--quota", quota, env=fresh["env"])
    store = findings(done)["store"]
    assert (done.returncode, store["level"]) == (1, "problem")
    assert "quota.db" in store["text"]
    assert seen(fresh)["total"] == 0


def test_a_day_that_is_short_is_not_asked_of(
    fresh: dict[str, Any], call: Call, tmp_path: Path
) -> None:
    env = variables(fresh, tmp_path, DEMO_KEY)
    for _ in range(13):
        assert call("usage", env=env).returncode == 0
    found = findings(call("doctor", "--json", env=env))
    assert found["server"]["text"] == "not asked: 2 requests are left of the day"
    assert seen(fresh, DEMO_KEY)["total"] == 13


class _Odd(BaseHTTPRequestHandler):
    """A server with a clock of its own, and an answer that a test decides."""

    status = 200
    body: object = {"apiUsageCount": 3, "credits": 0, "isPaidPlan": True}
    ahead = 0.0

    def do_GET(self) -> None:
        content = json.dumps(self.body).encode()
        self.send_response_only(self.status)
        self.send_header("Date", formatdate(time() + self.ahead, usegmt=True))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def odd(tmp_path: Path) -> Iterator[tuple[type[_Odd], dict[str, str]]]:
    class Handler(_Odd):
        pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    env = {
        "LLAMAGEN_API_KEY": KEY,
        "LLAMAGEN_API_URL": f"http://127.0.0.1:{server.server_port}",
        "LLAMAGEN_QUOTA": f"sqlite:///{tmp_path / 'odd.db'}",
        "LLAMAGEN_PLAN": "paid",
    }
    yield Handler, env
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("ahead", "level"), [(0.0, "ok"), (-120.0, "warning"), (4000.0, "problem")]
)
def test_the_servers_clock_is_compared(
    ahead: float, level: str, odd: tuple[type[_Odd], dict[str, str]], call: Call
) -> None:
    odd[0].ahead = ahead
    done = call("doctor", "--json", env=odd[1])
    found = findings(done)
    assert found["clock"]["level"] == level
    assert found["clock"]["facts"]["server_ahead"] == pytest.approx(ahead, abs=5)
    assert found["usage"]["level"] == "warning"  # there are no credits
    assert done.returncode == (level == "problem")


@pytest.mark.parametrize(
    ("status", "body", "level", "words"),
    [
        (503, {"error": "away"}, "problem", "HTTP 503"),
        (404, {"error": "no such page"}, "problem", "HTTP 404"),
        (403, {"error": "no"}, "problem", "does not accept the key"),
        (429, {"error": "slow down"}, "warning", "HTTP 429"),
        (200, {}, "ok", "accepts the key"),
    ],
)
def test_odd_answers_are_told(
    status: int,
    body: object,
    level: str,
    words: str,
    odd: tuple[type[_Odd], dict[str, str]],
    call: Call,
) -> None:
    """A 429 is told at once, and not waited for."""
    odd[0].status, odd[0].body = status, body
    found = findings(call("doctor", "--json", env=odd[1]))
    assert found["server"]["level"] == level
    assert words in found["server"]["text"]


# What the server meters.


@pytest.mark.parametrize("metered", [None, BILLED, BILLED | {"usage"}])
@pytest.mark.parametrize("key", [PAID_KEY, DEMO_KEY])
def test_what_is_metered_is_measured_and_the_plan_is_printed(
    metered: set[str] | None, key: str, call: Call, tmp_path: Path
) -> None:
    plans = {PAID_KEY: Plan.PAID, DEMO_KEY: Plan.DEMO}
    if metered is not None:
        plans = {one: attrs.evolve(plan, metered=metered) for one, plan in plans.items()}
    with sandbox_thread(SandboxService(plans=plans)) as server:
        env = variables(server, tmp_path, key)
        id_ = json.loads(call("generate", "a cat", "--no-wait", "--json", env=env).stdout)["id"]
        done = call("doctor", "--measure", "--yes", "--id", id_, env=env)
        requests = seen(server, key)
    assert (done.returncode, done.stderr) == (0, "")
    first, *_ = done.stdout.splitlines()
    assert "7 requests: 5 usage calls and 2 status checks" in first
    assert (requests["total"], requests["refused"]) == (8, 0)
    assert requests["creates_accepted"] == 1
    counts = {True: "count", False: "do not count"}
    assert f"usage calls: {counts[metered is None or 'usage' in metered]}" in done.stdout
    assert f"status checks: {counts[metered is None]}" in done.stdout
    kinds = "" if metered is None else " --metered create,continue,update,"
    assert f"  as options    --plan {server['keys'][key]}{kinds}" in done.stdout


def test_measuring_is_allowed_first(fresh: dict[str, Any], call: Call) -> None:
    done = call("doctor", "--measure", env=fresh["env"])
    assert done.returncode == 2
    assert "allow it with --yes" in done.stderr
    assert seen(fresh)["total"] == 0


def test_a_journal_tells_an_id(fresh: dict[str, Any], call: Call, tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text("a cat\n", "utf-8")
    assert call("batch", "s.txt", "--out", "out", env=fresh["env"]).returncode == 0
    journal = ("--journal", "out/journal.db")
    done = call("doctor", "--measure", "--yes", "--json", *journal, env=fresh["env"])
    found = findings(done)
    assert found["metering"]["level"] == "ok"
    assert found["metering"]["facts"]["status"] is True
    assert "404" not in seen(fresh)["requests"]["status"]
    missing = ("--journal", "none.db")
    done = call("doctor", "--measure", "--yes", "--json", *missing, env=fresh["env"])
    assert findings(done)["journal"]["level"] == "problem"
    assert not (tmp_path / "none.db").exists()


def test_an_unknown_id_tells_what_it_can(call: Call, tmp_path: Path) -> None:
    plans = {PAID_KEY: attrs.evolve(Plan.PAID, metered=BILLED)}
    with sandbox_thread(SandboxService(plans=plans)) as server:
        env = variables({**server, "keys": {PAID_KEY: "paid"}}, tmp_path)
        done = call("doctor", "--measure", "--yes", env=env)
    assert done.returncode == 0
    assert "status checks: can't be told" in done.stdout
    assert "--id" in done.stdout
    assert "--metered create,continue,update,status,upload" in done.stdout


@pytest.mark.parametrize("bad", [("--id", ".."), ("--id", " "), ("--journal", "a\0b")])
def test_wrong_arguments_send_nothing(
    bad: tuple[str, str], fresh: dict[str, Any], call: Call
) -> None:
    done = call("doctor", "--measure", "--yes", *bad, env=fresh["env"])
    assert (done.returncode, done.stdout) == (2, "")
    assert bad[0] in done.stderr
    assert seen(fresh)["total"] == 0


def test_a_key_in_the_vendors_file(
    fresh: dict[str, Any], call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMAGEN_CONFIG_HOME", str(tmp_path))
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps({"apiToken": f" {PAID_KEY}\n"}), "utf-8")
    path.chmod(0o600)
    env = {**fresh["env"], "LLAMAGEN_API_KEY": ""}
    found = findings(call("doctor", "--json", env=env))["key"]
    assert (found["level"], found["facts"]["source"]) == ("warning", str(path))
    assert "white space" in found["text"]
    if os.name != "nt":
        path.chmod(0o644)
        assert "others can read" in findings(call("doctor", "--json", env=env))["key"]["text"]
