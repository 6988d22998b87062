"""The options of the connection are those of every command that calls the API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest

from llamagen_async.cli.app import cli
from llamagen_async.sandbox import PAID_KEY
from tests.support.cli import FAST, SPEED, Call, connection, sandbox, seen


def callers() -> list[str]:
    """Return the commands that call the API."""
    context = click.Context(cli)
    found: list[str] = []
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        if any(one.name == "base_url" for one in command.params):
            found.append(name)
    return found


def arguments(name: str) -> list[str]:
    """Return what a command needs at least."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    needed: list[str] = []
    for one in command.params:
        if one.required:
            needed += ["1"] if isinstance(one, click.Argument) else [one.opts[0], "1"]
    return needed


@pytest.mark.parametrize("name", callers())
@pytest.mark.parametrize(
    "given",
    [
        "socks5://joe:secret@proxy:1080",
        "http://joe:secret@proxy:none",
        "http://joe:sec/ret@proxy:3128",
        "http://joe:secret",
        "joe:secret@proxy",
        "no proxy",
    ],
)
def test_a_malformed_proxy_is_refused_before_anything_else(
    name: str, given: str, call: Call, tmp_path: Path
) -> None:
    """The line names the option and what is allowed, and never a password."""
    done = call(name, *arguments(name), "--proxy", given, "--api-key", "a-key")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"llamagen-async {name}: --proxy: got" in done.stderr
    assert "http://host:port" in done.stderr
    assert not any(part in done.stderr for part in ("secret", "sec/", "ret@"))
    assert list(tmp_path.iterdir()) == []


def test_the_way_goes_through_the_proxy(server: dict[str, Any], call: Call) -> None:
    """Nobody answers at the address itself; the sandbox answers in the proxy's place."""
    env = connection(server, LLAMAGEN_API_URL="http://localhost:9")
    before = seen(server)["total"]
    done = call("usage", *FAST, "--proxy", server["url"], env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert seen(server)["total"] == before + 1


def test_an_empty_proxy_is_none(
    server: dict[str, Any], call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy of the environment is passed over."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    done = call("usage", *FAST, "--proxy", "", env=connection(server))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("how", ["option", "environment"])
def test_what_is_metered_can_be_set(how: str, server: dict[str, Any], call: Call) -> None:
    """A kind that the plan does not meter takes no slot."""
    kinds = "create, continue,update"
    env = connection(server, LLAMAGEN_QUOTA="memory")
    env |= {"LLAMAGEN_METERED": kinds} if how == "environment" else {}
    given = ("--metered", kinds) if how == "option" else ()
    done = call("limits", "--json", "--plan", "auto", *FAST, *given, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    facts = json.loads(done.stdout.splitlines()[-1])
    assert facts["plan"] == "paid"
    assert facts["windows"][0]["used"] == 0  # the question for the plan was not counted


@pytest.mark.parametrize("given", ["checks", "create;status", " "])
def test_what_is_metered_has_to_be_known(given: str, call: Call) -> None:
    done = call("limits", "--metered", given, "--api-key", PAID_KEY)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--metered (or LLAMAGEN_METERED): got" in done.stderr
    assert "create, continue, update, status" in done.stderr


def test_a_sandbox_meters_what_it_is_told(call: Call, tmp_path: Path) -> None:
    """A server that counts no reads can be tried on the command line."""
    refused = call("sandbox", "--metered", "checks")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--metered" in refused.stderr
    with sandbox(tmp_path, "--speed", SPEED, "--metered", "create,continue") as server:
        env = connection(server, LLAMAGEN_QUOTA="memory")
        facts = [json.loads(call("usage", "--json", *FAST, env=env).stdout) for _ in range(2)]
    assert [one["api_usage_count"] for one in facts] == [0, 0]
