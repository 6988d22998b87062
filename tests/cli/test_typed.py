"""Commands that are printed have the options that were typed: without them they do something else.

A command that goes on without the budget sends what the first one was told not to send; one
without the address asks another server.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import click
import pytest

from llamagen_async.cli.declarations.batch import batch
from llamagen_async.cli.errors import status_command
from llamagen_async.cli.typed import connection_words, typed_words
from llamagen_async.sandbox import Durations, Fault, SandboxService
from tests.support.cli import SPEED, Call, connection, sandbox_thread, seen

MONEY = ("budget", "prices", "wait_for_quota")


def typed(*argv: str) -> tuple[str, str]:
    """Return what a command that was typed so repeats of its connection and of its money."""
    with batch.make_context("batch", ["s.jsonl", *argv]):
        return connection_words(), typed_words(MONEY)


def test_what_was_typed_is_repeated_in_words_that_can_be_pasted() -> None:
    options = "--plan paid --metered create,continue --quota 'sqlite:///my quota.db' --speed 2.5"
    money = "--wait-for-quota --budget 12345678.5 --price panel=10 --price redraw=5"
    given = f"--base-url http://127.0.0.1:9 {options} --proxy '' {money}"
    words = typed(*shlex.split(given))
    assert sorted(shlex.split(" ".join(words))) == sorted(shlex.split(given))
    assert typed(*shlex.split(" ".join(words))) == words


def test_what_was_not_typed_and_what_is_secret_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LLAMAGEN_SPEED", "7")
    monkeypatch.setenv("LLAMAGEN_QUOTA", "memory")
    assert typed() == ("", "")
    secret = ("--api-key", "sk-1", "--quota", "redis://:word@h/0", "--proxy", "http://me:word@h")
    assert typed(*secret) == ("", "")
    assert typed("--quota", "redis://h/0?password=word") == ("", "")
    assert click.get_current_context(silent=True) is None
    assert connection_words() == ""


def test_a_command_for_an_id_that_begins_with_a_dash_has_them_before_it() -> None:
    with batch.make_context("batch", ["s.jsonl", "--plan", "paid"]):
        command = status_command("-x", "my comics")
    assert command == "llamagen-async status --out 'my comics' --plan paid -- -x"


def test_a_batch_that_was_told_a_budget_goes_on_with_it(call: Call, tmp_path: Path) -> None:
    """The command that sends an uncertain story again is no way around the budget."""
    lost = Fault("drop", on=("create",), times=1)
    service = SandboxService(faults=[lost], durations=Durations.constant(20.0))
    lines = [json.dumps({"prompt": f"owl {n}", "fix_panel_num": 1}) for n in range(4)]
    (tmp_path / "s.jsonl").write_text("\n".join(lines), encoding="utf-8")
    with sandbox_thread(service) as server:
        env = connection(server)
        url, key = env.pop("LLAMAGEN_API_URL"), {"LLAMAGEN_API_KEY": env["LLAMAGEN_API_KEY"]}
        typed = ("--base-url", url, "--plan", "paid", "--speed", SPEED, "--quota", "memory")
        first = call("batch", "s.jsonl", *typed, "--budget", "450", env=key)
        assert "1 uncertain" in first.stdout
        assert accepted(server) == 3
        (command,) = [line for line in first.stderr.splitlines() if "paid twice" in line]
        again = shlex.split(command.partition("paid twice: llamagen-async ")[2])
        assert {"--budget", "450", "--resend-uncertain", *typed} <= set(again)
        call(*again, env=key)
        assert accepted(server) == 3


def accepted(server: dict[str, Any]) -> int:
    number: int = seen(server)["creates_accepted"]
    return number
